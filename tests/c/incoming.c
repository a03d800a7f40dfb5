/* Receives a mix in every way that the interface has, and checks it. As tests/src/roles/mix.rs. */
#include "role.h"
#include <pthread.h>
#include <unistd.h>

/* The most bytes that are held. */
#define KEPT ((size_t)3 << 20)

#define TRY(call)                                                                                                              \
    do {                                                                                                                       \
        ipc_result tried_ = (call);                                                                                            \
        if (tried_ != IPC_OK) return tried_;                                                                                   \
    } while (0)

static void consumed(struct incoming *in, uint64_t count)
{
    in->number += count;
    log_has(in->log, in->number);
}

/* Checks a message that is held, and gives it back. */
struct letting_go {
    const struct mix *mix;
    struct kept kept;
};

static void *let_go_now(void *argument)
{
    struct letting_go *going = argument;
    int fds[MOST_FILES];
    size_t count;
    ipc_message message;
    OK(ipc_held_message(going->kept.held, &message));
    mix_check(going->mix, going->kept.number, message.data, message.len);
    OK(ipc_held_files(going->kept.held, fds, MOST_FILES, &count));
    CHECK(count == message.files);
    mix_check_files(going->mix, going->kept.number, fds, count);
    OK(ipc_held_drop(going->kept.held));
    return NULL;
}

/* Gives a message back, whichever; sometimes another thread does. */
static void let_go(struct incoming *in)
{
    if (in->kept_count == 0) return;
    size_t at = below(&in->random, in->kept_count);
    struct letting_go going = {&in->mix, in->kept[at]};
    in->kept[at] = in->kept[--in->kept_count];
    in->kept_bytes -= going.kept.len;
    if (below(&in->random, 8) == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, let_go_now, &going) == 0 && pthread_join(thread, NULL) == 0);
    } else {
        let_go_now(&going);
    }
}

void incoming_let_all_go(struct incoming *in)
{
    while (in->kept_count > 0) let_go(in);
}

/* Checks the message that is being read, and its files. */
static void check_in_place(struct incoming *in, uint64_t number, const ipc_message *message)
{
    int fds[MOST_FILES];
    size_t count;
    mix_check(&in->mix, number, message->data, message->len);
    if (message->files > 0) {
        IS(IPC_TOO_SHORT, ipc_message_files(in->connection, fds, message->files - 1, &count));
        CHECK(count == message->files);
    }
    OK(ipc_message_files(in->connection, fds, MOST_FILES, &count));
    CHECK(count == message->files);
    mix_check_files(&in->mix, number, fds, count);
}

static int64_t patience(const struct incoming *in)
{
    return in->kept_count == 0 ? LONG_WAIT : 20000000;
}

static ipc_result one(struct incoming *in)
{
    ipc_message message;
    bool endless = in->kept_count == 0 && below(&in->random, 2) == 0;
    log_about_to(in->log, in->number + 1);
    ipc_result result = ipc_recv(in->connection, &message, endless ? IPC_FOREVER : patience(in));
    if (result == IPC_TIMED_OUT && in->kept_count > 0) {
        let_go(in);
        return IPC_OK;
    }
    TRY(result);
    if (below(&in->random, 3) == 0) {
        struct kept *kept = &in->kept[in->kept_count++];
        OK(ipc_hold(in->connection, &kept->held, &message));
        kept->number = in->number;
        kept->len = message.len;
        in->kept_bytes += message.len;
    } else {
        check_in_place(in, in->number, &message);
        OK(ipc_release(in->connection));
    }
    consumed(in, 1);
    return IPC_OK;
}

static ipc_result polled(struct incoming *in)
{
    int64_t since = now_ns();
    log_about_to(in->log, in->number + 1);
    for (;;) {
        ipc_message message;
        int armed;
        ipc_result result = ipc_recv(in->connection, &message, 0);
        if (result == IPC_OK) {
            check_in_place(in, in->number, &message);
            OK(ipc_release(in->connection));
            consumed(in, 1);
            return IPC_OK;
        }
        if (result != IPC_WOULD_BLOCK) return result;
        TRY(ipc_recv_arm(in->connection, &armed));
        if (armed && !readable(ipc_recv_fd(in->connection), patience(in))) {
            if (in->kept_count == 0) DIE("the wake-up for message %llu is lost", (unsigned long long)in->number);
            let_go(in);
        }
        CHECK(now_ns() - since < 2 * LONG_WAIT);
    }
}

static ipc_result copied(struct incoming *in)
{
    size_t due = mix_len(&in->mix, in->number), len = 0;
    int64_t since = now_ns();
    bool endless = in->kept_count == 0 && below(&in->random, 2) == 0;
    ipc_result result;
    log_about_to(in->log, in->number + 1);
    bytes_resize(&in->buffer, LONGEST);
    if (due > 0 && below(&in->random, 4) == 0) {
        result = ipc_recv_into(in->connection, in->buffer.data, due - 1, &len, 1000000);
        if (result == IPC_TOO_SHORT) CHECK(len == due);
        else if (result != IPC_TIMED_OUT) return result == IPC_OK ? IPC_DEFECT : result;
    }
    do {
        /* Mostly over while a large message is under way. */
        int64_t timeout = endless ? IPC_FOREVER : (int64_t)below(&in->random, 400) * 1000 + 1;
        result = ipc_recv_into(in->connection, in->buffer.data, in->buffer.len, &len, timeout);
        if (result == IPC_TIMED_OUT) let_go(in);
        CHECK(now_ns() - since < 2 * LONG_WAIT);
    } while (result == IPC_TIMED_OUT);
    TRY(result);
    mix_check(&in->mix, in->number, in->buffer.data, len);
    consumed(in, 1);
    return IPC_OK;
}

static ipc_result batched(struct incoming *in, uint64_t most)
{
    ipc_message messages[30];
    size_t limit = 1 + below(&in->random, 30), count;
    if (limit > most) limit = most;
    /* It may wait, and what is held may be what the sender waits for. */
    incoming_let_all_go(in);
    log_about_to(in->log, in->number + limit);
    TRY(ipc_recv_many(in->connection, messages, limit, &count, IPC_FOREVER));
    CHECK(count > 0 && count <= limit);
    for (size_t at = 0; at + 1 < count; at++) {
        CHECK(messages[at].files == 0);
        mix_check(&in->mix, in->number + at, messages[at].data, messages[at].len);
    }
    check_in_place(in, in->number + count - 1, &messages[count - 1]);
    OK(ipc_release(in->connection));
    consumed(in, count);
    return IPC_OK;
}

ipc_result incoming_step(struct incoming *in, uint64_t most)
{
    if (below(&in->random, 8) == 0 || in->kept_bytes > KEPT || in->kept_count > 40) let_go(in);
    switch (below(&in->random, 8)) {
    case 0: case 1: case 2: return one(in);
    case 3: return polled(in);
    case 4: case 5: return copied(in);
    default: return batched(in, most);
    }
}
