/*
 * What every consumer project builds: a listener here, a client in a child process, a batch there and a message back, with calls and with
 * the code that the header brings along. In the words that C and C++ share, so that either compiler takes it.
 */
#define _POSIX_C_SOURCE 200809L
#include <ipc.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t PATIENCE = INT64_C(20) * 1000 * 1000 * 1000;
/* Several laps of the ring. */
static const uint32_t COUNT = 100000;

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        if ((call) != IPC_OK) {                                                                                        \
            fprintf(stderr, "%s: %s\n", #call, ipc_last_error());                                                      \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

static int client(const char *name)
{
    ipc_options options;
    ipc_connection *connection;
    uint32_t number;
    char answer[16];
    size_t len = 0;

    TRY(ipc_options_init(&options, sizeof options));
    options.flags = IPC_WAIT_FOR_LISTENER;
    options.timeout_ns = PATIENCE;
    TRY(ipc_connect(name, &options, &connection));
    for (number = 0; number < COUNT; number++) {
        TRY(ipc_batch_add(connection, &number, sizeof number, PATIENCE));
    }
    TRY(ipc_batch_publish(connection));
    TRY(ipc_recv_into(connection, answer, sizeof answer, &len, PATIENCE));
    TRY(ipc_close(connection));
    if (len != 8 || memcmp(answer, "and back", 8) != 0) {
        fprintf(stderr, "another answer: %.*s\n", (int)len, answer);
        return 1;
    }
    return 0;
}

static int server(const char *name)
{
    ipc_listener *listener;
    ipc_connection *connection;
    ipc_message message;
    ipc_result result;
    uint32_t expected = 0;

    TRY(ipc_listen(name, NULL, &listener));
    TRY(ipc_accept(listener, PATIENCE, &connection));
    while (expected < COUNT) {
        TRY(ipc_recv_batch(connection, 0, PATIENCE));
        while ((result = ipc_recv_next(connection, &message)) == IPC_OK) {
            if (message.len != sizeof expected || memcmp(message.data, &expected, sizeof expected) != 0) {
                fprintf(stderr, "another message than number %u\n", (unsigned)expected);
                return 1;
            }
            expected++;
        }
        if (result != IPC_WOULD_BLOCK) {
            fprintf(stderr, "ipc_recv_next: %s\n", ipc_last_error());
            return 1;
        }
    }
    TRY(ipc_send(connection, "and back", 8, PATIENCE));
    TRY(ipc_close(connection));
    TRY(ipc_listener_close(listener));
    return 0;
}

int main(void)
{
    char name[32];
    pid_t child;
    int status = 0;

    if (ipc_version() != (IPC_VERSION_MAJOR << 16 | IPC_VERSION_MINOR << 8 | IPC_VERSION_PATCH)) {
        fprintf(stderr, "header and library differ\n");
        return 1;
    }
    snprintf(name, sizeof name, "consumer-%ld", (long)getpid());
    child = fork();
    if (child == 0) {
        return client(name);
    }
    if (child < 0 || server(name) != 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "no message went there and back\n");
        return 1;
    }
    printf("libipc %s: there and back\n", ipc_version_text());
    return 0;
}
