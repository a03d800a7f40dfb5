/* The work of `ours.rs`, in C: round trips and streams through ipc.h, as a C program would write them. */
#define _POSIX_C_SOURCE 200809L
#include "ipc.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Meets the other process; not 0 if that is gone. */
typedef int (*meet_fn)(void *side);

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* A connection: as the one that listens, or the one that connects. */
ipc_connection *bench_open(const char *name, int listens, uint32_t wait) {
    const int64_t patience = 10 * INT64_C(1000000000);
    ipc_options options;
    ipc_connection *connection = NULL;
    ipc_options_init(&options, sizeof options);
    options.wait = wait;
    if (listens) {
        ipc_listener *listener;
        if (ipc_listen(name, &options, &listener) == IPC_OK) {
            ipc_accept(listener, patience, &connection);
            ipc_listener_close(listener);
        }
    } else {
        options.flags = IPC_WAIT_FOR_LISTENER;
        options.timeout_ns = patience;
        ipc_connect(name, &options, &connection);
    }
    return connection;
}

void bench_close(ipc_connection *connection) { ipc_close(connection); }

const char *bench_error(void) { return ipc_last_error(); }

static int ask(ipc_connection *connection, unsigned char *message, size_t size, uint64_t rounds) {
    for (uint64_t round = 0; round < rounds; round++) {
        size_t len;
        message[0] = (unsigned char)round;
        if (ipc_send(connection, message, size, IPC_FOREVER) != IPC_OK
            || ipc_recv_into(connection, message, size, &len, IPC_FOREVER) != IPC_OK
            || message[0] != (unsigned char)round) {
            return -1;
        }
    }
    return 0;
}

/* ns a round trip; negative on failure. */
double bench_ask(ipc_connection *connection, size_t size, uint64_t warm_up, uint64_t rounds, meet_fn meet, void *side) {
    unsigned char *message = calloc(1, size);
    double ns = -1;
    if (message != NULL && meet(side) == 0 && ask(connection, message, size, warm_up) == 0) {
        double start = now_ns();
        if (ask(connection, message, size, rounds) == 0) { ns = (now_ns() - start) / (double)rounds; }
    }
    free(message);
    return ns;
}

int bench_answer(ipc_connection *connection, size_t size, uint64_t rounds, meet_fn meet, void *side) {
    unsigned char *message = calloc(1, size);
    int failed = message == NULL || meet(side) != 0;
    for (uint64_t round = 0; !failed && round < rounds; round++) {
        size_t len;
        failed = ipc_recv_into(connection, message, size, &len, IPC_FOREVER) != IPC_OK
                 || ipc_send(connection, message, len, IPC_FOREVER) != IPC_OK;
    }
    free(message);
    return failed ? -1 : 0;
}

#define MOST_WORDS 8

/* Numbered messages of so many words, in batches; the compiler sees the number of words where it is constant. */
static inline int produce_words(ipc_connection *connection, size_t words, uint64_t batch, uint64_t total) {
    uint64_t message[MOST_WORDS];
    for (uint64_t number = 0; number < total;) {
        for (uint64_t end = number + batch; number < end; number++) {
            for (size_t word = 0; word < words; word++) { message[word] = number; }
            ipc_result result = batch == 1 ? ipc_send(connection, message, words * 8, IPC_FOREVER)
                                           : ipc_batch_add(connection, message, words * 8, IPC_FOREVER);
            if (result != IPC_OK) { return -1; }
        }
        if (batch > 1 && ipc_batch_publish(connection) != IPC_OK) { return -1; }
    }
    return 0;
}

static inline int consume_words(ipc_connection *connection, size_t words, uint64_t batch, uint64_t first, uint64_t count) {
    uint64_t sum = 0, wrong = 0, number = first, end = first + count, copy[MOST_WORDS];
    while (number < end) {
        ipc_message message;
        ipc_result result = batch == 1 ? ipc_recv(connection, &message, IPC_FOREVER)
                                       : ipc_recv_batch(connection, end - number, IPC_FOREVER);
        if (result != IPC_OK) { return -1; }
        while (batch == 1 || (result = ipc_recv_next(connection, &message)) == IPC_OK) {
            if (message.len != words * 8) { return -1; }
            memcpy(copy, message.data, words * 8);
            wrong |= copy[0] ^ number++;
            for (size_t word = 0; word < words; word++) { sum ^= copy[word]; }
            if (batch == 1) { break; }
        }
        if (result != IPC_OK && result != IPC_WOULD_BLOCK) { return -1; }
    }
    __asm__ volatile("" : : "r"(sum));
    return wrong == 0 ? 0 : -1;
}

static int produce_bytes(ipc_connection *connection, size_t size, uint64_t total) {
    void *message = calloc(1, size);
    int failed = message == NULL;
    for (uint64_t number = 0; !failed && number < total; number++) {
        failed = ipc_send(connection, message, size, IPC_FOREVER) != IPC_OK;
    }
    free(message);
    return failed ? -1 : 0;
}

static int consume_bytes(ipc_connection *connection, uint64_t count) {
    uint64_t sums[8] = {0};
    for (uint64_t number = 0; number < count; number++) {
        ipc_message message;
        if (ipc_recv(connection, &message, IPC_FOREVER) != IPC_OK) { return -1; }
        /* Aligned: the ring to 8 bytes, everything else to more. */
        const uint64_t *words = message.data;
        for (size_t at = 0; at + 8 <= message.len / 8; at += 8) {
            for (size_t word = 0; word < 8; word++) { sums[word] += words[at + word]; }
        }
    }
    __asm__ volatile("" : : "r"(sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7]));
    return 0;
}

int bench_produce(ipc_connection *connection, size_t size, uint64_t batch, uint64_t total, meet_fn meet, void *side) {
    int failed = meet(side);
    if (!failed) {
        failed = size == 8    ? produce_words(connection, 1, batch, total)
                 : size == 64 ? produce_words(connection, 8, batch, total)
                              : produce_bytes(connection, size, total);
    }
    /* What is still in the ring is read before this side goes. */
    ipc_message none;
    return failed || ipc_recv(connection, &none, IPC_FOREVER) != IPC_DISCONNECTED ? -1 : 0;
}

static int consume(ipc_connection *connection, size_t size, uint64_t batch, uint64_t first, uint64_t count) {
    return size == 8    ? consume_words(connection, 1, batch, first, count)
           : size == 64 ? consume_words(connection, 8, batch, first, count)
                        : consume_bytes(connection, count);
}

/* ns a message; negative on failure. */
double bench_consume(ipc_connection *connection, size_t size, uint64_t batch, uint64_t warm_up, uint64_t count, meet_fn meet,
                     void *side) {
    if (meet(side) != 0 || consume(connection, size, batch, 0, warm_up) != 0) { return -1; }
    double start = now_ns();
    if (consume(connection, size, batch, warm_up, count) != 0) { return -1; }
    return (now_ns() - start) / (double)count;
}
