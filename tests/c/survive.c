/* Survives victims that are killed in mid-stream. As tests/src/roles/kill.rs and lanes_kill.rs. */
#include "role.h"
#include <sys/stat.h>
#include <unistd.h>

/* One round: the connection, its victim and what it was told to do. */
struct round {
    ipc_connection *connection;
    struct killer *killer;
    struct random *random;
    _Atomic uint64_t *log;
    uint64_t seed, messages, taken_back;
    int64_t slowest;
    bool says_late;
};

/* The victim's death is known now; that takes milliseconds, and this long means that the survivor hangs. */
static void known(struct round *round, int64_t hangs)
{
    int64_t took = killer_since_death(round->killer);
    if (took > hangs) DIE("it took %lld ns to know of the death", (long long)took);
    if (took > round->slowest) round->slowest = took;
}

static void in_bounds(const struct round *round, uint64_t count)
{
    uint64_t least = round->says_late ? 0 : atomic_load(&round->log[LOG_AT_LEAST]);
    uint64_t most = atomic_load(&round->log[LOG_AT_MOST]);
    if (count < least || count > most) {
        DIE("seed %llu: %llu messages; the log says %llu to %llu", (unsigned long long)round->seed,
            (unsigned long long)count, (unsigned long long)least, (unsigned long long)most);
    }
}


/* What was sent arrives, then the news. */
static void from_sender(struct round *round)
{
    struct stream stream = {round->seed, send_status(round->connection).max_reservation};
    uint64_t at = 0, way = below(round->random, 3);
    ipc_message messages[16];
    ipc_result result;
    for (;;) {
        size_t count = 1;
        if (way == 0) result = ipc_recv(round->connection, messages, IPC_FOREVER);
        else if (way == 1) result = ipc_recv_many(round->connection, messages, 16, &count, IPC_FOREVER);
        else result = ipc_recv(round->connection, messages, 0);
        if (result == IPC_WOULD_BLOCK && way == 2) continue;
        if (result != IPC_OK) break;
        for (size_t each = 0; each < count; each++) {
            stream_check(&stream, at++, messages[each].data, messages[each].len);
        }
    }
    IS(IPC_PEER_DIED, result);
    CHECK(recv_status(round->connection).received == at);
    known(round, SECOND);
    IS(IPC_PEER_DIED, ipc_recv(round->connection, messages, IPC_FOREVER));
    in_bounds(round, at);
    round->messages += at;
}

/* Checks what is taken back. */
struct taken {
    const struct stream *stream;
    const struct mix *mix;
    uint64_t next;
};

static void take_back(void *user_data, const void *data, size_t len)
{
    struct taken *taken = user_data;
    if (taken->stream != NULL) stream_check(taken->stream, taken->next++, data, len);
    else mix_check(taken->mix, taken->next++, data, len);
}

/* What the victim did not consume can be taken back, whole and in order. */
static void take_all_back(struct round *round, uint64_t sent, const struct stream *stream, const struct mix *mix)
{
    size_t undelivered, again;
    char numbers[32];
    IS(IPC_DISCONNECTED, ipc_send(round->connection, "x", 1, IPC_FOREVER));
    OK(ipc_undelivered(round->connection, NULL, NULL, &undelivered));
    CHECK(undelivered <= sent);
    /* The words of the error have the number. */
    snprintf(numbers, sizeof numbers, " %zu messages", undelivered);
    CHECK(strstr(ipc_last_error(), numbers) != NULL);
    in_bounds(round, sent - undelivered);
    struct taken taken = {stream, mix, sent - undelivered};
    OK(ipc_undelivered(round->connection, take_back, &taken, &again));
    CHECK(again == undelivered && taken.next == sent);
    IS(IPC_DISCONNECTED, ipc_check_peer(round->connection));
    round->messages += sent;
    round->taken_back += undelivered;
}

static void from_receiver(struct round *round)
{
    struct stream stream = {round->seed, send_status(round->connection).max_reservation};
    struct bytes message = {0};
    uint64_t at = 0, way = below(round->random, 3);
    ipc_result result;
    for (;; at++) {
        void *place;
        stream_write(&stream, at, &message);
        if (way == 0) {
            result = ipc_send(round->connection, message.data, message.len, IPC_FOREVER);
        } else if (way == 1) {
            result = ipc_reserve(round->connection, message.len, IPC_FOREVER, &place);
            if (result == IPC_OK) {
                memcpy(place, message.data, message.len);
                OK(ipc_commit(round->connection, message.len));
            }
        } else {
            do result = ipc_send(round->connection, message.data, message.len, 0);
            while (result == IPC_WOULD_BLOCK);
        }
        if (result != IPC_OK) break;
    }
    IS(IPC_DISCONNECTED, result);
    known(round, SECOND);
    CHECK(send_status(round->connection).sent == at);
    take_all_back(round, at, &stream, NULL);
    bytes_free(&message);
}

static void lanes_from_sender(struct round *round)
{
    static struct incoming in;
    ipc_message message;
    ipc_result result;
    bytes_free(&in.buffer);
    in = (struct incoming){.connection = round->connection};
    in.mix = (struct mix){round->seed, send_status(round->connection).max_reservation, LONGEST};
    in.random.state = next_u64(round->random);
    do result = incoming_step(&in, UINT64_MAX);
    while (result == IPC_OK);
    IS(IPC_PEER_DIED, result);
    CHECK(recv_status(round->connection).received == in.number);
    known(round, 5 * SECOND);
    /* What is held outlives its sender; it is checked as it goes. */
    incoming_let_all_go(&in);
    IS(IPC_PEER_DIED, ipc_recv(round->connection, &message, IPC_FOREVER));
    IS(IPC_PEER_DIED, ipc_recv_into(round->connection, NULL, 0, NULL, IPC_FOREVER));
    in_bounds(round, in.number);
    round->messages += in.number;
}

