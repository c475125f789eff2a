// What the commands of a small memcached do (its text protocol). The code that has the connection
// hands in each command, with its value, and something to answer to: a transport, a stream.
#pragma once

#include "key_value.hpp"

#include <weft/protocols/codecs/body_framing.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace memcached {

using key_value::number;

/// Takes the next word out of `line`; empty at its end.
inline std::string_view word(std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    const std::string_view found = line.substr(0, line.find(' '));
    line.remove_prefix(found.size());
    return found;
}

/// "set key flags exptime bytes [noreply]" and its like have a value behind them, which ends in
/// "\r\n".
struct ValueOf {
    weft::Body operator()(std::string_view line) const {
        const std::string_view command = word(line);
        constexpr std::array<std::string_view, 6> storing{"set",    "add",     "replace",
                                                          "append", "prepend", "cas"};
        if (std::find(storing.begin(), storing.end(), command) == storing.end())
            return weft::Body::none();
        for (int i = 0; i < 3; ++i)
            (void)word(line);
        const std::string_view length = word(line);
        // a command that is too short, and answered so
        if (length.empty()) return weft::Body::none();
        const auto size = number<std::uint64_t>(length);
        return size ? weft::Body::of(*size) : weft::Body::malformed();
    }
};

class Store {
public:
    using Framer = weft::BodyFramer<weft::LineFramer, ValueOf>;
    static constexpr std::size_t max_value = 64 << 20;
    static Framer framer() { return Framer(weft::LineFramer(), {}, max_value, "\r\n"); }
    static std::string refusal(std::string_view why) {
        return "CLIENT_ERROR " + std::string(why) + "\r\n";
    }

    /// Does one command. `keep(bytes)` makes a buffer of a part of it that is to be stored. False:
    /// the client wants to go.
    template<class Out, class Keep>
    bool execute(const Framer::Message& command, Out& out, Keep keep) {
        if (flush_at_ != 0 && key_value::now() >= flush_at_) clear();
        std::string_view rest = command.head;
        const std::string_view name = word(rest);
        if (name == "get" || name == "gets") return get(rest, name == "gets", out), true;
        const bool silent = rest.ends_with(" noreply");
        if (silent) rest.remove_suffix(8);
        const auto answer = [&](std::string_view line) {
            if (!silent) out.write(line);
        };
        if (command.body) {
            // With the "\r\n" that stands behind it, and will when it is sent.
            const weft::Bytes value(command.body->data(), command.body->size() + 2);
            answer(store(name, rest, value, keep));
        } else if (name == "delete") {
            answer(erase(rest));
        } else if (name == "incr" || name == "decr") {
            answer(add(rest, name == "incr"));
        } else if (name == "touch") {
            answer(touch(rest));
        } else if (name == "flush_all") {
            answer(flush(word(rest)));
        } else if (name == "version") {
            out.write("VERSION 1.6.0-weft\r\n");
        } else if (name == "verbosity") {
            answer(verbosity(rest));
        } else if (name == "stats" && rest.empty() && !silent) {
            out.write("STAT curr_items " + std::to_string(items_.size()) + "\r\nSTAT total_items " +
                      std::to_string(changes_) + "\r\nEND\r\n");
        } else if (name == "quit") {
            return false;
        } else {
            out.write(error);
        }
        return true;
    }

private:
    static constexpr std::size_t max_key = 250;
    static constexpr std::size_t copied_at_most = 256 * 1024;
    struct Item : key_value::Value {
        std::uint32_t flags = 0;
        std::uint64_t change = 0; ///< for `gets` and `cas`
    };
    static constexpr std::string_view error = "ERROR\r\n";
    static constexpr std::string_view bad_format = "CLIENT_ERROR bad command line format\r\n";
    static constexpr std::string_view bad_time = "CLIENT_ERROR invalid exptime argument\r\n";
    static constexpr std::string_view not_found = "NOT_FOUND\r\n";

    /// What "exptime" means, in milliseconds since 1970: in so many seconds, or then; 0 never, less
    /// than that at once.
    static std::int64_t time_of(std::int64_t seconds) {
        constexpr std::int64_t month = 60 * 60 * 24 * 30, end = std::int64_t{1} << 52;
        if (seconds == 0) return 0;
        if (seconds < 0) return 1;
        return std::min(seconds, end) * 1000 + (seconds <= month ? key_value::now() : 0);
    }

