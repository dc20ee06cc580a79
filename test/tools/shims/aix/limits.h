/* More than tcpbridge writes at once. */
#include_next <limits.h>
#undef PIPE_BUF
#define PIPE_BUF 32768
