// What the commands of a small Redis do. The code that has the connection hands in the arguments
// and something to answer to: a transport, a stream.
#pragma once

#include "key_value.hpp"
#include "redis_framing.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace redis {

using Integer = std::int64_t;
using key_value::number;
using key_value::Value;

/// Answers, in RESP2, to anything that has `write`.
template<class Out>
class Reply {
public:
    explicit Reply(Out& out) : out_(out) {}

    void simple(std::string_view line) { out_.write(line); } ///< "+OK\r\n", "$-1\r\n"
    void error(std::string text) { out_.write("-ERR " + text + "\r\n"); }
    void integer(Integer value) { head(':', value); }
    void array(std::size_t size) { head('*', static_cast<Integer>(size)); }
    /// `value` and the "\r\n" behind it. The buffer is handed on, and nothing of it copied.
    void bulk(weft::Buffer value) {
        head('$', static_cast<Integer>(value.size() - 2));
        out_.write(std::move(value));
    }

private:
    void head(char kind, Integer value) {
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
    using Framer = redis::Framer;
    static Framer framer() { return {}; }
    static std::string refusal(std::string_view why) {
        return "-ERR Protocol error: " + std::string(why) + "\r\n";
    }

    /// Does one command. `keep(bytes)` makes a buffer of a part of it that is to be stored. False:
    /// the client wants to go.
    template<class Out, class Keep>
    bool execute(Args args, Out& out, Keep keep) {
        if (args.empty()) return true;
        Reply reply(out);
        const std::string_view name = args[0];
        const std::size_t count = args.size();
        const auto takes = [&](std::string_view command, bool fine) {
            if (!same(name, command)) return false;
            if (!fine)
                reply.error("wrong number of arguments for '" + std::string(command) + "' command");
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
            for (const std::string_view key : args.subspan(1))
                get(key, reply);
        } else if (takes("mset", count >= 3 && count % 2 == 1)) {
            if (wrong_) return true;
            for (std::size_t i = 1; i < count; i += 2)
                put(args[i], keep(with_end(args[i + 1])));
            reply.simple("+OK\r\n");
        } else if (takes("del", count >= 2)) {
            if (wrong_) return true;
            Integer gone = 0;
            for (const std::string_view key : args.subspan(1))
                gone += values_.erase(key);
            reply.integer(gone);
        } else if (takes("exists", count >= 2)) {
            if (wrong_) return true;
            Integer there = 0;
            for (const std::string_view key : args.subspan(1))
                there += values_.find(key) != nullptr;
            reply.integer(there);
        } else if (takes("expire", count == 3)) {
            if (!wrong_) expire(args[1], args[2], second, reply);
        } else if (takes("pexpire", count == 3)) {
            if (!wrong_) expire(args[1], args[2], 1, reply);
        } else if (takes("ttl", count == 2)) {
            if (!wrong_) reply.integer(time_left(args[1], second));
        } else if (takes("pttl", count == 2)) {
            if (!wrong_) reply.integer(time_left(args[1], 1));
        } else if (takes("persist", count == 2)) {
            if (!wrong_) persist(args[1], reply);
        } else if (takes("ping", count <= 2)) {
            if (wrong_) return true;
            if (count == 2)
                reply.bulk(keep(with_end(args[1])));
            else
                reply.simple("+PONG\r\n");
        } else if (takes("echo", count == 2)) {
            if (!wrong_) reply.bulk(keep(with_end(args[1])));
        } else if (takes("dbsize", count == 1)) {
            if (!wrong_) reply.integer(static_cast<Integer>(values_.size()));
        } else if (takes("flushall", true)) {
            values_.clear();
            reply.simple("+OK\r\n");
        } else if (takes("config", count >= 2)) {
            if (!wrong_) config(args, reply, keep);
        } else if (takes("command", true)) {
            reply.array(0); // asked by redis-cli
        } else if (takes("quit", true)) {
            reply.simple("+OK\r\n");
            return false;
        } else {
            reply.error("unknown command '" + std::string(name.substr(0, 128)) + "'");
        }
        return true;
    }

private:
    static constexpr Integer second = 1000; ///< milliseconds

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
    /// When it is over what begins now and lasts `amount` of `unit` milliseconds. Nothing: that is
    /// no number, or too many.
    static std::optional<Integer> after(std::string_view amount, Integer unit) {
        const auto given = number<Integer>(amount);
        Integer at = 0;
        if (!given || __builtin_mul_overflow(*given, unit, &at)) return {};
        if (__builtin_add_overflow(at, key_value::now(), &at)) return {};
        return at;
    }

    /// redis-benchmark asks for two settings; here all are empty.
    template<class Reply, class Keep>
    static void config(Args args, Reply& reply, Keep keep) {
        if (!same(args[1], "get") || args.size() != 3)
            return reply.error("CONFIG GET is all there is");
        reply.array(2);
        reply.bulk(keep(with_end(args[2])));
        reply.bulk(Value::of("").bytes);
    }
    template<class Reply>
    void get(std::string_view key, Reply& reply) {
        const Value* const value = values_.find(key);
        if (value == nullptr) return reply.simple("$-1\r\n");
        reply.bulk(value->bytes.share());
    }
    template<class Reply, class Keep>
    void set(Args args, Reply& reply, Keep keep) {
        bool only_new = false;
        bool only_old = false;
        bool keep_time = false;
        Integer expires = 0;
        for (std::size_t i = 3; i < args.size(); ++i) {
            const bool timed = same(args[i], "ex") || same(args[i], "px");
            if (timed && i + 1 < args.size()) {
                const auto at = after(args[i + 1], same(args[i], "ex") ? second : 1);
                if (!at || *at <= key_value::now())
                    return reply.error("invalid expire time in 'set' command");
                expires = *at;
                ++i;
            } else if (same(args[i], "nx")) {
                only_new = true;
            } else if (same(args[i], "xx")) {
                only_old = true;
            } else if (same(args[i], "keepttl")) {
                keep_time = true;
            } else {
                return reply.error("syntax error");
            }
        }
        if ((only_new && only_old) || (keep_time && expires != 0))
            return reply.error("syntax error");
        Value* const old = only_new || only_old || keep_time ? values_.find(args[1]) : nullptr;
        if ((only_new || only_old) && (old != nullptr) != only_old) return reply.simple("$-1\r\n");
        if (keep_time && old != nullptr) expires = old->expires;
        put(args[1], keep(with_end(args[2])), expires);
        reply.simple("+OK\r\n");
    }
    template<class Reply>
    void add(std::string_view key, Integer by, Reply& reply) {
        Value* const value = values_.find(key);
        const auto old = value == nullptr ? 0 : number<Integer>(value->text());
        Integer sum = 0;
        if (!old || __builtin_add_overflow(*old, by, &sum)) {
            return reply.error("value is not an integer or out of range");
        }
        put(key, Value::of(std::to_string(sum)).bytes, value == nullptr ? 0 : value->expires);
        reply.integer(sum);
    }
    template<class Reply>
    void expire(std::string_view key, std::string_view amount, Integer unit, Reply& reply) {
        const auto at = after(amount, unit);
        if (!at) return reply.error("value is not an integer or out of range");
        Value* const value = values_.find(key);
        if (value != nullptr) value->expires = std::max<Integer>(*at, 1);
        reply.integer(value != nullptr);
    }
    /// In `unit` milliseconds, rounded; -1: for ever, -2: there is none.
    Integer time_left(std::string_view key, Integer unit) {
        const Value* const value = values_.find(key);
        if (value == nullptr) return -2;
        if (value->expires == 0) return -1;
        return (value->expires - key_value::now() + unit / 2) / unit;
    }
    template<class Reply>
    void persist(std::string_view key, Reply& reply) {
        Value* const value = values_.find(key);
        reply.integer(value != nullptr && value->expires != 0);
        if (value != nullptr) value->expires = 0;
    }
    void put(std::string_view key, weft::Buffer bytes, Integer expires = 0) {
        Value& value = values_.at(key);
        value.bytes = std::move(bytes);
        value.expires = expires;
    }

    key_value::Table<> values_;
    bool wrong_ = false;
};

} // namespace redis
