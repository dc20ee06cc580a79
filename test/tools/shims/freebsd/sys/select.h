/* FreeBSD 9 has an unsigned number. */
#include_next <sys/select.h>
#undef FD_SETSIZE
#define FD_SETSIZE 1024U