    template<class Out>
    void get(std::string_view keys, bool with_change, Out& out) {
        std::string_view key = word(keys);
        if (key.empty()) return out.write(error);
        while (!key.empty()) {
            if (key.size() > max_key) return out.write(bad_format);
            const std::string_view next = word(keys);
            const std::string_view tail = next.empty() ? "END\r\n" : "";
            if (const Item* item = items_.find(key))
                write_item(*item, key, with_change, tail, out);
            else if (!tail.empty())
                out.write(tail);
            key = next;
        }
    }
    template<class Out>
    static void write_item(const Item& item, std::string_view key, bool with_change,
                           std::string_view tail, Out& out) {
        // the item may be gone when a coroutine has waited to write
        weft::Buffer value = item.bytes.share();
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
        const std::string_view head(numbers.data(), static_cast<std::size_t>(end - numbers.data()));
        // With one system call; what a slow client does not take of it is copied.
        if (value.size() <= copied_at_most)
            return out.write_all({"VALUE ", key, head, value.text(), tail});
        out.write_all({"VALUE ", key, head});
        out.write(std::move(value));
        if (!tail.empty()) out.write(tail);
    }

    template<class Keep>
    std::string_view store(std::string_view how, std::string_view rest, weft::Bytes value,
                           Keep keep) {
        const std::string_view key = word(rest);
        const auto flags = number<std::uint32_t>(word(rest));
        const auto expires = number<std::int64_t>(word(rest));
        (void)word(rest); // the size, which the framer has read
        if (key.empty() || key.size() > max_key || !flags || !expires) return bad_format;
        Item* const old = items_.find(key);
        if (how == "add" && old != nullptr) return "NOT_STORED\r\n";
        if ((how == "replace" || how == "append" || how == "prepend") && old == nullptr)
            return "NOT_STORED\r\n";
        if (how == "cas") {
            if (old == nullptr) return not_found;
            if (number<std::uint64_t>(word(rest)) != old->change) return "EXISTS\r\n";
        }
        const std::string_view text = weft::text_of(value.first(value.size() - 2));
        Item& item = old != nullptr ? *old : items_.at(key);
        if (how == "append") {
            item.bytes = Item::of(std::string(old->text()).append(text)).bytes;
        } else if (how == "prepend") {
            item.bytes = Item::of(std::string(text).append(old->text())).bytes;
        } else {
            item.bytes = keep(value);
            item.flags = *flags;
            item.expires = time_of(*expires);
        }
        item.change = ++changes_;
        return "STORED\r\n";
    }

    std::string_view erase(std::string_view rest) {
        const std::string_view key = word(rest);
        const std::string_view time = word(rest); // there was one once, and 0 is still taken
        if (key.empty()) return error;
        if ((!time.empty() && time != "0") || !word(rest).empty()) {
            return "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
        }
        return items_.erase(key) ? "DELETED\r\n" : not_found;
    }
    std::string_view touch(std::string_view rest) {
        const std::string_view key = word(rest);
        const std::string_view time = word(rest);
        if (time.empty()) return error;
        const auto expires = number<std::int64_t>(time);
        if (!expires) return bad_time;
        Item* const item = items_.find(key);
        if (item == nullptr) return not_found;
        item->expires = time_of(*expires);
        return "TOUCHED\r\n";
    }
    std::string_view flush(std::string_view delay) {
        const auto when = number<std::int64_t>(delay.empty() ? "0" : delay);
        if (!when) return bad_time;
        flush_at_ = time_of(*when);
        if (flush_at_ <= 1) clear();
        return "OK\r\n";
    }
    void clear() {
        items_.clear();
        flush_at_ = 0;
    }
    static std::string_view verbosity(std::string_view rest) {
        const std::string_view level = word(rest);
        if (level.empty() || !word(rest).empty()) return error;
        return number<std::uint32_t>(level) ? "OK\r\n" : bad_format;
    }
    /// "incr" and "decr".
    std::string add(std::string_view rest, bool up) {
        const std::string_view key = word(rest);
        const std::string_view by = word(rest);
        if (by.empty()) return std::string(error);
        const auto step = number<std::uint64_t>(by);
        if (!step) return "CLIENT_ERROR invalid numeric delta argument\r\n";
        Item* const item = items_.find(key);
        if (item == nullptr) return std::string(not_found);
        const auto old = number<std::uint64_t>(item->text());
        if (!old) return "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
        const std::uint64_t sum = up ? *old + *step : *old - std::min(*old, *step);
        item->bytes = Item::of(std::to_string(sum)).bytes;
        item->change = ++changes_;
        return std::to_string(sum) + "\r\n";
    }

    key_value::Table<Item> items_;
    std::uint64_t changes_ = 0;
    std::int64_t flush_at_ = 0; ///< when all that is there then goes; 0: never
};

} // namespace memcached
