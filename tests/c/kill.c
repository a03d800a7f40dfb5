/* Dies in mid-stream, and logs what it has done to a page that outlives it. As tests/src/roles/kill.rs. */
#include "role.h"

/* What a victim does when it is killed: the numbers of Doing in tests/src/roles/kill.rs. */
enum doing { SINGLE, IN_PLACE, BATCHES, BURSTS, NOTHING };

static void pause_between(enum doing doing, uint64_t number, struct random *random)
{
    if (doing == NOTHING && number == 50) sleep_for_ever();
    if (doing == BURSTS && number % 30 == 0) sleep_ns((int64_t)below(random, 400) * 1000);
}

void play_kill_sender(void)
{
    _Atomic uint64_t *log = log_open();
    ipc_connection *connection = connection_of_settings();
    struct stream stream = {number("seed", 0), send_status(connection).max_reservation};
    enum doing doing = (enum doing)(number("doing", 0) % 5);
    struct random random = {1};
    struct bytes message = {0};
    for (uint64_t at = 0;;) {
        stream_write(&stream, at, &message);
        log_about_to(log, at + 1);
        if (doing == IN_PLACE) {
            void *place;
            OK(ipc_reserve(connection, message.len, IPC_FOREVER, &place));
            memcpy(place, message.data, message.len);
            OK(ipc_commit(connection, message.len));
        } else if (doing == BATCHES) {
            uint64_t end = at + 1 + below(&random, 20);
            log_about_to(log, end);
            OK(ipc_batch_push(connection, message.data, message.len, IPC_FOREVER));
            while (at + 1 < end) {
                stream_write(&stream, ++at, &message);
                OK(ipc_batch_push(connection, message.data, message.len, IPC_FOREVER));
            }
            OK(ipc_batch_publish(connection));
        } else {
            OK(ipc_send(connection, message.data, message.len, IPC_FOREVER));
        }
        log_has(log, ++at);
        pause_between(doing, at, &random);
    }
}

void play_kill_receiver(void)
{
    _Atomic uint64_t *log = log_open();
    ipc_connection *connection = connection_of_settings();
    struct stream stream = {number("seed", 0), send_status(connection).max_reservation};
    enum doing doing = (enum doing)(number("doing", 0) % 5);
    struct random random = {1};
    for (uint64_t at = 0;;) {
        ipc_message messages[20];
        size_t count = 1;
        if (doing == BATCHES) {
            size_t limit = 1 + below(&random, 20);
            log_about_to(log, at + limit);
            OK(ipc_recv_many(connection, messages, limit, &count, IPC_FOREVER));
        } else {
            log_about_to(log, at + 1);
            OK(ipc_recv(connection, messages, IPC_FOREVER));
        }
        if (doing == IN_PLACE) stream_check(&stream, at, messages[0].data, messages[0].len);
        OK(ipc_release(connection));
        at += count;
        log_has(log, at);
        pause_between(doing, at, &random);
    }
}

void play_lanes_kill_sender(void)
{
    _Atomic uint64_t *log = log_open();
    ipc_connection *connection = connection_of_settings();
    uint64_t seed = number("seed", 0);
    struct mix mix = {seed, send_status(connection).max_reservation, LONGEST};
    struct outgoing out = {connection, mix, {~seed}, 0, UINT64_MAX, log, {0}};
    for (;;) OK(outgoing_step(&out));
}

void play_lanes_kill_receiver(void)
{
    static struct incoming in;
    ipc_connection *connection = connection_of_settings();
    uint64_t seed = number("seed", 0);
    in.log = log_open();
    in.connection = connection;
    in.mix = (struct mix){seed, send_status(connection).max_reservation, LONGEST};
    in.random.state = ~seed;
    for (;;) OK(incoming_step(&in, UINT64_MAX));
}
