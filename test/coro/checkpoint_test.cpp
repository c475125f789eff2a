#include "checkpoint_support.hpp"

#include <weft/coro/tasks/co_await.hpp>
#include <weft/coro/tasks/testing.hpp>
#include <weft/protocols/codecs/line_framing.hpp>
#include <weft/reactor/loop_core.hpp>

#include <atomic>
#include <coroutine>
#include <cstdio>

using namespace weft;
using namespace weft::test;
using coro::DatagramSocket;
using coro::Listener;
using coro::Stream;

namespace {

/// Is ready at once, and counts how often it is awaited.
struct CountedAwaitable {
    std::size_t& count;
    bool await_ready() const noexcept {
        ++count;
        return true;
    }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    void await_resume() const noexcept {}
};

Operations ready_locks() {
    return {
        {"Mutex::lock",
         [](const Attempt& attempt) {
             coro::Mutex mutex;
             coro::Mutex::Guard guard;
             attempt([&] { guard = mutex.lock(); }, [&] { return mutex.locked(); });
         }},
        {"RwLock::read",
         [](const Attempt& attempt) {
             coro::RwLock lock;
             coro::RwLock::Guard guard;
             attempt([&] { guard = lock.read(); }, [&] { return lock.readers(); });
         }},
        {"RwLock::write",
         [](const Attempt& attempt) {
             coro::RwLock lock;
             coro::RwLock::Guard guard;
             attempt([&] { guard = lock.write(); }, [&] { return lock.writing(); });
         }},
        {"Semaphore::acquire",
         [](const Attempt& attempt) {
             coro::Semaphore semaphore(3);
             attempt([&] { semaphore.acquire(); },
                     [&] { return static_cast<std::size_t>(semaphore.available()); });
         }},
        {"Semaphore::permit",
         [](const Attempt& attempt) {
             coro::Semaphore semaphore(3);
             coro::Semaphore::Permit permit;
             attempt([&] { permit = semaphore.permit(); },
                     [&] { return static_cast<std::size_t>(semaphore.available()); });
         }},
        {"Event::wait",
         [](const Attempt& attempt) {
             coro::Event event;
             event.set();
             attempt([&] { event.wait(); }, nothing);
         }},
        {"Condition::wait(predicate)",
         [](const Attempt& attempt) {
             coro::Mutex mutex;
             coro::Condition condition(mutex);
             auto guard = mutex.lock();
             attempt([&] { condition.wait([] { return true; }); }, nothing);
         }},
        {"Barrier::wait",
         [](const Attempt& attempt) {
             coro::Barrier barrier(1);
             attempt([&] { barrier.wait(); }, nothing);
         }},
    };
}

Operations ready_items() {
    return {
        {"Queue::put",
         [](const Attempt& attempt) {
             coro::Queue<int> queue;
             attempt([&] { queue.put(1); }, [&] { return queue.size(); });
         }},
        {"Queue::get",
         [](const Attempt& attempt) {
             coro::Queue<int> queue;
             queue.put(1);
             attempt([&] { queue.get(); }, [&] { return queue.size(); });
         }},
        {"Queue::begin",
         [](const Attempt& attempt) {
             coro::Queue<int> queue;
             queue.put(1);
             attempt([&] { (void)queue.begin(); }, [&] { return queue.size(); });
         }},
        {"Queue::join",
         [](const Attempt& attempt) {
             coro::Queue<int> queue;
             attempt([&] { queue.join(); }, nothing);
         }},
        {"Channel::send",
         [](const Attempt& attempt) {
             coro::Channel<int> channel(1);
             attempt([&] { channel.send(1); }, [&] { return channel.size(); });
         }},
        {"Channel::receive",
         [](const Attempt& attempt) {
             coro::Channel<int> channel(1);
             channel.send(1);
             attempt([&] { channel.receive(); }, [&] { return channel.size(); });
         }},
        {"Channel::begin",
         [](const Attempt& attempt) {
             coro::Channel<int> channel(1);
             channel.send(1);
             attempt([&] { (void)channel.begin(); }, [&] { return channel.size(); });
         }},
        {"select",
         [](const Attempt& attempt) {
             coro::Channel<int> channel(1);
             attempt([&] { coro::select(channel.on_send(1)); }, [&] { return channel.size(); });
         }},
        {"Generator::next",
         [](const Attempt& attempt) {
             std::size_t made = 0;
             coro::Generator<int> numbers([&](auto& yield) { yield(static_cast<int>(++made)); });
             attempt([&] { numbers.next(); }, [&] { return made; });
         }},
        {"Generator::begin",
         [](const Attempt& attempt) {
             std::size_t made = 0;
             coro::Generator<int> numbers([&](auto& yield) { yield(static_cast<int>(++made)); });
             attempt([&] { (void)numbers.begin(); }, [&] { return made; });
         }},
    };
}

/// An operation on a task that is done.
template<class F>
Operation on_task(std::string name, F call) {
    return {std::move(name), [call](const Attempt& attempt) {
                std::vector<coro::Task<int>> tasks;
                tasks.push_back(coro::spawn([] { return 1; }));
                tasks.front().wait();
                attempt([&] { call(tasks); }, nothing);
            }};
}

/// An operation on a future that is done.
template<class F>
Operation on_future(std::string name, F call) {
    return {std::move(name), [call](const Attempt& attempt) {
                auto future = make_ready_future(coro::this_loop(), 1);
                attempt([&] { call(future); }, nothing);
            }};
}

Operations ready_tasks() {
    using Tasks = std::vector<coro::Task<int>>;
    return {
        on_task("Task::wait", [](Tasks& tasks) { tasks[0].wait(); }),
        on_task("Task::result", [](Tasks& tasks) { tasks[0].result(); }),
        {"Task::join",
         [](const Attempt& attempt) { // of nothing, which can be had more than once
             auto task = coro::spawn([] {});
             task.wait();
             attempt([&] { task.join(); }, nothing);
         }},
        on_task("TaskRef::wait", [](Tasks& tasks) { coro::TaskRef(tasks[0]).wait(); }),
        on_task("await(task)", [](Tasks& tasks) { coro::await(tasks[0]); }),
        on_task("shield(task)", [](Tasks& tasks) { coro::shield(tasks[0]); }),
        on_task("gather", [](Tasks& tasks) { coro::gather(tasks[0]); }),
        on_task("gather_outcomes", [](Tasks& tasks) { coro::gather_outcomes(tasks[0]); }),
        on_task("wait", [](Tasks& tasks) { coro::wait(tasks); }),
        on_task("as_completed",
                [](Tasks& tasks) {
                    for (auto& task : coro::as_completed(tasks))
                        CHECK(task.done());
                }),
        on_task("wait_for", [](Tasks& tasks) { coro::wait_for(tasks[0], 1h); }),
        on_future("await(future)", [](Future<int>& future) { coro::await(future); }),
        on_future("shield(future)", [](Future<int>& future) { coro::shield(future); }),
        {"await(awaitable)",
         [](const Attempt& attempt) {
             std::size_t count = 0;
             attempt([&] { coro::await(CountedAwaitable{count}); }, [&] { return count; });
         }},
    };
}

/// An operation on a stream that has received three lines and the end.
template<class F>
Operation on_stream(std::string name, F call) {
    return {std::move(name), [call](const Attempt& attempt) {
                auto [near, far] = coro::stream_pair();
                near.write("one\ntwo\nsix\n");
                near.write_eof();
                far.peek(13);
                std::size_t count = 0;
                attempt([&, &stream = far] { call(stream), ++count; }, [&] { return count; });
                CHECK((count != 0 || far.read_to_end() == "one\ntwo\nsix\n"));
            }};
}

Operations ready_streams() {
    static std::array<std::byte, 4> memory;
    return {
        on_stream("Stream::read", [](Stream& s) { (void)s.read(); }),
        on_stream("Stream::read_some", [](Stream& s) { s.read_some(memory); }),
        on_stream("Stream::read_exactly", [](Stream& s) { s.read_exactly(memory); }),
        on_stream("Stream::read_until", [](Stream& s) { s.read_until("\n"); }),
        on_stream("Stream::read_line", [](Stream& s) { s.read_line(); }),
        on_stream("Stream::read_to_end", [](Stream& s) { s.read_to_end(); }),
        on_stream("Stream::peek", [](Stream& s) { s.peek(3); }),
        on_stream("Stream::discard", [](Stream& s) { s.discard(4); }),
        on_stream("MessageReader::read",
                  [](Stream& s) { coro::MessageReader(s, LineFramer()).read(); }),
        on_stream("Stream::write", [](Stream& s) { s.write("x"); }),
        on_stream("Stream::write_all",
                  [](Stream& s) {
                      s.write_all({"x", "y"});
                  }),
        on_stream("Stream::drain", [](Stream& s) { s.drain(); }),
        {"Stream::wait_closed",
         [](const Attempt& attempt) {
             auto [near, far] = coro::stream_pair();
             near.abort();
             near.wait_closed();
             attempt([&, &stream = near] { stream.wait_closed(); }, nothing);
         }},
        {"Listener::accept",
         [](const Attempt& attempt) {
             Listener listener("127.0.0.1:0");
             const std::string address = listener.addresses().front().to_string();
             Stream first = coro::connect(address), second = coro::connect(address);
             Stream accepted = listener.accept();
             coro::wait_all_blocked(); // the second one waits
             std::size_t taken = 0;
             attempt([&] { accepted = listener.accept(), ++taken; }, [&] { return taken; });
         }},
    };
}

/// An operation on a datagram endpoint that has received two, connected to itself.
template<class F>
Operation on_datagrams(std::string name, F call) {
    return {std::move(name), [call](const Attempt& attempt) {
                auto socket = DatagramSocket::bind("127.0.0.1:0");
                const Address self = socket.local_address();
                std::array<std::byte, 8> memory;
                for (int i = 0; i < 3; ++i)
                    socket.send_to(bytes_of("datagram"), self);
                socket.recv_from(memory);
                coro::wait_all_blocked();
                std::size_t count = 0;
                attempt([&] { call(socket, self, memory), ++count; }, [&] { return count; });
            }};
}

Operations ready_datagrams() {
    using Memory = std::array<std::byte, 8>;
    const Bytes data = bytes_of("x");
    return {
        on_datagrams("DatagramSocket::recv_from",
                     [](auto& socket, auto&, Memory& memory) { socket.recv_from(memory); }),
        on_datagrams("DatagramSocket::recv_batch",
                     [](auto& socket, auto&, Memory&) { socket.recv_batch(); }),
        on_datagrams("DatagramSocket::send_to",
                     [=](auto& socket, auto& to, Memory&) { socket.send_to(data, to); }),
        on_datagrams("DatagramSocket::send_batch",
                     [=](auto& socket, auto& to, Memory&) {
                         const coro::Outgoing one{data, to};
                         socket.send_batch({&one, 1});
                     }),
        on_datagrams("DatagramSocket::drain", [](auto& socket, auto&, Memory&) { socket.drain(); }),
        {"DatagramSocket::send",
         [=](const Attempt& attempt) {
             auto peer = DatagramSocket::bind("127.0.0.1:0");
             auto socket = DatagramSocket::connect(peer.local_address().to_string());
             attempt([&] { socket.send(data); }, nothing);
         }},
        {"DatagramSocket::wait_closed",
         [](const Attempt& attempt) {
             auto socket = DatagramSocket::bind("127.0.0.1:0");
             socket.abort();
             socket.wait_closed();
             attempt([&] { socket.wait_closed(); }, nothing);
         }},
    };
}

/// Returns at the end of what always suspends.
Operations endless() {
    return {
        {"sleep_forever",
         [](const Attempt& attempt) { attempt([] { coro::sleep_forever(); }, nothing); }},
        {"serve",
         [](const Attempt& attempt) {
             std::size_t started = 0;
             coro::ServeOptions options;
             options.started = [&](const std::vector<Address>&) { ++started; };
             attempt(
                 [&] {
                     coro::serve(
                         "127.0.0.1:0", [](Stream&) {}, std::move(options));
                 },
                 [&] { return started; });
         }},
    };
}

Operations waiting_for_time() {
    return {
        {"yield", [](const Attempt& attempt) { attempt([] { coro::yield(); }, nothing); }},
        {"sleep",
         [](const Attempt& attempt) {
             attempt([] { coro::sleep(0s); }, nothing);
             attempt([] { coro::sleep(1us); }, nothing);
         }},
        {"sleep_until",
         [](const Attempt& attempt) { attempt([] { coro::sleep_until(TimePoint()); }, nothing); }},
        {"Ticker::tick",
         [](const Attempt& attempt) {
             coro::Ticker ticker(1us);
             attempt([&] { ticker.tick(); }, nothing);
         }},
        {"every",
         [](const Attempt& attempt) {
             std::size_t calls = 0;
             attempt([&] { coro::every(1us, [&] { return ++calls == 0; }); },
                     [&] { return calls; });
         }},
        {"wait_all_blocked",
         [](const Attempt& attempt) { attempt([] { coro::wait_all_blocked(); }, nothing); }},
        {"Condition::wait",
         [](const Attempt& attempt) {
             coro::Mutex mutex;
             coro::Condition condition(mutex);
             auto guard = mutex.lock();
             auto notifier = coro::spawn([&] {
                 auto mine = mutex.lock();
                 condition.notify();
             });
             attempt([&] { condition.wait(); }, nothing);
             guard.unlock();
             notifier.join();
         }},
    };
}

Operations waiting_for_others() {
    return {
        {"run_in_executor",
         [](const Attempt& attempt) {
             std::atomic<std::size_t> jobs = 0;
             attempt([&] { coro::run_in_executor([&] { ++jobs; }); }, [&] { return jobs.load(); });
         }},
        {"run_in_executor_to_end",
         [](const Attempt& attempt) {
             std::atomic<std::size_t> jobs = 0;
             attempt([&] { coro::run_in_executor_to_end([&] { ++jobs; }); },
                     [&] { return jobs.load(); });
         }},
        {"TaskGroup::start",
         [](const Attempt& attempt) {
             std::size_t begun = 0;
             coro::task_group([&](coro::TaskGroup& group) {
                 const auto begin = [&](coro::Started<void>& started) { ++begun, started(); };
                 attempt([&] { group.start(begin); }, [&] { return begun; });
             });
         }},
        {"Descriptor::wait_readable",
         [](const Attempt& attempt) {
             SocketPair pair(weft::detail::core_of(coro::this_loop()).kernel());
             coro::Descriptor descriptor(pair.near);
             pair.send("x");
             attempt([&] { descriptor.wait_readable(); }, nothing);
         }},
        {"Descriptor::wait_writable",
         [](const Attempt& attempt) {
             SocketPair pair(weft::detail::core_of(coro::this_loop()).kernel());
             coro::Descriptor descriptor(pair.near);
             attempt([&] { descriptor.wait_writable(); }, nothing);
         }},
        {"connect",
         [](const Attempt& attempt) {
             Listener listener("127.0.0.1:0");
             const std::string address = listener.addresses().front().to_string();
             attempt([&] { coro::connect(address); }, nothing);
         }},
        {"stream_pair",
         [](const Attempt& attempt) { attempt([] { coro::stream_pair(); }, nothing); }},
        {"stream_over",
         [](const Attempt& attempt) {
             struct Silent final : Protocol {};
             std::size_t made = 0;
             const auto make = [&](std::unique_ptr<Protocol> protocol) {
                 ++made;
                 return Result<TransportRef>(connected_pair(coro::this_loop(), std::move(protocol),
                                                            std::make_unique<Silent>())
                                                 .first);
             };
             attempt([&] { coro::stream_over(make); }, [&] { return made; });
         }},
        {"Stream::send_file",
         [](const Attempt& attempt) {
             std::FILE* file = std::tmpfile();
             REQUIRE(file != nullptr);
             std::fputs("content", file);
             std::fflush(file);
             auto [near, far] = coro::stream_pair();
             attempt([&, &stream = near] { stream.send_file(::fileno(file)); },
                     [&, &stream = near] { return stream.is_open(); });
             std::fclose(file);
         }},
    };
}

} // namespace

TEST_CASE("what may have to wait looks for a cancellation also when it need not, and takes nothing",
          "[s67][s68][coro]") {
    const auto operations =
        GENERATE(&ready_locks, &ready_items, &ready_tasks, &ready_streams, &ready_datagrams);
    for_each(operations(), throws_when_cancelled);
}

TEST_CASE("what may have to wait lets others run at least every 100th time", "[s67][coro]") {
    const auto operations =
        GENERATE(&ready_locks, &ready_items, &ready_tasks, &ready_streams, &ready_datagrams);
    for_each(operations(), yields_now_and_then);
}

TEST_CASE("what always waits does not begin when it is cancelled", "[s67][s68][coro]") {
    const auto operations = GENERATE(&waiting_for_time, &waiting_for_others, &endless);
    for_each(operations(), throws_when_cancelled);
}

TEST_CASE("what always waits lets others run", "[s67][coro]") {
    const auto operations = GENERATE(&waiting_for_time, &waiting_for_others);
    for_each(operations(), suspends);
}
