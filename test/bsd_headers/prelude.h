#pragma once
#pragma GCC system_header

// Seen before everything else: what the compiler's own headers are, as long as it knows where it
// runs, and from then on the system that was asked for.

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <span>
#include <string>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <system_error>
#include <unistd.h>
#include <vector>

#undef __linux__
#undef POLLRDHUP

// What those headers have and not all of these systems.
#pragma GCC poison sigtimedwait recvmmsg sendmmsg
#if defined(FOR_MACOS)
#define __APPLE__ 1
#pragma GCC poison ppoll pipe2
#elif defined(FOR_FREEBSD)
#define __FreeBSD__ 14
#elif defined(FOR_OPENBSD)
#define __OpenBSD__ 1
#elif defined(FOR_NETBSD)
#define __NetBSD__ 1
#endif
