/* A client that means harm. ipc-core/examples/survivor.rs bears it.
 *
 *     cargo run -p ipc-core --example survivor -- /tmp/fort 6 &
 *     ./hostile hello /tmp/fort    # or record, descriptor, scribble, packets, silence
 *
 * All that a client has of its server is what the server gave it: sockets, and shared memory with two rings.
 * docs/LAYOUT.md says where everything is in there.
 */
#define _DEFAULT_SOURCE
#include "check.h"
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* From docs/LAYOUT.md. */
enum { RING_TO_SERVER = 4096, RING_DATA = 384 };
static const uint64_t FIRST_LAP = 1ull << 32, DESCRIBED = 1ull << 29; /* of a record's header */
static const uint64_t BLOCK = 2ull << 56, REGION_NEVER_MADE = 200ull << 56; /* of a descriptor */

typedef struct {
    unsigned char *start;
    size_t size;
} segment;

/* The shared memory of this process's only connection, as the kernel lists it. */
static segment find_segment(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    while (maps && fgets(line, sizeof line, maps)) {
        uintptr_t from, to;
        if (strstr(line, " rw-s 00000000 ") && strstr(line, "memfd:ipc:") &&
            sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2) {
            fclose(maps);
            return (segment){(unsigned char *)from, to - from};
        }
    }
    fprintf(stderr, "there is no segment in /proc/self/maps\n");
    exit(1);
}

/* Writes words to the server's ring, the first one last: it makes a record of them. */
static void write_record(const uint64_t *words, size_t count) {
    _Atomic uint64_t *ring = (_Atomic uint64_t *)(find_segment().start + RING_TO_SERVER + RING_DATA);
    while (count-- > 0) {
        atomic_store(&ring[count], words[count]);
    }
}

/* A record longer than the ring. */
static void record(ipc_connection *server) {
    (void)server;
    write_record((uint64_t[]){FIRST_LAP | 0x0fffffff}, 1);
}

/* A message of 1 GiB in memory that the server was never told of. */
static void descriptor(ipc_connection *server) {
    (void)server;
    write_record((uint64_t[]){FIRST_LAP | DESCRIBED | 16, BLOCK | 1 << 30, REGION_NEVER_MADE}, 3);
}

/* Random bytes everywhere, while messages are on their way: rings, positions, what says who sleeps and who has gone. */
static void scribble(ipc_connection *server) {
    const segment shared = find_segment();
    for (int round = 0; round < 20; round++) {
        ipc_send(server, "are you there?", 14, 0);
        for (size_t at = 0; at < shared.size; at++) {
            *(volatile unsigned char *)(shared.start + at) = (unsigned char)rand();
        }
    }
}

/* Something on every socket of the connection, which expect wake-ups, files and nothing else. */
static void packets(ipc_connection *server) {
    (void)server;
    int sent = 0;
    for (int fd = 3; fd < 64; fd++) {
        for (int count = 0; count < 100 && send(fd, "nonsense", 8, MSG_DONTWAIT | MSG_NOSIGNAL) == 8; count++) {
            sent++;
        }
    }
    printf("sent %d packets of nonsense\n", sent);
}

/* Nothing: it dies without a word. */
static void silence(ipc_connection *server) {
    (void)server;
    _exit(0);
}

/* A first packet that is none; this client never gets a connection. */
static void hello(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    char answer[512];
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 || send(fd, "let me in", 9, MSG_NOSIGNAL) != 9) {
        perror(path);
        exit(1);
    }
    printf("the server answers with %zd bytes\n", recv(fd, answer, sizeof answer, 0));
    close(fd);
}

static const struct {
    const char *name;
    void (*harm)(ipc_connection *server);
} ATTACKS[] = {
    {"record", record}, {"descriptor", descriptor}, {"scribble", scribble}, {"packets", packets}, {"silence", silence},
};

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "hello") == 0) {
        hello(argv[2]);
        return 0;
    }
    for (size_t at = 0; argc == 3 && at < sizeof ATTACKS / sizeof *ATTACKS; at++) {
        if (strcmp(argv[1], ATTACKS[at].name) == 0) {
            ipc_connection *server;
            CHECK(ipc_connect(argv[2], NULL, &server));
            ATTACKS[at].harm(server);
            return ipc_close(server);
        }
    }
    return usage("hostile hello|record|descriptor|scribble|packets|silence PATH");
}
