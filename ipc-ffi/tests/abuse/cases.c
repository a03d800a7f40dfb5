/* Promises that hold between calls. */
#include "abuse.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

void times(void)
{
    struct peer peer;
    ipc_options options = plain_options();
    options.ring_to_server = 4096;
    ipc_connection *c = with_peer(&peer, &options, NULL), *other;
    ipc_listener *listener;
    ipc_message message;
    char bytes[500] = {0};
    size_t count;
    OK(ipc_set_route(c, IPC_ROUTE_LANE, IPC_LANE_INLINE));
    while (ipc_send(c, bytes, sizeof bytes, 0) == IPC_OK) {}
    SAYS("bytes of the ring");
    OK(ipc_listen(path_of("times"), NULL, &listener));
    int64_t waits[] = {1, 1000, MILLISECOND, 30 * MILLISECOND};
    for (size_t at = 0; at < 4; at++) {
        int64_t start = now_ns();
        IS(IPC_TIMED_OUT, ipc_recv(c, &message, waits[at]));
        IS(IPC_TIMED_OUT, ipc_recv_into(c, bytes, sizeof bytes, &count, waits[at]));
        IS(IPC_TIMED_OUT, ipc_recv_many(c, &message, 1, &count, waits[at]));
        CHECK(count == 0);
        IS(IPC_TIMED_OUT, ipc_send(c, bytes, sizeof bytes, waits[at]));
        IS(IPC_TIMED_OUT, ipc_accept(listener, waits[at], &other));
        CHECK(other == NULL && now_ns() - start >= 5 * waits[at] && now_ns() - start < 5 * waits[at] + 20 * SECOND);
    }
    IS(IPC_WOULD_BLOCK, ipc_recv(c, &message, 0));
    SAYS("no message");
    IS(IPC_WOULD_BLOCK, ipc_recv_into(c, bytes, sizeof bytes, &count, 0));
    IS(IPC_WOULD_BLOCK, ipc_recv_many(c, &message, 1, &count, 0));
    IS(IPC_WOULD_BLOCK, ipc_send(c, bytes, sizeof bytes, 0));
    IS(IPC_WOULD_BLOCK, ipc_send_many(c, (ipc_slice[]){{bytes, 500}, {bytes, 1}}, 2, 0, &count));
    CHECK(count == 0);
    IS(IPC_WOULD_BLOCK, ipc_accept(listener, 0, &other));
    /* The longest there are, and those without end. */
    int64_t endless[] = {INT64_MAX, -1, INT64_MIN};
    for (size_t at = 0; at < 3; at++) {
        ask(&peer, RECEIVE, 0);
        OK(ipc_send(c, bytes, sizeof bytes, endless[at]));
        answer(&peer);
        ask(&peer, SEND, 9);
        OK(ipc_recv(c, &message, endless[at]));
        CHECK(message.len == 9);
        answer(&peer);
    }
    /* In an event loop. */
    int armed = 7;
    OK(ipc_recv_arm(c, &armed));
    struct pollfd watched = {.fd = ipc_recv_fd(c), .events = POLLIN};
    CHECK(armed == 1 && poll(&watched, 1, 0) == 0);
    ask(&peer, SEND, 5);
    CHECK(poll(&watched, 1, 20000) == 1);
    OK(ipc_recv(c, &message, 0));
    CHECK(message.len == 5);
    answer(&peer);
    watched.fd = ipc_send_fd(c);
    while (ipc_send(c, bytes, sizeof bytes, 0) == IPC_OK) {}
    OK(ipc_send_arm(c, &armed));
    CHECK(armed == 1 && poll(&watched, 1, 0) == 0);
    while (ipc_send(c, bytes, sizeof bytes, 0) == IPC_WOULD_BLOCK) {
        tell(&peer, RECEIVE, 0);
        OK(ipc_send_arm(c, &armed));
        if (armed) CHECK(poll(&watched, 1, 1) >= 0);
    }
    OK(ipc_listener_close(listener));
    OK(ipc_close(c));
    kill_peer(&peer);
}