static void lanes_from_receiver(struct round *round)
{
    struct mix mix = {round->seed, send_status(round->connection).max_reservation, LONGEST};
    struct outgoing out = {round->connection, mix, {next_u64(round->random)}, 0, UINT64_MAX, NULL, {0}};
    ipc_result result;
    do result = outgoing_step(&out);
    while (result == IPC_OK);
    IS(IPC_DISCONNECTED, result);
    known(round, 5 * SECOND);
    take_all_back(round, send_status(round->connection).sent, NULL, &mix);
    bytes_free(&out.message);
}

static char words[8][512];

static char *word(size_t at, const char *key, const char *value)
{
    snprintf(words[at], sizeof words[at], "%s=%s", key, value);
    return words[at];
}

static char *word_of(size_t at, const char *key, uint64_t value)
{
    snprintf(words[at], sizeof words[at], "%s=%llu", key, (unsigned long long)value);
    return words[at];
}

/* Runs all rounds; nothing may stay behind. */
static void survive(const char *victim, bool lanes, void (*play)(struct round *round))
{
    static const uint32_t waits[] = {IPC_WAIT_ADAPTIVE, IPC_WAIT_SLEEP, IPC_WAIT_BUSY};
    uint64_t rounds = number("rounds", 0), early_deaths = 0;
    struct random random = {number("seed", 1)};
    bool listens = lanes || flag("listen", true);
    const char *mode = text_or("mode", "auto");
    struct round round = {.random = &random, .log = log_open()};
    size_t descriptors = 0;
    uint64_t memory = shared_memory();
    ipc_listener *listener = NULL;
    ipc_options options;
    OK(ipc_options_init(&options, sizeof options));
    if (listens) {
        options.ring_to_server = 16 << 10;
        options.credit_arena = lanes ? 32 << 20 : 0;
        options.max_connections = lanes ? 0 : 2;
        options.max_memory = lanes ? 0 : 1 << 20;
        OK(ipc_listen(text("path"), &options, &listener));
    } else {
        options.flags = IPC_WAIT_FOR_LISTENER;
        options.timeout_ns = SECOND / 2;
    }
    round.says_late = lanes && (strcmp(mode, "kernel") == 0 || strcmp(mode, "hybrid") == 0)
        && play == lanes_from_receiver;
    for (uint64_t at = 0; at < rounds; at++) {
        uint64_t doing = at % 5;
        bool early = !lanes && at % 8 == 7;
        log_about_to(round.log, 0);
        log_has(round.log, 0);
        round.seed = lanes ? next_u64(&random) : at;
        char *arguments[] = {
            word(0, "path", text("path")), word(1, "log", text("log")), word(2, "mode", mode),
            word_of(3, "seed", round.seed), word_of(4, "doing", doing), word(5, "listen", listens ? "false" : "true"),
            word_of(6, "capacity", 16384), word_of(7, "arena", 24 << 20),
        };
        round.killer = killer_new(victim, arguments, lanes ? 8 : 7);
        /* One round in eight: the victim dies around the handshake. */
        if (early) killer_after(round.killer, (int64_t)below(&random, 5000) * 1000);
        ipc_result result = listens ? ipc_accept(listener, (lanes ? 20 : 1) * SECOND, &round.connection)
                                    : ipc_connect(text("path"), &options, &round.connection);
        if (result == IPC_OK) {
            uint64_t most = lanes ? (uint64_t[]){2000, 12000, 60000}[below(&random, 3)] : doing == 4 ? 20000 : 3000;
            if (!early) killer_after(round.killer, (int64_t)below(&random, most) * 1000);
            OK(ipc_set_wait(round.connection, waits[below(&random, lanes ? 2 : 3)], 0));
            play(&round);
            OK(ipc_close(round.connection));
        } else {
            if (!early) DIE("round %llu: no connection: %s", (unsigned long long)at, ipc_last_error());
            early_deaths++;
        }
        killer_drop(round.killer);
        CHECK(segments() == 0);
        /* The library keeps one descriptor for itself from its first connection on. */
        if (descriptors == 0) descriptors = open_descriptors();
        CHECK(open_descriptors() == descriptors);
    }
    uint64_t least = lanes ? 128 << 20 : rounds * 3300 > 64 << 20 ? rounds * 3300 : 64 << 20;
    for (int64_t since = now_ns(); shared_memory() >= memory + least; sleep_ns(SECOND / 10)) {
        CHECK(now_ns() - since < LONG_WAIT);
    }
    if (listens) {
        OK(ipc_listener_close(listener));
    } else {
        /* The last victim left its socket; to dial it is to find out, and to clean up. */
        ipc_connection *nobody;
        IS(IPC_NOT_FOUND, (options.flags = 0, ipc_connect(text("path"), &options, &nobody)));
    }
    struct stat socket;
    CHECK(stat(text("path"), &socket) != 0);
    CHECK(round.messages > 0);
    say("report %llu rounds: %llu messages, %llu taken back, a death known within %lld us; died before a connection: %llu",
        (unsigned long long)rounds, (unsigned long long)round.messages, (unsigned long long)round.taken_back,
        (long long)(round.slowest / 1000), (unsigned long long)early_deaths);
}

void play_survive_sender(void)
{
    survive("kill-sender", false, from_sender);
}

void play_survive_receiver(void)
{
    survive("kill-receiver", false, from_receiver);
}

void play_lanes_survive_sender(void)
{
    survive("lanes-kill-sender", true, lanes_from_sender);
}

void play_lanes_survive_receiver(void)
{
    survive("lanes-kill-receiver", true, lanes_from_receiver);
}
