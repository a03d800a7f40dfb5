/* Messages that follow from a seed and a number: those of tests/src/stream.rs and tests/src/mix.rs. */
#include "role.h"
#include <sys/mman.h>
#include <unistd.h>

uint64_t next_u64(struct random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t below(struct random *random, uint64_t end)
{
    return next_u64(random) % end;
}

void bytes_resize(struct bytes *bytes, size_t len)
{
    if (len > bytes->capacity || bytes->data == NULL) {
        bytes->capacity = len + len / 2 + 64;
        bytes->data = realloc(bytes->data, bytes->capacity);
        CHECK(bytes->data != NULL);
    }
    bytes->len = len;
}

void bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

static struct random random_of(uint64_t seed, uint64_t number)
{
    struct random mixer = {seed ^ number * UINT64_C(0xd6e8feb86659fd93)};
    return (struct random){next_u64(&mixer)};
}

static uint64_t least(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

static void fill(struct random *random, unsigned char *target, size_t len)
{
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = next_u64(random);
        memcpy(target + at, &word, least(8, len - at));
    }
}

static void compare(struct random *random, uint64_t number, const unsigned char *found, size_t len)
{
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = next_u64(random);
        if (memcmp(found + at, &word, least(8, len - at)) != 0) {
            DIE("message %llu of %zu bytes differs in the 8 bytes from %zu", (unsigned long long)number, len, at);
        }
    }
}

static size_t stream_len(const struct stream *stream, struct random *random)
{
    uint64_t max = stream->max, kind = below(random, 16);
    if (kind < 8) return least(below(random, 65), max);
    if (kind < 12) return least(below(random, 1025), max);
    if (kind < 15) return below(random, max + 1);
    return max - least(below(random, 9), max);
}

void stream_write(const struct stream *stream, uint64_t number, struct bytes *target)
{
    struct random random = random_of(stream->seed, number);
    bytes_resize(target, stream_len(stream, &random));
    fill(&random, target->data, target->len);
}

static void check_len(uint64_t number, size_t due, size_t found)
{
    if (due != found) DIE("message %llu has %zu bytes instead of %zu", (unsigned long long)number, found, due);
}

void stream_check(const struct stream *stream, uint64_t number, const void *found, size_t len)
{
    struct random random = random_of(stream->seed, number);
    check_len(number, stream_len(stream, &random), len);
    compare(&random, number, found, len);
}

/* Length and files of a message, and the random numbers that its bytes are. */
struct plan {
    uint64_t len, files;
    struct random random;
};

static uint64_t around(struct random *random, uint64_t size)
{
    uint64_t middle = size * (1 + below(random, 4)) + 24, less = below(random, 48);
    return middle > less ? middle - less : 0;
}

static struct plan plan(const struct mix *mix, uint64_t number)
{
    struct random random = random_of(mix->seed, number);
    uint64_t kind = below(&random, 64), len, files = 0;
    if (kind < 24) len = below(&random, 65);
    else if (kind < 34) len = around(&random, mix->record);
    else if (kind < 42) len = below(&random, 1 << 10);
    else if (kind < 52) len = below(&random, 20 << 10);
    else if (kind < 57) len = around(&random, 16 << 10);
    else if (kind < 62) len = below(&random, 256 << 10);
    else if (kind == 62) len = around(&random, 256 << 10);
    else len = below(&random, 5 << 20);
    uint64_t beside = below(&random, 32);
    if (beside == 0) files = 1;
    else if (beside == 1) files = 1 + below(&random, 5);
    else if (beside == 2 && number % 16 == 0) files = MOST_FILES;
    return (struct plan){least(len, mix->longest), files, random};
}

size_t mix_len(const struct mix *mix, uint64_t number)
{
    return plan(mix, number).len;
}

size_t mix_files(const struct mix *mix, uint64_t number)
{
    return plan(mix, number).files;
}

void mix_fill(const struct mix *mix, uint64_t number, void *target, size_t len)
{
    struct plan due = plan(mix, number);
    fill(&due.random, target, len);
}

void mix_write(const struct mix *mix, uint64_t number, struct bytes *target)
{
    struct plan due = plan(mix, number);
    bytes_resize(target, due.len);
    fill(&due.random, target->data, target->len);
}

void mix_check(const struct mix *mix, uint64_t number, const void *found, size_t len)
{
    struct plan due = plan(mix, number);
    check_len(number, due.len, len);
    compare(&due.random, number, found, len);
}

/* Memory files and pipes in turn, each with something of its own in it. */
size_t mix_make_files(const struct mix *mix, uint64_t number, int fds[MOST_FILES])
{
    size_t count = mix_files(mix, number);
    for (size_t at = 0; at < count; at++) {
        uint64_t mark[3] = {mix->seed, number, at};
        if (at % 2 == 0) {
            fds[at] = memfd_create("beside", MFD_CLOEXEC);
            CHECK(fds[at] >= 0 && pwrite(fds[at], mark, sizeof mark, 0) == sizeof mark);
        } else {
            int ends[2];
            CHECK(pipe(ends) == 0 && write(ends[1], mark, sizeof mark) == sizeof mark);
            close(ends[1]);
            fds[at] = ends[0];
        }
    }
    return count;
}

/* Closes them too. */
void mix_check_files(const struct mix *mix, uint64_t number, int *fds, size_t count)
{
    CHECK(count == mix_files(mix, number));
    for (size_t at = 0; at < count; at++) {
        uint64_t mark[3] = {mix->seed, number, at}, found[4];
        ssize_t len = at % 2 == 0 ? pread(fds[at], found, sizeof found, 0) : read(fds[at], found, sizeof found);
        if (len != sizeof mark || memcmp(mark, found, sizeof mark) != 0) {
            DIE("file %zu beside message %llu is another one", at, (unsigned long long)number);
        }
        close(fds[at]);
    }
}
