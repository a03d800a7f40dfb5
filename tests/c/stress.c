/* Sends and receives streams in every way that the interface has. As tests/src/roles/stress.rs. */
#include "role.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST_TOGETHER 20

/* A message in slices, cut at random places. */
static ipc_result send_cut(ipc_connection *connection, const struct bytes *message, struct random *random)
{
    ipc_slice slices[24];
    size_t count = 0, at = 0, most = below(random, 23);
    while (count < most) {
        size_t len = below(random, message->len - at + 1);
        slices[count++] = (ipc_slice){len == 0 ? NULL : message->data + at, len};
        at += len;
    }
    slices[count++] = (ipc_slice){message->data + at, message->len - at};
    return ipc_send_vectored(connection, slices, count, IPC_FOREVER);
}

/* Sends message number and those behind it, up to end, together; how many there were. */
static uint64_t send_together(ipc_connection *connection, const struct stream *stream, uint64_t number, uint64_t end)
{
    struct bytes messages[MOST_TOGETHER] = {0};
    ipc_slice slices[MOST_TOGETHER];
    size_t count = 0, sent = 0;
    for (; count < MOST_TOGETHER && number + count < end; count++) {
        stream_write(stream, number + count, &messages[count]);
        slices[count] = (ipc_slice){messages[count].data, messages[count].len};
    }
    OK(ipc_send_many(connection, slices, count, LONG_WAIT, &sent));
    CHECK(sent == count);
    for (size_t at = 0; at < count; at++) bytes_free(&messages[at]);
    return count;
}

static void send_trying(ipc_connection *connection, const struct bytes *message, size_t in_place)
{
    for (;;) {
        ipc_result result = ipc_send(connection, message->data, message->len, 0);
        if (result == IPC_WOULD_BLOCK) {
            sched_yield();
            continue;
        }
        /* Of what takes several records, a call that does not wait takes only as much as the ring has room for. */
        if (result == IPC_TOO_LARGE && message->len > in_place) {
            result = ipc_send(connection, message->data, message->len, IPC_FOREVER);
        }
        OK(result);
        return;
    }
}

static void pump_out(ipc_connection *connection, const struct stream *stream, uint64_t count, struct random random, bool in_ring)
{
    struct bytes message = {0};
    size_t in_place = send_status(connection).max_reservation;
    for (uint64_t number = 0; number < count;) {
        void *place;
        stream_write(stream, number, &message);
        switch (below(&random, 14)) {
        case 0: case 1:
            OK(ipc_send(connection, message.data, message.len, IPC_FOREVER));
            break;
        case 2:
            OK(ipc_send(connection, message.data, message.len, LONG_WAIT));
            break;
        case 3: case 4:
            send_trying(connection, &message, in_place);
            break;
        case 5: case 6:
            if (message.len > in_place) OK(ipc_lend(connection, message.len, IPC_FOREVER, &place));
            else OK(ipc_reserve(connection, message.len, LONG_WAIT, &place));
            IS(IPC_BUSY, ipc_send(connection, "x", 1, 0));
            memcpy(place, message.data, message.len);
            OK(ipc_commit(connection, message.len));
            break;
        case 7:
            /* Given up: it must leave nothing behind, whatever it wrote. */
            if (message.len > in_place ? ipc_lend(connection, message.len, 0, &place) == IPC_OK
                                       : ipc_reserve(connection, message.len, 0, &place) == IPC_OK) {
                memcpy(place, message.data, message.len);
            }
            OK(ipc_cancel(connection));
            continue;
        case 8:
            /* What travels beside the queue is no part of a batch. */
            for (int pushed = 0; in_ring && pushed < 4; pushed++) {
                if (ipc_batch_push(connection, message.data, message.len, 0) != IPC_OK) break;
            }
            OK(ipc_cancel(connection));
            continue;
        case 9: case 10:
            OK(send_cut(connection, &message, &random));
            break;
        case 11:
            number += send_together(connection, stream, number, count);
            continue;
        default: {
            uint64_t end = number + 1 + below(&random, 40);
            if (end > count) end = count;
            OK(ipc_batch_push(connection, message.data, message.len, IPC_FOREVER));
            while (number + 1 < end) {
                stream_write(stream, ++number, &message);
                OK(ipc_batch_push(connection, message.data, message.len, LONG_WAIT));
            }
            OK(ipc_batch_publish(connection));
        }
        }
        number++;
    }
    bytes_free(&message);
}

struct held_one {
    uint64_t number;
    ipc_held *held;
};

