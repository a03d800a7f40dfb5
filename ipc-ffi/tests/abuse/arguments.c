/* Arguments that are null, odd, or out of range; the state of a connection does not matter. */
#include "abuse.h"
#include <limits.h>
#include <math.h>

/* Each pointer that must not be null, one at a time; and those that may be. */
void null_pointers(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL), *other = (void *)1;
    ipc_held *held = held_message(c, &peer, 100000);
    ipc_loan *loan = detached_loan(c, 1000);
    ipc_listener *listener, *none = (void *)1;
    ipc_message message;
    ipc_slice slice = {"x", 1}, bad = {NULL, 1};
    size_t count = 7;
    uint64_t threshold;
    void *place = (void *)1;
    OK(ipc_listen(path_of("null"), NULL, &listener));
    IS(IPC_INVALID, ipc_options_init(NULL, sizeof(ipc_options)));
    SAYS("options is null");
    IS(IPC_INVALID, ipc_connect(NULL, NULL, &other));
    SAYS("name is null");
    CHECK(other == NULL);
    IS(IPC_INVALID, ipc_connect("name", NULL, NULL));
    IS(IPC_INVALID, ipc_listen(NULL, NULL, &none));
    CHECK(none == NULL);
    IS(IPC_INVALID, ipc_listen("name", NULL, NULL));
    IS(IPC_INVALID, ipc_accept(listener, 0, NULL));
    other = (void *)1;
    IS(IPC_INVALID, ipc_accept(NULL, 0, &other));
    CHECK(other == NULL);
    IS(IPC_INVALID, ipc_listener_get_status(listener, NULL));
    IS(IPC_INVALID, ipc_get_peer(c, NULL));
    IS(IPC_INVALID, ipc_get_cost(IPC_MODE_AUTO, IPC_LANE_ARENA, NULL));
    IS(IPC_INVALID, ipc_crossover(1, 1, 1, 1, 1, NULL));
    IS(IPC_INVALID, ipc_send(c, NULL, 1, 0));
    IS(IPC_INVALID, ipc_send_vectored(c, NULL, 1, 0));
    IS(IPC_INVALID, ipc_send_vectored(c, &bad, 1, 0));
    IS(IPC_INVALID, ipc_send_with_files(c, NULL, 1, NULL, 0, 0));
    IS(IPC_INVALID, ipc_send_with_files(c, "x", 1, NULL, 1, 0));
    IS(IPC_INVALID, ipc_send_many(c, NULL, 1, 0, &count));
    CHECK(count == 0);
    IS(IPC_INVALID, ipc_send_many(c, (ipc_slice[]){slice, bad, slice}, 3, 0, &count));
    CHECK(count == 1 && tell(&peer, RECEIVE, 0) == 1);
    IS(IPC_INVALID, ipc_batch_push(c, NULL, 1, 0));
    /* That one opened nothing. */
    OK(ipc_send(c, "x", 1, 0));
    CHECK(tell(&peer, RECEIVE, 0) == 1);
    IS(IPC_INVALID, ipc_reserve(c, 1, 0, NULL));
    IS(IPC_INVALID, ipc_lend(c, 1, 0, NULL));
    IS(IPC_INVALID, ipc_reserve(NULL, 1, 0, &place));
    CHECK(place == NULL);
    OK(ipc_lend(c, 1, 0, &place));
    IS(IPC_INVALID, ipc_loan_detach(c, NULL));
    OK(ipc_cancel(c));
    IS(IPC_INVALID, ipc_loan_send(c, NULL, 1, 0));
    IS(IPC_INVALID, ipc_loan_send(NULL, loan, 1, 0));
    IS(IPC_INVALID, ipc_route_text(c, NULL, 1, &count));
    OK(ipc_route_text(c, NULL, 0, &count));
    CHECK(count > 0);
    IS(IPC_INVALID, ipc_get_send_status(c, NULL));
    IS(IPC_INVALID, ipc_get_recv_status(c, NULL));
    IS(IPC_INVALID, ipc_send_arm(c, NULL));
    IS(IPC_INVALID, ipc_recv_arm(c, NULL));
    IS(IPC_INVALID, ipc_recv(c, NULL, 0));
    IS(IPC_INVALID, ipc_recv_into(c, NULL, 1, &count, 0));
    IS(IPC_INVALID, ipc_recv_many(c, NULL, 1, &count, 0));
    CHECK(count == 0);
    IS(IPC_INVALID, ipc_recv_many(c, &message, 0, &count, 0));
    SAYS("capacity is 0");
    IS(IPC_INVALID, ipc_recv_many(c, &message, 1, NULL, 0));
    tell(&peer, SEND, 10);
    OK(ipc_recv(c, &message, SECOND));
    IS(IPC_INVALID, ipc_hold(c, NULL, &message));
    IS(IPC_INVALID, ipc_message_files(c, NULL, 1, &count));
    int fd;
    IS(IPC_INVALID, ipc_message_files(c, &fd, 1, NULL));
    /* It is still being read. */
    CHECK(((const unsigned char *)message.data)[9] == 10);
    IS(IPC_INVALID, ipc_held_message(held, NULL));
    IS(IPC_INVALID, ipc_held_files(held, NULL, 1, &count));
    IS(IPC_INVALID, ipc_held_files(held, &fd, 1, NULL));
    /* These may be. */
    OK(ipc_send(c, NULL, 0, 0));
    OK(ipc_send_vectored(c, NULL, 0, 0));
    OK(ipc_send_vectored(c, &(ipc_slice){NULL, 0}, 1, 0));
    OK(ipc_send_many(c, NULL, 0, 0, NULL));
    OK(ipc_send_with_files(c, NULL, 0, NULL, 0, 0));
    OK(ipc_batch_push(c, NULL, 0, 0));
    OK(ipc_batch_publish(c));
    OK(ipc_trim(c, UINT64_MAX, NULL));
    OK(ipc_undelivered(c, NULL, NULL, NULL));
    CHECK(ipc_loan_data(loan, NULL) != NULL);
    for (int each = 0; each < 5; each++) CHECK(tell(&peer, RECEIVE, 0) == 0);
    tell(&peer, SEND, 0);
    OK(ipc_recv_into(c, NULL, 0, NULL, SECOND));
    ipc_set_log(NULL, NULL, 0);
    CHECK(ipc_strerror(-1) != NULL && ipc_strerror(INT_MAX) != NULL && ipc_strerror(INT_MIN) != NULL);
    CHECK(ipc_version() == (IPC_VERSION_MAJOR << 16 | IPC_VERSION_MINOR << 8 | IPC_VERSION_PATCH));
    CHECK(strcmp(ipc_version_text(), "0.1.0") == 0);
    OK(ipc_crossover(100, 1, 200, 0.5, 16, &threshold));
    CHECK(threshold == (uint64_t)((200 + 1 * 16) / (1 - 0.5)));
    OK(ipc_crossover(100, 0.5, 200, 1, 16, &threshold));
    CHECK(threshold == UINT64_MAX);
    IS(IPC_INVALID, ipc_crossover(-1, 1, 1, 1, 1, &threshold));
    IS(IPC_INVALID, ipc_crossover(1, (double)NAN, 1, 1, 1, &threshold));
    IS(IPC_INVALID, ipc_crossover(1, 1, (double)INFINITY, 1, 1, &threshold));
    ipc_result measured = ipc_calibrate();
    CHECK(measured == IPC_OK || measured == IPC_WOULD_BLOCK);
    OK(ipc_loan_drop(loan));
    OK(ipc_held_drop(held));
    OK(ipc_listener_close(listener));
    OK(ipc_close(c));
    kill_peer(&peer);
}

