/* There is a TCP_INFO, but its members have other names. */
#include_next <netinet/tcp.h>
#undef TCP_NOTSENT_LOWAT
#undef TCP_INFO
