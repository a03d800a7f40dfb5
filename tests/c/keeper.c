/* Receives, holds and gives back as it is told, line by line; and receives while the system gives it nothing. As keeper.rs, starve.rs. */
#include "role.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static void limit(int what, rlim_t number)
{
    struct rlimit now;
    CHECK(getrlimit(what, &now) == 0);
    now.rlim_cur = number;
    CHECK(setrlimit(what, &now) == 0);
}

static rlim_t limit_of(int what)
{
    struct rlimit now;
    CHECK(getrlimit(what, &now) == 0);
    return now.rlim_cur;
}

void play_keep(void)
{
    ipc_connection *connection = connection_of_settings();
    static ipc_held *held[4096];
    size_t count = 0;
    rlim_t files = limit_of(RLIMIT_NOFILE), space = limit_of(RLIMIT_AS);
    say("connected");
    for (;;) {
        const char *line = hear();
        char word[32] = "";
        unsigned long long given = 0;
        int fields = sscanf(line, "%31s %llu", word, &given);
        ipc_message message;
        if (fields <= 0) break;
        if (strcmp(word, "take") == 0) {
            printf("took");
            for (; given > 0; given--) {
                OK(ipc_recv(connection, &message, IPC_FOREVER));
                printf(" %zu", message.len);
                OK(ipc_release(connection));
            }
            say(" ");
        } else if (strcmp(word, "hold") == 0) {
            for (; given > 0; given--) {
                CHECK(count < sizeof held / sizeof *held);
                OK(ipc_recv(connection, &message, IPC_FOREVER));
                OK(ipc_hold(connection, &held[count++], NULL));
            }
            say("held %zu", count);
        } else if (strcmp(word, "drop") == 0) {
            OK(ipc_held_drop(held[given]));
            memmove(held + given, held + given + 1, (--count - given) * sizeof *held);
            say("dropped %zu", count);
        } else if (strcmp(word, "drop-all") == 0) {
            while (count > 0) OK(ipc_held_drop(held[--count]));
            say("dropped 0");
        } else if (strcmp(word, "mapped") == 0) {
            say("mapped %llu", (unsigned long long)recv_status(connection).mapped);
        } else if (strcmp(word, "files") == 0) {
            limit(RLIMIT_NOFILE, fields == 2 ? given : files);
            say("limited");
        } else if (strcmp(word, "space") == 0) {
            limit(RLIMIT_AS, fields == 2 ? address_space() + given : space);
            say("limited");
        } else if (strcmp(word, "fail") == 0) {
            IS(IPC_SYSTEM, ipc_recv(connection, &message, IPC_FOREVER));
            CHECK(ipc_last_errno() != 0);
            say("failed %s (os error %d)", strerror(ipc_last_errno()), ipc_last_errno());
        } else {
            DIE("%s?", line);
        }
    }
    while (count > 0) OK(ipc_held_drop(held[--count]));
    OK(ipc_close(connection));
}

/* Receives one message in one of the ways: its length, and how many files were beside it. */
static ipc_result receive(ipc_connection *connection, const char *call, size_t *len, size_t *files)
{
    static unsigned char room[400000];
    ipc_message message;
    ipc_result result;
    size_t count = 1;
    int fds[MOST_FILES];
    *files = 0;
    if (strcmp(call, "recv_into") == 0) {
        /* It drops the files beside a message. */
        *files = SIZE_MAX;
        return ipc_recv_into(connection, room, sizeof room, len, IPC_FOREVER);
    }
    if (strcmp(call, "recv") == 0) result = ipc_recv(connection, &message, IPC_FOREVER);
    else if (strcmp(call, "recv_timeout") == 0) result = ipc_recv(connection, &message, 10 * SECOND);
    else if (strcmp(call, "try_recv") == 0) result = ipc_recv(connection, &message, 0);
    else if (strcmp(call, "recv_batch") == 0) result = ipc_recv_many(connection, &message, 1, &count, IPC_FOREVER);
    else DIE("there is no call %s", call);
    if (result != IPC_OK) return result;
    *len = message.len;
    OK(ipc_message_files(connection, fds, MOST_FILES, files));
    for (size_t at = 0; at < *files; at++) close(fds[at]);
    return ipc_release(connection);
}

static void fails(ipc_connection *connection, const char *call, int with)
{
    for (int turn = 0; turn < 3; turn++) {
        size_t len, files;
        IS(IPC_SYSTEM, receive(connection, call, &len, &files));
        CHECK(ipc_last_errno() == with);
    }
}

static void succeeds(ipc_connection *connection, const char *call, size_t due)
{
    size_t len, files;
    say("starved");
    OK(receive(connection, call, &len, &files));
    say("received %zu %zu", len, files == SIZE_MAX ? due : files);
}

void play_starve(void)
{
    static const size_t due[] = {3, 0, 1};
    ipc_connection *connection = connection_of_settings();
    const char *call = text("call");
    rlim_t files = limit_of(RLIMIT_NOFILE), space = limit_of(RLIMIT_AS);
    say("connected");
    hear();
    if (strcmp(text_or("of", "descriptors"), "memory") == 0) {
        for (int turn = 0; turn < 2; turn++) {
            limit(RLIMIT_AS, address_space() + (8 << 20));
            fails(connection, call, ENOMEM);
            limit(RLIMIT_AS, space);
            succeeds(connection, call, 0);
        }
        return;
    }
    for (int turn = 0; turn < 3; turn++) {
        /* Every number below the highest one is taken. */
        int highest = 0, fd;
        size_t before = open_descriptors();
        while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) < (int)before + 8) highest = fd;
        close(fd);
        (void)highest;
        for (size_t spare = 0;; spare = (due[turn] > 1 ? due[turn] : 1) - 1) {
            limit(RLIMIT_NOFILE, (rlim_t)fd + spare);
            fails(connection, call, EMFILE);
            if (spare == (due[turn] > 1 ? due[turn] : 1) - 1) break;
        }
        limit(RLIMIT_NOFILE, files);
        before = open_descriptors();
        succeeds(connection, call, due[turn]);
        /* A region keeps its own. */
        CHECK(open_descriptors() <= before + 1);
    }
}
