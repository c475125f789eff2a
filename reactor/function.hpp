#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft {

/// A move-only callable: the standard's `move_only_function` with 40 bytes of room inside, which
/// holds five captured pointers without an allocation. Larger captures, and those whose move may
/// throw, go to the heap.
template<class Signature>
class Function;

/// For what is called with `Args` and returns an `R`.
template<class R, class... Args>
class Function<R(Args...)> {
    static constexpr std::size_t room = 40;
    enum class Op { move, destroy };
    using Invoke = R (*)(void*, Args...);
    using Manage = void (*)(Op, void* self, void* other) noexcept;

    template<class F>
    static constexpr bool fits = sizeof(F) <= room && alignof(F) <= alignof(void*) &&
                                 std::is_nothrow_move_constructible_v<F>;
    template<class F>
    static constexpr bool is_trivial =
        std::is_trivially_copyable_v<F> && std::is_trivially_destructible_v<F>;

public:
    Function() noexcept = default;
    Function(std::nullptr_t) noexcept {}

    template<class F>
        requires(!std::is_same_v<std::remove_cvref_t<F>, Function> &&
                 std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
    Function(F&& callable) {
        using Callable = std::decay_t<F>;
        if constexpr (fits<Callable>) {
            // A trivial one is moved with all the room there is, of which every byte shall have a
            // value.
            if constexpr (is_trivial<Callable>) std::memset(storage_, 0, room);
            ::new (static_cast<void*>(storage_)) Callable(std::forward<F>(callable));
            invoke_ = [](void* self, Args... args) -> R {
                return static_cast<R>((*static_cast<Callable*>(self))(std::forward<Args>(args)...));
            };
            if constexpr (!is_trivial<Callable>) {
                manage_ = [](Op op, void* self, void* other) noexcept {
                    auto* mine = static_cast<Callable*>(self);
                    if (op == Op::move) ::new (other) Callable(std::move(*mine));
                    mine->~Callable();
                };
            }
        } else {
            auto* heap = new Callable(std::forward<F>(callable));
            std::memcpy(storage_, &heap, sizeof heap);
            invoke_ = [](void* self, Args... args) -> R {
                return static_cast<R>(
                    (**static_cast<Callable**>(self))(std::forward<Args>(args)...));
            };
            manage_ = [](Op op, void* self, void* other) noexcept {
                if (op == Op::move) {
                    std::memcpy(other, self, sizeof(Callable*));
                } else {
                    delete *static_cast<Callable**>(self);
                }
            };
        }
    }

    Function(Function&& other) noexcept { take(other); }
    Function& operator=(Function&& other) noexcept {
        if (this != &other) {
            reset();
            take(other);
        }
        return *this;
    }
    Function(const Function&) = delete;
    Function& operator=(const Function&) = delete;
    ~Function() { reset(); }

    explicit operator bool() const noexcept { return invoke_ != nullptr; }

    /// Calls it; it must not be empty.
    R operator()(Args... args) { return invoke_(storage_, std::forward<Args>(args)...); }

    /// Destroys the callable and everything that it captured.
    void reset() noexcept {
        invoke_ = nullptr;
        if (auto* manage = std::exchange(manage_, nullptr)) manage(Op::destroy, storage_, nullptr);
    }

private:
    void take(Function& other) noexcept {
        invoke_ = std::exchange(other.invoke_, nullptr);
        manage_ = std::exchange(other.manage_, nullptr);
        if (manage_) {
            manage_(Op::move, other.storage_, storage_);
        } else if (invoke_) {
            std::memcpy(storage_, other.storage_, room);
        }
    }

    alignas(void*) std::byte storage_[room];
    Invoke invoke_ = nullptr;
    Manage manage_ = nullptr;
};

} // namespace weft

#pragma GCC visibility pop
