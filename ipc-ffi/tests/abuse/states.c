/* Every function with a handle, in every state that its handle or its connection can be in; the results are those of the header. */
#include "abuse.h"
#include <sys/wait.h>
#include <unistd.h>

/* What calls are made with. */
struct things {
    ipc_connection *connection;
    ipc_listener *listener;
    ipc_held *held;
    ipc_loan *loan;
};

enum state {
    NULL_HANDLE,
    CLOSED, /* by this process */
    SHUT,   /* both halves were shut down */
    FORKED, /* in a forked child */
    DEAD,   /* the peer was killed, and this side knows */
    BROKEN, /* the peer broke the protocol, and this side knows */
    STATES,
};

static const char *const names[STATES] = {"null", "closed", "shut down", "forked", "a dead peer", "a broken protocol"};

struct row {
    const char *function;
    int (*call)(struct things *t);
    int results[STATES];
};

static char bytes[64];
static ipc_message message, messages[4];
static ipc_connection *other;
static ipc_held *kept;
static ipc_loan *lent;
static void *place;
static size_t count;
static uint64_t given_back;
static int fds[4], armed;
static ipc_peer who;
static ipc_send_status out_status;
static ipc_recv_status in_status;
static ipc_listener_status listener_status;

static int found(bool there)
{
    return there ? IPC_OK : NOTHING;
}

#define C t->connection
/* The functions: what each is called with. */
#define FUNCTIONS(DO)                                                                                                          \
    DO(ipc_batch_push, ipc_batch_push(C, "x", 1, 0))                                                                           \
    DO(ipc_batch_add, ipc_batch_add(C, "x", 1, 0))                                                                             \
    DO(ipc_batch_publish, ipc_batch_publish(C))                                                                                \
    DO(ipc_get_peer, ipc_get_peer(C, &who))                                                                                    \
    DO(ipc_hold, ipc_hold(C, &kept, &message))                                                                                 \
    DO(ipc_held_message, ipc_held_message(t->held, &message))                                                                  \
    DO(ipc_held_files, ipc_held_files(t->held, fds, 4, &count))                                                                \
    DO(ipc_accept, ipc_accept(t->listener, 0, &other))                                                                         \
    DO(ipc_listener_fd, found(ipc_listener_fd(t->listener) >= 0))                                                              \
    DO(ipc_listener_path, found(ipc_listener_path(t->listener) != NULL))                                                       \
    DO(ipc_listener_get_status, (listener_status.size = sizeof listener_status, ipc_listener_get_status(t->listener, &listener_status))) \
    DO(ipc_reserve, ipc_reserve(C, 1, 0, &place))                                                                              \
    DO(ipc_lend, ipc_lend(C, 1, 0, &place))                                                                                    \
    DO(ipc_commit, ipc_commit(C, 1))                                                                                           \
    DO(ipc_cancel, ipc_cancel(C))                                                                                              \
    DO(ipc_loan_detach, ipc_loan_detach(C, &lent))                                                                             \
    DO(ipc_loan_data, found(ipc_loan_data(t->loan, &count) != NULL))                                                           \
    DO(ipc_loan_send, ipc_loan_send(C, t->loan, 1, 0))                                                                         \
    DO(ipc_recv, ipc_recv(C, &message, SECOND))                                                                                \
    DO(ipc_recv_into, ipc_recv_into(C, bytes, sizeof bytes, &count, SECOND))                                                   \
    DO(ipc_recv_many, ipc_recv_many(C, messages, 4, &count, SECOND))                                                           \
    DO(ipc_recv_batch, ipc_recv_batch(C, 4, SECOND))                                                                           \
    DO(ipc_recv_batch_next, ipc_recv_batch_next(C, &message))                                                                  \
    DO(ipc_recv_next, ipc_recv_next(C, &message))                                                                              \
    DO(ipc_release, ipc_release(C))                                                                                            \
    DO(ipc_message_files, ipc_message_files(C, fds, 4, &count))                                                                \
    DO(ipc_set_route, ipc_set_route(C, IPC_ROUTE_COSTS, 0))                                                                    \
    DO(ipc_route_text, ipc_route_text(C, bytes, sizeof bytes, &count))                                                         \
    DO(ipc_send, ipc_send(C, "x", 1, 0))                                                                                       \
    DO(ipc_send_vectored, ipc_send_vectored(C, &(ipc_slice){"x", 1}, 1, 0))                                                    \
    DO(ipc_send_with_files, ipc_send_with_files(C, "x", 1, fds, 0, 0))                                                         \
    DO(ipc_send_many, ipc_send_many(C, &(ipc_slice){"x", 1}, 1, 0, &count))                                                    \
    DO(ipc_flush, ipc_flush(C))                                                                                                \
    DO(ipc_trim, ipc_trim(C, 0, &given_back))                                                                                  \
    DO(ipc_check_peer, ipc_check_peer(C))                                                                                      \
    DO(ipc_undelivered, ipc_undelivered(C, NULL, NULL, &count))                                                                \
    DO(ipc_get_send_status, (out_status.size = sizeof out_status, ipc_get_send_status(C, &out_status)))                        \
    DO(ipc_get_recv_status, (in_status.size = sizeof in_status, ipc_get_recv_status(C, &in_status)))                           \
    DO(ipc_recv_fd, found(ipc_recv_fd(C) >= 0))                                                                                \
    DO(ipc_recv_arm, ipc_recv_arm(C, &armed))                                                                                  \
    DO(ipc_send_fd, found(ipc_send_fd(C) >= 0))                                                                                \
    DO(ipc_send_arm, ipc_send_arm(C, &armed))                                                                                  \
    DO(ipc_set_wait, ipc_set_wait(C, IPC_WAIT_SLEEP, 0))                                                                       \
    DO(ipc_shutdown, ipc_shutdown(C, IPC_SENDING | IPC_RECEIVING))                                                             \
    DO(ipc_close, ipc_close(C))                                                                                                \
    DO(ipc_loan_drop, ipc_loan_drop(t->loan))                                                                                  \
    DO(ipc_held_drop, ipc_held_drop(t->held))                                                                                  \
    DO(ipc_listener_close, ipc_listener_close(t->listener))

