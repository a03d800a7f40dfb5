// The same program for a C++ compiler, with the C++ header in front where there is one.
#if __has_include(<ipc.hpp>)
#include <ipc.hpp>
#endif
#include "program.c"
