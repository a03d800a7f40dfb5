/* Heat that spreads over a plate, computed by two processes, half each. In every step each sends the line at its edge to
 * the other, which reads it in place; ipc-core/examples/stencil.rs can be either half. In the end each compares its half
 * with a run of its own over the whole plate: the results are equal to the bit.
 *
 *     ./stencil top plate & ./stencil bottom plate
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <stdbool.h>
#include <string.h>
#include <time.h>

enum { SIDE = 256, HALF = SIDE / 2, STEPS = 1000 };

/* With a cell at each end that belongs to the border, as the first and the last line of a plate do. */
typedef double line[SIDE + 2];

static line whole[2][SIDE + 2], half[2][HALF + 2];

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* One step of Jacobi's method for one line: each cell becomes the mean of its four neighbours. */
static void relax(const double *above, const double *here, const double *below, double *next) {
    next[0] = next[SIDE + 1] = 0;
    for (int x = 1; x <= SIDE; x++) {
        next[x] = 0.25 * (above[x] + below[x] + here[x - 1] + here[x + 1]);
    }
}

/* All is cold; in the top half is a hot spot. */
static void heat(line *plate) {
    for (int y = HALF - 40; y < HALF - 8; y++) {
        for (int x = HALF - 40; x < HALF - 8; x++) {
            plate[y][x] = 100;
        }
    }
}

static void run_alone(void) {
    heat(whole[0]);
    for (int step = 0; step < STEPS; step++) {
        for (int y = 1; y <= SIDE; y++) {
            line *now = whole[step % 2];
            relax(now[y - 1], now[y], now[y + 1], whole[(step + 1) % 2][y]);
        }
    }
}

/* Waits for the other half's line, which stays where it is until the next one is asked for. */
static const double *halo(ipc_connection *other) {
    ipc_message message;
    CHECK(ipc_recv(other, &message, IPC_FOREVER));
    if (message.len != sizeof(line)) {
        fprintf(stderr, "a line of %zu bytes came, not of %zu\n", message.len, sizeof(line));
        exit(1);
    }
    return message.data;
}

static void run_half(bool top, ipc_connection *other) {
    static const line COLD;
    const double *beyond = COLD; /* the line at the other half's edge */
    const int edge = top ? HALF : 1;
    if (top) {
        heat(half[0]);
    }
    for (int step = 0; step < STEPS; step++) {
        line *now = half[step % 2], *next = half[(step + 1) % 2];
        /* The edge first, and where the other half will read it: it travels while the rest is computed. */
        void *sent;
        CHECK(ipc_reserve(other, sizeof(line), IPC_FOREVER, &sent));
        relax(top ? now[edge - 1] : beyond, now[edge], top ? beyond : now[edge + 1], sent);
        memcpy(next[edge], sent, sizeof(line));
        CHECK(ipc_commit(other, sizeof(line)));
        for (int y = 1; y <= HALF; y++) {
            if (y != edge) {
                relax(now[y - 1], now[y], now[y + 1], next[y]);
            }
        }
        beyond = halo(other);
    }
}

int main(int argc, char **argv) {
    const bool top = argc == 3 && strcmp(argv[1], "top") == 0;
    if (!top && !(argc == 3 && strcmp(argv[1], "bottom") == 0)) {
        return usage("stencil top|bottom NAME");
    }
    ipc_connection *other = top ? accept_one(argv[2]) : connect_to(argv[2]);
    const double start = seconds();
    run_half(top, other);
    const double rate = STEPS / (seconds() - start);
    CHECK(ipc_close(other));

    run_alone();
    const double *expected = whole[STEPS % 2][top ? 1 : HALF + 1], *found = half[STEPS % 2][1];
    if (memcmp(expected, found, HALF * sizeof(line)) != 0) {
        fprintf(stderr, "%s: the result is not that of a single process\n", argv[1]);
        return 1;
    }
    printf("%s: %d steps of %d x %d cells, %.0f steps/s, equal to those of a single process\n", argv[1], STEPS, SIDE,
           SIDE, rate);
    return 0;
}
