// Some facts about overflows. The fault comes when there is no room left to handle it on, so the
// handler needs a stack of its own (sigaltstack(2)), which is per thread, while handlers are per
// process. In a handler only what is async-signal-safe may be called (signal-safety(7)): no memory
// is allocated here. `backtrace` loads a library when it is first called, so it is called before.
// A guard that madvise(2) has installed faults as SEGV_MAPERR, one by mprotect(2) as SEGV_ACCERR;
// both tell the address, which is all that is looked at.

#include <weft/coro/core/stack_overflow.hpp>
#include <weft/coro/tasks/task.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <execinfo.h>
#include <mutex>
#include <string_view>
#include <sys/mman.h>
#include <system_error>
#include <unistd.h>

namespace weft::coro {
namespace {

constexpr int signals[] = {SIGSEGV, SIGBUS};
// What unwinding and naming 64 frames takes is a few kilobytes; instrumented code takes more.
constexpr std::size_t handler_stack_size = 128 * 1024;
constexpr std::size_t enough_for_handler = 32 * 1024;
constexpr int most_frames = 64;

std::mutex install_mutex;
int installed = 0; // objects of all threads
struct sigaction previous[std::size(signals)];

/// This thread's stack for handlers, if it had none.
struct HandlerStack {
    int users = 0;
    void* memory = nullptr;
    stack_t before = {};
};
thread_local HandlerStack handler_stack;

// --- In the handler ---

/// Text for standard error, put together without memory from anywhere else.
class Message {
public:
    Message& operator<<(std::string_view text) noexcept {
        const std::size_t size = std::min(text.size(), sizeof text_ - size_);
        std::copy_n(text.data(), size, text_ + size_);
        size_ += size;
        return *this;
    }
    Message& operator<<(std::size_t number) noexcept {
        char digits[20];
        const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
        return *this << std::string_view(digits, static_cast<std::size_t>(end - digits));
    }
    void send() const noexcept {
        for (std::size_t sent = 0; sent < size_;) {
            const ssize_t size = ::write(STDERR_FILENO, text_ + sent, size_ - sent);
            if (size <= 0) return; // nobody to tell
            sent += static_cast<std::size_t>(size);
        }
    }

private:
    char text_[1024];
    std::size_t size_ = 0;
};

void report(const detail::Coroutine& self) noexcept {
    const detail::TaskBase& task = self.task;
    Message message;
    message << "weft: the coroutine ";
    if (task.name) message << "'" << *task.name << "' ";
    message << "(spawned at " << task.spawned.file_name() << ":" << task.spawned.line()
            << ") has overflowed its stack of " << self.stack.usable()
            << " bytes; SpawnOptions::stack_size gives it another. It was here:\n";
    message.send();
    void* frames[most_frames];
    ::backtrace_symbols_fd(frames, ::backtrace(frames, most_frames), STDERR_FILENO);
}

void die_of(int number) noexcept {
    std::signal(number, SIG_DFL);
}

// The process goes on as if this handler were not there.
void hand_on(int number, siginfo_t* info, void* context) noexcept {
    const auto place = std::find(std::begin(signals), std::end(signals), number);
    const struct sigaction& before = previous[place - std::begin(signals)];
    if ((before.sa_flags & SA_SIGINFO) != 0) return before.sa_sigaction(number, info, context);
    const bool sent = info->si_code <= 0; // by kill(2) and the like
    if (before.sa_handler == SIG_IGN && sent) return;
    if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        return before.sa_handler(number);
    // The instruction that faulted is run again when this returns; a signal that was sent is not.
    die_of(number);
    if (sent) ::raise(number);
}

void on_fault(int number, siginfo_t* info, void* context) noexcept {
    const int error_number = errno;
    const detail::Coroutine* self = detail::current;
    if (self == nullptr || info->si_code <= 0 ||
        self->scheduler.stacks().guarded_top(info->si_addr) != self->stack.top) {
        hand_on(number, info, context);
        errno = error_number;
        return;
    }
    report(*self);
    die_of(number);
}

// --- Around it ---

void install_handlers() noexcept {
    const std::lock_guard lock(install_mutex);
    if (installed++ != 0) return;
    struct sigaction action = {};
    action.sa_sigaction = &on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < std::size(signals); ++i)
        ::sigaction(signals[i], &action, &previous[i]);
}

void remove_handlers() noexcept {
    const std::lock_guard lock(install_mutex);
    if (--installed != 0) return;
    for (std::size_t i = 0; i < std::size(signals); ++i) {
        // A handler that was installed since then stays.
        struct sigaction now = {};
        ::sigaction(signals[i], nullptr, &now);
        const bool ours = (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == &on_fault;
        if (ours) ::sigaction(signals[i], &previous[i], nullptr);
    }
}

void add_handler_stack() {
    HandlerStack& mine = handler_stack;
    if (mine.users++ != 0) return;
    ::sigaltstack(nullptr, &mine.before);
    if ((mine.before.ss_flags & SS_DISABLE) == 0 && mine.before.ss_size >= enough_for_handler)
        return;
    void* memory = ::mmap(nullptr, handler_stack_size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        --mine.users;
        throw std::system_error(errno, std::generic_category(), "a stack for signal handlers");
    }
    mine.memory = memory;
    stack_t stack = {};
    stack.ss_sp = memory;
    stack.ss_size = handler_stack_size;
    ::sigaltstack(&stack, nullptr);
}

void remove_handler_stack() noexcept {
    HandlerStack& mine = handler_stack;
    if (--mine.users != 0 || mine.memory == nullptr) return;
    ::sigaltstack(&mine.before, nullptr);
    ::munmap(std::exchange(mine.memory, nullptr), handler_stack_size);
}

} // namespace

OverflowReport::OverflowReport() {
    void* frame[1];
    ::backtrace(frame, 1);
    add_handler_stack();
    install_handlers();
}

OverflowReport::~OverflowReport() {
    remove_handlers();
    remove_handler_stack();
}

} // namespace weft::coro