void words_of_errors(void)
{
    struct peer peer;
    ipc_options options = plain_options(), others = plain_options();
    others.credit_message = 1000;
    ipc_connection *c = with_peer(&peer, &options, &others);
    static char bytes[4096];
    int fds[64];
    void *place;
    ipc_message message;
    IS(IPC_TOO_LARGE, ipc_send(c, bytes, 1001, 0));
    SAYS("1001");
    SAYS("1000");
    CHECK(ipc_last_errno() == 0);
    const char *text = ipc_last_error();
    CHECK(ipc_last_error() == text);
    /* A call that succeeds changes nothing. */
    OK(ipc_send(c, bytes, 1000, 0));
    CHECK(ipc_last_error() == text && strstr(text, "1001") != NULL);
    IS(IPC_TOO_LARGE, ipc_lend(c, 1001, 0, &place));
    IS(IPC_TOO_LARGE, ipc_reserve(c, 1001, 0, &place));
    CHECK(place == NULL);
    for (size_t at = 0; at < 64; at++) fds[at] = 0;
    IS(IPC_TOO_MANY_FILES, ipc_send_with_files(c, "x", 1, fds, 64, 0));
    SAYS("64");
    SAYS("63");
    fds[0] = 1000000;
    IS(IPC_SYSTEM, ipc_send_with_files(c, "x", 1, fds, 1, 0));
    CHECK(ipc_last_errno() == 9);
    OK(ipc_reserve(c, 10, 0, &place));
    IS(IPC_INVALID, ipc_commit(c, 9));
    SAYS("len is 9");
    SAYS("10");
    OK(ipc_commit(c, 10));
    OK(ipc_lend(c, 10, 0, &place));
    IS(IPC_INVALID, ipc_commit(c, 11));
    SAYS("0 to 10");
    OK(ipc_commit(c, 0));
    CHECK(tell(&peer, RECEIVE, 0) == 1000 && tell(&peer, RECEIVE, 0) == 10 && tell(&peer, RECEIVE, 0) == 0);
    for (int result = IPC_OK; result <= IPC_DEFECT; result++) CHECK(strlen(ipc_strerror(result)) > 3);
    tell(&peer, CLOSE, 0);
    IS(IPC_DISCONNECTED, ipc_recv(c, &message, SECOND));
    SAYS("has closed");
    IS(IPC_DISCONNECTED, ipc_recv(c, &message, SECOND));
    OK(ipc_close(c));
    IS(IPC_CLOSED, ipc_close(c));
    SAYS("closed by this process");
    kill_peer(&peer);
}

/* Each call of the sending half that must wait until what is open is ended. */
static void all_busy(ipc_connection *c, ipc_loan *loan)
{
    void *place = (void *)1;
    size_t count = 9;
    int armed;
    ipc_send_status status = {.size = sizeof status};
    char text[8];
    IS(IPC_BUSY, ipc_send(c, "x", 1, IPC_FOREVER));
    IS(IPC_BUSY, ipc_send_vectored(c, &(ipc_slice){"x", 1}, 1, IPC_FOREVER));
    IS(IPC_BUSY, ipc_send_with_files(c, "x", 1, NULL, 0, IPC_FOREVER));
    IS(IPC_BUSY, ipc_send_many(c, &(ipc_slice){"x", 1}, 1, IPC_FOREVER, &count));
    CHECK(count == 0);
    IS(IPC_BUSY, ipc_reserve(c, 1, IPC_FOREVER, &place));
    CHECK(place == NULL);
    IS(IPC_BUSY, ipc_lend(c, 1, IPC_FOREVER, &place));
    IS(IPC_BUSY, ipc_loan_send(c, loan, 1, IPC_FOREVER));
    IS(IPC_BUSY, ipc_set_route(c, IPC_ROUTE_COSTS, 0));
    IS(IPC_BUSY, ipc_route_text(c, text, sizeof text, NULL));
    IS(IPC_BUSY, ipc_flush(c));
    IS(IPC_BUSY, ipc_trim(c, 0, NULL));
    IS(IPC_BUSY, ipc_check_peer(c));
    IS(IPC_BUSY, ipc_undelivered(c, NULL, NULL, NULL));
    IS(IPC_BUSY, ipc_get_send_status(c, &status));
    IS(IPC_BUSY, ipc_send_arm(c, &armed));
    IS(IPC_BUSY, ipc_set_wait(c, IPC_WAIT_SLEEP, 0));
}

