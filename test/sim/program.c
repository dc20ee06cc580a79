/*
 * program.c - tcpbridge.c, with its system calls replaced
 *
 * The program is compiled into this file alone.  Of its state the rest of the
 * simulation sees the public counters, through one block of macros.
 */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700

#include <sys/types.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <netdb.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>

#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <termios.h>
#include <unistd.h>

#include "calls.h"
#include "program.h"

#define pselect		sim_pselect
#define select		sim_select
#define socket		sim_socket
#define bind		sim_bind
#define listen		sim_listen
#define accept		sim_accept
#define recv		sim_recv
#define send		sim_send
#define write		sim_write
#define close		sim_close
#define shutdown	sim_shutdown
#define fcntl		sim_fcntl
#define ioctl		sim_ioctl
#define setsockopt	sim_setsockopt
#define getsockopt	sim_getsockopt
#define getsockname	sim_getsockname
#define getaddrinfo	sim_getaddrinfo
#define freeaddrinfo	sim_freeaddrinfo
#define getnameinfo	sim_getnameinfo
#define clock_gettime	sim_clock_gettime
#define sigaction(s, a, o)	sim_sigaction(s, a, o)
#define sigprocmask	sim_sigprocmask
#define isatty		sim_isatty
#define open		sim_open
#define ttyname		sim_ttyname
#define dup2		sim_dup2
#define exit		sim_exit
#define main		tcpbridge_main

/* It asks for these itself; the headers are in already. */
#undef _DEFAULT_SOURCE
#undef _POSIX_C_SOURCE

#ifndef TCPBRIDGE_C
#define TCPBRIDGE_C "../../tcpbridge.c"
#endif
#include TCPBRIDGE_C

/* ---- The counters ----------------------------------------------------- */

/* s is the side that the bytes come from. */
#ifdef TCPBRIDGE_1		/* version 1.0 */
#define IS_1		true
#define PLACES		8
#define FLOW(s)		(&sides[s])
#define AWAY(s)		((uint64_t)0)
#else
#define IS_1		false
#define PLACES		CLIENTS
#define FLOW(s)		(&flows[s])
#define AWAY(s)		((uint64_t)flows[s].ring.away)
#endif

const size_t program_buffer_max = BUFFER_MAX;
const int program_listeners = LISTENERS;
const int program_clients = PLACES;
const bool program_is_1 = IS_1;

struct counts
program_counts(int s)
{
	struct counts c;

	c.received = FLOW(s)->received;
	c.sent = FLOW(s)->sent;
	c.dropped = FLOW(s)->dropped;
	c.held = FLOW(s)->ring.used;
	c.away = AWAY(s);
	c.unacked = FLOW(s)->unacked;
	c.connects = sides[s].connects;
	return c;
}

/* Whether a read of so many bytes goes across the end of the ring. */
bool
program_wraps(int s, size_t n)
{
	size_t end = FLOW(s)->ring.start + FLOW(s)->ring.used;

	return end < FLOW(s)->ring.capacity && end + n >
	    FLOW(s)->ring.capacity;
}

int
program_main(int argc, char **argv)
{
	return tcpbridge_main(argc, argv);
}
