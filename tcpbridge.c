/*
 * tcpbridge - join two TCP clients that can both only dial out
 *
 * SPDX-License-Identifier: ISC (the text is in README.md)
 * Copyright (c) 2026 the tcpbridge contributors
 *
 * There are two sides, A and B; what is done to one is done to the other by
 * the same lines, with the side as an index.
 *
 *	client of A --recv--> ring of A --send--> client of B	(A->B)
 *	client of A <--send-- ring of B <--recv-- client of B	(B->A)
 *
 * A slot is the place for a side's one client: free, or taken by one that
 * is connected, half-closed (-e) or lost.  A flow is one direction, the
 * ring of bytes that wait and what was counted; its index is the side that
 * the bytes come from.  When a client goes, its slot becomes free, and
 * nothing else changes; whoever comes next goes on where it left.  The
 * invariant, for each flow and at every moment:
 *
 *	received = sent + dropped + held (what is used of the ring)
 *
 * One turn of the loop: what is due is done and lost clients are closed; fd
 * sets are built from predicates over the state alone; pselect() waits; bytes
 * are received, then sent; clients accepted.  A client that fails is only
 * marked as lost.
 */

/* POSIX, and what lies beyond it where a system would hide that. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#define _NETBSD_SOURCE
#define __BSD_VISIBLE 1
#define __EXTENSIONS__

#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* ---- Limits ---------------------------------------------------------- */

#define VERSION "1.0"
#define U64 "%" PRIu64

#ifndef BUFFER_MAX
#define BUFFER_MAX 4194304	/* most bytes held in each direction (-b) */
#endif
#ifndef PIPE_BUF		/* what a pipe that is ready takes at once */
#define PIPE_BUF _POSIX_PIPE_BUF
#endif

/*
 * High water: from 64 KiB to 1 MiB none was measurably faster.  Reads are not
 * limited, for 64 KiB a read cost a third of the speed.  Unsent low: with 448
 * KiB a tenth less processor time, but more for a reset to destroy.
 */
enum {
	HIGH_WATER = 262144,	/* held while the receiver lives, bytes */
	UNSENT_LOW = 262144,	/* TCP_NOTSENT_LOWAT, bytes */
	READ_SMALL = 4096,	/* reads up to this are kept or lost whole */
	DRAIN_MAX = 4194304,	/* read from a client about to go, bytes */
	DRAIN_READS = 4096,	/* of these, reads in one turn */
	READ_LEAST = 64,	/* what a read counts for, at the least */
	BACKLOG = 128,		/* with 16 quick reconnects had to wait */
	LISTENERS = 32,		/* addresses of both sides and metrics */
	NETS = 16,		/* networks a side (-A, -B) */
	SCRAPES = 4,		/* metrics clients at a time (-m) */
	REQUEST_MAX = 2048,	/* bytes in a metrics request */
	ADDRESS_SIZE = 72,	/* bytes in "[v6%zone]:port" */
	ROW_SIZE = 80,		/* more than a row of the trace, bytes */
	TEXT_SIZE = 8192	/* bytes in what is said at once */
};

#define MSEC INT64_C(1000)	/* times are in microseconds */
#define SECOND INT64_C(1000000)
#define NEVER INT64_MAX
#define SECONDS_MAX 1000000000	/* in an argument; 31 years */
#define PATIENCE (2 * SECOND)	/* when stopping; with a metrics client */
#define WAIT_MAX (1000000 * SECOND) /* longer ones fail on some systems */
#define LATE (100 * MSEC)	/* a wait so much too long is a pause */

/* ---- Types and state ------------------------------------------------- */

enum { SIDE_A, SIDE_B, SIDES, METRICS = SIDES, SERVICES };
enum reason { NOT_LOST, END, RESET, TIMEOUT, REPLACED, SHUTDOWN, FAILED,
    REASONS };
enum refusal { DENIED, BUSY, LIMIT, REFUSALS };

/* A queue of bytes in a circle. */
struct ring {
	size_t capacity;	/* usable bytes, 1 to BUFFER_MAX */
	size_t start, used;	/* offset of the oldest byte; bytes held */
	unsigned char bytes[BUFFER_MAX];
};

/* One direction; the index is the side that the bytes come from. */
static struct flow {
	struct ring ring;	/* bytes received and not yet sent */
	uint64_t received, sent, dropped; /* bytes since the start */
	uint64_t drops;		/* reads dropped, and expiries */
	uint64_t unacked;	/* sent, but unacknowledged at a disconnect */
	uint64_t unsaid;	/* dropped bytes that no log line told yet */
	const char *drop_reason; /* of the last drop */
	int64_t drop_time;	/* when the last drop was */
	int64_t drop_said;	/* when it was logged; 0 when a run is over */
	uint64_t rate_sent;	/* sent, when the rate was last made */
	double rate;		/* bytes a second, for the live line (-t) */
} flows[SIDES];

/* The place for the one client of a side. */
static struct slot {
	int fd;			/* its socket; -1 if the slot is free */
	enum reason lost;	/* why it goes; NOT_LOST while it stays */
	const char *cause;	/* of a TIMEOUT: idle, write, keepalive */
	int error;		/* of FAILED: errno */
	int half_closed;	/* EOF was read; -e keeps it for sending */
	int shut;		/* stopping: nothing more is sent to it */
	int read_watched, write_watched; /* in the sets of the last wait */
	uint64_t session;	/* number of the connection, from 1 */
	uint64_t received, sent; /* bytes of this connection */
	size_t drained;		/* bytes read since it was to go */
	int64_t since, ended;	/* when it was accepted, EOF was read */
	int64_t heard;		/* when it last sent, or was not read */
	int64_t progress;	/* when it last took a byte, or none waited */
	int64_t sampled;	/* when unacked was asked for */
	int64_t unacked;	/* as sampled, bytes; NEVER when not yet */
	char peer[ADDRESS_SIZE];
} slots[SIDES];

/* What stays of a side while clients come and go. */
static struct side {
	uint64_t connects, disconnects[REASONS], refused[REFUSALS];
	uint64_t refused_unsaid; /* newcomers, since the last refuse line */
	int64_t refused_next;	/* when the next one may be logged */
	int64_t left;		/* when the last client left; the start */
} sides[SIDES];

/* A socket that clients dial. */
static struct listener {
	int fd, service;	/* the socket; SIDE_A, SIDE_B or METRICS */
	int64_t rest_until;	/* if accept() failed for a lack, else 0 */
	char address[ADDRESS_SIZE];
} listeners[LISTENERS];

/* A client of the metrics port. */
static struct scrape {
	int fd;			/* -1 when free */
	int answered;		/* what still comes is thrown away */
	int64_t deadline;	/* when it is closed at the latest */
	size_t used;		/* bytes of the request so far */
	char request[REQUEST_MAX];
} scrapes[SCRAPES];

/* What the command line says. */
static struct {
	int family, level;		/* -4, -6; -q, -v: LOG_... */
	int lossless, syslog, trace;	/* -l, -s, -x */
	const char *name;		/* -n; empty if none */
	size_t capacity;		/* -b, bytes */
	int64_t eof_hold, grace, keepalive, silence;	/* -e, -g, -k, -r */
	int64_t hold, idle, period, stall;	/* -H, -i, -t, -w; or NEVER */
	struct net {
		size_t bits;		/* that have to agree, 0 to 128 */
		unsigned char bytes[16]; /* IPv6 or v4-mapped (RFC 4291) */
	} nets[SIDES][NETS];		/* -A, -B */
	int net_count[SIDES];		/* 0 lets everyone in */
	struct place {
		const char *host;	/* NULL for every interface */
		int port;		/* 0: any free one; -1: nowhere */
	} places[SERVICES];		/* operands, -m */
} conf = {
	.level = LOG_INFO, .name = "", .capacity = BUFFER_MAX,
	.grace = SECOND / 10, .keepalive = 30 * SECOND, .hold = NEVER,
	.idle = NEVER, .period = NEVER, .stall = 10 * SECOND,
	.places = { { NULL, 1024 }, { NULL, 1025 }, { NULL, -1 } }
};

