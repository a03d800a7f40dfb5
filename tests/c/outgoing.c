/* Sends a mix in every way that the interface has, on every lane. As tests/src/roles/mix.rs. */
#include "role.h"
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

/* The most bytes in loans that are detached at a time. */
#define KEPT ((size_t)3 << 20)
#define MOST_LOANS 6

#define TRY(call)                                                                                                              \
    do {                                                                                                                       \
        ipc_result tried_ = (call);                                                                                            \
        if (tried_ != IPC_OK) return tried_;                                                                                   \
    } while (0)

/* As an event loop does after IPC_WOULD_BLOCK. */
static ipc_result await_room(ipc_connection *connection)
{
    int armed;
    TRY(ipc_send_arm(connection, &armed));
    if (!armed) sched_yield();
    else if (!readable(ipc_send_fd(connection), LONG_WAIT)) DIE("the wake-up of a sender is lost");
    return IPC_OK;
}

/* The messages that were due up to here are sent. */
static void have_sent(struct outgoing *out, uint64_t count)
{
    out->number += count;
    log_has(out->log, out->number);
}

static ipc_result send_plainly(struct outgoing *out)
{
    return ipc_send(out->connection, out->message.data, out->message.len, IPC_FOREVER);
}

static ipc_result send_in_time(struct outgoing *out)
{
    return ipc_send(out->connection, out->message.data, out->message.len, LONG_WAIT);
}

static ipc_result send_trying(struct outgoing *out)
{
    for (;;) {
        ipc_result result = ipc_send(out->connection, out->message.data, out->message.len, 0);
        if (result != IPC_WOULD_BLOCK) return result;
        TRY(await_room(out->connection));
    }
}

static ipc_result send_cut(struct outgoing *out)
{
    ipc_slice slices[7];
    size_t count = 0, at = 0, most = below(&out->random, 6);
    while (count < most) {
        size_t len = below(&out->random, out->message.len - at + 1);
        slices[count++] = (ipc_slice){out->message.data + at, len};
        at += len;
    }
    slices[count++] = (ipc_slice){out->message.data + at, out->message.len - at};
    return ipc_send_vectored(out->connection, slices, count, IPC_FOREVER);
}

static ipc_result send_reserved(struct outgoing *out)
{
    void *place;
    int64_t timeout = below(&out->random, 2) == 0 ? IPC_FOREVER : LONG_WAIT;
    TRY(ipc_reserve(out->connection, out->message.len, timeout, &place));
    memcpy(place, out->message.data, out->message.len);
    return ipc_commit(out->connection, out->message.len);
}

static ipc_result send_one_of_many(struct outgoing *out)
{
    size_t sent = 0;
    ipc_result result = ipc_send_many(
        out->connection, &(ipc_slice){out->message.data, out->message.len}, 1, IPC_FOREVER, &sent);
    CHECK(sent == (result == IPC_OK));
    return result;
}

/* Sends the message that is due. The lane that was fixed may not take it: then it is sent on another by a call that waits. */
static ipc_result copied(struct outgoing *out, ipc_result (*send)(struct outgoing *))
{
    mix_write(&out->mix, out->number, &out->message);
    log_about_to(out->log, out->number + 1);
    ipc_result result = send(out);
    if (result == IPC_TOO_LARGE) {
        OK(ipc_set_route(out->connection, IPC_ROUTE_COSTS, 0));
        result = send_plainly(out);
    }
    if (result == IPC_OK) have_sent(out, 1);
    return result;
}

static ipc_result batched(struct outgoing *out)
{
    uint64_t end = out->number + 1 + below(&out->random, 20), count = 0;
    ipc_result result = IPC_OK;
    if (end > out->end) end = out->end;
    while (out->number + count < end && mix_files(&out->mix, out->number + count) == 0) {
        mix_write(&out->mix, out->number + count, &out->message);
        log_about_to(out->log, out->number + count + 1);
        result = ipc_batch_push(out->connection, out->message.data, out->message.len, LONG_WAIT);
        if (result != IPC_OK) break;
        count++;
    }
    if (result != IPC_OK && result != IPC_TOO_LARGE) {
        OK(ipc_cancel(out->connection));
        return result;
    }
    TRY(ipc_batch_publish(out->connection));
    have_sent(out, count);
    /* Not on this lane. */
    return count == 0 ? copied(out, send_plainly) : IPC_OK;
}

