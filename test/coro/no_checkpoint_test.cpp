#include "checkpoint_support.hpp"

#include <weft/protocols/codecs/line_framing.hpp>
#include <weft/reactor/loop_core.hpp>

using namespace weft;
using namespace weft::test;
using coro::DatagramSocket;
using coro::Listener;
using coro::Stream;

namespace {

/// What calls a function and waits for nothing itself, with a function that does not wait.
Operations with_functions() {
    return {
        {"CancelScope::run",
         [](const Attempt& attempt) {
             attempt([] { (void)coro::CancelScope().run([] {}); }, nothing);
         }},
        {"move_on_after",
         [](const Attempt& attempt) {
             attempt([] { CHECK(coro::move_on_after(1h, [] {})); }, nothing);
         }},
        {"with_timeout",
         [](const Attempt& attempt) { attempt([] { coro::with_timeout(1h, [] {}); }, nothing); }},
        {"shield(function)",
         [](const Attempt& attempt) { attempt([] { coro::shield([] {}); }, nothing); }},
        {"finally",
         [](const Attempt& attempt) { attempt([] { coro::finally([] {}, [] {}); }, nothing); }},
        {"task_group",
         [](const Attempt& attempt) {
             attempt([] { coro::task_group([](coro::TaskGroup&) {}); }, nothing);
         }},
        {"retry", [](const Attempt& attempt) { attempt([] { coro::retry({}, [] {}); }, nothing); }},
    };
}

Operations without_waiting_for_locks() {
    return {
        {"Mutex::try_lock",
         [](const Attempt& attempt) {
             coro::Mutex mutex;
             attempt([&] { CHECK(mutex.try_lock()); }, nothing);
         }},
        {"Mutex::Guard::unlock",
         [](const Attempt& attempt) {
             coro::Mutex mutex;
             auto guard = mutex.lock();
             attempt([&] { guard.unlock(); }, nothing);
         }},
        {"RwLock::try_read",
         [](const Attempt& attempt) {
             coro::RwLock lock;
             attempt([&] { CHECK(lock.try_read()); }, nothing);
         }},
        {"RwLock::try_write",
         [](const Attempt& attempt) {
             coro::RwLock lock;
             attempt([&] { CHECK(lock.try_write()); }, nothing);
         }},
        {"Semaphore::try_acquire",
         [](const Attempt& attempt) {
             coro::Semaphore semaphore(1);
             attempt([&] { CHECK(semaphore.try_acquire()); }, nothing);
         }},
        {"Semaphore::release",
         [](const Attempt& attempt) {
             coro::Semaphore semaphore(1);
             attempt([&] { semaphore.release(); }, nothing);
         }},
        {"Event::set",
         [](const Attempt& attempt) {
             coro::Event event;
             attempt([&] { event.set(); }, nothing);
         }},
        {"Condition::notify",
         [](const Attempt& attempt) {
             coro::Mutex mutex;
             coro::Condition condition(mutex);
             auto guard = mutex.lock();
             attempt([&] { condition.notify(); }, nothing);
             attempt([&] { condition.notify_all(); }, nothing);
         }},
        {"Barrier::reset",
         [](const Attempt& attempt) {
             coro::Barrier barrier(2);
             attempt([&] { barrier.reset(); }, nothing);
         }},
        {"Barrier::abort",
         [](const Attempt& attempt) {
             coro::Barrier barrier(2);
             attempt([&] { barrier.abort(); }, nothing);
         }},
    };
}

Operations without_waiting_for_items() {
    return {
        {"Queue::try_put",
         [](const Attempt& attempt) {
             coro::Queue<int> queue;
             attempt([&] { CHECK_FALSE(queue.try_put(1)); }, nothing);
         }},
        {"Queue::try_get",
         [](const Attempt& attempt) {
             coro::Queue<int> queue;
             queue.put(1);
             attempt([&] { CHECK(queue.try_get().value() == 1); }, nothing);
         }},
        {"Queue::task_done",
         [](const Attempt& attempt) {
             coro::Queue<int> queue;
             queue.put(1);
             attempt([&] { queue.task_done(); }, nothing);
         }},
        {"Queue::close",
         [](const Attempt& attempt) {
             coro::Queue<int> queue;
             attempt([&] { queue.close(); }, nothing);
         }},
        {"Channel::try_send",
         [](const Attempt& attempt) {
             coro::Channel<int> channel(1);
             attempt([&] { CHECK_FALSE(channel.try_send(1)); }, nothing);
         }},
        {"Channel::try_receive",
         [](const Attempt& attempt) {
             coro::Channel<int> channel(1);
             channel.send(1);
             attempt([&] { CHECK(channel.try_receive().value() == 1); }, nothing);
         }},
        {"Channel::close",
         [](const Attempt& attempt) {
             coro::Channel<int> channel;
             attempt([&] { channel.close(); }, nothing);
         }},
        {"try_select",
         [](const Attempt& attempt) {
             coro::Channel<int> channel(1);
             attempt([&] { CHECK(coro::try_select(channel.on_send(1)) == 0); }, nothing);
             attempt([&] { CHECK_FALSE(coro::try_select(channel.on_send(1))); }, nothing);
         }},
    };
}

Operations without_waiting_for_tasks() {
    return {
        {"spawn",
         [](const Attempt& attempt) { attempt([] { coro::spawn([] {}).detach(); }, nothing); }},
        {"TaskGroup::spawn",
         [](const Attempt& attempt) {
             coro::task_group([&](coro::TaskGroup& group) {
                 attempt([&] { (void)group.spawn([] {}); }, nothing);
             });
         }},
        {"Task::cancel",
         [](const Attempt& attempt) {
             auto task = coro::spawn([] { coro::sleep_forever(); });
             attempt([&] { CHECK(task.cancel()); }, nothing);
         }},
        {"Task::detach",
         [](const Attempt& attempt) {
             auto task = coro::spawn([] {});
             attempt([&] { task.detach(); }, nothing);
         }},
        {"Task::exception",
         [](const Attempt& attempt) {
             auto task = coro::spawn([] {});
             task.wait();
             attempt([&] { CHECK(task.exception() == nullptr); }, nothing);
         }},
        {"Task::on_done",
         [](const Attempt& attempt) {
             auto task = coro::spawn([] {});
             attempt([&] { task.on_done([] {}); }, nothing);
         }},
        {"TaskGroup::keep",
         [](const Attempt& attempt) {
             coro::task_group(
                 [&](coro::TaskGroup& group) { attempt([&] { (void)group.keep(1); }, nothing); });
         }},
        {"this_task", [](const Attempt& attempt) { attempt([] { coro::this_task(); }, nothing); }},
        {"TaskLocal::set",
         [](const Attempt& attempt) {
             static coro::TaskLocal<int> local;
             attempt([] { local.set(1); }, nothing);
         }},
        {"current_task",
         [](const Attempt& attempt) { attempt([] { coro::current_task(); }, nothing); }},
        {"all_tasks", [](const Attempt& attempt) { attempt([] { coro::all_tasks(); }, nothing); }},
        {"start",
         [](const Attempt& attempt) {
             const weft::RemoteLoop remote(coro::this_loop());
             bool ran = false;
             attempt([&] { (void)coro::start(remote, [&] { ran = true; }); }, nothing);
             while (!ran)
                 coro::yield();
         }},
    };
}

/// An operation on a connected stream that has received a line.
template<class F>
Operation on_stream(std::string name, F call) {
    return {std::move(name), [call](const Attempt& attempt) {
                auto [near, far] = coro::stream_pair();
                near.write("line");
                far.peek(4);
                attempt([&, &stream = far] { call(stream); }, nothing);
            }};
}

template<class F>
Operation on_datagrams(std::string name, F call) {
    return {std::move(name), [call](const Attempt& attempt) {
                auto socket = DatagramSocket::bind("127.0.0.1:0");
                attempt([&] { call(socket); }, nothing);
            }};
}

Operations without_waiting_for_connections() {
    struct Silent final : Protocol {};
    return {
        on_stream("Stream::skip", [](Stream& stream) { stream.skip(4); }),
        on_stream("Stream::keep", [](Stream& stream) { (void)stream.keep(Bytes()); }),
        on_stream("MessageReader::keep",
                  [](Stream& s) { (void)coro::MessageReader(s, LineFramer()).keep(Bytes()); }),
        on_stream("Stream::flush", [](Stream& stream) { stream.flush(); }),
        on_stream("Stream::write_eof", [](Stream& stream) { stream.write_eof(); }),
        on_stream("Stream::close", [](Stream& stream) { stream.close(); }),
        on_stream("Stream::abort", [](Stream& stream) { stream.abort(); }),
        on_stream("Stream::release",
                  [](Stream& stream) { stream.release(std::make_unique<Silent>())->abort(); }),
        on_datagrams("DatagramSocket::flush", [](DatagramSocket& socket) { socket.flush(); }),
        on_datagrams("DatagramSocket::close", [](DatagramSocket& socket) { socket.close(); }),
        on_datagrams("DatagramSocket::abort", [](DatagramSocket& socket) { socket.abort(); }),
        {"DatagramSocket::bind",
         [](const Attempt& attempt) {
             attempt([] { DatagramSocket::bind("127.0.0.1:0"); }, nothing);
         }},
        {"DatagramSocket::connect",
         [](const Attempt& attempt) {
             attempt([] { DatagramSocket::connect("127.0.0.1:9"); }, nothing);
         }},
        {"ServeHandle::close",
         [](const Attempt& attempt) {
             coro::ServeHandle handle;
             attempt([&] { handle.close(); }, nothing);
         }},
        {"Descriptor",
         [](const Attempt& attempt) {
             SocketPair pair(weft::detail::core_of(coro::this_loop()).kernel());
             attempt([&] { coro::Descriptor{pair.near}; }, nothing);
         }},
        {"Listener",
         [](const Attempt& attempt) { attempt([] { Listener("127.0.0.1:0"); }, nothing); }},
        {"Listener::close",
         [](const Attempt& attempt) {
             Listener listener("127.0.0.1:0");
             attempt([&] { listener.close(); }, nothing);
         }},
    };
}

} // namespace

