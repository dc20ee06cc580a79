/* What has no limit has no name. */
#include_next <limits.h>
#undef PIPE_BUF
