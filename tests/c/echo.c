/* Simple partners: they send, receive, answer, wait, or fork. As tests/src/roles/echo.rs. */
#include "role.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

/* A pause of 0 to most microseconds, spun when short, slept when long. */
static void rest(struct random *random, uint64_t most)
{
    int64_t ns = most == 0 ? 0 : (int64_t)below(random, most) * 1000;
    if (ns >= 60000) {
        sleep_ns(ns);
    } else {
        for (int64_t start = now_ns(); now_ns() - start < ns;) {}
    }
}

/* Answers each message with a copy of it, until the other side goes. */
void play_echo(void)
{
    ipc_connection *connection = connection_of_settings();
    say("connected");
    for (;;) {
        ipc_message message;
        ipc_result result = ipc_recv(connection, &message, IPC_FOREVER);
        if (result == IPC_DISCONNECTED || result == IPC_PEER_DIED) break;
        OK(result);
        OK(ipc_send(connection, message.data, message.len, IPC_FOREVER));
    }
    say("gone %llu", (unsigned long long)recv_status(connection).received);
    OK(ipc_close(connection));
}

/* Sends 500 messages to one that echoes, now and then after a pause that is long enough to fall asleep in. */
void play_ask(void)
{
    ipc_connection *connection = connection_of_settings();
    struct stream stream = {7, send_status(connection).max_reservation};
    struct bytes message = {0};
    for (uint64_t at = 0; at < number("count", 500); at++) {
        ipc_message echo;
        if (at % 50 == 0) sleep_ns(5000000);
        stream_write(&stream, at, &message);
        OK(ipc_send(connection, message.data, message.len, IPC_FOREVER));
        OK(ipc_recv(connection, &echo, LONG_WAIT));
        stream_check(&stream, at, echo.data, echo.len);
    }
    bytes_free(&message);
    OK(ipc_close(connection));
    say("asked");
}

/* Sends count messages at random moments, and leaves politely, or stays (stay=true) until it is told to go. */
void play_send(void)
{
    ipc_connection *connection = connection_of_settings();
    struct stream stream = {number("seed", 1), send_status(connection).max_reservation};
    struct random random = {3};
    struct bytes message = {0};
    uint64_t count = number("count", 0), most = number("pause", 0);
    say("connected");
    for (uint64_t at = 0; at < count; at++) {
        stream_write(&stream, at, &message);
        OK(ipc_send(connection, message.data, message.len, IPC_FOREVER));
        rest(&random, most);
    }
    bytes_free(&message);
    say("sent");
    if (flag("stay", false)) hear();
    OK(ipc_close(connection));
}

/* Receives count messages at random moments and checks them; then as play_send. */
void play_receive(void)
{
    ipc_connection *connection = connection_of_settings();
    struct stream stream = {number("seed", 1), send_status(connection).max_reservation};
    struct random random = {4};
    uint64_t count = number("count", UINT64_MAX), most = number("pause", 0);
    say("connected");
    for (uint64_t at = 0; at < count; at++) {
        ipc_message message;
        ipc_result result = ipc_recv(connection, &message, IPC_FOREVER);
        if (result == IPC_DISCONNECTED || result == IPC_PEER_DIED) {
            CHECK(recv_status(connection).received == at);
            break;
        }
        OK(result);
        stream_check(&stream, at, message.data, message.len);
        OK(ipc_release(connection));
        rest(&random, most);
    }
    say("received");
    if (flag("stay", false)) hear();
    OK(ipc_close(connection));
}

/* Connects, and does nothing until it is told to go. */
void play_hold(void)
{
    ipc_connection *connection = connection_of_settings();
    ipc_peer peer;
    OK(ipc_get_peer(connection, &peer));
    say("connected Some(%d)", peer.pid);
    hear();
    OK(ipc_close(connection));
}

/* Everything is closed to a forked child. */
static _Noreturn void be_a_child(ipc_listener *listener, ipc_connection *own)
{
    alarm(60);
    char buffer[8];
    void *place;
    size_t count;
    int armed;
    ipc_message message;
    ipc_connection *other;
    IS(IPC_FORKED, ipc_send(own, "x", 1, IPC_FOREVER));
    IS(IPC_FORKED, ipc_send(own, "x", 1, 0));
    IS(IPC_FORKED, ipc_send(own, "x", 1, 5 * SECOND));
    IS(IPC_FORKED, ipc_reserve(own, 1, IPC_FOREVER, &place));
    IS(IPC_FORKED, ipc_lend(own, 100000, IPC_FOREVER, &place));
    IS(IPC_FORKED, ipc_batch_push(own, "x", 1, IPC_FOREVER));
    OK(ipc_cancel(own));
    IS(IPC_FORKED, ipc_send_many(own, &(ipc_slice){"x", 1}, 1, IPC_FOREVER, &count));
    CHECK(count == 0);
    IS(IPC_FORKED, ipc_undelivered(own, NULL, NULL, &count));
    IS(IPC_FORKED, ipc_send_arm(own, &armed));
    IS(IPC_FORKED, ipc_flush(own));
    IS(IPC_FORKED, ipc_trim(own, 0, NULL));
    IS(IPC_FORKED, ipc_check_peer(own));
    IS(IPC_FORKED, ipc_recv(own, &message, IPC_FOREVER));
    IS(IPC_FORKED, ipc_recv(own, &message, 0));
    IS(IPC_FORKED, ipc_recv(own, &message, 5 * SECOND));
    IS(IPC_FORKED, ipc_recv_into(own, buffer, sizeof buffer, NULL, IPC_FOREVER));
    IS(IPC_FORKED, ipc_recv_many(own, &message, 1, &count, IPC_FOREVER));
    IS(IPC_FORKED, ipc_recv_arm(own, &armed));
    IS(IPC_FORKED, ipc_accept(listener, IPC_FOREVER, &other));
    IS(IPC_FORKED, ipc_accept(listener, 0, &other));
    if (flag("questions", false)) {
        send_status(own);
        recv_status(own);
    }
    if (!flag("keep", false)) {
        OK(ipc_close(own));
        OK(ipc_listener_close(listener));
    }
    say("child-done");
    sleep_for_ever();
}

static void *wait_for_child(void *child)
{
    int status = 0;
    waitpid(*(pid_t *)child, &status, 0);
    say("child-done too early, with status %#x", (unsigned)status);
    return NULL;
}

/* Forks in the middle of a connection. The child finds everything closed to it and lives on; the parent goes on as before. */
void play_fork(void)
{
    ipc_listener *listener;
    ipc_connection *connection;
    static pid_t child;
    int told[2];
    pthread_t waiting;
    OK(ipc_listen(text("path"), NULL, &listener));
    OK(ipc_accept(listener, LONG_WAIT, &connection));
    /* The connection has been used: nothing in it is as it was at first. */
    for (int turn = 0; turn < 2; turn++) {
        ipc_message message;
        OK(ipc_recv(connection, &message, IPC_FOREVER));
        OK(ipc_send(connection, message.data, message.len, IPC_FOREVER));
    }
    CHECK(pipe(told) == 0);
    fflush(stdout);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char first;
        CHECK(read(told[0], &first, 1) == 1);
        be_a_child(listener, connection);
    }
    say("child %d", (int)child);
    CHECK(write(told[1], "x", 1) == 1);
    CHECK(pthread_create(&waiting, NULL, wait_for_child, &child) == 0);
    for (;;) {
        ipc_message message;
        OK(ipc_recv(connection, &message, IPC_FOREVER));
        OK(ipc_send(connection, message.data, message.len, IPC_FOREVER));
    }
}
