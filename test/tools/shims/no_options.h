/* What POSIX does not know of TCP; included behind <netinet/tcp.h>. */
#undef TCP_KEEPIDLE
#undef TCP_KEEPINTVL
#undef TCP_KEEPCNT
#undef TCP_NOTSENT_LOWAT
#undef TCP_INFO
