/* SPDX-License-Identifier: Apache-2.0
 *
 * The ceiling: the bytes of iSCSI reads or writes over a TCP connection on the loopback, in messages of the same sizes,
 * and nothing else. The client sends `depth` requests at once and one for each answer; both ends batch what is there.
 * Both queue and receive as swd's ends do, for else they would be no ceiling: 512 KiB to be sent, and a receive that
 * finds nothing sleeps until an eighth of what is due has come, 512 KiB at most, or 1 ms has passed.
 *
 *     raw serve ANSWER REQUEST DEPTH    prints its port; serves connections one after the other until it is killed
 *     raw load PORT ANSWER REQUEST DEPTH SECONDS      prints: I/Os, seconds, CPU seconds of this process, system calls
 *
 * A read of N bytes is a request of 48 bytes and an answer of 48 + N; a write the other way round.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 20, QUEUED = 512 << 10, PATIENCE = 512 << 10, LEAST = 64 << 10 };
static char *inbox, *outbox;
static size_t outbox_size;
static unsigned long calls;
static int patient;

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void send_all(int fd, size_t bytes)
{
    while (bytes) {
        size_t piece = bytes < outbox_size ? bytes : outbox_size;
        ssize_t sent = send(fd, outbox, piece, MSG_NOSIGNAL);
        calls++;
        if (sent <= 0) exit(1);
        bytes -= sent;
    }
}

static void prepare(int fd, size_t due)
{
    int on = 1, queued = QUEUED, patience = due / 8 < PATIENCE ? due / 8 : PATIENCE;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &queued, sizeof queued);
    if (patience >= LEAST) setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &patience, sizeof patience);
    patient = patience >= LEAST;
}

static ssize_t receive(int fd)
{
    struct pollfd ready = {fd, POLLIN, 0};
    ssize_t got;
    do {
        calls++;
        got = recv(fd, inbox, ROOM, patient ? MSG_DONTWAIT : 0);
        if (got >= 0 || errno != EAGAIN) return got;
        calls++;
    } while (poll(&ready, 1, 1) >= 0);
    return -1;
}

static void serve(int listener, size_t answer, size_t request, size_t depth)
{
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        size_t have = 0;
        ssize_t got;
        if (fd < 0) exit(1);
        prepare(fd, request * depth);
        while ((got = receive(fd)) > 0) {
            have += got;
            size_t whole = have / request;
            have %= request;
            size_t bytes = whole * answer;
            while (bytes) {                /* a client that has left is no error here */
                size_t piece = bytes < outbox_size ? bytes : outbox_size;
                ssize_t sent = send(fd, outbox, piece, MSG_NOSIGNAL);
                if (sent <= 0) break;
                bytes -= sent;
            }
        }
        close(fd);
    }
}

static void load(int fd, size_t answer, size_t request, size_t depth, double seconds)
{
    double began = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID), now = began;
    unsigned long ios = 0;
    size_t have = 0, due = depth;
    while (now - began < seconds) {
        if (due) send_all(fd, due * request);
        ssize_t got = receive(fd);
        if (got <= 0) exit(1);
        have += got;
        due = have / answer;
        have %= answer;
        ios += due;
        now = seconds_of(CLOCK_MONOTONIC);
    }
    printf("%lu %.9f %.9f %lu\n", ios, now - began, seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu, calls);
}

int main(int count, char **words)
{
    int serving = count == 5 && !strcmp(words[1], "serve"), at = serving ? 2 : 3;
    if (!serving && (count != 7 || strcmp(words[1], "load"))) return 2;
    size_t answer = strtoul(words[at], NULL, 10), request = strtoul(words[at + 1], NULL, 10);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof place;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t most = answer > request ? answer : request;
    outbox_size = most > (1 << 20) ? most : 1 << 20;
    inbox = malloc(ROOM), outbox = malloc(outbox_size);
    memset(inbox, 1, ROOM), memset(outbox, 1, outbox_size);
    if (serving) {
        if (bind(fd, (struct sockaddr *)&place, length) || listen(fd, 4)) return 1;
        getsockname(fd, (struct sockaddr *)&place, &length);
        printf("%d\n", ntohs(place.sin_port)), fflush(stdout);
        serve(fd, answer, request, strtoul(words[4], NULL, 10));
    }
    place.sin_port = htons(atoi(words[2]));
    if (connect(fd, (struct sockaddr *)&place, length)) return 1;
    prepare(fd, answer * strtoul(words[5], NULL, 10));
    load(fd, answer, request, strtoul(words[5], NULL, 10), atof(words[6]));
    return 0;
}