static int listener_count;
static int fd_top;		/* highest descriptor the loop ever watched */
static unsigned char scratch[READ_SMALL]; /* a read that may be dropped */
static char page[TEXT_SIZE];	/* what is about to be said */
static size_t page_used;	/* characters of it */
static int64_t now;		/* CLOCK_MONOTONIC, read once a turn */
static int64_t stop_time = NEVER; /* when stopping is over, once begun */
static int64_t totals_last;	/* when -t was last done */
static time_t start_time;	/* CLOCK_REALTIME at start, seconds */
static uint64_t sessions;	/* connections so far */
static uint64_t log_lost;	/* lines that were not written, as told */
static uint64_t log_unsaid;	/* and those not told yet */
static int live, live_shown;	/* -t keeps a line in place; it stands */
static sigset_t wait_mask;	/* signals blocked while pselect waits */
static int64_t signals_heard;	/* when a wait last let signals in */
static volatile sig_atomic_t stop_signal, stop_count, totals_asked, continued;

static const char *const service_names[] = { "side=A", "side=B",
    "service=metrics" };
static const char *const side_names[] = { "A", "B" };
static const char *const flow_names[] = { "A->B", "B->A" };
static const char *const reason_names[] = { "none", "eof", "reset",
    "timeout", "replaced", "shutdown", "error" };
static const char *const refusal_names[] = { "denied", "busy", "limit" };

/* ---- Messages -------------------------------------------------------- */

/* Adds to the page; what does not fit is cut. */
static void
page_add(const char *format, ...)
{
	size_t room = sizeof page - page_used;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(page + page_used, room, format, args);
	va_end(args);
	if (n > 0)
		page_used += (size_t)n < room ? (size_t)n : room - 1;
}

/* Makes control characters harmless, in a text of the user's. */
static void
text_clean(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			*text = '?';
}

/* Adds the name, in quotes if asked or needed: logfmt or Prometheus. */
static void
page_add_name(int quote)
{
	const char *c = conf.name, *mark = quote || c[strcspn(c, " \"=\\")] ?
	    "\"" : "";

	page_add("name=%s", mark);
	for (; *c != '\0'; c++)
		page_add(*c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
	page_add("%s", mark);
}

/* Adds the time of day as 2026-01-31T12:00:00.123Z. */
static void
page_add_time(void)
{
	struct timespec wall;
	struct tm utc;
	char stamp[32] = "";

	clock_gettime(CLOCK_REALTIME, &wall);
	if (gmtime_r(&wall.tv_sec, &utc) != NULL)
		strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
	page_add("%s.%03dZ", stamp, (int)(wall.tv_nsec / 1000000));
}

/*
 * Writes the page in one call if the descriptor takes it now, and begins a
 * new one; returns 0 if it does not.  0-2 are shared with others, so they
 * stay blocking: a stopped terminal or a full pipe must not stop the bridge.
 */
static int
page_write(int fd)
{
	struct timeval at_once = { 0, 0 };
	size_t size = page_used;
	fd_set set;

	page_used = 0;
	FD_ZERO(&set);
	FD_SET(fd, &set);
	return select(fd + 1, NULL, &set, NULL, &at_once) == 1 &&
	    write(fd, page, size) == (ssize_t)size;
}

/*
 * Logs an event, one line, with a level of syslog(3); LOG_NOTICE is what
 * was asked for, so it is told under -q, too.  What can't be written is
 * counted, and told before the next line that can.
 */
static void
log_event(int level, const char *event, const char *format, ...)
{
	uint64_t unsaid = log_unsaid;
	char rest[1024];
	va_list args;

	if (level > conf.level)
		return;
	log_unsaid = 0;		/* so that this goes one deep only */
	if (unsaid > 0)
		log_event(LOG_WARNING, "log_lost", "lines=" U64, unsaid);
	if (log_unsaid > 0) {	/* nor can this one be told */
		log_unsaid += unsaid;
		return;
	}
	log_lost += unsaid;
	va_start(args, format);
	vsnprintf(rest, sizeof rest, format, args);
	va_end(args);
	page_used = 0;
	if (!conf.syslog) {
		/* The live line makes way; the loop draws it again. */
		page_add(live_shown ? "\r\033[Ktime=" : "time=");
		page_add_time();
		page_add(" level=%s ", level == LOG_WARNING ? "warn" :
		    level == LOG_DEBUG ? "debug" : "info");
	}
	if (conf.name[0] != '\0')
		page_add_name(0);
	page_add("%sevent=%s %s", conf.name[0] != '\0' ? " " : "", event, rest);
	if (conf.syslog) {
		syslog(level, "%s", page);
		return;
	}
	page_add("\n");
	if (page_write(STDERR_FILENO))
		live_shown = 0;
	else
		log_unsaid = 1;
}

/* Ends a program that can't start (2: wrong usage) or go on: one line. */
static void
fatal(int status, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	text_clean(text);
	fprintf(stderr, "tcpbridge: %s\n", text);
	if (conf.syslog && status == 1)
		syslog(LOG_ERR, "%s", text);
	exit(status);
}

/* ---- Rings ----------------------------------------------------------- */

/*
 * Pure arithmetic; the caller copies, to the free piece or from the held
 * one at start.  The contracts are in ACSL, and test/prove has them proved.
 */

/*@ predicate sound(struct ring *ring) = \valid(ring) &&
  @     0 < ring->capacity <= BUFFER_MAX && ring->start < ring->capacity &&
  @     ring->used <= ring->capacity; */

/*@ requires sound(ring);
  @ assigns \nothing;
  @ ensures \result == ring->capacity - ring->used; */
static size_t
ring_room(const struct ring *ring)
{
	return ring->capacity - ring->used;
}

/*@ requires sound(ring) && \valid(offset) && \separated(ring, offset);
  @ assigns *offset;
  @ ensures *offset == (ring->start + ring->used) % ring->capacity;
  @ ensures *offset + \result <= ring->capacity;
  @ ensures \result <= ring->capacity - ring->used;
  @ ensures \result == 0 <==> ring->used == ring->capacity; */
static size_t
ring_free_piece(const struct ring *ring, size_t *offset)
{
	size_t end = ring->start + ring->used;
	int wraps = end >= ring->capacity;

	*offset = wraps ? end - ring->capacity : end;
	return wraps ? ring_room(ring) : ring->capacity - end;
}

/*@ requires sound(ring);
  @ assigns \nothing;
  @ ensures \result <= ring->used && ring->start + \result <= ring->capacity;
  @ ensures \result == 0 <==> ring->used == 0; */
static size_t
ring_held_piece(const struct ring *ring)
{
	size_t to_end = ring->capacity - ring->start;

	return ring->used < to_end ? ring->used : to_end;
}

/*@ requires sound(ring) && size <= ring->capacity - ring->used;
  @ assigns ring->used;
  @ ensures sound(ring) && ring->used == \old(ring->used) + size; */
static void
ring_put(struct ring *ring, size_t size)
{
	ring->used += size;
}

/* An empty ring starts again at 0: light traffic touches few pages. */
/*@ requires sound(ring) && size <= ring->used;
  @ assigns ring->used, ring->start;
  @ ensures sound(ring) && ring->used == \old(ring->used) - size;
  @ ensures ring->start == (ring->used == 0 ? 0 :
  @     (\old(ring->start) + size) % ring->capacity); */
static void
ring_take(struct ring *ring, size_t size)
{
	ring->used -= size;
	ring->start += size;
	if (ring->start >= ring->capacity)
		ring->start -= ring->capacity;
	if (ring->used == 0)
		ring->start = 0;
}

/* ---- Sockets --------------------------------------------------------- */

static int64_t
clock_read(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * SECOND + time.tv_nsec / 1000;
}

/* The numeric form of an address: 192.0.2.7:1024, [2001:db8::7%2]:1024. */
static void
address_text(const struct sockaddr *address, socklen_t length, char *text)
{
	char host[ADDRESS_SIZE - 10] = "unknown", port[8] = "0";

	getnameinfo(address, length, host, sizeof host, port, sizeof port,
	    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(text, ADDRESS_SIZE, strchr(host, ':') != NULL ?
	    "[%s]:%s" : "%s:%s", host, port);
}

/* Reads a numeric address as IPv6, or v4-mapped; returns 0 if it is none. */
static int
address_bytes(const char *text, size_t length, unsigned char *bytes)
{
	static const unsigned char mapped[12] = { [10] = 255, [11] = 255 };
	char copy[INET6_ADDRSTRLEN + 1];

	snprintf(copy, sizeof copy, "%.*s",
	    (int)(length < sizeof copy ? length : sizeof copy), text);
	memcpy(bytes, mapped, sizeof mapped);
	return inet_pton(AF_INET, copy, bytes + 12) == 1 ||
	    inet_pton(AF_INET6, copy, bytes) == 1;
}

/*
 * Makes a socket fit for the loop: non-blocking, closed on exec, and below
 * FD_SETSIZE, or it would be written past an fd_set.  Returns 0 if it can't.
 */
static int
socket_prepare(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (fd >= FD_SETSIZE) {
		errno = EMFILE;
		return 0;
	}
	if (fd > fd_top)
		fd_top = fd;
	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) >= 0 &&
	    fcntl(fd, F_SETFD, FD_CLOEXEC) >= 0;
}

/* Sets an option that the bridge works without; a failure is no matter. */
static void
socket_option(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof value);
}

