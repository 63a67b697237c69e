# SPDX-License-Identifier: Apache-2.0
from posix.uio cimport iovec


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_destroy(pthread_cond_t *cond)
    int pthread_cond_signal(pthread_cond_t *cond)
    int pthread_cond_broadcast(pthread_cond_t *cond)


cdef extern from "_sys.h" nogil:
    int errno
    int EAGAIN, EINTR, EWOULDBLOCK
    int SHUT_RDWR
    int shutdown(int fd, int how)
    int close(int fd)
    double swd_now()
    int swd_cond_init(pthread_cond_t *cond)
    int swd_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, double seconds)
    ssize_t swd_send(int fd, iovec *spans, int count)
    ssize_t swd_receive(int fd, iovec *places, int count, int wait)
    int swd_is_fed_elsewhere(int fd)
    ssize_t swd_receive_spinning(int fd, iovec *places, int count, double seconds)
    void swd_set_low_water(int fd, int bytes)
    int swd_poll(int fd, int want_write, double seconds)
    int swd_poll_write(int fd, double seconds)
    void swd_reset(int fd)
    int swd_set_receive_slice(int fd, double seconds)
    void swd_wake(int fd)
    int swd_watch_forks()
    unsigned swd_fork_generation()
