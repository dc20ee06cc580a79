/* The least that POSIX allows. */
#include_next <limits.h>
#undef PIPE_BUF
#define PIPE_BUF 512