/*
 * Sets the options of a client's socket.  Keepalive is not sent while data
 * is unacknowledged, so TCP_USER_TIMEOUT bounds that, with the same total.
 * It also ends peers that acknowledge but take nothing, so it is not set
 * where -w says never (tcp(7)).
 */
static void
socket_tune(int fd)
{
	int64_t most = 32767 * SECOND;	/* Linux refuses longer ones */
	int64_t wanted = conf.keepalive < most ? conf.keepalive : most;
	int idle = (int)((wanted + SECOND - 1) / SECOND);

	socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	socket_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
#ifdef TCP_NOTSENT_LOWAT
	socket_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_LOW);
#endif
	if (conf.keepalive == 0)
		return;
	socket_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#if defined TCP_KEEPIDLE
	socket_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle);
#elif defined TCP_KEEPALIVE	/* its name on macOS */
	socket_option(fd, IPPROTO_TCP, TCP_KEEPALIVE, idle);
#endif
#if defined TCP_KEEPINTVL && defined TCP_KEEPCNT
	socket_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, (idle + 2) / 3);
	socket_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
#endif
#ifdef TCP_USER_TIMEOUT
	if (conf.stall != NEVER)
		socket_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
		    (int)((2 * wanted + MSEC - 1) / MSEC));
#endif
	(void)idle;
}

/* Bytes sent that the peer's TCP has not acknowledged, if that is told. */
static int
socket_unacked(int fd)
{
	int bytes = 0;
#if defined SO_NWRITE
	socklen_t length = sizeof bytes;

	getsockopt(fd, SOL_SOCKET, SO_NWRITE, &bytes, &length);
#elif defined FIONWRITE
	ioctl(fd, FIONWRITE, &bytes);
#elif defined TIOCOUTQ
	ioctl(fd, TIOCOUTQ, &bytes);
#endif
	(void)fd;
	return bytes;
}

/*
 * Opens one more listener and gives the address its port; returns errno or
 * 0.  SO_REUSEADDR lets a restart bind while connections are in TIME_WAIT;
 * SO_REUSEPORT would let a second bridge steal half of the clients.
 */
static int
listener_open(struct addrinfo *info, int service)
{
	struct listener *listener = &listeners[listener_count];
	socklen_t length = info->ai_addrlen;
	int error, fd = socket(info->ai_family, SOCK_STREAM, 0);

	if (fd < 0)
		return errno;
	socket_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (info->ai_family == AF_INET6)
		socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (!socket_prepare(fd) || bind(fd, info->ai_addr, length) < 0 ||
	    listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, info->ai_addr, &length) < 0) {
		error = errno;
		close(fd);
		return error;
	}
	address_text(info->ai_addr, length, listener->address);
	listener->fd = fd;
	listener->service = service;
	listener_count++;
	return 0;
}

/*
 * Opens a listener for each address of a service; for port 0 all get the
 * number that the system chose for the first, or all others if one can't
 * have it.  A family that the system lacks, so that it has no ::1, and an
 * address listed twice are skipped.  What else fails ends the program.
 */
static void
service_open(int service)
{
	const struct place *place = &conf.places[service];
	struct addrinfo hints = { 0 }, *list, *info;
	int i, error, first = listener_count, tries = 100;
	in_port_t *slot, port = htons((uint16_t)place->port), given = port;
	char text[ADDRESS_SIZE];

	hints.ai_family = conf.family;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE;
	error = getaddrinfo(place->host, "0", &hints, &list);
	if (error != 0)
		fatal(1, "%s: %s", place->host != NULL ? place->host : "*",
		    error == EAI_SYSTEM ? strerror(errno) :
		    gai_strerror(error));
	hints.ai_next = list;	/* to begin again at hints */
	for (info = list; info != NULL; info = info->ai_next) {
		slot = info->ai_family == AF_INET6 ?
		    &((struct sockaddr_in6 *)(void *)info->ai_addr)->sin6_port :
		    &((struct sockaddr_in *)(void *)info->ai_addr)->sin_port;
		*slot = port;
		address_text(info->ai_addr, info->ai_addrlen, text);
		for (i = first; i < listener_count; i++)
			if (strcmp(listeners[i].address, text) == 0)
				break;
		if (i < listener_count)
			continue;	/* listed twice */
		if (listener_count == LISTENERS)
			fatal(1, "%s: too many addresses", text);
		error = listener_open(info, service);
		if (error == 0)
			port = *slot;
		else if (error == EADDRINUSE && port != given && tries-- > 0) {
			while (listener_count > first)
				close(listeners[--listener_count].fd);
			port = given;
			info = &hints;
		} else if (error != EAFNOSUPPORT && (error != EADDRNOTAVAIL ||
		    strncmp(text, "[::1]:", 6) != 0))
			fatal(1, "%s: %s", text, strerror(error));
		else
			log_event(LOG_DEBUG, "skip", "%s addr=%s error=\"%s\"",
			    service_names[service], text, strerror(error));
	}
	freeaddrinfo(list);
	if (listener_count == first)
		fatal(1, "%s: %s", text, strerror(error));
}

/* ---- Sides ----------------------------------------------------------- */

/*
 * Writes what a client sent to standard output (-x), like hexdump -C.  How
 * many bytes that did not take is said next time, and at the end (size 0).
 */
static void
trace_bytes(int side, const unsigned char *bytes, size_t size)
{
	static uint64_t untraced;
	size_t i, offset = 0;
	char row[ROW_SIZE];

	page_used = 0;
	if (untraced > 0)
		page_add("# " U64 " bytes not traced\n", untraced);
	if (size > 0) {
		page_add_time();
		page_add(" %s session=" U64 " bytes=%zu\n", flow_names[side],
		    slots[side].session, size);
	}
	for (untraced += size; page_used > 0 || offset < size;) {
		memset(row, ' ', sizeof row);
		for (i = 0; i < 16 && offset < size; i++, offset++) {
			unsigned char c = bytes[offset];

			row[3 * i + (i > 7)] = "0123456789abcdef"[c >> 4];
			row[3 * i + (i > 7) + 1] = "0123456789abcdef"[c & 15];
			row[51 + i] = (char)(c >= ' ' && c <= '~' ? c : '.');
		}
		row[50] = row[51 + i] = '|';
		if (i > 0)
			page_add("%08zx  %.*s\n", offset - i, (int)(52 + i),
			    row);
		if (offset < size && page_used + ROW_SIZE <= PIPE_BUF)
			continue;
		if (!page_write(STDOUT_FILENO))
			break;
		untraced = size - offset;
	}
}

/* Whether a side has a client that can be sent to. */
static int
side_connected(int side)
{
	return slots[side].fd >= 0 && slots[side].lost == NOT_LOST;
}

static const char *
state_name(void)
{
	static const char *const names[] = { "IDLE", "ONLY_A", "ONLY_B",
	    "PAIRED" };

	return names[side_connected(SIDE_A) + 2 * side_connected(SIDE_B)];
}

static size_t
side_held(int side)
{
	return flows[!side].ring.used;
}

/* Whether bytes for a side may wait: it is there, or left within -H. */
static int
side_keeps(int side)
{
	return slots[side].fd >= 0 || now - sides[side].left < conf.hold;
}

/*
 * Whether a sender waits for room: with -l always, else for a receiver that
 * is connected and not stuck: that took a byte within -g, or none waited.
 */