#define CALL(function, call)                                                                                                   \
    static int call_##function(struct things *t)                                                                               \
    {                                                                                                                          \
        return call;                                                                                                           \
    }
FUNCTIONS(CALL)

#define INV IPC_INVALID
#define CLO IPC_CLOSED
#define FOR IPC_FORKED
#define DIS IPC_DISCONNECTED
#define DIED IPC_PEER_DIED
#define VIO IPC_VIOLATION
#define BUSY IPC_BUSY
#define BLOCK IPC_WOULD_BLOCK
#define NONE NOTHING
/* What each comes to with NULL, closed, shut down, in a forked child, with a dead peer, with a peer that broke the protocol. */
static const int results[][STATES] = {
    /* ipc_batch_push */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_batch_add */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_batch_publish: none is open */ {INV, CLO, CLO, 0, 0, 0},
    /* ipc_get_peer */ {INV, CLO, 0, 0, 0, 0},
    /* ipc_hold: nothing is read */ {INV, CLO, CLO, BUSY, BUSY, BUSY},
    /* ipc_held_message */ {INV, CLO, 0, 0, 0, 0},
    /* ipc_held_files */ {INV, CLO, 0, 0, 0, 0},
    /* ipc_accept */ {INV, CLO, BLOCK, FOR, BLOCK, BLOCK},
    /* ipc_listener_fd */ {NONE, NONE, 0, 0, 0, 0},
    /* ipc_listener_path */ {NONE, NONE, 0, 0, 0, 0},
    /* ipc_listener_get_status */ {INV, CLO, 0, 0, 0, 0},
    /* ipc_reserve */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_lend */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_commit: nothing is open */ {INV, CLO, CLO, BUSY, BUSY, BUSY},
    /* ipc_cancel */ {INV, CLO, CLO, 0, 0, 0},
    /* ipc_loan_detach: nothing is open */ {INV, CLO, CLO, BUSY, BUSY, BUSY},
    /* ipc_loan_data */ {NONE, NONE, 0, 0, 0, 0},
    /* ipc_loan_send */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_recv */ {INV, CLO, CLO, FOR, DIED, VIO},
    /* ipc_recv_into */ {INV, CLO, CLO, FOR, DIED, VIO},
    /* ipc_recv_many */ {INV, CLO, CLO, FOR, DIED, VIO},
    /* ipc_recv_batch */ {INV, CLO, CLO, FOR, DIED, VIO},
    /* ipc_recv_batch_next: none is open */ {INV, CLO, CLO, BUSY, BUSY, BUSY},
    /* ipc_recv_next */ {INV, CLO, CLO, BUSY, BUSY, BUSY},
    /* ipc_release */ {INV, CLO, CLO, 0, 0, 0},
    /* ipc_message_files: nothing is read */ {INV, CLO, CLO, BUSY, BUSY, BUSY},
    /* ipc_set_route */ {INV, CLO, CLO, 0, 0, 0},
    /* ipc_route_text */ {INV, CLO, CLO, 0, 0, 0},
    /* ipc_send */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_send_vectored */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_send_with_files */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_send_many */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_flush: nothing was put off */ {INV, CLO, CLO, FOR, 0, VIO},
    /* ipc_trim: waits for nobody */ {INV, CLO, CLO, FOR, 0, VIO},
    /* ipc_check_peer */ {INV, CLO, CLO, FOR, DIS, VIO},
    /* ipc_undelivered */ {INV, CLO, CLO, FOR, 0, VIO},
    /* ipc_get_send_status */ {INV, CLO, CLO, 0, 0, 0},
    /* ipc_get_recv_status */ {INV, CLO, CLO, 0, 0, 0},
    /* ipc_recv_fd */ {NONE, NONE, NONE, 0, 0, 0},
    /* ipc_recv_arm */ {INV, CLO, CLO, FOR, 0, VIO},
    /* ipc_send_fd */ {NONE, NONE, NONE, 0, 0, 0},
    /* ipc_send_arm */ {INV, CLO, CLO, FOR, 0, VIO},
    /* ipc_set_wait */ {INV, CLO, CLO, 0, 0, 0},
    /* ipc_shutdown */ {INV, CLO, 0, 0, 0, 0},
    /* ipc_close */ {INV, CLO, 0, 0, 0, 0},
    /* ipc_loan_drop */ {INV, CLO, 0, 0, 0, 0},
    /* ipc_held_drop */ {INV, CLO, 0, 0, 0, 0},
    /* ipc_listener_close */ {INV, CLO, 0, 0, 0, 0},
};