/* Pointers whose addresses no value of their type can have. The bytes around them must not change. */
void odd_pointers(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL);
    static _Alignas(64) unsigned char bytes[1024], as_before[1024];
    void *odd = bytes + 1;
    size_t size = sizeof(ipc_options);
    ipc_message message;
    size_t count;
    ipc_connection *other;
    memset(bytes, 0x55, sizeof bytes);
    memcpy(as_before, bytes, sizeof bytes);
    IS(IPC_INVALID, ipc_recv(c, odd, 0));
    IS(IPC_INVALID, ipc_recv_many(c, odd, 2, &count, 0));
    IS(IPC_INVALID, ipc_recv_many(c, &message, 1, odd, 0));
    IS(IPC_INVALID, ipc_recv_arm(c, odd));
    IS(IPC_INVALID, ipc_send_arm(c, odd));
    IS(IPC_INVALID, ipc_send_vectored(c, odd, 1, 0));
    IS(IPC_INVALID, ipc_send_many(c, odd, 1, 0, NULL));
    IS(IPC_INVALID, ipc_send_with_files(c, "x", 1, odd, 1, 0));
    IS(IPC_INVALID, ipc_reserve(c, 1, 0, odd));
    IS(IPC_INVALID, ipc_lend(c, 1, 0, odd));
    IS(IPC_INVALID, ipc_get_peer(c, odd));
    IS(IPC_INVALID, ipc_connect("nobody", NULL, odd));
    IS(IPC_INVALID, ipc_listen("nobody", NULL, odd));
    IS(IPC_INVALID, ipc_crossover(1, 1, 1, 1, 1, odd));
    IS(IPC_INVALID, ipc_options_init(odd, size));
    SAYS("suit");
    CHECK(memcmp(bytes, as_before, sizeof bytes) == 0);
    /* Sizes that would be right. */
    for (size_t at = 0; at < 2; at++) {
        size_t sizes[] = {sizeof(ipc_send_status), sizeof(ipc_options)};
        memset(bytes, 0, sizeof bytes);
        memcpy(odd, &sizes[at], sizeof(size_t));
        if (at == 0) {
            IS(IPC_INVALID, ipc_get_send_status(c, odd));
        } else {
            IS(IPC_INVALID, ipc_connect("nobody", odd, &other));
            IS(IPC_INVALID, ipc_listen("nobody", odd, (ipc_listener **)&other));
        }
    }
    /* More than there can be. */
    IS(IPC_INVALID, ipc_send(c, bytes, SIZE_MAX, 0));
    IS(IPC_INVALID, ipc_send_vectored(c, (const ipc_slice *)bytes, SIZE_MAX / 4, 0));
    IS(IPC_INVALID, ipc_recv_into(c, bytes, SIZE_MAX, &count, 0));
    IS(IPC_INVALID, ipc_recv_many(c, (ipc_message *)bytes, SIZE_MAX / 8, &count, 0));
    IS(IPC_INVALID, ipc_send_with_files(c, "x", 1, (int[]){-1}, 1, 0));
    IS(IPC_INVALID, ipc_shutdown(c, 0));
    IS(IPC_INVALID, ipc_shutdown(c, 4));
    IS(IPC_INVALID, ipc_shutdown(c, UINT32_MAX));
    IS(IPC_INVALID, ipc_set_wait(c, 4, 0));
    IS(IPC_INVALID, ipc_set_route(c, 3, 0));
    IS(IPC_INVALID, ipc_set_route(c, IPC_ROUTE_LANE, 0));
    IS(IPC_INVALID, ipc_set_route(c, IPC_ROUTE_LANE, 5));
    IS(IPC_INVALID, ipc_set_route(c, IPC_ROUTE_LANE, UINT64_MAX));
    OK(ipc_set_route(c, IPC_ROUTE_THRESHOLD, UINT64_MAX));
    OK(ipc_set_route(c, IPC_ROUTE_THRESHOLD, 0));
    OK(ipc_set_route(c, IPC_ROUTE_COSTS, 99));
    /* What was refused left the connection as it was. */
    ask(&peer, ECHO, 1);
    OK(ipc_send(c, "hello", 5, SECOND));
    OK(ipc_recv(c, &message, SECOND));
    CHECK(message.len == 5);
    answer(&peer);
    OK(ipc_close(c));
    kill_peer(&peer);
}

