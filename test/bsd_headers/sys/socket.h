#pragma once
#pragma GCC system_header

#include <sys/types.h>
#include <sys/uio.h>

typedef unsigned int socklen_t;
typedef unsigned char sa_family_t;

struct sockaddr {
    unsigned char sa_len;
    sa_family_t sa_family;
    char sa_data[14];
};
struct sockaddr_storage {
    unsigned char ss_len;
    sa_family_t ss_family;
    char ss_pad1[6];
    long long ss_align;
    char ss_pad2[112];
};
struct msghdr {
    void* msg_name;
    socklen_t msg_namelen;
    iovec* msg_iov;
    int msg_iovlen;
    void* msg_control;
    socklen_t msg_controllen;
    int msg_flags;
};
struct cmsghdr {
    socklen_t cmsg_len;
    int cmsg_level;
    int cmsg_type;
};
struct linger {
    int l_onoff;
    int l_linger;
};

#ifdef __APPLE__
#define BSD_ALIGN(size) (((size) + 3) & ~3ul)
#else
#define BSD_ALIGN(size) (((size) + 7) & ~7ul)
#endif
#define CMSG_LEN(size) (BSD_ALIGN(sizeof(cmsghdr)) + (size))
#define CMSG_SPACE(size) (BSD_ALIGN(sizeof(cmsghdr)) + BSD_ALIGN(size))
#define CMSG_DATA(message) ((unsigned char*)(message) + BSD_ALIGN(sizeof(cmsghdr)))
#define CMSG_FIRSTHDR(header)                                                                      \
    ((header)->msg_controllen >= sizeof(cmsghdr) ? (cmsghdr*)(header)->msg_control : (cmsghdr*)0)
#define CMSG_NXTHDR(header, message)                                                               \
    ((char*)(message) + BSD_ALIGN((message)->cmsg_len) + BSD_ALIGN(sizeof(cmsghdr)) >              \
             (char*)(header)->msg_control + (header)->msg_controllen                               \
         ? (cmsghdr*)0                                                                             \
         : (cmsghdr*)((char*)(message) + BSD_ALIGN((message)->cmsg_len)))

#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_INET 2
#if defined(__APPLE__)
#define AF_INET6 30
#elif defined(__FreeBSD__)
#define AF_INET6 28
#else
#define AF_INET6 24
#endif
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SHUT_WR 1
#define SCM_RIGHTS 1
#define SOMAXCONN 128

#define SOL_SOCKET 0xffff
#define SO_ACCEPTCONN 0x0002
#define SO_REUSEADDR 0x0004
#define SO_KEEPALIVE 0x0008
#define SO_BROADCAST 0x0020
#define SO_LINGER 0x0080
#define SO_REUSEPORT 0x0200
#define SO_SNDBUF 0x1001
#define SO_RCVBUF 0x1002
#define SO_ERROR 0x1007
#define SO_TYPE 0x1008

#define MSG_TRUNC 0x10
#define MSG_DONTWAIT 0x80
#ifdef __APPLE__
#define SO_NOSIGPIPE 0x1022
#else
#define MSG_NOSIGNAL 0x20000
#define MSG_CMSG_CLOEXEC 0x40000
#define SOCK_CLOEXEC 0x10000000
#define SOCK_NONBLOCK 0x20000000
#endif
#ifdef __FreeBSD__
#define SO_REUSEPORT_LB 0x00010000
#endif
#ifdef __OpenBSD__
#define SO_PEERCRED 0x1022
struct sockpeercred {
    uid_t uid;
    gid_t gid;
    pid_t pid;
};
#endif

extern "C" {
int accept(int, sockaddr*, socklen_t*);
int bind(int, const sockaddr*, socklen_t);
int connect(int, const sockaddr*, socklen_t);
int getpeername(int, sockaddr*, socklen_t*);
int getsockname(int, sockaddr*, socklen_t*);
int getsockopt(int, int, int, void*, socklen_t*);
int listen(int, int);
ssize_t recv(int, void*, size_t, int);
ssize_t recvmsg(int, msghdr*, int);
ssize_t send(int, const void*, size_t, int);
ssize_t sendmsg(int, const msghdr*, int);
int setsockopt(int, int, int, const void*, socklen_t);
int shutdown(int, int);
int socket(int, int, int);
int socketpair(int, int, int, int*);
int getpeereid(int, uid_t*, gid_t*); // unistd.h
#ifndef __APPLE__
int accept4(int, sockaddr*, socklen_t*, int);
#endif
#ifdef __FreeBSD__
struct sf_hdtr;
int sendfile(int, int, off_t, size_t, sf_hdtr*, off_t*, int);
#endif
#ifdef __APPLE__
struct sf_hdtr;
int sendfile(int, int, off_t, off_t*, sf_hdtr*, int);
#endif
}