#define ROW(function, call) {#function, call_##function},
static const struct {
    const char *function;
    int (*call)(struct things *t);
} calls[] = {FUNCTIONS(ROW)};
#define CALLS (sizeof calls / sizeof *calls)
_Static_assert(sizeof results / sizeof *results == CALLS, "a row for each function");

void names_of_functions(void)
{
    for (size_t at = 0; at < CALLS; at++) puts(calls[at].function);
}

static void call_all(struct things *things, enum state state)
{
    int wrong = 0;
    for (size_t at = 0; at < CALLS; at++) {
        int result = calls[at].call(things);
        if (result != results[at][state]) {
            fprintf(stderr, "%s with %s came to %d, not to %d (%s): %s\n", calls[at].function, names[state], result,
                results[at][state], ipc_strerror(results[at][state]), ipc_last_error());
            wrong++;
        }
        if (state >= FORKED && strcmp(calls[at].function, "ipc_close") != 0 && at < CALLS - 4) {
            /* A call that succeeded where it should not must not be in the way of the next. */
            ipc_cancel(things->connection);
        }
    }
    if (wrong > 0) DIE("%d results are not as the header says", wrong);
}

static void in_state(enum state state)
{
    struct peer peer;
    struct things things = {0};
    size_t descriptors = open_descriptors();
    if (state == NULL_HANDLE) {
        call_all(&things, state);
        return;
    }
    things.connection = with_peer(&peer, NULL, NULL);
    things.held = held_message(things.connection, &peer, 100000);
    things.loan = detached_loan(things.connection, 100000);
    OK(ipc_listen(path_of("state"), NULL, &things.listener));
    switch (state) {
    case CLOSED: {
        OK(ipc_close(things.connection));
        OK(ipc_held_drop(things.held));
        OK(ipc_loan_drop(things.loan));
        OK(ipc_listener_close(things.listener));
        break;
    }
    case SHUT:
        OK(ipc_shutdown(things.connection, IPC_SENDING | IPC_RECEIVING));
        break;
    case FORKED: {
        int status;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            call_all(&things, state);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child);
        if (status != 0) DIE("the child ended with %#x", (unsigned)status);
        /* The child did nothing to what is its parent's. */
        OK(ipc_send(things.connection, "still", 5, 0));
        CHECK(tell(&peer, RECEIVE, 0) == 5);
        OK(ipc_loan_send(things.connection, things.loan, 10, 0));
        CHECK(tell(&peer, RECEIVE, 0) == 10);
        OK(ipc_held_message(things.held, &message));
        CHECK(message.len == 100000 && ((const unsigned char *)message.data)[99999] == 100000 % 251);
        OK(ipc_close(things.connection));
        OK(ipc_held_drop(things.held));
        OK(ipc_listener_close(things.listener));
        break;
    }
    case DEAD:
        OK(ipc_send(things.connection, "lost", 4, 0));
        kill_peer(&peer);
        IS(IPC_DISCONNECTED, ipc_check_peer(things.connection));
        SAYS("1 messages");
        IS(IPC_PEER_DIED, ipc_recv(things.connection, &message, 20 * SECOND));
        CHECK(message.data == NULL && message.len == 0);
        break;
    default:
        CHECK(tell(&peer, BREAK, 0) > 0);
        IS(IPC_VIOLATION, ipc_recv(things.connection, &message, 20 * SECOND));
    }
    if (state != FORKED) call_all(&things, state);
    if (state != DEAD) kill_peer(&peer);
    CHECK(segments() == 0);
    CHECK(open_descriptors() <= descriptors + 1);
}

void every_function_in_every_state(void)
{
    for (enum state state = NULL_HANDLE; state < STATES; state++) in_state(state);
}
