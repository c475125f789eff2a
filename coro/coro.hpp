#pragma once

/// The whole coroutine front-end.

#include <weft/coro/core/stack_overflow.hpp>
#include <weft/coro/core/stack_usage.hpp>
#include <weft/coro/net/connect.hpp>
#include <weft/coro/net/datagram.hpp>
#include <weft/coro/net/descriptor.hpp>
#include <weft/coro/net/listener.hpp>
#include <weft/coro/net/message_reader.hpp>
#include <weft/coro/net/serve.hpp>
#include <weft/coro/net/stream.hpp>
#include <weft/coro/net/stream_handler.hpp>
#include <weft/coro/sync/barrier.hpp>
#include <weft/coro/sync/channel.hpp>
#include <weft/coro/sync/channel_ends.hpp>
#include <weft/coro/sync/condition.hpp>
#include <weft/coro/sync/event.hpp>
#include <weft/coro/sync/mutex.hpp>
#include <weft/coro/sync/queue.hpp>
#include <weft/coro/sync/rw_lock.hpp>
#include <weft/coro/sync/semaphore.hpp>
#include <weft/coro/tasks/await.hpp>
#include <weft/coro/tasks/cancel_scope.hpp>
#include <weft/coro/tasks/gather.hpp>
#include <weft/coro/tasks/generator.hpp>
#include <weft/coro/tasks/retry.hpp>
#include <weft/coro/tasks/run.hpp>
#include <weft/coro/tasks/sleep.hpp>
#include <weft/coro/tasks/task.hpp>
#include <weft/coro/tasks/task_group.hpp>
#include <weft/coro/tasks/task_local.hpp>
#include <weft/coro/tasks/task_ref.hpp>
#include <weft/coro/tasks/testing.hpp>
#include <weft/coro/tasks/threads.hpp>
#include <weft/coro/tasks/wait.hpp>