TEST_CASE("what calls a function is no checkpoint itself unless it has to wait", "[s67][coro]") {
    for_each(with_functions(), is_no_checkpoint);
}

TEST_CASE("what never waits neither throws when cancelled nor lets others run", "[s67][coro]") {
    const auto operations = GENERATE(&without_waiting_for_locks, &without_waiting_for_items,
                                     &without_waiting_for_tasks, &without_waiting_for_connections);
    for_each(operations(), is_no_checkpoint);
}

TEST_CASE("check_cancelled throws when cancelled and never lets others run", "[s67][coro]") {
    const Operations operations = {{"check_cancelled", [](const Attempt& attempt) {
                                        attempt([] { coro::check_cancelled(); }, nothing);
                                    }}};
    for_each(operations, throws_when_cancelled);
    for_each(operations, [](const std::function<void()>& call, const auto&) {
        const Others others;
        for (int i = 0; i < 1000; ++i)
            call();
        CHECK_FALSE(others.ran());
    });
}

TEST_CASE("a task that is cancelled together with a group gets Cancelled from starting one in it",
          "[s67][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        coro::CancelScope scope;
        (void)scope.run([&] {
            coro::task_group([&](coro::TaskGroup& group) {
                scope.cancel();
                CHECK_THROWS_AS(group.start([](coro::Started<void>& started) { started(); }),
                                Cancelled);
            });
        });
    });
}
