/* What every example does with a result: go on, or say what the library says and end. */
#ifndef CHECK_H
#define CHECK_H

#include <ipc.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program unless a call returned IPC_OK. */
#define CHECK(call) check((call), IPC_OK, #call)

/* Ends the program unless a call failed because the peer has closed its side, which is how a conversation ends. */
#define CHECK_END(result) check((result), IPC_DISCONNECTED, #result)

static inline void check(ipc_result result, ipc_result expected, const char *what) {
    if (result != expected) {
        fprintf(stderr, "%s: %s (%s)\n", what, ipc_strerror(result), ipc_last_error());
        exit(1);
    }
}

static inline int usage(const char *text) {
    fprintf(stderr, "usage: %s\n", text);
    return 2;
}

/* Connects as soon as somebody listens there. */
static inline ipc_connection *connect_to(const char *name) {
    ipc_options options;
    ipc_connection *connection;
    CHECK(ipc_options_init(&options, sizeof options));
    options.flags = IPC_WAIT_FOR_LISTENER;
    CHECK(ipc_connect(name, &options, &connection));
    return connection;
}

/* Listens, and returns the connection with the first client. */
static inline ipc_connection *accept_one(const char *name) {
    ipc_listener *listener;
    ipc_connection *connection;
    CHECK(ipc_listen(name, NULL, &listener));
    CHECK(ipc_accept(listener, IPC_FOREVER, &connection));
    CHECK(ipc_listener_close(listener)); /* the connection lives on */
    return connection;
}

#endif
