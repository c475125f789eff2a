#pragma once
#pragma GCC system_header

#define TCP_NODELAY 1
#if defined(__APPLE__)
#define TCP_KEEPALIVE 0x10
#define TCP_KEEPINTVL 0x101
#define TCP_KEEPCNT 0x102
#elif defined(__FreeBSD__)
#define TCP_KEEPIDLE 256
#define TCP_KEEPINTVL 512
#define TCP_KEEPCNT 1024
#elif defined(__NetBSD__)
#define TCP_KEEPIDLE 3
#define TCP_KEEPINTVL 5
#define TCP_KEEPCNT 6
#endif
