#include <weft/reactor/address.hpp>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

using weft::Address;

TEST_CASE("An address is printed in the form that it is read in") {
    for (const char* text :
         {"1.2.3.4:80", "[::1]:65535", "0.0.0.0:0", "unix:/tmp/socket", "unix:@abstract"}) {
        auto address = Address::parse(text);
        REQUIRE(address.ok());
        CHECK(address->to_string() == text);
        CHECK(*Address::parse(address->to_string()) == *address);
    }
    CHECK(Address::parse("*:80").value() == Address::any_ipv6(80));
    CHECK(Address::parse(":80").value() == Address::any_ipv6(80));
}

TEST_CASE("Text that is no address is refused with the text and the reason") {
    for (const char* text :
         {"", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "::1:80", "[::1]", "[]:1",
          "example.org:80", "256.1.1.1:1", "unix:", "1.2.3.4:8x", "[fe80::1%nosuchif]:1"}) {
        auto address = Address::parse(text);
        INFO(text);
        REQUIRE(!address.ok());
        CHECK(address.error().code == weft::Errc::bad_address);
        CHECK_THAT(address.error().message(), Catch::Matchers::Contains(text));
    }
}

TEST_CASE("A Unix path is at most 108 bytes long, and is read again at any length [F48]") {
    for (const std::size_t size : {1, 2, 106, 107, 108}) {
        const Address address = Address::unix_path(std::string(size, 'x')).value();
        CHECK(address.path() == std::string(size, 'x'));
        CHECK(*Address::parse(address.to_string()) == address);
    }
    auto longer = Address::unix_path(std::string(109, 'x'));
    REQUIRE(!longer.ok());
    CHECK(longer.error().code == std::errc::filename_too_long);
    CHECK(Address::unix_path("@" + std::string(107, 'x')).ok());
}

TEST_CASE("The address of a peer with a path of 108 bytes is what its text stands for [F48]") {
    std::string folder = "/tmp/weft-test-XXXXXX";
    REQUIRE(mkdtemp(folder.data()) != nullptr);
    std::string path = folder + "/";
    path.resize(108, 'q');
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, path.data(), path.size());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
    Address address;
    socklen_t size = Address::capacity;
    REQUIRE(::getsockname(fd, address.data(), &size) == 0);
    address.set_size(size);
    CHECK(address.path() == path);
    CHECK(*Address::parse(address.to_string()) == address);
    ::close(fd);
    ::unlink(path.c_str());
    ::rmdir(folder.c_str());
}

TEST_CASE("Paths that look like something else are told in a form that does not") {
    // As another program may have bound them.
    for (const std::string path : {"@file", "unix:file"}) {
        sockaddr_un name{};
        name.sun_family = AF_UNIX;
        path.copy(name.sun_path, path.size());
        Address address;
        std::memcpy(address.data(), &name, sizeof name);
        address.set_size(
            static_cast<std::uint32_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1));
        CHECK(address.to_string() == "unix:./" + path);
        CHECK(Address::parse(address.to_string())->path() == "./" + path);
    }
    CHECK(*Address::parse("/a") == *Address::unix_path("/a"));
    CHECK(*Address::parse("@a") == *Address::unix_path("unix:@a"));
    CHECK(Address::names_unix("a/b:80"));
    CHECK_FALSE(Address::names_unix("a.example:80"));
}

TEST_CASE("A mapped address is what the IPv4 address is that it stands for") {
    const auto at = [](const char* text) { return Address::parse(text).value(); };
    CHECK(at("[::ffff:127.0.0.1]:1").is_loopback());
    CHECK(at("[::ffff:127.9.9.9]:1").is_loopback());
    CHECK_FALSE(at("[::ffff:128.0.0.1]:1").is_loopback());
    CHECK(at("[::ffff:0.0.0.0]:1").is_any());
    CHECK(at("[::ffff:224.0.0.1]:1").is_multicast());
    CHECK_FALSE(at("[::ffff:240.0.0.1]:1").is_multicast());
    CHECK(at("[::ffff:10.0.0.1]:1").is_mapped());
    CHECK_FALSE(at("[::10.0.0.1]:1").is_mapped());
    CHECK_FALSE(at("127.0.0.1:1").is_mapped());
    CHECK(at("[::ffff:10.1.2.3]:7").unmapped() == at("10.1.2.3:7"));
    CHECK(at("10.1.2.3:7").mapped() == at("[::ffff:10.1.2.3]:7"));
    for (const char* text : {"[::1]:1", "[ff02::1]:1", "unix:/a"}) {
        CHECK(at(text).unmapped() == at(text));
        CHECK(at(text).mapped() == at(text));
    }
    CHECK(at("[::]:1").is_any());
    CHECK(at("[ff02::1]:1").is_multicast());
}
