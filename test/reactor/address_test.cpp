#include <weft/reactor/address.hpp>

#include <catch2/catch.hpp>

using weft::Address;

TEST_CASE("An address is printed in the form that it is read in") {
    for (const char* text : {"1.2.3.4:80", "[::1]:65535", "0.0.0.0:0", "unix:/tmp/socket", "unix:@abstract"}) {
        auto address = Address::parse(text);
        REQUIRE(address.ok());
        CHECK(address->to_string() == text);
        CHECK(*Address::parse(address->to_string()) == *address);
    }
    CHECK(Address::parse("*:80").value() == Address::any_ipv6(80));
    CHECK(Address::parse(":80").value() == Address::any_ipv6(80));
}

TEST_CASE("Text that is no address is refused with the text and the reason") {
    for (const char* text : {"", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "::1:80", "[::1]", "[]:1",
                             "example.org:80", "256.1.1.1:1", "unix:", "1.2.3.4:8x", "[fe80::1%nosuchif]:1"}) {
        auto address = Address::parse(text);
        INFO(text);
        REQUIRE(!address.ok());
        CHECK(address.error().code == weft::Errc::bad_address);
        CHECK_THAT(address.error().message(), Catch::Matchers::Contains(text));
    }
}

TEST_CASE("A Unix path is at most 107 bytes long [F48]") {
    CHECK(Address::unix_path(std::string(107, 'x')).ok());
    auto longer = Address::unix_path(std::string(108, 'x'));
    REQUIRE(!longer.ok());
    CHECK(longer.error().code == std::errc::filename_too_long);
    CHECK(Address::unix_path("@" + std::string(106, 'x')).ok());
}
