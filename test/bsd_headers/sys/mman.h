#pragma once
#pragma GCC system_header

#include_next <sys/mman.h>

#undef MADV_WIPEONFORK

extern "C" int minherit(void*, size_t, int);
#if defined(__FreeBSD__) || defined(__OpenBSD__)
#define INHERIT_ZERO 3
#endif
#ifdef __NetBSD__
#define MAP_INHERIT_ZERO 4
#endif
