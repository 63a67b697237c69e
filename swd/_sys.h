/* SPDX-License-Identifier: Apache-2.0 */
/* The few system facilities that differ between Linux and macOS, or that C says better than Cython. */
#ifndef SWD_SYS_H
#define SWD_SYS_H
#ifdef __linux__
#include <sched.h>
#endif
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: SO_NOSIGPIPE is set on the socket */
#endif

/* Seconds on the monotonic clock. */
static inline double swd_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline int swd_cond_init(pthread_cond_t *cond)
{
#ifdef __APPLE__
    return pthread_cond_init(cond, NULL);
#else
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int failed = pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed;
#endif
}

/* Waits at most `seconds` (a change of the wall clock does not matter); 1 if it was woken, 0 if the time was over. */
static inline int swd_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, double seconds)
{
    struct timespec t;
    if (seconds < 0)
        seconds = 0;
#ifdef __APPLE__
    t.tv_sec = (time_t)seconds;
    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    return pthread_cond_timedwait_relative_np(cond, mutex, &t) == 0;
#else
    clock_gettime(CLOCK_MONOTONIC, &t);
    double until = (double)t.tv_nsec * 1e-9 + seconds;
    t.tv_sec += (time_t)until;
    t.tv_nsec = (long)((until - (double)(time_t)until) * 1e9);
    return pthread_cond_timedwait(cond, mutex, &t) == 0;
#endif
}

static inline ssize_t swd_send(int fd, struct iovec *spans, int count)
{
    struct msghdr message;
    if (count == 1)
        return send(fd, spans->iov_base, spans->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    memset(&message, 0, sizeof message);
    message.msg_iov = spans;
    message.msg_iovlen = count;
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static inline ssize_t swd_receive(int fd, struct iovec *places, int count, int wait)
{
    struct msghdr message;
    if (count == 1)
        return recv(fd, places->iov_base, places->iov_len, wait ? 0 : MSG_DONTWAIT);
    memset(&message, 0, sizeof message);
    message.msg_iov = places;
    message.msg_iovlen = count;
    return recvmsg(fd, &message, wait ? 0 : MSG_DONTWAIT);
}

/* Whether the peer's packets for this socket are worked on by another CPU than the one we run on: on the same one, to
 * spin would only keep the peer from answering. */
static inline int swd_is_fed_elsewhere(int fd)
{
#if defined(__linux__) && defined(SO_INCOMING_CPU)
    int cpu = -1;
    socklen_t length = sizeof cpu;
    return getsockopt(fd, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &length) == 0 && cpu >= 0 && cpu != sched_getcpu();
#else
    (void)fd;
    return 0;
#endif
}

/* As swd_receive without waiting, again and again, for `seconds`. */
static inline ssize_t swd_receive_spinning(int fd, struct iovec *places, int count, double seconds)
{
    double until = 0, now;
    ssize_t n;
    for (;;) {
        int turns = 16;
        while (turns--) {
            n = swd_receive(fd, places, count, 0);
            if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
                return n;
        }
        now = swd_now();
        if (until == 0)
            until = now + seconds;
        else if (now >= until) {
            errno = EAGAIN;
            return -1;
        }
    }
}

/* The bytes that must have come before the socket counts as readable. */
static inline void swd_set_low_water(int fd, int bytes)
{
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

/* Waits until fd is readable (and/or writable), at most `seconds`; returns poll's revents, 0 after time-out or a signal. */
static inline int swd_poll(int fd, int want_write, double seconds)
{
    struct pollfd p = {fd, (short)(POLLIN | (want_write ? POLLOUT : 0)), 0};
    int ms = seconds <= 0 ? 0 : (int)(seconds * 1000) + 1;
    return poll(&p, 1, ms) > 0 ? p.revents : 0;
}

static inline int swd_poll_write(int fd, double seconds)
{
    struct pollfd p = {fd, POLLOUT, 0};
    return poll(&p, 1, (int)(seconds * 1000) + 1) > 0;
}

/* Ends a connection by RST: what waits in its send buffer is dropped. The descriptor stays to be closed. */
static inline void swd_reset(int fd)
{
    struct linger at_once = {1, 0};
    struct sockaddr none;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once); /* if nothing else, then close() resets it */
#ifdef __linux__
    memset(&none, 0, sizeof none);
    none.sa_family = AF_UNSPEC;
    connect(fd, &none, sizeof none);
#else
    (void)none;
#endif
}

static inline int swd_set_receive_slice(int fd, double seconds)
{
    struct timeval t = {(time_t)seconds, (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
}

/* Makes an eventfd, or the reading end of a pipe whose writing end this is, readable. A full pipe is readable already. */
static inline void swd_wake(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof one) < 0) {
        /* EAGAIN: it is awake */
    }
}

/* Counts forks in the child: an object that was born under another count belongs to the parent. Every compiled module
 * has its own count, which stands still unless that module calls swd_watch_forks: counts of two must not be compared. */
static unsigned swd_generation;

static void swd_in_child(void)
{
    swd_generation++;
}

static inline int swd_watch_forks(void)
{
    return pthread_atfork(NULL, NULL, swd_in_child);
}

static inline unsigned swd_fork_generation(void)
{
    return swd_generation;
}
#endif
