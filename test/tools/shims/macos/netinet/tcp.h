/* The idle time of keepalive has another name. */
#ifndef SHIM_TCP_H
#define SHIM_TCP_H
#include_next <netinet/tcp.h>
enum { SHIM_KEEPIDLE = TCP_KEEPIDLE };
#undef TCP_KEEPIDLE
#define TCP_KEEPALIVE SHIM_KEEPIDLE
#undef TCP_INFO
#endif
