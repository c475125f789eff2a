// What a small memcached and a small Redis have in common: values under keys, that may expire.
#pragma once

#include <weft/reactor/buffer.hpp>

#include <charconv>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace key_value {

template<std::integral T>
std::optional<T> number(std::string_view text) {
    T value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
    return value;
}

/// In milliseconds since 1970.
inline std::int64_t now() {
    using namespace std::chrono;
    return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

/// The memory of values that were replaced stays for the next ones: given back to the system and
/// taken again, each page of it would cost as much as copying it. To be called once, at the
/// beginning.
inline void keep_memory() {
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}

/// A value as it is sent, with the "\r\n" behind it. It is shared with the answers that are under
/// way, and never changed.
struct Value {
    Value() = default;
    explicit Value(weft::Buffer b) : bytes(std::move(b)) {}
    static Value of(std::string text) {
        text += "\r\n";
        return Value(weft::Buffer::copy(weft::bytes_of(text)));
    }
    std::size_t size() const { return bytes.size() - 2; }
    std::string_view text() const { return bytes.text().substr(0, size()); }

    weft::Buffer bytes;
    std::int64_t expires = 0; ///< in milliseconds since 1970; 0: never
};

/// Items, which are values and whatever belongs to them, by their keys. One that has expired is
/// gone when it is asked for; until then it takes its memory.
template<std::derived_from<Value> Item = Value>
class Table {
public:
    /// Null if there is none. Valid until the next change.
    Item* find(std::string_view key) {
        const auto found = items_.find(key);
        if (found == items_.end()) return nullptr;
        if (found->second.expires == 0 || found->second.expires > now()) [[likely]]
            return &found->second;
        items_.erase(found);
        return nullptr;
    }
    /// The one that is there, expired or not, or a new one.
    Item& at(std::string_view key) {
        const auto found = items_.find(key);
        return found != items_.end() ? found->second : items_.emplace(key, Item()).first->second;
    }
    bool erase(std::string_view key) {
        const bool there = find(key) != nullptr;
        if (there) items_.erase(items_.find(key));
        return there;
    }
    void clear() { items_.clear(); }
    std::size_t size() const { return items_.size(); }

private:
    struct Hash : std::hash<std::string_view> {
        using is_transparent = void;
    };
    std::unordered_map<std::string, Item, Hash, std::equal_to<>> items_;
};

} // namespace key_value
