/* Runs the case that the first argument names; "names" lists the functions that are called in every state. */
#include "abuse.h"
#include <unistd.h>

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"names", names_of_functions},
    {"states", every_function_in_every_state},
    {"null", null_pointers},
    {"odd", odd_pointers},
    {"sizes", sizes_of_structures},
    {"options", options_out_of_range},
    {"times", times},
    {"words", words_of_errors},
    {"open", what_is_open_is_in_the_way},
    {"short", short_buffers},
    {"files", files},
    {"outlives", what_outlives_its_connection},
    {"undelivered", messages_that_were_not_delivered},
    {"threads", two_threads},
    {"callbacks", callbacks},
    {"again", handles_that_are_used_again},
    {"memory", more_memory_than_there_is},
    {"modes", each_mode},
    {"windows", windows},
};

int main(int count, char **arguments)
{
    CHECK(count == 2);
    alarm(300);
    for (size_t at = 0; at < sizeof cases / sizeof *cases; at++) {
        if (strcmp(arguments[1], cases[at].name) == 0) {
            cases[at].run();
            return 0;
        }
        if (strcmp(arguments[1], "cases") == 0 && at > 0) puts(cases[at].name);
    }
    return strcmp(arguments[1], "cases") == 0 ? 0 : 2;
}