static int
side_paced(int side)
{
	return conf.lossless || (side_connected(!side) &&
	    (side_held(!side) == 0 ||
	    now - slots[!side].progress < conf.grace));
}

/* Whether what is read from a side has a place to go, or is dropped. */
static int
side_can_receive(int side)
{
	return ring_room(&flows[side].ring) > 0 || !side_paced(side);
}

/* The flow-control policy: whether a side is to be read. */
static int
wants_read(int side)
{
	const struct slot *slot = &slots[side];

	if (!side_connected(side) || slot->half_closed || stop_time != NEVER)
		return slot->fd >= 0 && slot->shut;	/* to see it close */
	if (side_connected(!side) && flows[side].ring.used >= HIGH_WATER)
		return !side_paced(side);
	return side_can_receive(side);
}

static int
wants_write(int side)
{
	return side_connected(side) && side_held(side) > 0;
}

/* Whether newcomers are let in: not while the old one's bytes lack room. */
static int
wants_accept(const struct listener *listener)
{
	int side = listener->service;

	if (stop_time != NEVER || now < listener->rest_until)
		return 0;
	return side == METRICS || slots[side].fd < 0 ||
	    slots[side].half_closed || side_can_receive(side);
}

/* Logs what was dropped: the first of a run, then one line a second. */
static void
flow_tell(int side)
{
	struct flow *flow = &flows[side];

	if (flow->drop_said > 0 && now - flow->drop_said < SECOND)
		return;
	log_event(LOG_WARNING, "drop", "dir=%s session=" U64 " reason=%s "
	    "bytes=" U64 " drops=" U64 " total=" U64, flow_names[side],
	    slots[side].session, flow->drop_reason, flow->unsaid,
	    flow->drops, flow->dropped);
	flow->drop_said = now;
	flow->unsaid = 0;
}

/* Counts dropped bytes. */
static void
flow_drop(int side, size_t size)
{
	struct flow *flow = &flows[side];

	flow->dropped += size;
	flow->unsaid += size;
	flow->drops++;
	flow->drop_time = now;
	flow->drop_reason = side_keeps(!side) ? "overflow" : "expired";
	flow_tell(side);
}

/* Drops what has waited for an absent side when -H is over. */
static void
side_expire(int side)
{
	size_t held = side_held(side);

	if (held == 0 || side_keeps(side))
		return;
	ring_take(&flows[!side].ring, held);
	flow_drop(!side, held);
}

/* A client can't stay.  The first reason counts; the loop closes it. */
static void
slot_lose(int side, enum reason reason, const char *cause)
{
	struct slot *slot = &slots[side];

	if (slot->lost != NOT_LOST)
		return;
	slot->lost = reason;
	slot->cause = cause;
	slot->error = errno;
}

/* A call on a client's socket met EOF, or errno, which may mean nothing. */
static void
slot_end(int side, int eof)
{
	struct slot *slot = &slots[side];

	if (eof) {
		slot->half_closed = 1;
		slot->ended = now;
		if (slot->shut || conf.eof_hold == 0)
			slot_lose(side, slot->shut ? SHUTDOWN : END, "");
		else if (slot->lost == NOT_LOST)
			log_event(LOG_INFO, "half_close", "%s session=" U64,
			    service_names[side], slot->session);
	} else if (errno == ECONNRESET || errno == EPIPE)
		slot_lose(side, RESET, "");
	else if (errno == ETIMEDOUT)
		slot_lose(side, TIMEOUT, "keepalive");
	else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		slot_lose(side, FAILED, "");
}

/*
 * Receives once from a client, into the ring, or over the scratch buffer
 * when it might not fit and would be dropped whole.  Stored bytes end a run
 * of drops a second after the last.  Returns the number of bytes read.
 */
static size_t
side_receive(int side)
{
	struct slot *slot = &slots[side];
	struct flow *flow = &flows[side];
	size_t offset, piece = ring_free_piece(&flow->ring, &offset);
	size_t room = side_keeps(!side) ? ring_room(&flow->ring) : 0;
	size_t size, most = piece;
	unsigned char *into = flow->ring.bytes + offset;
	ssize_t n;

	if (piece < READ_SMALL || room == 0 || slot->shut) {
		into = scratch;
		most = !side_paced(side) || room > READ_SMALL || slot->shut ?
		    READ_SMALL : room;
	}
	if (most == 0)
		return 0;	/* recv() would return 0, as for EOF */
	n = recv(slot->fd, into, most, 0);
	if (n <= 0)
		slot_end(side, n == 0);
	if (n <= 0 || slot->shut)	/* a stop takes no more */
		return 0;
	size = (size_t)n;
	slot->heard = now;
	slot->received += size;
	flow->received += size;
	if (conf.trace)
		trace_bytes(side, into, size);
	if (size > room) {
		flow_drop(side, size);
		return size;
	}
	for (most = size; most > 0; most -= piece, into += piece) {
		piece = ring_free_piece(&flow->ring, &offset);
		piece = piece < most ? piece : most;
		if (into != flow->ring.bytes + offset)
			memcpy(flow->ring.bytes + offset, into, piece);
		ring_put(&flow->ring, piece);
	}
	if (flow->drop_said > 0 && now - flow->drop_time >= SECOND) {
		log_event(LOG_INFO, "drop_end", "dir=%s drops=" U64 " total="
		    U64, flow_names[side], flow->drops, flow->dropped);
		flow->drop_said = 0;	/* unsaid goes to the next line */
	}
	return size;
}

/* Sends the oldest held piece to a client, as much as its socket takes. */
static void
side_send(int side)
{
	struct slot *slot = &slots[side];
	struct flow *flow = &flows[!side];
	ssize_t n = send(slot->fd, flow->ring.bytes + flow->ring.start,
	    ring_held_piece(&flow->ring), 0);

	if (n < 0) {
		slot_end(side, 0);
		return;
	}
	ring_take(&flow->ring, (size_t)n);
	flow->sent += (uint64_t)n;
	slot->sent += (uint64_t)n;
	slot->progress = slot->sampled = now;
	slot->unacked = NEVER;
}

/*
 * Reads what a client that is to go has sent, forwarding on the way; there
 * is a bound for an endless one, with small reads counted as larger ones.
 * Returns 0 if the rest must wait: for room, or for the next turn.
 */
static int
side_drain(int side)
{
	struct slot *slot = &slots[side];
	size_t n = 1;
	int reads = 0;

	for (; n > 0 && slot->drained < DRAIN_MAX && !slot->half_closed;
	    slot->drained += n < READ_LEAST ? READ_LEAST : n) {
		if (!side_can_receive(side) || reads++ == DRAIN_READS)
			return 0;
		n = side_receive(side);
		if (wants_write(!side))
			side_send(!side);
	}
	slot->drained = 0;
	return 1;
}

/* Closes a client's socket and frees the slot. */
static void
slot_close(int side)
{
	struct slot *slot = &slots[side];
	enum reason lost = slot->lost;
	int64_t lasted = now - slot->since;
	int unacked = socket_unacked(slot->fd);

	if (slot->shut && unacked > 0)
		unacked--;	/* Linux counts the FIN as a byte */
	close(slot->fd);	/* never again, also after EINTR */
	slot->fd = -1;
	flows[!side].unacked += (uint64_t)unacked;
	sides[side].left = now;
	sides[side].disconnects[lost]++;
	log_event(LOG_INFO, "disconnect", "%s session=" U64 " peer=%s reason="
	    "%s%s%s%s duration=%" PRId64 ".%03d received=" U64 " sent=" U64
	    " unacked=%d held=%zu state=%s", service_names[side],
	    slot->session, slot->peer, reason_names[lost],
	    lost == TIMEOUT ? " cause=" : lost == FAILED ? " error=\"" : "",
	    lost == FAILED ? strerror(slot->error) : slot->cause,
	    lost == FAILED ? "\"" : "", lasted / SECOND,
	    (int)(lasted % SECOND / MSEC), slot->received, slot->sent,
	    unacked, side_held(side), state_name());
}

