/* Which way messages of each length take: small ones through the kernel, large ones through shared memory, with a
 * notice of 16 bytes through the kernel.
 *
 *     ./hybrid lanes               # large is what costs less that way on this machine
 *     ./hybrid lanes 1000          # large is what has more than 1000 bytes
 *
 * Near the crossing of the costs a message keeps to the lane of the one before: a change has to save more than 3 %.
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <sys/wait.h>
#include <unistd.h>

static const char *const LANES[] = {"", "kernel", "inline", "arena", "file"}; /* by ipc_lane */
enum { SMALLEST = 16, LARGEST = 16 << 20 };

static int send_all(const char *name, const char *threshold) {
    ipc_options options;
    ipc_connection *receiver;
    CHECK(ipc_options_init(&options, sizeof options));
    options.mode = IPC_MODE_HYBRID; /* either side may ask for it */
    CHECK(ipc_connect(name, &options, &receiver));
    if (threshold) {
        CHECK(ipc_set_route(receiver, IPC_ROUTE_THRESHOLD, strtoull(threshold, NULL, 10)));
    }
    char text[200];
    CHECK(ipc_route_text(receiver, text, sizeof text, NULL));
    printf("%s\n", text);
    fflush(stdout);
    void *bytes = calloc(1, LARGEST);
    for (size_t len = SMALLEST; bytes && len <= LARGEST; len *= 4) {
        CHECK(ipc_send(receiver, bytes, len, IPC_FOREVER));
    }
    free(bytes);
    CHECK(ipc_close(receiver));
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 3) {
        return usage("hybrid NAME [THRESHOLD]");
    }
    ipc_listener *listener;
    ipc_connection *sender;
    CHECK(ipc_listen(argv[1], NULL, &listener));
    const pid_t child = fork();
    if (child == 0) {
        _exit(send_all(argv[1], argv[2])); /* handles of the parent are none of the child's */
    }
    CHECK(ipc_accept(listener, IPC_FOREVER, &sender));
    ipc_message message;
    ipc_result result;
    while ((result = ipc_recv(sender, &message, IPC_FOREVER)) == IPC_OK) {
        printf("%9zu bytes: %s\n", message.len, LANES[message.lane]);
    }
    CHECK_END(result);
    CHECK(ipc_close(sender));
    CHECK(ipc_listener_close(listener));
    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
