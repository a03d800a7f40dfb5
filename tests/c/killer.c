/* A process that is killed at a given moment. */
#include "role.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

struct killer {
    pid_t victim;
    pthread_t thread;
    bool is_armed;
    int64_t pause_ns;
    _Atomic int64_t death;
};

/* Starts the program of the setting victim in a role. */
struct killer *killer_new(const char *role, char *const *arguments, size_t count)
{
    struct killer *killer = calloc(1, sizeof *killer);
    char *words[16] = {(char *)(uintptr_t)text("victim"), (char *)(uintptr_t)role};
    CHECK(killer != NULL && count < 13);
    memcpy(words + 2, arguments, count * sizeof *words);
    fflush(stdout);
    killer->victim = fork();
    CHECK(killer->victim >= 0);
    if (killer->victim == 0) {
        int nowhere = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++) dup2(nowhere, fd);
        execv(words[0], words);
        _exit(127);
    }
    return killer;
}

static void *kill_it(void *argument)
{
    struct killer *killer = argument;
    sleep_ns(killer->pause_ns);
    atomic_store(&killer->death, now_ns());
    kill(killer->victim, SIGKILL);
    return NULL;
}

void killer_after(struct killer *killer, int64_t pause_ns)
{
    killer->pause_ns = pause_ns;
    killer->is_armed = true;
    CHECK(pthread_create(&killer->thread, NULL, kill_it, killer) == 0);
}

int64_t killer_since_death(struct killer *killer)
{
    int64_t death = atomic_load(&killer->death);
    if (death == 0) DIE("the victim was alive until then");
    return now_ns() - death;
}

void killer_drop(struct killer *killer)
{
    if (killer->is_armed) CHECK(pthread_join(killer->thread, NULL) == 0);
    kill(killer->victim, SIGKILL);
    CHECK(waitpid(killer->victim, NULL, 0) == killer->victim);
    free(killer);
}
