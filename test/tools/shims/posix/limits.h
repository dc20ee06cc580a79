/* POSIX lets a system without a limit leave out its name; Hurd does. */
#include_next <limits.h>
#undef PIPE_BUF