/* Whether -A or -B lets a peer in; everyone where it is not given. */
static int
side_admits(int side, const char *peer)
{
	int v6 = peer[0] == '[', i = conf.net_count[side], admits = i == 0;
	size_t bit, length = strcspn(peer + v6, v6 ? "%]" : ":");
	unsigned char bytes[16];

	if (!address_bytes(peer + v6, length, bytes))
		return admits;
	while (i-- > 0 && !admits) {
		const struct net *net = &conf.nets[side][i];

		for (bit = 0; bit < net->bits && ((net->bytes[bit / 8] ^
		    bytes[bit / 8]) & 0x80 >> bit % 8) == 0; bit++)
			continue;
		/* A network of IPv6 is none of v4-mapped addresses. */
		admits = bit == net->bits && (v6 || bit >= 96);
	}
	return admits;
}

/* A newcomer is closed at once, or takes the slot from the one there. */
static void
side_accept(int index, int fd, const char *peer)
{
	struct side *side = &sides[index];
	struct slot *slot = &slots[index];
	enum refusal refusal = !side_admits(index, peer) ? DENIED :
	    !socket_prepare(fd) ? LIMIT : side_connected(index) &&
	    !slot->half_closed && now - slot->heard < conf.silence ? BUSY :
	    REFUSALS;

	if (refusal < REFUSALS) {
		close(fd);
		side->refused[refusal]++;
		side->refused_unsaid++;
		if (now < side->refused_next)
			return;
		log_event(LOG_WARNING, "refuse", "%s peer=%s reason=%s count="
		    U64, service_names[index], peer, refusal_names[refusal],
		    side->refused_unsaid);
		side->refused_next = now + SECOND;
		side->refused_unsaid = 0;
		return;
	}
	if (slot->fd >= 0) {
		slot_lose(index, REPLACED, "");
		slot_close(index);
	}
	side_expire(index);
	socket_tune(fd);
	memset(slot, 0, sizeof *slot);
	slot->fd = fd;
	slot->session = ++sessions;
	slot->since = slot->heard = slot->progress = slot->sampled = now;
	slot->unacked = NEVER;
	snprintf(slot->peer, sizeof slot->peer, "%s", peer);
	side->connects++;
	log_event(LOG_INFO, "connect", "%s session=" U64 " peer=%s state=%s "
	    "held=%zu", service_names[index], slot->session, peer,
	    state_name(), side_held(index));
}

/* ---- Totals ---------------------------------------------------------- */

/* Logs what was counted since start, both directions and both sides. */
static void
totals_log(int level)
{
	int i;

	for (i = 0; i < SIDES; i++)
		log_event(level, "stats", "dir=%s received=" U64 " sent=" U64
		    " dropped=" U64 " held=%zu capacity=%zu drops=" U64
		    " unacked=" U64, flow_names[i], flows[i].received,
		    flows[i].sent, flows[i].dropped, flows[i].ring.used,
		    conf.capacity, flows[i].drops, flows[i].unacked);
	for (i = 0; i < SIDES; i++) {
		int here = side_connected(i);

		log_event(level, "stats", "%s connected=%d session=" U64
		    " peer=%s connects=" U64, service_names[i], here,
		    here ? slots[i].session : 0, here ? slots[i].peer : "-",
		    sides[i].connects);
	}
}

/* Adds a count in at most four characters: 999, 1.2k, 12k, 999M. */
static void
page_add_human(double count)
{
	const char *unit = "\0kMGTPE";

	for (; count >= 999.5; unit++)
		count /= 1000;
	page_add(*unit != '\0' && count < 9.95 ? "%.1f%.1s" : "%.0f%.1s",
	    count, unit);
}

/*
 * Draws the live line: state, peer of A, each direction's rate, total and
 * held bytes as a bar, peer of B, dropped bytes; cut so that it never wraps.
 */
static void
live_draw(void)
{
	size_t width = 80;
	int i;
#ifdef TIOCGWINSZ
	struct winsize window;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
		width = window.ws_col;
#endif
	page_used = 0;
	page_add("\r\033[K%s %.15s", state_name(),
	    side_connected(SIDE_A) ? slots[SIDE_A].peer : "-");
	for (i = 0; i < SIDES; i++) {
		int marks = (int)((flows[i].ring.used * 3 + conf.capacity - 1) /
		    conf.capacity);

		page_add(" %c", "><"[i]);
		page_add_human(flows[i].rate);
		page_add("/s ");
		page_add_human((double)flows[i].sent);
		page_add(" %.*s%.*s", marks, "###", 3 - marks, "...");
	}
	page_add(" %.15s !", side_connected(SIDE_B) ? slots[SIDE_B].peer : "-");
	page_add_human((double)(flows[SIDE_A].dropped + flows[SIDE_B].dropped));
	width += strlen("\r\033[K") - 1;
	page_used = page_used < width ? page_used : width;
	live_shown = page_write(STDERR_FILENO);
}

/* ---- Metrics --------------------------------------------------------- */

/*
 * Adds a metric: its head, and with "dir" or "side" as key a value of each,
 * with "" the first alone.  What ends in _total is a counter.
 */
static void
metric_add(const char *name, const char *help, const char *key, uint64_t a,
    uint64_t b)
{
	const char *const *names = *key == 'd' ? flow_names : side_names;

	page_add("# HELP tcpbridge_%s %s\n# TYPE tcpbridge_%s %s\n", name,
	    help, name, strstr(name, "_total") ? "counter" : "gauge");
	if (*key == '\0')
		page_add("tcpbridge_%s " U64 "\n", name, a);
	else if (*key != '-')
		page_add("tcpbridge_%s{%s=\"%s\"} " U64 "\n"
		    "tcpbridge_%s{%s=\"%s\"} " U64 "\n", name, key,
		    names[SIDE_A], a, name, key, names[SIDE_B], b);
}

/* Adds all metrics, in the Prometheus text format 0.0.4. */
static void
metrics_add(void)
{
#define FLOWS(what) "dir", flows[SIDE_A].what, flows[SIDE_B].what
	int i;

	metric_add("bytes_received_total", "Bytes received.", FLOWS(received));
	metric_add("bytes_sent_total", "Bytes sent.", FLOWS(sent));
	metric_add("bytes_dropped_total", "Bytes dropped.", FLOWS(dropped));
	metric_add("bytes_unacked_total", "Bytes sent that a connection left "
	    "unacknowledged.", FLOWS(unacked));
	metric_add("drops_total", "Reads dropped, and expiries.", FLOWS(drops));
	metric_add("held_bytes", "Bytes held now.", FLOWS(ring.used));
	metric_add("connected", "A client is there.", "side",
	    (uint64_t)side_connected(SIDE_A), (uint64_t)side_connected(SIDE_B));
	metric_add("connects_total", "Clients that came.", "side",
	    sides[SIDE_A].connects, sides[SIDE_B].connects);
	metric_add("disconnects_total", "Clients that went, by reason.", "-",
	    0, 0);
	for (i = 2 * END; i < 2 * REASONS; i++)
		page_add("tcpbridge_disconnects_total{side=\"%s\","
		    "reason=\"%s\"} " U64 "\n", side_names[i % 2],
		    reason_names[i / 2], sides[i % 2].disconnects[i / 2]);
	metric_add("refused_total", "Newcomers refused, by reason.", "-", 0, 0);
	for (i = 0; i < 2 * REFUSALS; i++)
		page_add("tcpbridge_refused_total{side=\"%s\",reason=\"%s\"} "
		    U64 "\n", side_names[i % 2], refusal_names[i / 2],
		    sides[i % 2].refused[i / 2]);
	metric_add("capacity_bytes", "Most bytes held in each direction.", "",
	    conf.capacity, 0);
	metric_add("log_lost_lines_total", "Log lines not written.", "",
	    log_lost + log_unsaid, 0);
	metric_add("start_time_seconds", "Start, seconds since 1970.", "",
	    (uint64_t)start_time, 0);
	metric_add("build_info", "Version and name.", "-", 0, 0);
	page_add("tcpbridge_build_info{version=\"" VERSION "\",");
	page_add_name(1);
	page_add("} 1\n");
}

/*
 * Answers a request line, "method target HTTP/1.x", at once: a fresh socket
 * takes a few kilobytes, or the client sees less than the Content-Length.
 */