void what_is_open_is_in_the_way(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL);
    ipc_loan *loan = detached_loan(c, 200), *second;
    ipc_message message;
    ipc_recv_status status = {.size = sizeof status};
    void *place;
    OK(ipc_batch_push(c, "one", 3, 0));
    all_busy(c, loan);
    SAYS("ipc_batch_publish");
    IS(IPC_BUSY, ipc_commit(c, 3));
    IS(IPC_BUSY, ipc_loan_detach(c, &second));
    CHECK(second == NULL);
    OK(ipc_batch_push(c, "three", 5, 0));
    OK(ipc_batch_publish(c));
    OK(ipc_batch_publish(c));
    CHECK(tell(&peer, RECEIVE, 0) == 3 && tell(&peer, RECEIVE, 0) == 5);
    OK(ipc_reserve(c, 4, 0, &place));
    all_busy(c, loan);
    SAYS("reservation");
    IS(IPC_BUSY, ipc_batch_push(c, "x", 1, 0));
    IS(IPC_BUSY, ipc_batch_publish(c));
    IS(IPC_BUSY, ipc_loan_detach(c, &second));
    memcpy(place, "four", 4);
    OK(ipc_commit(c, 4));
    IS(IPC_BUSY, ipc_commit(c, 4));
    CHECK(tell(&peer, RECEIVE, 0) == 4);
    OK(ipc_lend(c, 6, 0, &place));
    all_busy(c, loan);
    SAYS("loan");
    IS(IPC_BUSY, ipc_batch_push(c, "x", 1, 0));
    IS(IPC_BUSY, ipc_batch_publish(c));
    OK(ipc_loan_detach(c, &second));
    OK(ipc_send(c, "now", 3, 0));
    OK(ipc_loan_send(c, second, 5, 0));
    IS(IPC_CLOSED, ipc_loan_send(c, second, 5, 0));
    IS(IPC_CLOSED, ipc_loan_drop(second));
    CHECK(ipc_loan_data(second, NULL) == NULL);
    IS(IPC_INVALID, ipc_loan_send(c, loan, 201, 0));
    SAYS("0 to 200");
    CHECK(tell(&peer, RECEIVE, 0) == 3 && tell(&peer, RECEIVE, 0) == 5);
    /* Given up: nothing of it is sent. */
    OK(ipc_batch_push(c, "given up", 8, 0));
    OK(ipc_cancel(c));
    OK(ipc_lend(c, 8, 0, &place));
    OK(ipc_cancel(c));
    OK(ipc_reserve(c, 8, 0, &place));
    OK(ipc_cancel(c));
    OK(ipc_cancel(c));
    OK(ipc_send(c, "!", 1, 0));
    CHECK(tell(&peer, RECEIVE, 0) == 1);
    /* The receiving half. */
    tell(&peer, SEND, 10);
    OK(ipc_recv(c, &message, SECOND));
    IS(IPC_BUSY, ipc_get_recv_status(c, &status));
    IS(IPC_BUSY, ipc_set_wait(c, IPC_WAIT_SLEEP, 0));
    /* The other half does not mind. */
    OK(ipc_send(c, "?", 1, 0));
    CHECK(tell(&peer, RECEIVE, 0) == 1);
    OK(ipc_release(c));
    OK(ipc_release(c));
    OK(ipc_get_recv_status(c, &status));
    OK(ipc_set_wait(c, IPC_WAIT_BUSY, 0));
    OK(ipc_set_wait(c, IPC_WAIT_ADAPTIVE, UINT64_MAX));
    CHECK(status.received == 1);
    /* What is open ends with its half. */
    OK(ipc_lend(c, 100000, 0, &place));
    tell(&peer, SEND, 10);
    OK(ipc_recv(c, &message, SECOND));
    OK(ipc_shutdown(c, IPC_SENDING));
    IS(IPC_CLOSED, ipc_commit(c, 1));
    CHECK(((const unsigned char *)message.data)[9] == 10);
    OK(ipc_shutdown(c, IPC_SENDING));
    tell(&peer, SEND, 11);
    OK(ipc_recv(c, &message, SECOND));
    CHECK(message.len == 11);
    OK(ipc_shutdown(c, IPC_RECEIVING | IPC_SENDING));
    IS(IPC_CLOSED, ipc_release(c));
    ipc_peer who;
    OK(ipc_get_peer(c, &who));
    /* Its descriptors are gone, so that these numbers may be other files' by now. */
    CHECK(who.pid == peer.process && who.pidfd == -1 && ipc_recv_fd(c) == -1 && ipc_send_fd(c) == -1);
    OK(ipc_loan_drop(loan));
    OK(ipc_close(c));
    kill_peer(&peer);
}

