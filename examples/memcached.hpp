// What the commands of a small memcached do (its text protocol). Whoever has the connection hands in each command, with
// its value, and something to answer to: a transport, a stream.
#pragma once

#include <weft/protocols/body_framing.hpp>
#include <weft/reactor/buffer.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace memcached {

template<std::integral T>
std::optional<T> number(std::string_view text) {
    T value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
    return value;
}

/// Takes the next word out of `line`; empty at its end.
inline std::string_view word(std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    const std::string_view found = line.substr(0, line.find(' '));
    line.remove_prefix(found.size());
    return found;
}

/// "set key flags exptime bytes [noreply]" and its like have a value behind them, which ends in "\r\n".
struct ValueOf {
    weft::Body operator()(std::string_view line) const {
        const std::string_view command = word(line);
        constexpr std::array<std::string_view, 6> storing{"set", "add", "replace", "append", "prepend", "cas"};
        if (std::find(storing.begin(), storing.end(), command) == storing.end()) return weft::Body::none();
        for (int i = 0; i < 3; ++i) (void)word(line);
        const auto size = number<std::uint64_t>(word(line));
        return size ? weft::Body::of(*size) : weft::Body::malformed();
    }
};
using Framer = weft::BodyFramer<weft::LineFramer, ValueOf>;
using Command = Framer::Message;

inline constexpr std::size_t max_value = 64 << 20;
inline Framer framer() { return Framer(weft::LineFramer(), {}, max_value, "\r\n"); }

class Store {
public:
    /// Does one command. `keep(bytes)` makes a buffer of a part of it that is to be stored. False: the client wants to
    /// go.
    template<class Out, class Keep>
    bool execute(const Command& command, Out& out, Keep keep) {
        std::string_view rest = command.head;
        const std::string_view name = word(rest);
        const bool silent = rest.ends_with(" noreply");
        if (silent) rest.remove_suffix(8);
        const auto answer = [&](std::string_view line) {
            if (!silent) out.write(line);
        };
        if (name == "get" || name == "gets") {
            while (true) {
                const std::string_view key = word(rest);
                if (key.empty()) break;
                if (const Item* item = find(key)) write_item(*item, key, name == "gets", out);
            }
            out.write("END\r\n");
        } else if (command.body) {
            // With the "\r\n" that stands behind it, and will when it is sent.
            const weft::Bytes value(command.body->data(), command.body->size() + 2);
            answer(store(name, rest, value, keep));
        } else if (name == "delete") {
            answer(erase(word(rest)) ? "DELETED\r\n" : "NOT_FOUND\r\n");
        } else if (name == "incr" || name == "decr") {
            const std::string_view key = word(rest);
            answer(add(key, word(rest), name == "incr"));
        } else if (name == "touch") {
            Item* const item = find(word(rest));
            const auto expires = number<std::int64_t>(word(rest));
            if (item != nullptr && expires) item->expires = at(*expires);
            answer(!expires ? "CLIENT_ERROR invalid exptime argument\r\n" : item ? "TOUCHED\r\n" : "NOT_FOUND\r\n");
        } else if (name == "flush_all") {
            items_.clear();
            answer("OK\r\n");
        } else if (name == "version") {
            out.write("VERSION 1.6.0-weft\r\n");
        } else if (name == "verbosity") {
            answer("OK\r\n");
        } else if (name == "stats") {
            out.write("STAT curr_items " + std::to_string(items_.size()) + "\r\nSTAT total_items " +
                      std::to_string(changes_) + "\r\nEND\r\n");
        } else if (name == "quit") {
            return false;
        } else {
            out.write("ERROR\r\n");
        }
        return true;
    }

private:
    struct Item {
        /// With the "\r\n" behind it. Shared with the answers that are under way, and never changed.
        weft::Buffer value;
        std::uint32_t flags = 0;
        std::int64_t expires = 0; ///< in seconds since 1970; 0 never
        std::uint64_t change = 0; ///< for `gets` and `cas`

