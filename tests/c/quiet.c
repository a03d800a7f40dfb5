/* Does nothing, or the same thing over and over, while the kernel counts. As tests/src/roles/quiet.rs. */
#include "role.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Blocks in one call until the other side goes. */
void play_blocked(void)
{
    const char *call = text("call");
    static const char block[512];
    ipc_message messages[8];
    size_t count;
    ipc_connection *connection;
    ipc_result result;
    if (strcmp(call, "accept") == 0) {
        ipc_listener *listener;
        OK(ipc_listen(text("path"), NULL, &listener));
        say("blocking");
        OK(ipc_accept(listener, IPC_FOREVER, &connection));
        OK(ipc_close(connection));
        OK(ipc_listener_close(listener));
        say("released");
        return;
    }
    connection = connection_of_settings();
    if (strncmp(call, "send", 4) == 0) {
        while (ipc_send(connection, block, sizeof block, 0) == IPC_OK) {}
    }
    say("blocking");
    if (strcmp(call, "recv") == 0) result = ipc_recv(connection, messages, IPC_FOREVER);
    else if (strcmp(call, "recv_batch") == 0) result = ipc_recv_many(connection, messages, 8, &count, IPC_FOREVER);
    else if (strcmp(call, "recv_timeout") == 0) result = ipc_recv(connection, messages, 100 * SECOND);
    else if (strcmp(call, "send") == 0) result = ipc_send(connection, block, sizeof block, IPC_FOREVER);
    else if (strcmp(call, "send_timeout") == 0) result = ipc_send(connection, block, sizeof block, 100 * SECOND);
    else DIE("there is no call %s", call);
    CHECK(result == IPC_DISCONNECTED || result == IPC_PEER_DIED);
    OK(ipc_close(connection));
    say("released");
}

/* Words of the log: where the test says that it is enough, turns that are done, and the last one once it is known. */
enum { STOP = 0, TURNS = 1, LAST_TURN = 2 };

#ifndef COUNT_NO_ALLOCATIONS
static _Atomic uint64_t allocations;
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t align, size_t size);

/* The system's allocator, with a count of what it is asked; the library's calls come here too. */
void *malloc(size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(old, size);
}

int posix_memalign(void **target, size_t align, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    *target = __libc_memalign(align, size);
    return *target == NULL ? 12 : 0;
}
#else
static uint64_t allocations;
#endif

static bool any_length;

static size_t len_of(uint64_t turn)
{
    return any_length ? turn * 13 % 250 : 241 + turn % 8;
}

static void send_one(ipc_connection *connection, uint64_t turn, const void *data, size_t len)
{
    void *place;
    switch (turn % 5) {
    case 0:
        OK(ipc_send(connection, data, len, IPC_FOREVER));
        break;
    case 1:
        OK(ipc_send(connection, data, len, 0));
        break;
    case 2:
        OK(ipc_reserve(connection, len, IPC_FOREVER, &place));
        memcpy(place, data, len);
        OK(ipc_commit(connection, len));
        break;
    case 3:
        OK(ipc_send_many(connection, &(ipc_slice){data, len}, 1, IPC_FOREVER, NULL));
        break;
    default:
        OK(ipc_batch_push(connection, data, len, IPC_FOREVER));
        OK(ipc_batch_publish(connection));
    }
}

static void receive_one(ipc_connection *connection, uint64_t turn, unsigned char buffer[256])
{
    ipc_message message;
    size_t len, count;
    /* Polled here and not by the library: that would ask the kernel whether the peer lives if it took long. */
    while (recv_status(connection).waiting == 0) {}
    if (turn % 3 == 0) {
        OK(ipc_recv_into(connection, buffer, 256, &len, IPC_FOREVER));
    } else {
        if (turn % 3 == 1) OK(ipc_recv(connection, &message, SECOND));
        else OK(ipc_recv_many(connection, &message, 1, &count, 0));
        len = message.len;
        memcpy(buffer, message.data, len);
        OK(ipc_release(connection));
    }
    CHECK(len == len_of(turn));
}

static void exchange(ipc_connection *connection, uint64_t turn, bool begins, unsigned char buffer[256])
{
    if (begins) send_one(connection, turn, buffer, len_of(turn));
    receive_one(connection, turn, buffer);
    if (!begins) send_one(connection, turn, buffer, len_of(turn));
}

/* From here on every system call but getrusage and exit_group kills the process. */
static void forbid_system_calls(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getrusage, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

/* Exchanges messages under a filter that kills the process at its first system call, and counts page faults and allocations. */
void play_steady(void)
{
    ipc_connection *connection = connection_of_settings();
    _Atomic uint64_t *log = log_open();
    bool begins = flag("begins", false);
    unsigned char buffer[256];
    uint64_t turn;
    any_length = flag("any", false);
    memset(buffer, 7, sizeof buffer);
    for (turn = 0; turn < 2000; turn++) exchange(connection, turn, begins, buffer);
    if (flag("filter", true)) forbid_system_calls();
    uint64_t faults = page_faults(), allocated = allocations;
    for (turn = 1; atomic_load(&log[LAST_TURN]) != turn; turn++) {
        /* The side that begins says which turn is the last before it begins it, so that both sides stop there. */
        if (begins && atomic_load(&log[STOP]) != 0 && atomic_load(&log[LAST_TURN]) == 0) {
            atomic_store(&log[LAST_TURN], turn + 1);
        }
        if (begins) atomic_store(&log[TURNS], turn);
        exchange(connection, turn, begins, buffer);
    }
    size_t results = begins ? 8 : 16;
    atomic_store(&log[results + 1], page_faults() - faults);
    atomic_store(&log[results + 2], allocations - allocated);
    atomic_store(&log[results], turn);
    /* At once: everything else would be a system call. */
    _exit(0);
}