void short_buffers(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL);
    static char bytes[300000];
    size_t lengths[] = {1, 100, 5000, 300000}, len;
    ipc_message message;
    for (size_t at = 0; at < 4; at++) {
        ask(&peer, SEND, lengths[at]);
        len = 0;
        IS(IPC_TOO_SHORT, ipc_recv_into(c, bytes, lengths[at] - 1, &len, SECOND));
        CHECK(len == lengths[at]);
        answer(&peer);
        for (size_t turn = 0; turn < 3; turn++) {
            len = 0;
            IS(IPC_TOO_SHORT, ipc_recv_into(c, NULL, 0, &len, 0));
            CHECK(len == lengths[at]);
        }
        if (at % 2 == 0) {
            OK(ipc_recv_into(c, bytes, lengths[at], &len, 0));
            CHECK(len == lengths[at] && (unsigned char)bytes[len - 1] == len % 251);
        } else {
            OK(ipc_recv(c, &message, 0));
            CHECK(message.len == lengths[at]);
        }
    }
    OK(ipc_route_text(c, bytes, sizeof bytes, &len));
    CHECK(strlen(bytes) == len && len > 10);
    size_t whole = len;
    OK(ipc_route_text(c, bytes, 5, &len));
    CHECK(strlen(bytes) == 4 && len == whole);
    OK(ipc_route_text(c, bytes, 1, &len));
    CHECK(bytes[0] == 0);
    OK(ipc_close(c));
    kill_peer(&peer);
}

void files(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL);
    ipc_message message, messages[8];
    ipc_held *held;
    size_t count, before = open_descriptors();
    int fds[8];
    /* Not taken: they go with the message, by each of the ways to be done with it. */
    for (int way = 0; way < 5; way++) {
        char byte;
        tell(&peer, SEND_FILES, 3);
        if (way == 4) {
            OK(ipc_recv_into(c, &byte, 1, NULL, SECOND));
            CHECK(open_descriptors() == before);
            continue;
        }
        OK(ipc_recv(c, &message, SECOND));
        CHECK(message.files == 3 && message.flags == IPC_MESSAGE_SEALED && open_descriptors() == before + 3);
        if (way == 0) OK(ipc_release(c));
        if (way == 1) IS(IPC_WOULD_BLOCK, ipc_recv(c, &message, 0));
        if (way == 2) {
            OK(ipc_hold(c, &held, &message));
            CHECK(message.files == 3);
            OK(ipc_held_drop(held));
        }
        if (way == 3) {
            IS(IPC_TOO_SHORT, ipc_message_files(c, fds, 2, &count));
            CHECK(count == 3 && open_descriptors() == before + 3);
            OK(ipc_message_files(c, fds, 3, &count));
            CHECK(count == 3);
            OK(ipc_release(c));
            CHECK(open_descriptors() == before + 3);
            for (size_t at = 0; at < 3; at++) {
                CHECK(fcntl(fds[at], F_GETFD) == FD_CLOEXEC);
                close(fds[at]);
            }
        }
        CHECK(open_descriptors() == before);
    }
    /* Taken twice: once. */
    tell(&peer, SEND_FILES, 2);
    OK(ipc_recv(c, &message, SECOND));
    OK(ipc_message_files(c, fds, 8, &count));
    CHECK(count == 2);
    close(fds[0]);
    close(fds[1]);
    OK(ipc_message_files(c, fds, 8, &count));
    CHECK(count == 0);
    OK(ipc_hold(c, &held, NULL));
    OK(ipc_held_files(held, fds, 8, &count));
    CHECK(count == 0);
    OK(ipc_held_drop(held));
    /* Of a held one. */
    tell(&peer, SEND_FILES, 2);
    OK(ipc_recv(c, &message, SECOND));
    OK(ipc_hold(c, &held, NULL));
    IS(IPC_TOO_SHORT, ipc_held_files(held, fds, 1, &count));
    OK(ipc_held_files(held, fds, 2, &count));
    CHECK(count == 2);
    close(fds[0]);
    close(fds[1]);
    OK(ipc_held_drop(held));
    CHECK(open_descriptors() == before);
    /* Several at once: only those of the last can be taken, so one with files is the last. */
    tell(&peer, SEND, 10);
    tell(&peer, SEND_FILES, 1);
    tell(&peer, SEND, 20);
    size_t got = 0, due[] = {10, 1, 20};
    for (size_t files = 0; got < 3; got += count) {
        OK(ipc_recv_many(c, messages, 8, &count, SECOND));
        for (size_t at = 0; at < count; at++) {
            CHECK(messages[at].files == 0 || at + 1 == count);
            CHECK(messages[at].len == due[got + at]);
        }
        size_t taken;
        OK(ipc_message_files(c, fds, 8, &taken));
        CHECK(taken == messages[count - 1].files);
        for (size_t at = 0; at < taken; at++) close(fds[at]);
        files += taken;
        CHECK(files == (got + count >= 2));
    }
    IS(IPC_BUSY, ipc_hold(c, &held, NULL));
    CHECK(held == NULL);
    OK(ipc_release(c));
    CHECK(open_descriptors() == before);
    /* Files go with the connection too. */
    tell(&peer, SEND_FILES, 3);
    OK(ipc_recv(c, &message, SECOND));
    OK(ipc_close(c));
    CHECK(open_descriptors() < before);
    kill_peer(&peer);
}

