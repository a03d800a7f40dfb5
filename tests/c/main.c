/* The second process of the tests, in C: plays the role that its first argument names, as tests/src/roles does in Rust. */
#include "role.h"
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

static const struct {
    const char *name;
    void (*play)(void);
} roles[] = {
    {"echo", play_echo},
    {"ask", play_ask},
    {"send", play_send},
    {"receive", play_receive},
    {"hold", play_hold},
    {"fork", play_fork},
    {"stress", play_stress},
    {"mix", play_mix},
    {"kill-sender", play_kill_sender},
    {"kill-receiver", play_kill_receiver},
    {"survive-sender", play_survive_sender},
    {"survive-receiver", play_survive_receiver},
    {"lanes-kill-sender", play_lanes_kill_sender},
    {"lanes-kill-receiver", play_lanes_kill_receiver},
    {"lanes-survive-sender", play_lanes_survive_sender},
    {"lanes-survive-receiver", play_lanes_survive_receiver},
    {"victim", play_victim},
    {"keep", play_keep},
    {"blocked", play_blocked},
    {"steady", play_steady},
    {"starve", play_starve},
};

int main(int count, char **arguments)
{
    if (count < 2) DIE("the first argument names the role");
    setvbuf(stdout, NULL, _IOLBF, 0);
    settings_read(count - 2, arguments + 2);
    /* The process ends with the test that started it, or after a while. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm((unsigned)number("alarm", 120));
    CHECK(ipc_version() >> 8 == (IPC_VERSION_MAJOR << 8 | IPC_VERSION_MINOR));
    for (size_t at = 0; at < sizeof roles / sizeof *roles; at++) {
        if (strcmp(arguments[1], roles[at].name) == 0) {
            roles[at].play();
            return 0;
        }
    }
    DIE("there is no role %s", arguments[1]);
}
