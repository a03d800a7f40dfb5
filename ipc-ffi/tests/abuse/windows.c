/* The functions of the header that run without a call: what they know of a handle ends when the batch, the half or the handle does. */
#include "abuse.h"
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGES 1000

/* Appends and reads with and without calls in turn: nothing is lost, doubled or out of order. */
static void in_turn(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL);
    uint64_t sent = 0, received = 0;
    ask(&peer, ECHO, MESSAGES);
    while (received < MESSAGES) {
        uint64_t before = sent;
        for (int turn = 0; turn < 30 && sent < MESSAGES; turn++, sent++) {
            unsigned char bytes[200];
            size_t len = 8 + sent % 150;
            memset(bytes, (int)(sent % 251), sizeof bytes);
            memcpy(bytes, &sent, sizeof sent);
            if (sent % 7 == 3) OK(ipc_batch_push(c, bytes, len, SECOND));
            else OK(ipc_batch_add(c, bytes, len, SECOND));
        }
        if (sent > before) IS(IPC_BUSY, ipc_send(c, "x", 1, 0));
        OK(ipc_batch_publish(c));
        OK(ipc_recv_batch(c, received % 3 == 0 ? 0 : 5, 20 * SECOND));
        for (;;) {
            ipc_message message;
            ipc_result result = received % 5 == 2 ? ipc_recv_batch_next(c, &message) : ipc_recv_next(c, &message);
            uint64_t number;
            if (result == IPC_WOULD_BLOCK) {
                CHECK(message.data == NULL && message.len == 0);
                break;
            }
            OK(result);
            CHECK(message.len == 8 + received % 150 && message.files == 0);
            memcpy(&number, message.data, sizeof number);
            CHECK(number == received);
            CHECK(((const unsigned char *)message.data)[message.len - 1] == received % 251 || message.len == 8);
            received++;
        }
    }
    OK(ipc_release(c));
    ipc_recv_status status = {.size = sizeof status};
    OK(ipc_get_recv_status(c, &status));
    CHECK(status.received == MESSAGES && send_status(c).sent == MESSAGES && answer(&peer) == MESSAGES);
    /* What is given up is not sent, whichever way it was appended. */
    OK(ipc_batch_add(c, "given", 5, 0));
    OK(ipc_batch_add(c, "up", 2, 0));
    OK(ipc_cancel(c));
    OK(ipc_send(c, "!", 1, 0));
    CHECK(tell(&peer, RECEIVE, 0) == 1);
    /* A message with files in the middle. */
    int fd;
    size_t count;
    ipc_message message;
    tell(&peer, SEND, 20);
    tell(&peer, SEND_FILES, 1);
    tell(&peer, SEND, 30);
    for (size_t got = 0, due[] = {20, 1, 30}; got < 3;) {
        OK(ipc_recv_batch(c, 0, SECOND));
        while (ipc_recv_next(c, &message) == IPC_OK) {
            CHECK(message.len == due[got] && message.files == (got == 1));
            OK(ipc_message_files(c, &fd, 1, &count));
            CHECK(count == message.files);
            if (count == 1) close(fd);
            got++;
        }
    }
    OK(ipc_close(c));
    kill_peer(&peer);
}

/* A batch is open in both halves. */
static ipc_connection *with_windows(struct peer *peer)
{
    ipc_connection *c = with_peer(peer, NULL, NULL);
    ipc_message message;
    for (int each = 0; each < 4; each++) tell(peer, SEND, 10);
    OK(ipc_batch_push(c, "one", 3, 0));
    OK(ipc_batch_add(c, "two", 3, 0));
    OK(ipc_recv_batch(c, 0, SECOND));
    OK(ipc_recv_next(c, &message));
    OK(ipc_recv_next(c, &message));
    return c;
}

static void all_closed(ipc_connection *c)
{
    ipc_message message;
    IS(IPC_CLOSED, ipc_batch_add(c, "x", 1, 0));
    IS(IPC_CLOSED, ipc_batch_add(c, NULL, 0, 0));
    IS(IPC_CLOSED, ipc_recv_next(c, &message));
    CHECK(message.data == NULL);
}

void windows(void)
{
    struct peer peer;
    ipc_message message;
    in_turn();
    /* Closed, by each of the calls that do so; the memory is gone. */
    ipc_connection *c = with_windows(&peer);
    OK(ipc_shutdown(c, IPC_SENDING));
    IS(IPC_CLOSED, ipc_batch_add(c, "x", 1, 0));
    OK(ipc_recv_next(c, &message));
    OK(ipc_shutdown(c, IPC_RECEIVING));
    CHECK(segments() == 0);
    all_closed(c);
    OK(ipc_close(c));
    all_closed(c);
    kill_peer(&peer);
    c = with_windows(&peer);
    OK(ipc_close(c));
    CHECK(segments() == 0);
    all_closed(c);
    kill_peer(&peer);
    /* Another call of the half ends the batch that is read. */
    c = with_windows(&peer);
    OK(ipc_release(c));
    IS(IPC_BUSY, ipc_recv_next(c, &message));
    OK(ipc_recv(c, &message, SECOND));
    IS(IPC_BUSY, ipc_recv_next(c, &message));
    IS(IPC_INVALID, ipc_recv_next(c, NULL));
    IS(IPC_INVALID, ipc_batch_add(c, NULL, 1, 0));
    IS(IPC_INVALID, ipc_batch_add(NULL, "x", 1, 0));
    OK(ipc_batch_publish(c));
    CHECK(tell(&peer, RECEIVE, 0) == 3 && tell(&peer, RECEIVE, 0) == 3);
    /* A forked child has the windows, and neither the memory behind them nor the right to publish. */
    OK(ipc_batch_push(c, "three", 5, 0));
    tell(&peer, SEND, 10);
    OK(ipc_recv_batch(c, 0, SECOND));
    fflush(stdout);
    int status;
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        for (int each = 0; each < 100; each++) {
            ipc_result result = ipc_batch_add(c, "child", 5, 0);
            CHECK(result == IPC_OK || result == IPC_FORKED);
            result = ipc_recv_next(c, &message);
            CHECK(result != IPC_DEFECT);
        }
        IS(IPC_FORKED, ipc_batch_publish(c));
        OK(ipc_close(c));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    OK(ipc_recv_next(c, &message));
    CHECK(message.len == 10);
    OK(ipc_batch_add(c, "fourth", 6, 0));
    OK(ipc_batch_publish(c));
    CHECK(tell(&peer, RECEIVE, 0) == 5 && tell(&peer, RECEIVE, 0) == 6);
    /* A peer that breaks the protocol while a batch is read. */
    tell(&peer, SEND, 10);
    OK(ipc_recv_batch(c, 0, SECOND));
    OK(ipc_batch_push(c, "x", 1, 0));
    tell(&peer, BREAK, 0);
    for (int each = 0; each < 10000; each++) {
        ipc_result result = ipc_recv_next(c, &message);
        if (result == IPC_OK) CHECK(message.len < 1 << 20);
        else CHECK(result == IPC_WOULD_BLOCK || result == IPC_VIOLATION);
        result = ipc_batch_add(c, "y", 1, 0);
        CHECK(result == IPC_OK || result == IPC_WOULD_BLOCK || result == IPC_VIOLATION);
    }
    OK(ipc_close(c));
    all_closed(c);
    kill_peer(&peer);
    CHECK(segments() == 0);
}