void what_outlives_its_connection(void)
{
    struct peer peer, second;
    size_t descriptors = open_descriptors();
    ipc_connection *c = with_peer(&peer, NULL, NULL), *other = with_peer(&second, NULL, NULL);
    size_t lengths[] = {0, 10, 100000, 1000000};
    ipc_held *held[4];
    ipc_loan *loan = detached_loan(c, 100000), *dropped = detached_loan(c, 1000);
    ipc_message message;
    size_t len;
    for (size_t at = 0; at < 4; at++) held[at] = held_message(c, &peer, lengths[at]);
    IS(IPC_NO_LANE, ipc_loan_send(other, loan, 5, 0));
    CHECK(ipc_loan_data(loan, &len) != NULL && len == 100000);
    OK(ipc_close(c));
    kill_peer(&peer);
    memset(ipc_loan_data(loan, &len), 9, len);
    IS(IPC_NO_LANE, ipc_loan_send(other, loan, 5, 0));
    IS(IPC_CLOSED, ipc_loan_send(c, loan, 5, 0));
    for (size_t at = 0; at < 4; at++) {
        OK(ipc_held_message(held[at], &message));
        CHECK(message.len == lengths[at]);
        for (size_t byte = 0; byte < message.len; byte++) {
            CHECK(((const unsigned char *)message.data)[byte] == message.len % 251);
        }
        OK(ipc_held_drop(held[at]));
        IS(IPC_CLOSED, ipc_held_drop(held[at]));
        IS(IPC_CLOSED, ipc_held_message(held[at], &message));
        int fd;
        IS(IPC_CLOSED, ipc_held_files(held[at], &fd, 1, &len));
    }
    OK(ipc_loan_drop(loan));
    OK(ipc_loan_drop(dropped));
    IS(IPC_CLOSED, ipc_loan_drop(loan));
    CHECK(ipc_loan_data(loan, &len) == NULL);
    OK(ipc_close(other));
    kill_peer(&second);
    CHECK(segments() == 0 && open_descriptors() <= descriptors + 1);
}

struct taken {
    size_t count, bytes;
};

static void take(void *user_data, const void *data, size_t len)
{
    struct taken *taken = user_data;
    for (size_t at = 0; at < len; at++) CHECK(((const unsigned char *)data)[at] == taken->count);
    taken->count++;
    taken->bytes += len;
}

