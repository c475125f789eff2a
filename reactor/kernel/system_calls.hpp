#pragma once

// recv(2) and send(2) as the system is called the cheapest.
#ifdef __linux__
#include "linux_syscall.hpp"
#else
#include "bsd_syscall.hpp"
#endif
