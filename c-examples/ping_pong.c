/* Messages there and back, and how long a round trip takes. Each side can be this program, ping_pong.cpp,
 * python/ping_pong.py or ipc-core/examples/ping_pong.rs.
 *
 *     ./ping_pong server court & ./ping_pong client court
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 10000 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Sends everything back, until the client goes. */
static void serve(ipc_connection *client) {
    ipc_message message;
    ipc_result result;
    while ((result = ipc_recv(client, &message, IPC_FOREVER)) == IPC_OK) {
        CHECK(ipc_send(client, message.data, message.len, IPC_FOREVER));
    }
    CHECK_END(result);
}

static void play(ipc_connection *server) {
    const double start = seconds();
    for (uint64_t ball = 0; ball < ROUNDS; ball++) {
        uint64_t back;
        size_t len;
        CHECK(ipc_send(server, &ball, sizeof ball, IPC_FOREVER));
        CHECK(ipc_recv_into(server, &back, sizeof back, &len, IPC_FOREVER));
        if (len != sizeof back || back != ball) {
            fprintf(stderr, "ball %llu came back as something else\n", (unsigned long long)ball);
            exit(1);
        }
    }
    printf("%d round trips, %.2f us each\n", ROUNDS, 1e6 * (seconds() - start) / ROUNDS);
}

int main(int argc, char **argv) {
    ipc_connection *connection;
    if (argc == 3 && strcmp(argv[1], "server") == 0) {
        serve(connection = accept_one(argv[2]));
    } else if (argc == 3 && strcmp(argv[1], "client") == 0) {
        play(connection = connect_to(argv[2]));
    } else {
        return usage("ping_pong server|client NAME");
    }
    CHECK(ipc_close(connection));
    return 0;
}
