/* Sends a file of any length, and knows in the end that all of it has arrived.
 *
 *     ./stream receive copy.iso downloads & ./stream send original.iso downloads
 *
 * Pieces are read from the file straight into memory that the receiver reads: nothing is copied in between. An empty
 * message ends them, the checksum follows. Then the sender closes its sending half, and waits for the receiver's word on
 * the other one.
 *
 * (A receiver that may have the open file itself gets it with ipc_send_with_files, whatever its length.)
 */
#include "check.h"
#include <errno.h>
#include <stdint.h>
#include <string.h>

enum { PIECE = 1 << 20 };

typedef struct {
    uint64_t bytes;
    uint64_t checksum; /* FNV-1a: finds accidents, not forgeries */
} trailer;

static const trailer NOTHING = {0, 0xcbf29ce484222325};

static void add(trailer *sum, const unsigned char *data, size_t len) {
    for (size_t at = 0; at < len; at++) {
        sum->checksum = (sum->checksum ^ data[at]) * 0x100000001b3;
    }
    sum->bytes += len;
}

static int give_up(const char *path) {
    fprintf(stderr, "%s: %s\n", path, errno ? strerror(errno) : "did not arrive as it was sent");
    return 1;
}

static int send_file(const char *path, const char *name) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        return give_up(path);
    }
    ipc_connection *receiver = connect_to(name);
    trailer sum = NOTHING;
    size_t len;
    do {
        void *piece;
        CHECK(ipc_lend(receiver, PIECE, IPC_FOREVER, &piece));
        len = fread(piece, 1, PIECE, file);
        add(&sum, piece, len);
        CHECK(ipc_commit(receiver, len));
    } while (len > 0);
    if (ferror(file)) {
        return give_up(path);
    }
    fclose(file);
    CHECK(ipc_send(receiver, &sum, sizeof sum, IPC_FOREVER));
    CHECK(ipc_shutdown(receiver, IPC_SENDING));

    ipc_message answer;
    CHECK(ipc_recv(receiver, &answer, IPC_FOREVER));
    printf("sent %llu bytes: %.*s\n", (unsigned long long)sum.bytes, (int)answer.len, (const char *)answer.data);
    CHECK(ipc_close(receiver));
    return 0;
}

static int receive_file(const char *path, const char *name) {
    static unsigned char piece[PIECE];
    FILE *file = fopen(path, "wb");
    if (!file) {
        return give_up(path);
    }
    ipc_connection *sender = accept_one(name);
    trailer sum = NOTHING, sent;
    size_t len;
    /* A copy, so that what is summed up is what is written, whoever the sender is. */
    CHECK(ipc_recv_into(sender, piece, PIECE, &len, IPC_FOREVER));
    while (len > 0) {
        add(&sum, piece, len);
        if (fwrite(piece, 1, len, file) != len) {
            return give_up(path);
        }
        CHECK(ipc_recv_into(sender, piece, PIECE, &len, IPC_FOREVER));
    }
    CHECK(ipc_recv_into(sender, &sent, sizeof sent, &len, IPC_FOREVER));
    if (fclose(file) != 0) {
        return give_up(path);
    }
    CHECK_END(ipc_recv_into(sender, piece, PIECE, NULL, IPC_FOREVER));
    if (len != sizeof sent || sent.bytes != sum.bytes || sent.checksum != sum.checksum) {
        errno = 0;
        return give_up(path);
    }
    CHECK(ipc_send(sender, "all there", 9, IPC_FOREVER));
    printf("received %llu bytes, checksum %016llx\n", (unsigned long long)sum.bytes, (unsigned long long)sum.checksum);
    CHECK(ipc_close(sender));
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "send") == 0) {
        return send_file(argv[2], argv[3]);
    }
    if (argc == 4 && strcmp(argv[1], "receive") == 0) {
        return receive_file(argv[2], argv[3]);
    }
    return usage("stream send|receive FILE NAME");
}
