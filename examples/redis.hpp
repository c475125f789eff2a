// What the commands of a small Redis do. Whoever has the connection hands in the arguments and something to answer to: a
// transport, a stream.
#pragma once

#include "redis_framing.hpp"

#include <weft/reactor/buffer.hpp>

#include <array>
#include <charconv>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace redis {

inline std::optional<std::int64_t> integer(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
    return value;
}

/// Answers, in RESP2, to anything that has `write`.
template<class Out>
class Reply {
public:
    explicit Reply(Out& out) : out_(out) {}

    void simple(std::string_view line) { out_.write(line); } ///< "+OK\r\n", "$-1\r\n"
    void error(std::string text) { out_.write("-ERR " + text + "\r\n"); }
    void number(std::int64_t value) { head(':', value); }
    void array(std::size_t size) { head('*', static_cast<std::int64_t>(size)); }
    /// `value` and the "\r\n" behind it. The buffer is handed on, and nothing of it copied.
    void bulk(weft::Buffer value) {
        head('$', static_cast<std::int64_t>(value.size() - 2));
        out_.write(std::move(value));
    }

private:
    void head(char kind, std::int64_t value) {
        std::array<char, 24> line;
        line[0] = kind;
        char* end = std::to_chars(line.data() + 1, line.data() + line.size() - 2, value).ptr;
        *end++ = '\r';
        *end++ = '\n';
        out_.write(std::string_view(line.data(), static_cast<std::size_t>(end - line.data())));
    }
    Out& out_;
};

class Store {
public:
    /// Does one command. `keep(bytes)` makes a buffer of a part of it that is to be stored. False: the client wants to
    /// go.
    template<class Out, class Keep>
    bool execute(Args args, Out& out, Keep keep) {
        if (args.empty()) return true;
        Reply reply(out);
        const std::string_view name = args[0];
        const std::size_t count = args.size();
        const auto takes = [&](std::string_view command, bool fine) {
            if (!same(name, command)) return false;
            if (!fine) reply.error("wrong number of arguments for '" + std::string(command) + "' command");
            wrong_ = !fine;
            return true;
        };
        if (takes("get", count == 2)) {
            if (!wrong_) get(args[1], reply);
        } else if (takes("set", count >= 3)) {
            if (!wrong_) set(args, reply, keep);
        } else if (takes("incr", count == 2)) {
            if (!wrong_) add(args[1], 1, reply);
        } else if (takes("decr", count == 2)) {
            if (!wrong_) add(args[1], -1, reply);
        } else if (takes("mget", count >= 2)) {
            if (wrong_) return true;
            reply.array(count - 1);
            for (std::size_t i = 1; i < count; ++i) get(args[i], reply);
        } else if (takes("mset", count >= 3 && count % 2 == 1)) {
            if (wrong_) return true;
            for (std::size_t i = 1; i < count; i += 2) put(args[i], keep(with_end(args[i + 1])));
            reply.simple("+OK\r\n");
        } else if (takes("del", count >= 2)) {
            if (wrong_) return true;
            std::int64_t gone = 0;
            for (std::size_t i = 1; i < count; ++i) gone += erase(args[i]);
            reply.number(gone);
        } else if (takes("exists", count >= 2)) {
            if (wrong_) return true;
            std::int64_t there = 0;
            for (std::size_t i = 1; i < count; ++i) there += values_.contains(args[i]);
            reply.number(there);
        } else if (takes("ping", count <= 2)) {
            if (wrong_) return true;
            if (count == 2) reply.bulk(keep(with_end(args[1])));
            else reply.simple("+PONG\r\n");
        } else if (takes("echo", count == 2)) {
            if (!wrong_) reply.bulk(keep(with_end(args[1])));
        } else if (takes("dbsize", count == 1)) {
            if (!wrong_) reply.number(static_cast<std::int64_t>(values_.size()));
        } else if (takes("flushall", true)) {
            values_.clear();
            reply.simple("+OK\r\n");
        } else if (takes("config", true) || takes("command", true)) {
            reply.array(0); // asked by redis-benchmark and redis-cli
        } else if (takes("quit", true)) {
            reply.simple("+OK\r\n");
            return false;
        } else {
            reply.error("unknown command '" + std::string(name.substr(0, 128)) + "'");
        }
        return true;
    }

private:
    struct Hash : std::hash<std::string_view> {
        using is_transparent = void;
    };

    /// Whether `name`, in any case, is `command`.
    static bool same(std::string_view name, std::string_view command) {
        if (name.size() != command.size()) return false;
        for (std::size_t i = 0; i < name.size(); ++i)
            if ((name[i] | 0x20) != command[i]) return false;
        return true;
    }

    static weft::Bytes with_end(std::string_view arg) {
        return weft::bytes_of(std::string_view(arg.data(), arg.size() + 2));
    }

    template<class Reply>
    void get(std::string_view key, Reply& reply) const {
        const auto found = values_.find(key);
        if (found == values_.end()) return reply.simple("$-1\r\n");
        reply.bulk(found->second.share());
    }
    template<class Reply, class Keep>
    void set(Args args, Reply& reply, Keep keep) {
        bool only_new = false;
        bool only_old = false;
        for (const std::string_view option : args.subspan(3)) {
            if (same(option, "nx")) only_new = true;
            else if (same(option, "xx")) only_old = true;
            else return reply.error("syntax error");
        }
        if ((only_new || only_old) && values_.contains(args[1]) != only_old) return reply.simple("$-1\r\n");
        put(args[1], keep(with_end(args[2])));
        reply.simple("+OK\r\n");
    }
    template<class Reply>
    void add(std::string_view key, std::int64_t by, Reply& reply) {
        const auto found = values_.find(key);
        const auto old = found == values_.end() ? 0 : integer(found->second.text().substr(0, found->second.size() - 2));
        std::int64_t sum = 0;
        if (!old || __builtin_add_overflow(*old, by, &sum)) {
            return reply.error("value is not an integer or out of range");
        }
        put(key, weft::Buffer::copy(weft::bytes_of(std::to_string(sum) + "\r\n")));
        reply.number(sum);
    }
    void put(std::string_view key, weft::Buffer value) {
        if (const auto found = values_.find(key); found != values_.end()) found->second = std::move(value);
        else values_.emplace(key, std::move(value));
    }
    bool erase(std::string_view key) {
        const auto found = values_.find(key);
        if (found == values_.end()) return false;
        values_.erase(found);
        return true;
    }

    /// Each with the "\r\n" behind it. They are shared with the answers that are under way, and never changed.
    std::unordered_map<std::string, weft::Buffer, Hash, std::equal_to<>> values_;
    bool wrong_ = false;
};

} // namespace redis
