#pragma once
#pragma GCC system_header

#include <sys/socket.h>

struct sockaddr_un {
    unsigned char sun_len;
    sa_family_t sun_family;
    char sun_path[104];
};

#ifndef __OpenBSD__
#define SOL_LOCAL 0
#endif
#ifdef __APPLE__
#define LOCAL_PEERPID 0x002
#endif
#ifdef __NetBSD__
#define LOCAL_PEEREID 0x0003
struct unpcbid {
    pid_t unp_pid;
    uid_t unp_euid;
    gid_t unp_egid;
};
#endif