/* Structures that say how large they are. */
void sizes_of_structures(void)
{
    struct peer peer;
    ipc_connection *c = with_peer(&peer, NULL, NULL), *other;
    ipc_listener *listener;
    static struct {
        ipc_options known;
        unsigned char more[64];
    } options;
    static struct {
        ipc_send_status known;
        unsigned char more[64];
    } status;
    ipc_cost cost;
    for (size_t size = 0; size < sizeof(ipc_options); size += 8) {
        IS(IPC_INVALID, ipc_options_init(&options.known, size));
    }
    IS(IPC_INVALID, ipc_options_init(&options.known, 4097));
    IS(IPC_INVALID, ipc_options_init(&options.known, SIZE_MAX));
    SAYS("18446744073709551615");
    /* A program of a later version: what it does not use is zero. */
    memset(&options, 0xff, sizeof options);
    OK(ipc_options_init(&options.known, sizeof options));
    CHECK(options.known.size == sizeof options && options.more[63] == 0);
    OK(ipc_listen(path_of("sizes"), &options.known, &listener));
    OK(ipc_listener_close(listener));
    options.more[13] = 1;
    IS(IPC_INVALID, ipc_listen(path_of("sizes"), &options.known, &listener));
    char words[64];
    snprintf(words, sizeof words, "byte %zu ", sizeof(ipc_options) + 13);
    SAYS(words);
    CHECK(listener == NULL);
    IS(IPC_INVALID, ipc_connect(path_of("sizes"), &options.known, &other));
    options.known.size = sizeof(ipc_options) - 1;
    IS(IPC_INVALID, ipc_connect(path_of("sizes"), &options.known, &other));
    options.known.size = 0;
    IS(IPC_INVALID, ipc_connect(path_of("sizes"), &options.known, &other));
    options.known.size = 5000;
    IS(IPC_INVALID, ipc_connect(path_of("sizes"), &options.known, &other));
    SAYS("5000");
    for (size_t size = 0; size < sizeof(ipc_send_status); size += 8) {
        status.known.size = size;
        IS(IPC_INVALID, ipc_get_send_status(c, &status.known));
    }
    memset(&status, 0xff, sizeof status);
    status.known.size = sizeof status;
    OK(ipc_get_send_status(c, &status.known));
    CHECK(status.known.size == sizeof status && status.more[0] == 0 && status.more[63] == 0 && status.known.sent == 0);
    memset(&cost, 0, sizeof cost);
    IS(IPC_INVALID, ipc_get_cost(IPC_MODE_AUTO, IPC_LANE_INLINE, &cost));
    for (uint32_t lane = 0; lane < 7; lane++) {
        for (uint32_t mode = 0; mode < 7; mode++) {
            cost.size = sizeof cost;
            ipc_result result = ipc_get_cost(mode, lane, &cost);
            if (lane < IPC_LANE_KERNEL || lane > IPC_LANE_FILE || mode > IPC_MODE_AUTO) CHECK(result == IPC_INVALID);
            else if (result == IPC_OK) CHECK(cost.fixed_ns >= 0 && cost.per_byte_ns >= 0 && cost.origin <= IPC_COSTS_FULL);
            else CHECK(result == IPC_NO_LANE);
        }
    }
    OK(ipc_close(c));
    kill_peer(&peer);
}