void messages_that_were_not_delivered(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL);
    static unsigned char bytes[100000];
    size_t lengths[] = {10, 100000, 0, 3000, 50000}, count;
    struct taken taken = {0};
    for (size_t at = 0; at < 5; at++) {
        memset(bytes, (int)at, sizeof bytes);
        OK(ipc_send(c, bytes, lengths[at], 0));
    }
    OK(ipc_undelivered(c, take, &taken, &count));
    CHECK(count == 5 && taken.count == 5 && taken.bytes == 153010);
    kill_peer(&peer);
    IS(IPC_DISCONNECTED, ipc_check_peer(c));
    SAYS("5 messages");
    IS(IPC_DISCONNECTED, ipc_send(c, "x", 1, IPC_FOREVER));
    taken = (struct taken){0};
    OK(ipc_undelivered(c, take, &taken, &count));
    CHECK(count == 5 && taken.count == 5 && taken.bytes == 153010);
    OK(ipc_undelivered(c, NULL, NULL, &count));
    CHECK(count == 5);
    OK(ipc_close(c));
    CHECK(segments() == 0);
}

#define TURNS 3000

static void *send_many(void *connection)
{
    for (uint64_t number = 0; number < TURNS; number++) {
        void *place;
        if (number % 3 == 0) {
            OK(ipc_send(connection, &number, sizeof number, 20 * SECOND));
        } else if (number % 3 == 1) {
            OK(ipc_reserve(connection, sizeof number, 20 * SECOND, &place));
            memcpy(place, &number, sizeof number);
            OK(ipc_commit(connection, sizeof number));
        } else {
            OK(ipc_batch_push(connection, &number, sizeof number, 20 * SECOND));
            OK(ipc_batch_publish(connection));
        }
        /* Each thread has its own words. */
        if (number % 100 == 0) {
            IS(IPC_INVALID, ipc_send(connection, NULL, 1, 0));
            SAYS("data is null");
        }
    }
    return NULL;
}

void two_threads(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL);
    pthread_t sending;
    ask(&peer, ECHO, TURNS);
    CHECK(pthread_create(&sending, NULL, send_many, c) == 0);
    for (uint64_t number = 0; number < TURNS; number++) {
        ipc_message message;
        ipc_held *held;
        uint64_t found;
        OK(ipc_recv(c, &message, 20 * SECOND));
        CHECK(message.len == sizeof number);
        memcpy(&found, message.data, sizeof found);
        CHECK(found == number);
        if (number % 50 == 0) {
            OK(ipc_hold(c, &held, &message));
            OK(ipc_held_drop(held));
            IS(IPC_INVALID, ipc_recv(c, NULL, 0));
            SAYS("message is null");
        }
    }
    CHECK(pthread_join(sending, NULL) == 0 && answer(&peer) == TURNS);
    OK(ipc_close(c));
    kill_peer(&peer);
}

static struct {
    size_t lines[5];
    char last[256];
} logged;

static void note_line(void *user_data, uint32_t level, const char *text)
{
    CHECK(user_data == &logged && level >= IPC_LOG_ERROR && level <= IPC_LOG_DEBUG && strlen(text) > 0);
    CHECK(strchr(text, '\n') == NULL);
    logged.lines[level]++;
    snprintf(logged.last, sizeof logged.last, "%s", text);
}

static int32_t admits(void *user_data, const ipc_peer *peer)
{
    int *asked = user_data;
    CHECK(peer->uid == getuid() && peer->gid == getgid() && peer->pid > 0 && peer->pidfd == -1);
    return (*asked)++ > 0;
}

/* Tries to connect in a process of its own; the result is its status. */
static pid_t try_to_connect(const char *path, const ipc_options *options)
{
    pid_t child = fork();
    if (child == 0) {
        ipc_connection *connection;
        alarm(60);
        ipc_result result = ipc_connect(path, options, &connection);
        _exit(result);
    }
    return child;
}

