/*
 * What the roles in C share: settings, words with the test, and messages that both sides can make for themselves.
 *
 * Promise: what a role did not expect ends the process with status 101 and a line that says where. The messages are those of
 * tests/src/stream.rs and tests/src/mix.rs, byte for byte. Refusal: nothing of the library is used but include/ipc.h.
 */
#ifndef ROLE_H
#define ROLE_H

#define _GNU_SOURCE
#include "ipc.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000000)
/* The waiting of a call that must not last for ever. */
#define LONG_WAIT (20 * SECOND)

_Noreturn void fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define DIE(...) fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition)                                                                                                       \
    do {                                                                                                                       \
        if (!(condition)) DIE("not so: %s", #condition);                                                                       \
    } while (0)
/* The call must come to this result. */
#define IS(expected, call)                                                                                                     \
    do {                                                                                                                       \
        ipc_result result_ = (call);                                                                                           \
        if (result_ != (expected)) DIE("%s: %s: %s", #call, ipc_strerror(result_), ipc_last_error());                          \
    } while (0)
#define OK(call) IS(IPC_OK, call)

/* Settings: key=value arguments. */
void settings_read(int count, char **arguments);
const char *text_or(const char *key, const char *otherwise);
const char *text(const char *key);
uint64_t number(const char *key, uint64_t otherwise);
bool flag(const char *key, bool otherwise);

/* A line to the test, and one from it. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *hear(void);

/* The options that the settings ask for, and the connection: as a server if listen=true, as a client else. */
ipc_options options_of_settings(bool listens);
ipc_connection *connection_of_settings(void);
uint32_t mode_named(const char *name);
ipc_connection *accept_one(const char *path, const ipc_options *options);
ipc_connection *connect_to(const char *path, const ipc_options *options);

ipc_send_status send_status(ipc_connection *connection);
ipc_recv_status recv_status(ipc_connection *connection);

int64_t now_ns(void);
void sleep_ns(int64_t ns);
_Noreturn void sleep_for_ever(void);
/* Waits until the descriptor is readable; false if it was not in time. */
bool readable(int fd, int64_t most_ns);

/* What the kernel says of this process. */
size_t open_descriptors(void);
size_t segments(void);
uint64_t shared_memory(void);
uint64_t page_faults(void);
uint64_t address_space(void);
void print_segments(void);

/* Random numbers, the same for the same seed (splitmix64). */
struct random {
    uint64_t state;
};
uint64_t next_u64(struct random *random);
uint64_t below(struct random *random, uint64_t end);

/* Bytes that grow. */
struct bytes {
    unsigned char *data;
    size_t len, capacity;
};
void bytes_resize(struct bytes *bytes, size_t len);
void bytes_free(struct bytes *bytes);

/* An endless stream of messages of 0 to max bytes. */
struct stream {
    uint64_t seed, max;
};
void stream_write(const struct stream *stream, uint64_t number, struct bytes *target);
void stream_check(const struct stream *stream, uint64_t number, const void *found, size_t len);

/* Messages of all sizes, some with files beside them. */
#define MOST_FILES 63
#define LONGEST (UINT64_C(5) << 20)
struct mix {
    uint64_t seed, record, longest;
};
size_t mix_len(const struct mix *mix, uint64_t number);
size_t mix_files(const struct mix *mix, uint64_t number);
void mix_fill(const struct mix *mix, uint64_t number, void *target, size_t len);
void mix_write(const struct mix *mix, uint64_t number, struct bytes *target);
void mix_check(const struct mix *mix, uint64_t number, const void *found, size_t len);
size_t mix_make_files(const struct mix *mix, uint64_t number, int fds[MOST_FILES]);
void mix_check_files(const struct mix *mix, uint64_t number, int *fds, size_t count);

/* The log of a victim, which outlives it: how many messages it sent (or consumed) at least and at most. */
#define LOG_AT_LEAST 0
#define LOG_AT_MOST 1
_Atomic uint64_t *log_open(void);
void log_about_to(_Atomic uint64_t *log, uint64_t count);
void log_has(_Atomic uint64_t *log, uint64_t count);

/* The side that sends a mix. The result of a step is the library's, if it is not for this side to deal with. */
struct outgoing {
    ipc_connection *connection;
    struct mix mix;
    struct random random;
    /* The message that is due, and the first that is not to be sent. */
    uint64_t number, end;
    _Atomic uint64_t *log;
    struct bytes message;
};
ipc_result outgoing_step(struct outgoing *out);

/* The side that receives one. */
#define MOST_HELD 48
struct kept {
    uint64_t number;
    ipc_held *held;
    size_t len;
};
struct incoming {
    ipc_connection *connection;
    struct mix mix;
    struct random random;
    uint64_t number;
    _Atomic uint64_t *log;
    struct bytes buffer;
    struct kept kept[MOST_HELD];
    size_t kept_count, kept_bytes;
};
ipc_result incoming_step(struct incoming *in, uint64_t most);
void incoming_let_all_go(struct incoming *in);

/* A process that is killed at a given moment, and since when it is dead. */
struct killer;
struct killer *killer_new(const char *role, char *const *arguments, size_t count);
void killer_after(struct killer *killer, int64_t pause_ns);
int64_t killer_since_death(struct killer *killer);
void killer_drop(struct killer *killer);

/* The roles. */
void play_echo(void);
void play_ask(void);
void play_send(void);
void play_receive(void);
void play_hold(void);
void play_fork(void);
void play_stress(void);
void play_mix(void);
void play_kill_sender(void);
void play_kill_receiver(void);
void play_survive_sender(void);
void play_survive_receiver(void);
void play_lanes_kill_sender(void);
void play_lanes_kill_receiver(void);
void play_lanes_survive_sender(void);
void play_lanes_survive_receiver(void);
void play_victim(void);
void play_keep(void);
void play_blocked(void);
void play_steady(void);
void play_starve(void);

#endif
