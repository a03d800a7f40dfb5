/*
 * Misuse of the C interface: what the tables and cases of this directory share.
 *
 * Promise: a case that does not come to what include/ipc.h says ends the program with status 101 and says where. Refusal: what a C program
 * cannot be saved from (memory that is not there, two threads in one half) is not done here.
 */
#ifndef ABUSE_H
#define ABUSE_H

#define _GNU_SOURCE
#include "ipc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define MILLISECOND INT64_C(1000000)
#define SECOND INT64_C(1000000000)
/* For functions that return a pointer or a descriptor: there is none. */
#define NOTHING -1

_Noreturn void fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define DIE(...) fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition)                                                                                                       \
    do {                                                                                                                       \
        if (!(condition)) DIE("not so: %s", #condition);                                                                       \
    } while (0)
#define IS(expected, call)                                                                                                     \
    do {                                                                                                                       \
        ipc_result result_ = (call);                                                                                           \
        if (result_ != (expected)) {                                                                                           \
            DIE("%s came to %d, not to %s: %s", #call, result_, #expected, ipc_last_error());                                   \
        }                                                                                                                      \
    } while (0)
#define OK(call) IS(IPC_OK, call)
/* The words of the last error have these. */
#define SAYS(words)                                                                                                            \
    do {                                                                                                                       \
        if (strstr(ipc_last_error(), words) == NULL) DIE("no '%s' in: %s", words, ipc_last_error());                            \
    } while (0)

/* A place of this test's own. */
const char *path_of(const char *name);
int64_t now_ns(void);
size_t open_descriptors(void);
size_t segments(void);
ipc_options plain_options(void);

/* A process at the other end of a connection of this one, which does as it is told. */
struct peer {
    pid_t process;
    int orders;
};
enum order {
    SEND,      /* so many bytes */
    SEND_FILES, /* with so many descriptors beside one byte */
    RECEIVE,   /* one message, and its files */
    BREAK,     /* the protocol: writes all over what is shared */
    CLOSE,     /* and ends */
    ECHO,      /* so many messages */
};
/* Makes the connection; options are the listener's, others the peer's. Either may be NULL. */
ipc_connection *with_peer(struct peer *peer, const ipc_options *options, const ipc_options *others);
/* Gives an order without waiting; tell waits until it is carried out, and returns what the peer said. */
void ask(struct peer *peer, enum order order, uint64_t number);
uint64_t answer(struct peer *peer);
uint64_t tell(struct peer *peer, enum order order, uint64_t number);
void kill_peer(struct peer *peer);

ipc_send_status send_status(ipc_connection *connection);
/* A message that is held, and a loan that is detached, of a connection with a peer. */
ipc_held *held_message(ipc_connection *connection, struct peer *peer, size_t len);
ipc_loan *detached_loan(ipc_connection *connection, size_t len);

/* The cases. */
void every_function_in_every_state(void);
void names_of_functions(void);
void null_pointers(void);
void odd_pointers(void);
void sizes_of_structures(void);
void options_out_of_range(void);
void times(void);
void words_of_errors(void);
void what_is_open_is_in_the_way(void);
void short_buffers(void);
void files(void);
void what_outlives_its_connection(void);
void messages_that_were_not_delivered(void);
void two_threads(void);
void callbacks(void);
void handles_that_are_used_again(void);
void more_memory_than_there_is(void);
void each_mode(void);
void windows(void);

#endif
