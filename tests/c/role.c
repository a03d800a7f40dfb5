/* Settings, words with the test, and what the kernel says. */
#include "role.h"
#include <dirent.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

static int setting_count;
static char **settings;

_Noreturn void fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    /* At once: other threads may be in calls. */
    _exit(101);
}

void settings_read(int count, char **arguments)
{
    setting_count = count;
    settings = arguments;
}

const char *text_or(const char *key, const char *otherwise)
{
    size_t len = strlen(key);
    for (int at = 0; at < setting_count; at++) {
        if (strncmp(settings[at], key, len) == 0 && settings[at][len] == '=') {
            return settings[at] + len + 1;
        }
    }
    return otherwise;
}

const char *text(const char *key)
{
    const char *found = text_or(key, NULL);
    if (found == NULL) DIE("the setting %s is missing", key);
    return found;
}

uint64_t number(const char *key, uint64_t otherwise)
{
    const char *found = text_or(key, NULL);
    return found == NULL ? otherwise : strtoull(found, NULL, 10);
}

bool flag(const char *key, bool otherwise)
{
    return strcmp(text_or(key, otherwise ? "true" : "false"), "true") == 0;
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

const char *hear(void)
{
    static char line[256];
    if (fgets(line, sizeof line, stdin) == NULL) return "";
    line[strcspn(line, "\n")] = 0;
    return line;
}

uint32_t mode_named(const char *name)
{
    static const char *const names[] = {"", "kernel", "hybrid", "shared", "auto"};
    for (uint32_t mode = IPC_MODE_KERNEL; mode <= IPC_MODE_AUTO; mode++) {
        if (strcmp(name, names[mode]) == 0) return mode;
    }
    DIE("there is no mode %s", name);
}

ipc_options options_of_settings(bool listens)
{
    ipc_options options;
    OK(ipc_options_init(&options, sizeof options));
    options.mode = mode_named(text_or("mode", "auto"));
    const char *strategy = text_or("strategy", "Adaptive");
    options.wait = strcmp(strategy, "Busy") == 0 ? IPC_WAIT_BUSY
        : strcmp(strategy, "Sleep") == 0         ? IPC_WAIT_SLEEP
                                                 : IPC_WAIT_ADAPTIVE;
    if (!flag("membarrier", true)) options.flags |= IPC_NO_MEMBARRIER;
    options.credit_messages = number("messages", 0);
    options.credit_message = number("message", 0);
    options.credit_arena = number("arena", 0);
    if (text_or("arena", NULL) != NULL && options.credit_arena == 0) options.flags |= IPC_NO_ARENA;
    if (listens) {
        options.ring_to_server = number("capacity", 256 << 10);
    } else {
        options.flags |= IPC_WAIT_FOR_LISTENER;
        options.timeout_ns = LONG_WAIT;
    }
    return options;
}

ipc_connection *accept_one(const char *path, const ipc_options *options)
{
    ipc_listener *listener;
    ipc_connection *connection;
    OK(ipc_listen(path, options, &listener));
    say("listening");
    OK(ipc_accept(listener, LONG_WAIT, &connection));
    OK(ipc_listener_close(listener));
    return connection;
}

ipc_connection *connect_to(const char *path, const ipc_options *options)
{
    ipc_connection *connection;
    OK(ipc_connect(path, options, &connection));
    return connection;
}

ipc_connection *connection_of_settings(void)
{
    bool listens = flag("listen", false);
    ipc_options options = options_of_settings(listens);
    return listens ? accept_one(text("path"), &options) : connect_to(text("path"), &options);
}

ipc_send_status send_status(ipc_connection *connection)
{
    ipc_send_status status = {.size = sizeof status};
    OK(ipc_get_send_status(connection, &status));
    return status;
}

ipc_recv_status recv_status(ipc_connection *connection)
{
    ipc_recv_status status = {.size = sizeof status};
    OK(ipc_release(connection));
    OK(ipc_get_recv_status(connection, &status));
    return status;
}

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

void sleep_ns(int64_t ns)
{
    struct timespec rest = {ns / SECOND, ns % SECOND};
    while (nanosleep(&rest, &rest) != 0) {}
}

_Noreturn void sleep_for_ever(void)
{
    for (;;) pause();
}

bool readable(int fd, int64_t most_ns)
{
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    CHECK(fd >= 0);
    return poll(&watched, 1, (int)(most_ns / 1000000)) > 0;
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

/* Calls use with each line of a file. */
static void each_line(const char *path, void (*use)(const char *line, void *data), void *data)
{
    FILE *file = fopen(path, "r");
    char line[1024];
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) use(line, data);
    fclose(file);
}

static void count_segment(const char *line, void *data)
{
    if (strstr(line, "memfd:ipc:") != NULL) ++*(size_t *)data;
}

size_t segments(void)
{
    size_t count = 0;
    each_line("/proc/self/maps", count_segment, &count);
    return count;
}

static void print_segment(const char *line, void *data)
{
    (void)data;
    if (strstr(line, "memfd:ipc:") != NULL) printf("%.*s;", (int)strcspn(line, "\n"), line);
}

void print_segments(void)
{
    each_line("/proc/self/maps", print_segment, NULL);
}

static void find_shmem(const char *line, void *data)
{
    unsigned long long kib;
    if (sscanf(line, "Shmem: %llu kB", &kib) == 1) *(uint64_t *)data = kib << 10;
}

uint64_t shared_memory(void)
{
    uint64_t bytes = 0;
    each_line("/proc/meminfo", find_shmem, &bytes);
    return bytes;
}

uint64_t page_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_minflt;
}

static void find_pages(const char *line, void *data)
{
    *(uint64_t *)data = strtoull(line, NULL, 10) * 4096;
}

uint64_t address_space(void)
{
    uint64_t bytes = 0;
    each_line("/proc/self/statm", find_pages, &bytes);
    return bytes;
}

_Atomic uint64_t *log_open(void)
{
    int fd = open(text("log"), O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    CHECK(map != MAP_FAILED);
    close(fd);
    return map;
}

void log_about_to(_Atomic uint64_t *log, uint64_t count)
{
    if (log != NULL) atomic_store(&log[LOG_AT_MOST], count);
}

void log_has(_Atomic uint64_t *log, uint64_t count)
{
    if (log != NULL) atomic_store(&log[LOG_AT_LEAST], count);
}
