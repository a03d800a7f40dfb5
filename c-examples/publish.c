/* Publishes one message; receive.c prints it.
 *
 *     ./publish sensors "21.5 degrees"
 */
#include <ipc.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    ipc_connection *connection;
    if (argc != 3) {
        fprintf(stderr, "usage: publish NAME TEXT\n");
        return 2;
    }
    if (ipc_connect(argv[1], NULL, &connection) != IPC_OK ||
        ipc_send(connection, argv[2], strlen(argv[2]), IPC_FOREVER) != IPC_OK) {
        fprintf(stderr, "publish: %s\n", ipc_last_error());
        return 1;
    }
    return ipc_close(connection); /* what was sent will still be received */
}