static void give_back(const struct stream *stream, struct held_one *one)
{
    ipc_message message;
    if (one->held == NULL) return;
    OK(ipc_held_message(one->held, &message));
    stream_check(stream, one->number, message.data, message.len);
    OK(ipc_held_drop(one->held));
    one->held = NULL;
}

static void pump_in(ipc_connection *connection, const struct stream *stream, uint64_t count, struct random random)
{
    size_t room = stream->max > 65536 ? stream->max : 65536, len;
    unsigned char *buffer = malloc(room);
    struct held_one held[5] = {0};
    ipc_message message, many[64];
    ipc_result result;
    for (uint64_t number = 0; number < count;) {
        switch (below(&random, 10)) {
        case 0: {
            /* Kept while others come, and given back in another order. */
            struct held_one *slot = &held[below(&random, 5)];
            give_back(stream, slot);
            OK(ipc_recv(connection, &message, IPC_FOREVER));
            OK(ipc_hold(connection, &slot->held, &message));
            slot->number = number;
            stream_check(stream, number, message.data, message.len);
            break;
        }
        case 1: case 2:
            OK(ipc_recv_into(connection, buffer, room, &len, IPC_FOREVER));
            stream_check(stream, number, buffer, len);
            break;
        case 3:
            result = ipc_recv_into(connection, NULL, 0, &len, LONG_WAIT);
            /* It may still be growing. */
            if (result == IPC_TOO_SHORT) OK(ipc_recv_into(connection, buffer, room, &len, LONG_WAIT));
            else OK(result);
            stream_check(stream, number, buffer, len);
            break;
        case 4:
            OK(ipc_recv(connection, &message, IPC_FOREVER));
            stream_check(stream, number, message.data, message.len);
            break;
        case 5:
            OK(ipc_recv(connection, &message, LONG_WAIT));
            stream_check(stream, number, message.data, message.len);
            OK(ipc_release(connection));
            break;
        case 6:
            while ((result = ipc_recv(connection, &message, 0)) == IPC_WOULD_BLOCK) sched_yield();
            OK(result);
            stream_check(stream, number, message.data, message.len);
            break;
        case 7:
            while ((result = ipc_recv_into(connection, buffer, room, &len, 0)) == IPC_WOULD_BLOCK) sched_yield();
            OK(result);
            stream_check(stream, number, buffer, len);
            break;
        default:
            OK(ipc_recv_many(connection, many, 1 + below(&random, 64), &len, IPC_FOREVER));
            CHECK(len > 0);
            for (size_t at = 0; at < len; at++) stream_check(stream, number + at, many[at].data, many[at].len);
            number += len;
            continue;
        }
        number++;
    }
    for (size_t at = 0; at < 5; at++) give_back(stream, &held[at]);
    free(buffer);
}

struct way_out {
    ipc_connection *connection;
    struct stream stream;
    uint64_t count;
    bool in_ring;
};

static void *send_all(void *argument)
{
    const struct way_out *out = argument;
    pump_out(out->connection, &out->stream, out->count, (struct random){~out->stream.seed}, out->in_ring);
    CHECK(send_status(out->connection).sent == out->count);
    OK(ipc_shutdown(out->connection, IPC_SENDING));
    return NULL;
}

/* Both directions at once over one connection, each in a thread of its own. */
void play_stress(void)
{
    /* Without this, two processes of the same shape may well get the same address from the kernel. */
    size_t size = ((size_t)8 << 20) + 4096 * ((size_t)getpid() % 256 + 1);
    CHECK(mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    ipc_connection *connection = connection_of_settings();
    printf("mapped ");
    print_segments();
    printf("\n");
    uint64_t seed = number("seed", 1), count = number("count", 0), longest = number("longest", 0);
    struct way_out out = {connection, {seed, longest}, count, longest == 0};
    struct stream incoming = {number("incoming", 0), longest};
    if (longest == 0) {
        out.stream.max = incoming.max = send_status(connection).max_reservation;
        OK(ipc_set_route(connection, IPC_ROUTE_LANE, IPC_LANE_INLINE));
    }
    pthread_t sending;
    ipc_message message;
    CHECK(pthread_create(&sending, NULL, send_all, &out) == 0);
    pump_in(connection, &incoming, count, (struct random){seed ^ 0x5555});
    CHECK(recv_status(connection).received == count);
    IS(IPC_DISCONNECTED, ipc_recv(connection, &message, LONG_WAIT));
    CHECK(pthread_join(sending, NULL) == 0);
    OK(ipc_close(connection));
    CHECK(segments() == 0);
    say("done");
}
