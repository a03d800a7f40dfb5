/* Peers, and what the kernel says. */
#include "abuse.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

_Noreturn void fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    _exit(101);
}

const char *path_of(const char *name)
{
    static char path[4][256];
    static unsigned at;
    at = (at + 1) % 4;
    const char *directory = getenv("ABUSE_DIRECTORY");
    if (directory == NULL) DIE("ABUSE_DIRECTORY says where sockets may be");
    snprintf(path[at], sizeof path[at], "%s/%s-%d", directory, name, (int)getpid());
    return path[at];
}

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

size_t open_descriptors(void)
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    return count;
}

/* Calls use with each mapping of the library's memory. */
static size_t each_segment(void (*use)(unsigned char *start, unsigned char *end))
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    size_t count = 0;
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long start, end;
        char rights[8];
        if (strstr(line, "memfd:ipc:") == NULL || sscanf(line, "%lx-%lx %7s", &start, &end, rights) != 3) continue;
        count++;
        if (use != NULL && rights[1] == 'w') use((unsigned char *)start, (unsigned char *)end);
    }
    fclose(maps);
    return count;
}

size_t segments(void)
{
    return each_segment(NULL);
}

/* All but the header, which is read by nobody after the handshake: records of the first lap with a length that none can have. */
static void scribble(unsigned char *start, unsigned char *end)
{
    const uint64_t impossible = UINT64_C(1) << 32 | 0x3fffffff;
    for (unsigned char *at = start + 4096; at < end; at += 8) memcpy(at, &impossible, 8);
}

ipc_options plain_options(void)
{
    ipc_options options;
    OK(ipc_options_init(&options, sizeof options));
    return options;
}

ipc_send_status send_status(ipc_connection *connection)
{
    ipc_send_status status = {.size = sizeof status};
    OK(ipc_get_send_status(connection, &status));
    return status;
}

struct words {
    uint64_t order, number;
};

static uint64_t obey(ipc_connection *connection, struct words words)
{
    static unsigned char bytes[8 << 20];
    ipc_message message;
    size_t count = 0;
    int fds[63];
    switch (words.order) {
    case SEND:
        CHECK(words.number <= sizeof bytes);
        memset(bytes, (int)(words.number % 251), words.number);
        OK(ipc_send(connection, bytes, words.number, 20 * SECOND));
        return words.number;
    case SEND_FILES:
        for (; count < words.number; count++) CHECK((fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
        OK(ipc_send_with_files(connection, "f", 1, fds, count, 20 * SECOND));
        for (size_t at = 0; at < count; at++) close(fds[at]);
        return count;
    case RECEIVE:
        OK(ipc_recv(connection, &message, 20 * SECOND));
        OK(ipc_message_files(connection, fds, 63, &count));
        for (size_t at = 0; at < count; at++) close(fds[at]);
        words.number = message.len;
        OK(ipc_release(connection));
        return words.number;
    case ECHO:
        for (; count < words.number; count++) {
            OK(ipc_recv(connection, &message, 20 * SECOND));
            OK(ipc_send(connection, message.data, message.len, 20 * SECOND));
        }
        return count;
    case BREAK:
        return each_segment(scribble);
    default:
        OK(ipc_close(connection));
        return 0;
    }
}

static _Noreturn void be_the_peer(int orders, const char *path, const ipc_options *given)
{
    ipc_options options = given != NULL ? *given : plain_options();
    ipc_connection *connection;
    struct words words;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(120);
    options.flags |= IPC_WAIT_FOR_LISTENER;
    OK(ipc_connect(path, &options, &connection));
    while (read(orders, &words, sizeof words) == sizeof words) {
        uint64_t said = obey(connection, words);
        CHECK(write(orders, &said, sizeof said) == sizeof said);
        if (words.order == CLOSE) break;
    }
    _exit(0);
}

ipc_connection *with_peer(struct peer *peer, const ipc_options *options, const ipc_options *others)
{
    int ends[2];
    const char *path = path_of("peer");
    ipc_listener *listener;
    ipc_connection *connection;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    fflush(stdout);
    peer->process = fork();
    CHECK(peer->process >= 0);
    if (peer->process == 0) {
        close(ends[0]);
        be_the_peer(ends[1], path, others);
    }
    close(ends[1]);
    peer->orders = ends[0];
    OK(ipc_listen(path, options, &listener));
    OK(ipc_accept(listener, 20 * SECOND, &connection));
    OK(ipc_listener_close(listener));
    return connection;
}

void ask(struct peer *peer, enum order order, uint64_t number)
{
    struct words words = {order, number};
    CHECK(write(peer->orders, &words, sizeof words) == sizeof words);
}

uint64_t answer(struct peer *peer)
{
    uint64_t said = 0;
    if (read(peer->orders, &said, sizeof said) != sizeof said) DIE("the peer is gone");
    return said;
}

uint64_t tell(struct peer *peer, enum order order, uint64_t number)
{
    ask(peer, order, number);
    return answer(peer);
}

void kill_peer(struct peer *peer)
{
    kill(peer->process, SIGKILL);
    CHECK(waitpid(peer->process, NULL, 0) == peer->process);
    close(peer->orders);
}

ipc_held *held_message(ipc_connection *connection, struct peer *peer, size_t len)
{
    ipc_message message;
    ipc_held *held;
    tell(peer, SEND, len);
    OK(ipc_recv(connection, &message, 20 * SECOND));
    OK(ipc_hold(connection, &held, &message));
    CHECK(message.len == len && (len == 0 || ((const unsigned char *)message.data)[len - 1] == len % 251));
    return held;
}

ipc_loan *detached_loan(ipc_connection *connection, size_t len)
{
    void *place;
    ipc_loan *loan;
    OK(ipc_lend(connection, len, 20 * SECOND, &place));
    memset(place, 7, len);
    OK(ipc_loan_detach(connection, &loan));
    return loan;
}
