#pragma once

/// The whole coroutine front-end.

#include <weft/coro/await.hpp>
#include <weft/coro/barrier.hpp>
#include <weft/coro/cancel_scope.hpp>
#include <weft/coro/channel.hpp>
#include <weft/coro/channel_ends.hpp>
#include <weft/coro/combine.hpp>
#include <weft/coro/condition.hpp>
#include <weft/coro/connect.hpp>
#include <weft/coro/datagram.hpp>
#include <weft/coro/descriptor.hpp>
#include <weft/coro/event.hpp>
#include <weft/coro/generator.hpp>
#include <weft/coro/local.hpp>
#include <weft/coro/message_reader.hpp>
#include <weft/coro/mutex.hpp>
#include <weft/coro/overflow.hpp>
#include <weft/coro/queue.hpp>
#include <weft/coro/retry.hpp>
#include <weft/coro/run.hpp>
#include <weft/coro/rw_lock.hpp>
#include <weft/coro/semaphore.hpp>
#include <weft/coro/server.hpp>
#include <weft/coro/stack_usage.hpp>
#include <weft/coro/stream.hpp>
#include <weft/coro/task.hpp>
#include <weft/coro/task_group.hpp>
#include <weft/coro/testing.hpp>
#include <weft/coro/threads.hpp>