static void
scrape_answer(int fd, char *request)
{
	const char *status = "200 OK";
	size_t method = strcspn(request, " \r\n");
	char head[256], *target = request + method;
	size_t length = strcspn(target += *target == ' ', " \r\n");

	page_used = 0;
	if (method == 0 || *target != '/' ||
	    strncmp(target + length, " HTTP/1.", 8) != 0)
		status = "400 Bad Request";
	else if (strncmp(request, "GET ", 4) != 0 &&
	    strncmp(request, "HEAD ", 5) != 0)
		status = "405 Method Not Allowed\r\nAllow: GET, HEAD";
	else if (strcspn(target, " ?") == 8 &&
	    memcmp(target, "/metrics", 8) == 0)
		metrics_add();
	else if (strcspn(target, " ?") == 8 &&
	    memcmp(target, "/healthz", 8) == 0)
		page_add("%s\n", state_name());
	else
		status = "404 Not Found";
	if (page_used == 0)
		page_add("%.3s\n", status);
	snprintf(head, sizeof head, "HTTP/1.0 %s\r\nContent-Type: text/plain; "
	    "version=0.0.4; charset=utf-8\r\nContent-Length: %zu\r\n"
	    "Connection: close\r\n\r\n", status, page_used);
	send(fd, head, strlen(head), 0);
	if (strncmp(request, "HEAD ", 5) != 0)
		send(fd, page, page_used, 0);
	shutdown(fd, SHUT_WR);
	log_event(LOG_DEBUG, "request", "status=%.3s", status);
}

/*
 * Reads a metrics client.  After the answer it is read until it closes: to
 * close with unread input would reset the connection under the answer.
 */
static void
scrape_read(struct scrape *scrape)
{
	char *request = scrape->request;
	size_t room = sizeof scrape->request - 1 - scrape->used;
	ssize_t n = recv(scrape->fd, request + scrape->used, room, 0);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		scrape->deadline = now;
	if (n <= 0 || scrape->answered)
		return;
	scrape->used += (size_t)n;
	request[scrape->used] = '\0';
	if ((size_t)n == room || strlen(request) < scrape->used)
		request[0] = '\0';	/* too long, or no text */
	else if (strstr(request, "\n\r\n") == NULL &&
	    strstr(request, "\n\n") == NULL)
		return;
	scrape->used = 0;
	scrape->answered = 1;
	scrape_answer(scrape->fd, request);
}

/* Takes a metrics client, in the place of the oldest if all are taken. */
static void
scrape_accept(int fd)
{
	struct scrape *scrape = scrapes;
	int i;

	for (i = 1; i < SCRAPES; i++)
		if (scrapes[i].deadline < scrape->deadline)
			scrape = &scrapes[i];
	if (scrape->fd >= 0)
		close(scrape->fd);
	scrape->fd = fd;
	scrape->used = 0;
	scrape->answered = 0;
	scrape->deadline = socket_prepare(fd) ? now + PATIENCE : now;
}

/* ---- The loop -------------------------------------------------------- */

/* Whether a limit since then is over; if not, the next turn is due then. */
static int
is_over(int64_t since, int64_t limit, int64_t *due)
{
	if (limit == NEVER || now - since >= limit)
		return limit != NEVER;
	if (since + limit < *due)
		*due = since + limit;
	return 0;
}

/*
 * How long a client may take nothing until something follows from it: -w,
 * or -g where that holds the other side back.
 */
static int64_t
side_patience(int side)
{
	int holds_back = slots[!side].fd >= 0 && !slots[!side].half_closed &&
	    !conf.lossless && !wants_read(!side);

	return holds_back && conf.grace < conf.stall ? conf.grace : conf.stall;
}

/*
 * Does what is due on a side by the clock.  While data waits for its client,
 * acknowledgements are asked for, often enough to time -w and, where that
 * holds the other side back, -g; fewer bytes without one are progress.
 */
static void
side_timers(int side, int64_t *due)
{
	struct slot *slot = &slots[side];
	int64_t unacked, patience;

	if (slot->fd < 0 && side_held(side) > 0 &&
	    is_over(sides[side].left, conf.hold, due))
		side_expire(side);
	if (!side_connected(side))
		return;
	if (slot->half_closed && is_over(slot->ended, conf.eof_hold, due))
		slot_lose(side, END, "");
	if (wants_read(side) && is_over(slot->heard, conf.idle, due))
		slot_lose(side, TIMEOUT, "idle");
	if (!wants_write(side))
		return;
	patience = side_patience(side);
	if (patience == NEVER)
		return;
	if (now - slot->sampled >= patience / 20 + MSEC ||
	    now - slot->progress >= conf.stall) {
		unacked = socket_unacked(slot->fd);
		if (unacked < slot->unacked)
			slot->progress = now;
		slot->unacked = unacked;
		slot->sampled = now;
		patience = side_patience(side);
	}
	is_over(slot->sampled, patience / 20 + MSEC, due);
	is_over(slot->progress, patience, due);
	if (is_over(slot->progress, conf.stall, due))
		slot_lose(side, TIMEOUT, "write");
}

/*
 * Closes lost clients and does all that is due by the clock; in this order,
 * for what they sent last counts, too.  Returns what is due next, or NEVER.
 */
static int64_t
timers_run(void)
{
	int64_t due;
	int i, connected;

	do {		/* again if that made another one lost */
		connected = side_connected(SIDE_A) + side_connected(SIDE_B);
		due = NEVER;
		for (i = 0; i < SIDES; i++)
			if (slots[i].fd >= 0 && !side_connected(i) &&
			    (stop_time != NEVER || side_drain(i)))
				slot_close(i);
		for (i = 0; i < SIDES; i++)
			side_timers(i, &due);
	} while (side_connected(SIDE_A) + side_connected(SIDE_B) < connected);
	for (i = 0; i < SIDES; i++)
		if (slots[i].fd >= 0 && !side_connected(i) &&
		    side_can_receive(i))
			due = now;	/* to read on where it ended */
	for (i = 0; i < SIDES; i++)
		if (stop_time != NEVER && side_connected(i) &&
		    side_held(i) == 0 && !slots[i].shut) {
			slots[i].shut = 1;	/* has all: gets the EOF */
			shutdown(slots[i].fd, SHUT_WR);
		}
	for (i = 0; i < SCRAPES; i++)
		if (scrapes[i].fd >= 0 &&
		    is_over(scrapes[i].deadline, 0, &due)) {
			close(scrapes[i].fd);
			scrapes[i].fd = -1;
		}
	for (i = 0; i < SIDES; i++)
		if (flows[i].unsaid > 0 &&
		    is_over(flows[i].drop_said, SECOND, &due))
			flow_tell(i);
	for (i = 0; i < listener_count; i++)
		is_over(listeners[i].rest_until, 0, &due);
	is_over(stop_time, 0, &due);
	if (is_over(totals_last, conf.period, &due)) {
		for (i = 0; i < SIDES; i++) {
			flows[i].rate = (double)SECOND *
			    (double)(flows[i].sent - flows[i].rate_sent) /
			    (double)(now - totals_last);
			flows[i].rate_sent = flows[i].sent;
		}
		totals_last = now;
		is_over(totals_last, conf.period, &due);
		live_shown = 0;
		if (!live)
			totals_log(LOG_INFO);
	}
	if (live && !live_shown)
		live_draw();
	return due;
}

/*
 * Takes one client from a listener.  Without descriptors or memory it would
 * be reported again and again, so the listener rests.
 */
static void
listener_accept(struct listener *listener)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof address;
	int service = listener->service, fd;
	char peer[ADDRESS_SIZE];

	if (service != METRICS && slots[service].fd >= 0 &&
	    !side_drain(service))
		return;		/* the newcomer waits in the backlog */
	fd = accept(listener->fd, (struct sockaddr *)&address, &length);
	if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK ||
	    errno == EINTR || errno == ECONNABORTED))
		return;
	if (fd < 0 && listener->rest_until == 0)
		log_event(LOG_WARNING, "accept_failed", "%s error=\"%s\"",
		    service_names[service], strerror(errno));
	listener->rest_until = fd < 0 ? now + SECOND : 0;
	/* What accept() gave; getpeername() fails on one already reset. */
	address_text((struct sockaddr *)&address, length, peer);
	if (fd >= 0 && service != METRICS)
		side_accept(service, fd, peer);
	else if (fd >= 0)
		scrape_accept(fd);
}

