#pragma once

#include <weft/reactor/error.hpp>

#include <optional>
#include <utility>
#include <variant>

#pragma GCC visibility push(default)

namespace weft {

/// A value, or the error that stands in its place. `value()` turns the error into a
/// `std::system_error` whose text is `Error::message()`.
template<class T>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    bool ok() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }

    /// The value; throws `std::system_error` if there is none.
    T& value() & {
        check();
        return std::get<0>(state_);
    }
    T value() && {
        check();
        return std::move(std::get<0>(state_));
    }
    T& operator*() noexcept { return *std::get_if<0>(&state_); }
    const T& operator*() const noexcept { return *std::get_if<0>(&state_); }
    T* operator->() noexcept { return std::get_if<0>(&state_); }
    const T* operator->() const noexcept { return std::get_if<0>(&state_); }

    /// The error. Only when `!ok()`.
    const Error& error() const noexcept { return *std::get_if<1>(&state_); }

private:
    void check() const {
        if (!ok()) throw std::system_error(error().code, error().context);
    }
    std::variant<T, Error> state_;
};

/// Success without a value, or an error.
template<>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}

    bool ok() const noexcept { return !error_; }
    explicit operator bool() const noexcept { return ok(); }
    void value() const {
        if (error_) throw std::system_error(error_->code, error_->context);
    }
    const Error& error() const { return *error_; }

private:
    std::optional<Error> error_;
};

} // namespace weft

#pragma GCC visibility pop