static ipc_result lent(struct outgoing *out)
{
    ipc_connection *connection = out->connection;
    size_t len = mix_len(&out->mix, out->number), more = below(&out->random, 2) * below(&out->random, 1000);
    void *place;
    log_about_to(out->log, out->number + 1);
    switch (below(&out->random, 3)) {
    case 0:
        TRY(ipc_lend(connection, len + more, IPC_FOREVER, &place));
        break;
    case 1:
        TRY(ipc_lend(connection, len + more, LONG_WAIT, &place));
        break;
    default:
        for (;;) {
            ipc_result result = ipc_lend(connection, len + more, 0, &place);
            if (result == IPC_OK) break;
            if (result != IPC_WOULD_BLOCK) return result;
            TRY(await_room(connection));
        }
        OK(ipc_cancel(connection));
        TRY(ipc_lend(connection, len + more, IPC_FOREVER, &place));
    }
    mix_fill(&out->mix, out->number, place, len);
    TRY(ipc_commit(connection, len));
    have_sent(out, 1);
    return IPC_OK;
}

static ipc_result with_files(struct outgoing *out)
{
    int fds[MOST_FILES];
    size_t count = mix_make_files(&out->mix, out->number, fds);
    int64_t timeout = below(&out->random, 2) == 0 ? 0 : IPC_FOREVER;
    ipc_result result;
    mix_write(&out->mix, out->number, &out->message);
    log_about_to(out->log, out->number + 1);
    for (;;) {
        result = ipc_send_with_files(out->connection, out->message.data, out->message.len, fds, count, timeout);
        if (result == IPC_WOULD_BLOCK) {
            result = await_room(out->connection);
            if (result == IPC_OK) continue;
        } else if (result == IPC_TOO_LARGE) {
            OK(ipc_set_route(out->connection, IPC_ROUTE_COSTS, 0));
            timeout = IPC_FOREVER;
            continue;
        }
        break;
    }
    for (size_t at = 0; at < count; at++) close(fds[at]);
    if (result == IPC_OK) have_sent(out, 1);
    return result;
}

/* Writes a detached loan, maybe in another thread. */
struct writing {
    const struct mix *mix;
    uint64_t number;
    ipc_loan *loan;
};

static void *write_loan(void *argument)
{
    const struct writing *writing = argument;
    size_t len;
    void *place = ipc_loan_data(writing->loan, &len);
    CHECK(place != NULL && len == mix_len(writing->mix, writing->number));
    mix_fill(writing->mix, writing->number, place, len);
    return NULL;
}

static void *drop_loan(void *loan)
{
    OK(ipc_loan_drop(loan));
    return NULL;
}

static void elsewhere(void *(*work)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, argument) == 0 && pthread_join(thread, NULL) == 0);
}