        std::string_view text() const { return value.text().substr(0, value.size() - 2); }
    };
    struct Hash : std::hash<std::string_view> {
        using is_transparent = void;
    };

    /// When an item expires that is given `expires`: never, in so many seconds, or then.
    static std::int64_t at(std::int64_t expires) {
        constexpr std::int64_t month = 60 * 60 * 24 * 30;
        if (expires == 0) return 0;
        if (expires < 0) return 1;
        return expires <= month ? std::time(nullptr) + expires : expires;
    }

    static weft::Buffer copy(std::string_view text) { return weft::Buffer::copy(weft::bytes_of(text)); }

    Item* find(std::string_view key) {
        const auto found = items_.find(key);
        if (found == items_.end()) return nullptr;
        if (found->second.expires == 0 || found->second.expires > std::time(nullptr)) return &found->second;
        items_.erase(found);
        return nullptr;
    }
    bool erase(std::string_view key) {
        if (find(key) == nullptr) return false;
        items_.erase(items_.find(key));
        return true;
    }

    template<class Out>
    static void write_item(const Item& item, std::string_view key, bool with_change, Out& out) {
        weft::Buffer value = item.value.share(); // the item may be gone when a coroutine has waited to write
        std::array<char, 72> numbers;
        char* end = numbers.data();
        const auto add = [&](std::uint64_t number) {
            *end++ = ' ';
            end = std::to_chars(end, end + 20, number).ptr;
        };
        add(item.flags);
        add(value.size() - 2);
        if (with_change) add(item.change);
        *end++ = '\r';
        *end++ = '\n';
        out.write("VALUE ");
        out.write(key);
        out.write(std::string_view(numbers.data(), static_cast<std::size_t>(end - numbers.data())));
        out.write(std::move(value));
    }

    template<class Keep>
    std::string_view store(std::string_view how, std::string_view rest, weft::Bytes value, Keep keep) {
        const std::string_view key = word(rest);
        const auto flags = number<std::uint32_t>(word(rest));
        const auto expires = number<std::int64_t>(word(rest));
        (void)word(rest); // the size, which the framer has read
        if (key.empty() || key.size() > 250 || !flags || !expires) {
            return "CLIENT_ERROR bad command line format\r\n";
        }
        Item* const old = find(key);
        weft::Buffer stored;
        bool joined = false;
        if (how == "add" && old != nullptr) return "NOT_STORED\r\n";
        if ((how == "replace" || how == "append" || how == "prepend") && old == nullptr) return "NOT_STORED\r\n";
        if (how == "cas") {
            if (old == nullptr) return "NOT_FOUND\r\n";
            if (number<std::uint64_t>(word(rest)) != old->change) return "EXISTS\r\n";
        } else if (how == "append") {
            joined = true;
            stored = copy(std::string(old->text()) + std::string(weft::text_of(value)));
        } else if (how == "prepend") {
            joined = true;
            value = value.first(value.size() - 2);
            stored = copy(std::string(weft::text_of(value)) + std::string(old->value.text()));
        }
        Item& item = old != nullptr ? *old : items_.emplace(key, Item()).first->second;
        item.value = joined ? std::move(stored) : keep(value);
        if (!joined) {
            item.flags = *flags;
            item.expires = at(*expires);
        }
        item.change = ++changes_;
        return "STORED\r\n";
    }

    /// "incr" and "decr".
    std::string add(std::string_view key, std::string_view by, bool up) {
        const auto step = number<std::uint64_t>(by);
        if (!step) return "CLIENT_ERROR invalid numeric delta argument\r\n";
        Item* const item = find(key);
        if (item == nullptr) return "NOT_FOUND\r\n";
        const auto old = number<std::uint64_t>(item->text());
        if (!old) return "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
        const std::uint64_t sum = up ? *old + *step : *old - std::min(*old, *step);
        item->value = copy(std::to_string(sum) + "\r\n");
        item->change = ++changes_;
        return std::to_string(sum) + "\r\n";
    }

    std::unordered_map<std::string, Item, Hash, std::equal_to<>> items_;
    std::uint64_t changes_ = 0;
};

} // namespace memcached