static int ended(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

void callbacks(void)
{
    ipc_options options = plain_options(), others = plain_options();
    ipc_listener *listener;
    ipc_connection *connection;
    ipc_listener_status status = {.size = sizeof status};
    int asked = 0;
    const char *path = path_of("callbacks");
    options.admit = admits;
    options.admit_data = &asked;
    ipc_set_log(note_line, &logged, IPC_LOG_WARNING);
    OK(ipc_listen(path, &options, &listener));
    CHECK(logged.lines[IPC_LOG_INFO] == 0);
    ipc_set_log(note_line, &logged, IPC_LOG_DEBUG);
    CHECK(strcmp(ipc_listener_path(listener), path) == 0);
    OK(ipc_listener_get_status(listener, &status));
    CHECK(status.refused == 0 && status.last_refusal == IPC_REFUSAL_NONE && status.connections == 0);
    /* The first is refused, the second is not. */
    pid_t child = try_to_connect(path, &others);
    IS(IPC_TIMED_OUT, ipc_accept(listener, 300 * MILLISECOND, &connection));
    CHECK(ended(child) == IPC_REFUSED && asked == 1 && logged.lines[IPC_LOG_WARNING] == 1);
    OK(ipc_listener_get_status(listener, &status));
    CHECK(status.refused == 1 && status.last_refusal == IPC_REFUSAL_CREDENTIALS);
    child = try_to_connect(path, &others);
    OK(ipc_accept(listener, 20 * SECOND, &connection));
    CHECK(ended(child) == IPC_OK && asked == 2 && logged.lines[IPC_LOG_INFO] == 1);
    OK(ipc_listener_get_status(listener, &status));
    CHECK(status.connections == 1);
    OK(ipc_close(connection));
    OK(ipc_listener_get_status(listener, &status));
    CHECK(status.connections == 0);
    /* The other side's policy. */
    others.admit = admits;
    int never = -1000;
    others.admit_data = &never;
    child = try_to_connect(path, &others);
    ipc_result result = ipc_accept(listener, 2 * SECOND, &connection);
    CHECK(ended(child) == IPC_NOT_ADMITTED);
    if (result == IPC_OK) OK(ipc_close(connection));
    /* A type that is not the same. */
    OK(ipc_listener_close(listener));
    options.payload_name = "robot::Pose";
    options.payload_size = 56;
    options.payload_align = 8;
    OK(ipc_listen(path, &options, &listener));
    others = plain_options();
    others.payload_name = "robot::Pose";
    others.payload_size = 64;
    others.payload_align = 8;
    child = try_to_connect(path, &others);
    IS(IPC_TIMED_OUT, ipc_accept(listener, 300 * MILLISECOND, &connection));
    CHECK(ended(child) == IPC_REFUSED);
    OK(ipc_listener_get_status(listener, &status));
    CHECK(status.last_refusal == IPC_REFUSAL_PAYLOAD);
    size_t warnings = logged.lines[IPC_LOG_WARNING];
    IS(IPC_INVALID, ipc_get_peer(NULL, NULL));
    CHECK(logged.lines[IPC_LOG_WARNING] == warnings + 1 && strcmp(logged.last, ipc_last_error()) == 0);
    ipc_set_log(NULL, NULL, 0);
    IS(IPC_INVALID, ipc_get_peer(NULL, NULL));
    CHECK(logged.lines[IPC_LOG_WARNING] == warnings + 1);
    OK(ipc_listener_close(listener));
}

/* A closed handle says so until some hundred others were closed too; none of it is memory that was freed. */
void handles_that_are_used_again(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL);
    ipc_loan *first = detached_loan(c, 10);
    ipc_listener *listener, *closed;
    OK(ipc_loan_drop(first));
    for (int turn = 0; turn < 200; turn++) {
        ipc_loan *other = detached_loan(c, 10);
        CHECK(other != first);
        OK(ipc_loan_drop(other));
        IS(IPC_CLOSED, ipc_loan_drop(first));
    }
    OK(ipc_listen(path_of("again"), NULL, &closed));
    OK(ipc_listener_close(closed));
    for (int turn = 0; turn < 200; turn++) {
        OK(ipc_listen(path_of("again"), NULL, &listener));
        CHECK(listener != closed && ipc_listener_path(closed) == NULL);
        OK(ipc_listener_close(listener));
    }
    OK(ipc_close(c));
    kill_peer(&peer);
}

