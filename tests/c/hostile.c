/* The victim of a hostile peer: uses a connection in every way and reports how it ended. As tests/src/roles/hostile.rs. */
#include "role.h"

static char first_end[512] = "none";
static int ends;

/* A result that a hostile peer may bring about; anything else is a failure of the library. */
static void judge(const char *call, ipc_result result)
{
    switch (result) {
    case IPC_OK: case IPC_WOULD_BLOCK: case IPC_TIMED_OUT:
        return;
    case IPC_VIOLATION: case IPC_DISCONNECTED: case IPC_PEER_DIED:
        if (ends++ == 0) snprintf(first_end, sizeof first_end, "%s", ipc_last_error());
        return;
    default:
        DIE("%s: %s: %s", call, ipc_strerror(result), ipc_last_error());
    }
}

static unsigned char room[1 << 20];
static volatile uint64_t read_bytes;

/* Reads every byte of a message, whatever it is. */
static void read_all(const ipc_message *message)
{
    const volatile unsigned char *bytes = message->data;
    uint64_t sum = 0;
    for (size_t at = 0; at < message->len; at++) sum += bytes[at];
    read_bytes += message->len + (sum & 1);
}

static void look(void *user_data, const void *data, size_t len)
{
    (void)user_data;
    read_all(&(ipc_message){.data = data, .len = len});
}

static void send_somehow(ipc_connection *connection, struct random *random, size_t max)
{
    size_t len = below(random, max + 1), any = below(random, 4) == 0 ? below(random, sizeof room) : len;
    int64_t soon = 300000;
    void *place;
    ipc_result result;
    int armed;
    switch (below(random, 10)) {
    case 0:
        judge("send", ipc_send(connection, room, any, 0));
        break;
    case 1:
        judge("send", ipc_send(connection, room, any, soon));
        break;
    case 2:
        judge("reserve", result = ipc_reserve(connection, len, 0, &place));
        if (result != IPC_OK) break;
        memset(place, 7, len);
        judge("commit", ipc_commit(connection, len));
        break;
    case 3:
        for (uint64_t count = below(random, 9); count > 0; count--) {
            judge("push", ipc_batch_push(connection, room, len / 8, 0));
        }
        judge("publish", ipc_batch_publish(connection));
        break;
    case 4:
        judge("undelivered", ipc_undelivered(connection, look, NULL, NULL));
        break;
    case 5:
        judge("arm", ipc_send_arm(connection, &armed));
        break;
    case 6: {
        ipc_slice slices[2] = {{room, len}, {room, any}};
        judge("many", ipc_send_many(connection, slices, 2, 0, NULL));
        break;
    }
    case 7:
        judge("lend", result = ipc_lend(connection, any, 0, &place));
        if (result != IPC_OK) break;
        memset(place, 8, any);
        judge("commit", below(random, 2) == 0 ? ipc_cancel(connection) : ipc_commit(connection, any));
        break;
    case 8:
        judge("trim", ipc_trim(connection, 0, NULL));
        break;
    default:
        send_status(connection);
        recv_status(connection);
        judge("check", ipc_check_peer(connection));
    }
}

static void receive_somehow(ipc_connection *connection, struct random *random)
{
    int64_t soon = 300000;
    ipc_message messages[8];
    ipc_held *held;
    size_t count;
    ipc_result result;
    int armed;
    switch (below(random, 6)) {
    case 0:
        judge("recv", result = ipc_recv(connection, messages, 0));
        if (result == IPC_OK) read_all(messages);
        break;
    case 1:
        judge("recv", result = ipc_recv(connection, messages, soon));
        if (result == IPC_OK) read_all(messages);
        break;
    case 2:
        judge("recv_many", result = ipc_recv_many(connection, messages, 8, &count, 0));
        for (size_t at = 0; result == IPC_OK && at < count; at++) read_all(&messages[at]);
        break;
    case 3:
        judge("recv_into", ipc_recv_into(connection, room, sizeof room, NULL, soon));
        break;
    case 4:
        judge("recv", result = ipc_recv(connection, messages, 0));
        if (result != IPC_OK) break;
        OK(ipc_hold(connection, &held, messages));
        read_all(messages);
        OK(ipc_held_drop(held));
        break;
    default:
        judge("arm", ipc_recv_arm(connection, &armed));
    }
}

/* Uses its connection for millis milliseconds, or until it is closed for good, and says how it ended. */
void play_victim(void)
{
    ipc_connection *connection = connection_of_settings();
    struct random random = {number("seed", 0)};
    size_t max = send_status(connection).max_reservation;
    int64_t until = now_ns() + (int64_t)number("millis", 1000) * 1000000;
    uint64_t calls = 0;
    say("connected");
    for (; now_ns() < until && ends < 40; calls++) {
        send_somehow(connection, &random, max);
        receive_somehow(connection, &random);
    }
    OK(ipc_close(connection));
    say("calls %llu, bytes %llu", (unsigned long long)calls, (unsigned long long)read_bytes);
    say("end %s", first_end);
}
