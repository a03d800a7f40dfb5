/* Prints what one publisher after the other sends; publish.c is one.
 *
 *     ./receive sensors 3          # ends after three of them
 */
#include "check.h"
#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc != 3) {
        return usage("receive NAME PUBLISHERS");
    }
    ipc_listener *listener;
    CHECK(ipc_listen(argv[1], NULL, &listener));
    for (int publishers = atoi(argv[2]); publishers > 0; publishers--) {
        ipc_connection *publisher;
        CHECK(ipc_accept(listener, IPC_FOREVER, &publisher));
        ipc_message message;
        ipc_result result;
        while ((result = ipc_recv(publisher, &message, IPC_FOREVER)) == IPC_OK) {
            printf("%.*s\n", (int)message.len, (const char *)message.data);
        }
        CHECK_END(result);
        CHECK(ipc_close(publisher));
    }
    CHECK(ipc_listener_close(listener));
    return 0;
}
