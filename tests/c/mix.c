/* Both directions of a mix at once over one connection; at the end nothing is left of the arenas. As tests/src/roles/mix.rs. */
#include "role.h"
#include <pthread.h>

/* Waits until every block has come back, and gives the arena up. */
static void empty_arena(ipc_connection *connection)
{
    for (int64_t since = now_ns();; sleep_ns(1000000)) {
        ipc_result result = ipc_trim(connection, 0, NULL);
        CHECK(result == IPC_OK || result == IPC_WOULD_BLOCK);
        ipc_send_status status = send_status(connection);
        if (status.arena_size == 0 && status.arena_used == 0 && status.arena_blocks == 0) return;
        CHECK(now_ns() - since < LONG_WAIT);
    }
}

static void *send_all(void *argument)
{
    struct outgoing *out = argument;
    while (out->number < out->end) OK(outgoing_step(out));
    CHECK(send_status(out->connection).sent == out->end);
    empty_arena(out->connection);
    /* In the queue: the arena would begin anew. */
    OK(ipc_set_route(out->connection, IPC_ROUTE_THRESHOLD, 64));
    OK(ipc_send(out->connection, "end", 3, IPC_FOREVER));
    OK(ipc_shutdown(out->connection, IPC_SENDING));
    return NULL;
}

void play_mix(void)
{
    static struct incoming in;
    ipc_connection *connection = connection_of_settings();
    uint64_t seed = number("seed", 1), incoming = number("incoming", 0), count = number("count", 0);
    uint64_t record = send_status(connection).max_reservation;
    struct outgoing out = {connection, {seed, record, LONGEST}, {~seed}, 0, count, NULL, {0}};
    ipc_message message;
    pthread_t sending;
    in.connection = connection;
    in.mix = (struct mix){incoming, record, LONGEST};
    in.random.state = incoming ^ seed;
    CHECK(pthread_create(&sending, NULL, send_all, &out) == 0);
    while (in.number < count) OK(incoming_step(&in, count - in.number));
    incoming_let_all_go(&in);
    CHECK(recv_status(connection).received == count);
    OK(ipc_recv(connection, &message, LONG_WAIT));
    CHECK(message.len == 3 && memcmp(message.data, "end", 3) == 0);
    CHECK(recv_status(connection).mapped == 0);
    IS(IPC_DISCONNECTED, ipc_recv(connection, &message, LONG_WAIT));
    CHECK(recv_status(connection).received == count + 1);
    CHECK(pthread_join(sending, NULL) == 0);
    OK(ipc_close(connection));
    bytes_free(&in.buffer);
    bytes_free(&out.message);
    CHECK(segments() == 0);
    say("done");
}