/* Loans that exist side by side, were lent in any order, and some written by another thread. */
static ipc_result detached(struct outgoing *out)
{
    uint64_t first = out->number, count = 2 + below(&out->random, 4);
    uint64_t order[MOST_LOANS];
    ipc_loan *loans[MOST_LOANS] = {0};
    size_t kept = 0;
    ipc_result end = IPC_OK;
    if (count > out->end - first) count = out->end - first;
    for (uint64_t at = 0; at < count; at++) order[at] = at;
    for (uint64_t at = 0; at < count; at++) {
        uint64_t other = below(&out->random, count), swapped = order[at];
        order[at] = order[other];
        order[other] = swapped;
    }
    for (uint64_t place = 0; place < count && end == IPC_OK; place++) {
        uint64_t at = order[place], number = first + at;
        size_t len = mix_len(&out->mix, number);
        void *data;
        if (mix_files(&out->mix, number) > 0 || kept + len > KEPT) continue;
        /* Others of its kind may be what it would wait for. */
        ipc_result result = ipc_lend(out->connection, len, 20000000, &data);
        if (result == IPC_OK) {
            result = ipc_loan_detach(out->connection, &loans[at]);
            if (result == IPC_NO_LANE) {
                OK(ipc_cancel(out->connection));
                continue;
            }
            OK(result);
            struct writing writing = {&out->mix, number, loans[at]};
            if (below(&out->random, 8) == 0) elsewhere(write_loan, &writing);
            else write_loan(&writing);
            kept += len;
        } else if (result != IPC_TIMED_OUT) {
            end = result;
        }
    }
    for (uint64_t at = 0; at < count && end == IPC_OK; at++) {
        if (loans[at] != NULL) {
            log_about_to(out->log, out->number + 1);
            end = ipc_loan_send(out->connection, loans[at], mix_len(&out->mix, out->number), IPC_FOREVER);
            if (end == IPC_OK) {
                IS(IPC_CLOSED, ipc_loan_drop(loans[at]));
                loans[at] = NULL;
                have_sent(out, 1);
            }
        } else if (mix_files(&out->mix, out->number) > 0) {
            end = with_files(out);
        } else {
            end = copied(out, send_plainly);
        }
    }
    for (uint64_t at = 0; at < count; at++) {
        if (loans[at] != NULL) OK(ipc_loan_drop(loans[at]));
    }
    return end;
}

/* Fixes a lane, or a threshold, or nothing. Not every connection has every lane. */
static void reroute(struct outgoing *out)
{
    uint64_t way = below(&out->random, 8);
    ipc_result result = way < 4 ? ipc_set_route(out->connection, IPC_ROUTE_LANE, IPC_LANE_KERNEL + way)
        : way == 4              ? ipc_set_route(out->connection, IPC_ROUTE_THRESHOLD, below(&out->random, 100000))
                                : ipc_set_route(out->connection, IPC_ROUTE_COSTS, 0);
    CHECK(result == IPC_OK || result == IPC_NO_LANE);
}

/* Begins something and lets it be: it must leave nothing behind. */
static ipc_result give_up(struct outgoing *out)
{
    ipc_connection *connection = out->connection;
    size_t len = mix_len(&out->mix, out->number);
    ipc_loan *loan;
    void *place;
    ipc_result result;
    switch (below(&out->random, 4)) {
    case 0:
        result = ipc_reserve(connection, len, 0, &place);
        break;
    case 1:
        /* What travels on another lane than the ring would be sent at once. */
        OK(ipc_set_route(connection, IPC_ROUTE_THRESHOLD, 64));
        result = ipc_batch_push(connection, "given up", 8, 0);
        break;
    case 2:
        result = ipc_lend(connection, len, 0, &place);
        break;
    default:
        result = ipc_lend(connection, len, 0, &place);
        if (result == IPC_OK && ipc_loan_detach(connection, &loan) == IPC_OK) elsewhere(drop_loan, loan);
    }
    OK(ipc_cancel(connection));
    return result == IPC_WOULD_BLOCK || result == IPC_TOO_LARGE ? IPC_OK : result;
}

ipc_result outgoing_step(struct outgoing *out)
{
    ipc_result result;
    switch (below(&out->random, 40)) {
    case 0: case 1:
        reroute(out);
        break;
    case 2:
        result = ipc_trim(out->connection, 0, NULL);
        if (result != IPC_OK && result != IPC_WOULD_BLOCK) return result;
        break;
    case 3:
        TRY(give_up(out));
    }
    if (mix_files(&out->mix, out->number) > 0) return with_files(out);
    switch (below(&out->random, 16)) {
    case 0: case 1: return copied(out, send_plainly);
    case 2: return copied(out, send_one_of_many);
    case 3: return copied(out, send_in_time);
    case 4: case 5: return copied(out, send_trying);
    case 6: case 7: return copied(out, send_cut);
    case 8: case 9: return copied(out, send_reserved);
    case 10: case 11: return batched(out);
    case 12: case 13: return lent(out);
    default: return detached(out);
    }
}