static void refused(const char *words, bool listens, ipc_options options)
{
    fprintf(stderr, "%s, %s\n", words, listens ? "to listen" : "to connect");
    ipc_connection *connection = (void *)1;
    ipc_listener *listener = (void *)1;
    if (listens) {
        IS(IPC_INVALID, ipc_listen(path_of("range"), &options, &listener));
        CHECK(listener == NULL);
    } else {
        IS(IPC_INVALID, ipc_connect(path_of("range"), &options, &connection));
        CHECK(connection == NULL);
    }
    SAYS(words);
}

#define WITH(change) (options = plain_options(), change, options)
/* Fields out of range, and fields that mean nothing for the call: a word of the error names each. */
void options_out_of_range(void)
{
    ipc_options options;
    uint32_t users[1] = {0};
    ipc_listener *listener;
    ipc_connection *connection;
    for (int listens = 0; listens < 2; listens++) {
        refused("mode is 5", listens, WITH(options.mode = 5));
        refused("wait is 4", listens, WITH(options.wait = 4));
        refused("0x80", listens, WITH(options.flags = 128));
        refused("0x80000000", listens, WITH(options.flags = 0x80000000));
        refused("users is null", listens, WITH(options.user_count = 1));
        refused("a count", listens, WITH((options.users = users, options.user_count = SIZE_MAX)));
        refused("payload_align is 3", listens, WITH((options.payload_name = "t", options.payload_align = 3)));
        refused("payload_align is 0", listens, WITH(options.payload_name = "t"));
        refused("payload_name", listens, WITH(options.payload_size = 8));
        refused("payload_name", listens, WITH(options.payload_align = 8));
        refused("65", listens, WITH((options.payload_align = 8,
            options.payload_name = "a123456789b123456789c123456789d123456789e123456789f123456789g1234")));
        refused("5000", listens, WITH((options.ring_to_server = 5000, options.ring_to_client = 5000)));
        refused("2147483648", listens, WITH((options.ring_to_server = 1u << 31, options.ring_to_client = 4096)));
        refused("coalesce", listens, WITH(options.coalesce_messages = 4));
        refused("coalesce", listens, WITH(options.coalesce_ns = 1000));
        refused("users", listens, WITH((options.flags = IPC_ANYONE, options.users = users, options.user_count = 1)));
        refused("users", listens, WITH(options.users = users));
        refused("credit_arena", listens, WITH((options.flags = IPC_NO_ARENA, options.credit_arena = 1)));
    }
    refused("timeout_ns", true, WITH(options.timeout_ns = -1));
    refused("IPC_WAIT_FOR_LISTENER", true, WITH(options.flags = IPC_WAIT_FOR_LISTENER));
    refused("10000", true, WITH(options.permissions = 010000));
    refused("permissions", false, WITH(options.permissions = 0600));
    refused("max_connections", false, WITH(options.max_connections = 1));
    /* Set both or none. */
    refused("0", false, WITH(options.ring_to_server = 4096));
    refused("0", false, WITH(options.ring_to_client = 4096));
    /* As much as can be said is no error. */
    options = plain_options();
    options.spin_ns = options.max_connections = options.max_memory = UINT64_MAX;
    options.credit_messages = options.credit_arena = options.credit_message = UINT64_MAX;
    options.coalesce_messages = options.coalesce_ns = UINT64_MAX;
    options.timeout_ns = INT64_MAX;
    OK(ipc_listen(path_of("most"), &options, &listener));
    OK(ipc_listener_close(listener));
    /* Names. */
    IS(IPC_BAD_ADDRESS, ipc_listen("", NULL, &listener));
    IS(IPC_BAD_ADDRESS, ipc_listen("no/path", NULL, &listener));
    IS(IPC_BAD_ADDRESS, ipc_listen("/", NULL, &listener));
    IS(IPC_BAD_ADDRESS, ipc_connect("\xff\xfe", NULL, &connection));
    IS(IPC_BAD_ADDRESS, ipc_listen("/dev/null", NULL, &listener));
    SAYS("/dev/null");
    IS(IPC_BAD_ADDRESS, ipc_connect("a123456789b123456789c123456789d123456789e123456789f123456789g1234", NULL, &connection));
    SAYS("64");
    IS(IPC_NOT_FOUND, ipc_connect(path_of("nobody"), NULL, &connection));
    OK(ipc_listen(path_of("twice"), NULL, &listener));
    ipc_listener *second = (void *)1;
    IS(IPC_ADDRESS_IN_USE, ipc_listen(path_of("twice"), NULL, &second));
    CHECK(second == NULL);
    OK(ipc_listener_close(listener));
    IS(IPC_SYSTEM, ipc_listen("/proc/ipc-cannot-be-here", NULL, &listener));
    CHECK(ipc_last_errno() != 0);
}