/*
 * Waits until a descriptor is ready, something is due, or a signal came.
 * Time in which a client was not read, or nothing waited for it, does not
 * count, nor does a wait in which the bridge itself was stopped.
 */
static void
loop_wait(fd_set *readable, fd_set *writable, int64_t due)
{
	int64_t wait = due == NEVER ? NEVER : due > now + WAIT_MAX ? WAIT_MAX :
	    due > now ? due - now : 0;
	int64_t before = now, began, paused;
	struct timespec timeout;
	sigset_t mask;
	int i;

	FD_ZERO(readable);
	FD_ZERO(writable);
	for (i = 0; i < SIDES; i++) {
		if ((slots[i].read_watched = wants_read(i)))
			FD_SET(slots[i].fd, readable);
		if ((slots[i].write_watched = wants_write(i)))
			FD_SET(slots[i].fd, writable);
	}
	for (i = 0; i < listener_count; i++)
		if (wants_accept(&listeners[i]))
			FD_SET(listeners[i].fd, readable);
	for (i = 0; i < SCRAPES; i++)
		if (scrapes[i].fd >= 0)
			FD_SET(scrapes[i].fd, readable);
	timeout.tv_sec = (time_t)(wait / SECOND);
	timeout.tv_nsec = (long)(wait % SECOND * 1000);
	began = clock_read();
	if (pselect(fd_top + 1, readable, writable, NULL,
	    wait == NEVER ? NULL : &timeout, &wait_mask) < 0) {
		if (errno != EINTR)
			fatal(1, "pselect: %s", strerror(errno));
		FD_ZERO(readable);
		FD_ZERO(writable);
	}
	now = clock_read();
	if (now - began >= LATE)
		signals_heard = now;
	else if (now - signals_heard >= SECOND) {
		/* Linux lets none in while something is always ready. */
		sigprocmask(SIG_SETMASK, &wait_mask, &mask);
		sigprocmask(SIG_SETMASK, &mask, NULL);
		signals_heard = now;
	}
	paused = continued || (wait != NEVER && now - before - wait > LATE) ?
	    now - before : 0;
	continued = 0;
	if (paused > 0)
		log_event(LOG_DEBUG, "pause", "waited=%" PRId64 ".%03d",
		    paused / SECOND, (int)(paused % SECOND / MSEC));
	for (i = 0; i < SIDES; i++) {
		slots[i].ended += paused;
		slots[i].heard = slots[i].read_watched ?
		    slots[i].heard + paused : now;
		slots[i].progress = side_held(i) > 0 ?
		    slots[i].progress + paused : now;
	}
}

/*
 * The life of the bridge.  All is received before anything is sent, so that
 * nothing goes to a client whose EOF came with it; a side that nothing
 * waited for, so that its socket was not watched, is sent to at once; a slot
 * is read before its listener is accepted from.  A signal ends it when all
 * held bytes have reached the connected clients and these have closed, when
 * the time for that is over, or with a second one.
 */
static void
loop_run(void)
{
	fd_set readable, writable;
	int i;

	for (;;) {
		int64_t due = timers_run();

		if (stop_count > 1 || now >= stop_time || (stop_time != NEVER &&
		    slots[SIDE_A].fd < 0 && slots[SIDE_B].fd < 0))
			break;
		loop_wait(&readable, &writable, due);
		for (i = 0; i < SIDES; i++)
			if (slots[i].fd >= 0 &&
			    FD_ISSET(slots[i].fd, &readable))
				side_receive(i);
		for (i = 0; i < SIDES; i++)
			if (wants_write(i) && (!slots[i].write_watched ||
			    FD_ISSET(slots[i].fd, &writable)))
				side_send(i);
		for (i = 0; i < SCRAPES; i++)
			if (scrapes[i].fd >= 0 &&
			    FD_ISSET(scrapes[i].fd, &readable))
				scrape_read(&scrapes[i]);
		for (i = 0; i < listener_count; i++)
			if (FD_ISSET(listeners[i].fd, &readable) &&
			    wants_accept(&listeners[i]))
				listener_accept(&listeners[i]);
		if (totals_asked)
			totals_log(LOG_NOTICE);
		totals_asked = 0;
		if (stop_count > 0 && stop_time == NEVER)
			stop_time = now + PATIENCE;
	}
	for (i = 0; i < SIDES; i++)
		if (slots[i].fd >= 0) {
			slot_lose(i, SHUTDOWN, "");
			slot_close(i);
		}
	if (conf.trace)
		trace_bytes(SIDE_A, scratch, 0);
	totals_log(LOG_INFO);
}

/* ---- Signals --------------------------------------------------------- */

static void
signal_note(int number)
{
	if (number == SIGTERM || number == SIGINT || number == SIGHUP) {
		stop_signal = number;
		stop_count = stop_count > 0 ? 2 : 1;
	} else if (number == SIGCONT)
		continued = 1;
	else
		totals_asked = 1;
}

/*
 * Handlers run only inside pselect: there is no moment between looking at a
 * flag and waiting.  A stop signal ignored at start (nohup) stays ignored.
 */
static void
signals_open(void)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGCONT,
#ifdef SIGINFO
	    SIGINFO,
