/* Keepalive has Linux's names. */
#include_next <netinet/tcp.h>
#undef TCP_NOTSENT_LOWAT
#undef TCP_INFO
