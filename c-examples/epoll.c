/* Any number of clients on one thread, which sleeps when nobody has anything to say: an event loop.
 *
 *     ./epoll news 3 &             # ends when three clients have gone
 *     ./publish news hello; ./publish news "hello again"; ./publish news bye
 *
 * A descriptor of this library says something only once it is armed: receive until nothing is there, arm, and only
 * then sleep.
 */
#include "check.h"
#include <stdbool.h>
#include <sys/epoll.h>

static void watch(int epoll, int fd, void *about) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = about};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        perror("epoll_ctl");
        exit(1);
    }
}

/* Takes what a client has sent; false once it has gone. */
static bool take_all(ipc_connection *client) {
    ipc_peer peer;
    CHECK(ipc_get_peer(client, &peer));
    for (;;) {
        ipc_message message;
        ipc_result result = ipc_recv(client, &message, 0);
        if (result == IPC_OK) {
            printf("process %d: %.*s\n", peer.pid, (int)message.len, (const char *)message.data);
        } else if (result == IPC_WOULD_BLOCK) {
            int armed;
            result = ipc_recv_arm(client, &armed);
            if (result == IPC_OK && armed) {
                return true;
            }
        }
        if (result != IPC_OK) {
            printf("process %d: %s\n", peer.pid, ipc_strerror(result));
            return false;
        }
    }
}

/* Takes every client that waits; each is watched from then on, unless it has gone already. Returns how many have. */
static int accept_all(int epoll, ipc_listener *listener) {
    int gone = 0;
    ipc_connection *client;
    ipc_result result;
    while ((result = ipc_accept(listener, 0, &client)) == IPC_OK) {
        if (take_all(client)) {
            watch(epoll, ipc_recv_fd(client), client);
        } else {
            CHECK(ipc_close(client));
            gone++;
        }
    }
    check(result, IPC_WOULD_BLOCK, "ipc_accept");
    return gone;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return usage("epoll NAME CLIENTS");
    }
    ipc_listener *listener;
    CHECK(ipc_listen(argv[1], NULL, &listener));
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, ipc_listener_fd(listener), NULL);
    for (int left = atoi(argv[2]); left > 0;) {
        struct epoll_event events[16];
        const int ready = epoll_wait(epoll, events, 16, -1);
        for (int at = 0; at < ready; at++) {
            ipc_connection *client = events[at].data.ptr;
            if (!client) {
                left -= accept_all(epoll, listener);
            } else if (!take_all(client)) {
                CHECK(ipc_close(client)); /* epoll forgets its descriptor too */
                left--;
            }
        }
    }
    CHECK(ipc_listener_close(listener));
    return 0;
}
