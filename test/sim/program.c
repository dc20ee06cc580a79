/*
 * program.c - tcpbridge.c, with its system calls replaced
 *
 * The program is compiled into this file, and into those that include it.  Of
 * its state the rest of the simulation sees the public counters, through one
 * block of macros.
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
#define getpeername	sim_getpeername
#define stat(p, s)	sim_stat(p, s)
#define fstat(d, s)	sim_fstat(d, s)
#define geteuid()	sim_geteuid()
#define access(p, m)	sim_access(p, m)
#define fchmod(d, m)	sim_fchmod(d, m)
#define nanosleep(s, l)	sim_nanosleep(s, l)
#define read(d, b, n)	sim_read(d, b, n)
#define lseek(d, o, w)	sim_lseek(d, o, w)
#define ftruncate(d, n)	sim_ftruncate(d, n)
#define fsync(d)	sim_fsync(d)
#define rename(a, b)	sim_rename(a, b)
#define unlink(p)	sim_unlink(p)
#define main		COPY_MAIN

/* Which copy this is. */
#ifndef COPY
#define COPY		program_first
#define COPY_MAIN	first_main
#endif
int	 COPY_MAIN(int, char **);

/* It asks for these itself; the headers are in already. */
#undef _DEFAULT_SOURCE
#undef _POSIX_C_SOURCE

/* What FreeBSD has, and has not. */
#ifdef PLAYS_BSD
#undef __linux__
#undef TIOCOUTQ
#undef TCP_NOTSENT_LOWAT
#define FIONWRITE	BSD_FIONWRITE
#endif

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

static struct counts
copy_counts(int s)
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

static bool
copy_wraps(int s, size_t n)
{
	size_t end = FLOW(s)->ring.start + FLOW(s)->ring.used;

	return end < FLOW(s)->ring.capacity && end + n >
	    FLOW(s)->ring.capacity;
}

const struct copy COPY = { copy_counts, copy_wraps, COPY_MAIN };

#ifndef IS_COPY
const size_t program_buffer_max = BUFFER_MAX;
const int program_listeners = LISTENERS;
const int program_clients = PLACES;
const bool program_is_1 = IS_1;
#endif