#endif
	    SIGUSR1 };
	struct sigaction action = { .sa_handler = signal_note }, old;
	sigset_t set;
	size_t i;

	sigemptyset(&action.sa_mask);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, NULL, &wait_mask);
	for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		sigaction(numbers[i], NULL, &old);
		if (i > 2 || old.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
		sigaddset(&set, numbers[i]);
		sigdelset(&wait_mask, numbers[i]);
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* ---- Options and main ------------------------------------------------ */

static const char usage_text[] =
"usage: tcpbridge [-46hlqsVvx] [-A net]... [-B net]... [-b size] [-e secs]\n"
"           [-g secs] [-H secs] [-i secs] [-k secs] [-m [host:]port]\n"
"           [-n name] [-r secs] [-t secs] [-w secs]\n"
"           [[hostA:]portA [hostB:]portB]\n"
"Join two TCP clients that can both only dial out: one dials port A, the\n"
"other port B (default :1024 :1025).  Bytes for an absent side are held.\n"
"  -4, -6    IPv4 only, IPv6 only\n"
"  -A net    let only this network in on side A (repeat up to 16 times)\n"
"  -B net    the same for side B\n"
"  -b size   bytes held per direction, suffix k or m (4m)\n"
"  -e secs   after a side's EOF go on sending to it this long (0)\n"
"  -g secs   hold a sender back this long for a stuck receiver (0.1)\n"
"  -H secs   hold data for an absent side no longer than this (no limit)\n"
"  -h        print this help\n"
"  -i secs   close a side that sends nothing for this long (0: never)\n"
"  -k secs   TCP keepalive after this silence (30; 0: off)\n"
"  -l        lossless: never drop, hold the sender back instead\n"
"  -m addr   serve /metrics and /healthz over HTTP at [host:]port\n"
"  -n name   name of this bridge, in log and metrics\n"
"  -q, -v    log only warnings and errors; also debug lines\n"
"  -r secs   replace a client only if silent this long (0: always)\n"
"  -s        log to syslog, not to standard error\n"
"  -t secs   log totals this often; on a terminal, one live line\n"
"  -V        print the version\n"
"  -w secs   close a side that takes no data for this long (10; 0: never)\n"
"  -x        trace all traffic on standard output, in hex and text\n";

/* Reads and moves past digits; -1 for none, or a number above the limit. */
static int64_t
parse_digits(const char **text, int64_t limit)
{
	int64_t number = **text >= '0' && **text <= '9' ? 0 : -1;

	for (; **text >= '0' && **text <= '9'; ++*text)
		if (number >= 0 && number <= limit)
			number = number * 10 + (**text - '0');
	return number <= limit ? number : -1;
}

/* Seconds with up to six decimals, as microseconds. */
static int64_t
parse_seconds(const char *what, const char *text)
{
	const char *c = text;
	int64_t seconds = parse_digits(&c, SECONDS_MAX), fraction = 0;
	int64_t unit = SECOND / 10;

	if (c[0] == '.' && c[1] != '\0')
		for (c++; *c >= '0' && *c <= '9'; c++, unit /= 10)
			fraction += unit > 0 ? (*c - '0') * unit :
			    *c > '0' && seconds + fraction == 0;
	if (seconds < 0 || *c != '\0')
		fatal(2, "%s: not a number of seconds: '%s'", what, text);
	return seconds * SECOND + fraction;
}

/*
 * [host:]port with host a name, an IPv4 address, *, or [IPv6 address].  The
 * argument is taken apart in place.
 */
static void
parse_place(const char *what, char *text, struct place *place)
{
	char *colon = strrchr(text, ':'), *host = text;
	const char *port = colon != NULL ? colon + 1 : text;
	size_t length = colon != NULL ? (size_t)(colon - text) : 0;
	int64_t number = parse_digits(&port, 65535);

	if (number < 0 || *port != '\0')
		fatal(2, "%s: not a port from 0 to 65535: '%s'", what, text);
	if (length > 2 && host[0] == '[' && host[length - 1] == ']' &&
	    strcspn(host + 1, "[]") == length - 2 &&
	    memchr(host, ':', length) != NULL) {
		host++;
		length -= 2;
	} else if (strcspn(host, ":[]") < length)
		fatal(2, "%s: not [IPv6 address]:port: '%s'", what, text);
	if (colon != NULL)
		host[length] = '\0';
	place->port = (int)number;
	place->host = length == 0 || strcmp(host, "*") == 0 ? NULL : host;
}

/* A numeric address, or one with the number of bits that have to agree. */
static void
parse_net(const char *what, const char *text, int side)
{
	struct net *net = &conf.nets[side][conf.net_count[side]];
	size_t length = strcspn(text, "/");
	const char *bits = text + length + (text[length] == '/');
	int64_t mapped = memchr(text, ':', length) != NULL ? 0 : 96;
	int64_t number = text[length] != '/' ? 128 - mapped :
	    parse_digits(&bits, 128 - mapped);

	if (conf.net_count[side] == NETS)
		fatal(2, "%s: more than %d networks: '%s'", what, NETS, text);
	if (!address_bytes(text, length, net->bytes) || number < 0 ||
	    *bits != '\0')
		fatal(2, "%s: not an address or network: '%s'", what, text);
	net->bits = (size_t)(mapped + number);
	conf.net_count[side]++;
}

/* Takes one option; what is wrong with it ends the program. */
static void
option_take(int option, const char *what, char *text)
{
	static const struct {
		int option, value, *flag;
	} flags[] = { { '4', AF_INET, &conf.family },
	    { '6', AF_INET6, &conf.family }, { 'l', 1, &conf.lossless },
	    { 'q', LOG_NOTICE, &conf.level }, { 's', 1, &conf.syslog },
	    { 'v', LOG_DEBUG, &conf.level }, { 'x', 1, &conf.trace } };
	static const struct {
		int option, zero_is_never;
		int64_t *value;
	} times[] = { { 'e', 0, &conf.eof_hold }, { 'g', 0, &conf.grace },
	    { 'H', 0, &conf.hold }, { 'i', 1, &conf.idle },
	    { 'k', 0, &conf.keepalive }, { 'r', 0, &conf.silence },
	    { 't', 1, &conf.period }, { 'w', 1, &conf.stall } };
	const char *c = text;
	int64_t size;
	size_t i;

	for (i = 0; i < sizeof flags / sizeof flags[0]; i++)
		if (flags[i].option == option)
			*flags[i].flag = flags[i].value;
	for (i = 0; i < sizeof times / sizeof times[0]; i++)
		if (times[i].option == option) {
			*times[i].value = parse_seconds(what, text);
			if (*times[i].value == 0 && times[i].zero_is_never)
				*times[i].value = NEVER;
		}
	if (option == 'A' || option == 'B')
		parse_net(what, text, option == 'A' ? SIDE_A : SIDE_B);
	else if (option == 'b') {
		size = parse_digits(&c, BUFFER_MAX);
		if (size > 0 && (*c == 'k' || *c == 'm'))
			size *= *c++ == 'k' ? 1024 : 1048576;
		if (size < 1 || size > BUFFER_MAX || *c != '\0')
			fatal(2, "%s: not a size from 1 to %d: '%s'", what,
			    BUFFER_MAX, text);
		conf.capacity = (size_t)size;
	} else if (option == 'm') {
		c = strchr(text, ':');
		parse_place(what, text, &conf.places[METRICS]);
		if (c == NULL)
			conf.places[METRICS].host = "localhost";
	} else if (option == 'n') {
		if (strlen(text) - 1 >= 64)
			fatal(2, "%s: not 1 to 64 characters: '%s'", what,
			    text);
		text_clean(text);
		conf.name = text;
	} else if (option == 'h')
		exit(fputs(usage_text, stdout) < 0 || fflush(stdout) != 0);
	else if (option == 'V')
		exit(puts("tcpbridge " VERSION) < 0 || fflush(stdout) != 0);
	else if (option == '?' || option == ':')
		fatal(2, "-%c: %s: '%c'", optopt, option == '?' ?
		    "unknown option" : "option needs an argument", optopt);
}

/* Reads the command line into conf. */
static void
options_read(int argc, char **argv)
{
	int option, excluded = 0;
	char what[] = "-?", *text;

	while ((option = getopt(argc, argv,
	    ":46A:B:b:e:g:H:hi:k:lm:n:qr:st:Vvw:x")) != -1) {
		if (option == 'g' || option == 'H')
			excluded = option;
		what[1] = (char)option;
		option_take(option, what, optarg);
	}
	if (conf.lossless && excluded)
		fatal(2, "-l: excludes -%c", excluded);
	argc -= optind;
	text = argv[optind + argc - 1];
	if (argc == 1 || argc > SIDES)
		fatal(2, "%s: not two addresses or none, but %d: '%s'", text,
		    argc, text);
	if (argc == SIDES) {
		parse_place("side A", argv[optind], &conf.places[SIDE_A]);
		parse_place("side B", text, &conf.places[SIDE_B]);
	}
}

/*
 * Opens a terminal behind 1 or 2 anew, non-blocking: of a terminal select()
 * says only that it takes something, which may be less than a line.  Whoever
 * shares the old descriptor is not touched.
 */
static void
terminals_open(void)
{
	int fd, own;

	for (fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
		const char *name = isatty(fd) ? ttyname(fd) : NULL;

		if (name == NULL || (own = open(name, O_WRONLY | O_NOCTTY |
		    O_NONBLOCK)) < 0)
			continue;
		dup2(own, fd);
		close(own);
	}
}

int
main(int argc, char **argv)
{
	int i;

	/* A socket numbered 0-2 would get the log into its stream. */
	for (i = 0; i <= STDERR_FILENO; i++)
		if (fcntl(i, F_GETFD) < 0 && open("/dev/null", O_RDWR) != i)
			fatal(1, "/dev/null: %s", strerror(errno));
	signal(SIGPIPE, SIG_IGN);
	options_read(argc, argv);
	if (conf.syslog)
		openlog(conf.name[0] != '\0' ? conf.name : "tcpbridge",
		    LOG_NDELAY, LOG_DAEMON);
	terminals_open();
	now = totals_last = clock_read();
	start_time = time(NULL);
	live = conf.period != NEVER && !conf.syslog && isatty(STDERR_FILENO);
	for (i = 0; i < SIDES; i++) {
		slots[i].fd = -1;
		flows[i].ring.capacity = conf.capacity;
		sides[i].left = now;
	}
	for (i = 0; i < SCRAPES; i++)
		scrapes[i].fd = -1;
	for (i = 0; i < SERVICES; i++)
		if (conf.places[i].port >= 0)
			service_open(i);
	signals_open();
	for (i = 0; i < listener_count; i++)
		log_event(LOG_INFO, "listen", "%s addr=%s",
		    service_names[listeners[i].service], listeners[i].address);
	log_event(LOG_INFO, "ready", "state=%s pid=%ld version=" VERSION
	    " buffer=%zu", state_name(), (long)getpid(), conf.capacity);
	loop_run();
	log_event(LOG_INFO, "stop", "signal=%s", stop_signal == SIGTERM ?
	    "SIGTERM" : stop_signal == SIGINT ? "SIGINT" : "SIGHUP");
	page_used = 0;
	page_add("\r\033[K");
	if (live_shown)		/* under -q no line has cleared it */
		page_write(STDERR_FILENO);
	return 0;
}