/* Sizes that no machine has, in each mode: an error, and the process goes on. */
void more_memory_than_there_is(void)
{
    for (uint32_t mode = IPC_MODE_KERNEL; mode <= IPC_MODE_AUTO; mode++) {
        struct peer peer;
        ipc_options options = plain_options();
        options.mode = mode;
        options.credit_message = UINT64_MAX;
        /* Without shared memory this is what bounds a message. */
        if (mode == IPC_MODE_KERNEL) options.credit_arena = UINT64_MAX;
        ipc_connection *c = with_peer(&peer, &options, &options);
        /* More than there is for certain: nothing in between, for that would be taken from all others. */
        size_t there_is = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
        size_t sizes[] = {16 * there_is, (size_t)1 << 47, SIZE_MAX / 2, SIZE_MAX - 7, SIZE_MAX};
        for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
            void *place;
            ipc_result result = ipc_lend(c, sizes[at], 0, &place);
            if (result == IPC_OK) {
                OK(ipc_cancel(c));
                continue;
            }
            if (result != IPC_TOO_LARGE && result != IPC_NO_MEMORY) DIE("mode %u: %d %s", mode, result, ipc_last_error());
            CHECK(place == NULL);
            result = ipc_reserve(c, sizes[at], 0, &place);
            CHECK(result == IPC_TOO_LARGE && place == NULL);
        }
        ask(&peer, ECHO, 1);
        OK(ipc_send(c, "alive", 5, SECOND));
        ipc_message message;
        OK(ipc_recv(c, &message, SECOND));
        answer(&peer);
        OK(ipc_close(c));
        kill_peer(&peer);
    }
}

/* The same calls in each mode; sizes around the limits of each lane. */
void each_mode(void)
{
    for (uint32_t mode = IPC_MODE_KERNEL; mode <= IPC_MODE_AUTO; mode++) {
        struct peer peer;
        ipc_options options = plain_options();
        options.mode = mode;
        ipc_connection *c = with_peer(&peer, &options, NULL);
        static unsigned char bytes[1 << 20];
        size_t record = send_status(c).max_reservation;
        size_t sizes[] = {0, 1, 7, 8, 9, 127, 128, record - 1, record, record + 1, 100000, sizeof bytes};
        for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
            ipc_message message;
            ipc_loan *loan;
            void *place;
            ask(&peer, ECHO, 3);
            memset(bytes, (int)at + 1, sizes[at]);
            for (int turn = 0; turn < 3; turn++) {
                ipc_slice halves[] = {{bytes, sizes[at] / 2}, {bytes, sizes[at] - sizes[at] / 2}};
                if (turn == 0) OK(ipc_send(c, bytes, sizes[at], 20 * SECOND));
                if (turn == 1) OK(ipc_send_vectored(c, halves, 2, 20 * SECOND));
                if (turn == 2) {
                    OK(ipc_lend(c, sizes[at], 20 * SECOND, &place));
                    memset(place, (int)at + 1, sizes[at]);
                    ipc_result detached = ipc_loan_detach(c, &loan);
                    if (mode == IPC_MODE_KERNEL) {
                        CHECK(detached == IPC_NO_LANE && loan == NULL);
                        OK(ipc_commit(c, sizes[at]));
                    } else {
                        OK(detached);
                        OK(ipc_loan_send(c, loan, sizes[at], 20 * SECOND));
                    }
                }
                OK(ipc_recv(c, &message, 20 * SECOND));
                CHECK(message.len == sizes[at] && message.reserved == 0 && message.files == 0);
                CHECK(message.lane >= IPC_LANE_KERNEL && message.lane <= IPC_LANE_FILE);
                CHECK(message.len == 0 || memcmp(message.data, bytes, message.len) == 0);
                if (message.lane >= IPC_LANE_ARENA) CHECK((uintptr_t)message.data % 128 == 0);
                if (message.lane == IPC_LANE_INLINE) CHECK((uintptr_t)message.data % 8 == 0);
                OK(ipc_release(c));
            }
            answer(&peer);
        }
        OK(ipc_close(c));
        kill_peer(&peer);
    }
}
