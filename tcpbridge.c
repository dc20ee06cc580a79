/*
 * tcpbridge - join two TCP clients that can both only dial out
 *
 * SPDX-License-Identifier: ISC (the text is in README.md)
 * Copyright (c) 2026 the tcpbridge contributors
 *
 * There are two sides, A and B; what is done to one is done to the other by
 * the same lines.
 *
 *	client of A --recv--> ring of A --send--> client of B	(A->B)
 *	client of A <--send-- ring of B <--recv-- client of B	(B->A)
 *
 * A side has a ring, with the bytes that its clients sent and that wait for
 * the other side, and the counters of that direction; and a slot, the place
 * for its one client: free, or taken by one that is connected, half-closed
 * (-e) or lost.  When a client goes, the slot becomes free, and nothing else
 * changes; whoever comes next goes on where it left.  The invariant, for each
 * direction and at every moment:
 *
 *	received = sent + dropped + held (what is used of the ring)
 *
 * One turn of the loop: clients that are to go are read out and closed, and
 * what is due is done; fd sets are built from predicates over the state alone;
 * pselect() waits; bytes are received, then sent; clients accepted.  A client
 * that fails is only marked as lost.
 */

/* POSIX, and what lies beyond it where a system would hide that. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#define _NETBSD_SOURCE
#define _BSD_SOURCE
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* ---- Limits ---------------------------------------------------------- */

#define VERSION "1.0"
#define U64 "%" PRIu64
#define EACH(item, array) (item) = (array); \
    (item) < (array) + sizeof (array) / sizeof (array)[0]; (item)++

#ifndef BUFFER_MAX
#define BUFFER_MAX 4194304	/* most bytes held in each direction (-b) */
#endif
#define READ_SMALL 4096	/* reads up to this are kept or lost whole */
#ifndef PIPE_BUF		/* what a pipe that is ready takes at once */
#define PIPE_BUF _POSIX_PIPE_BUF
#endif

enum {
	/* High water: measured, none from 64 KiB to 1 MiB is faster.  Unsent
	 * low: with 448 KiB a reset would destroy more. */
	HIGH_WATER = 262144,	/* held while the receiver lives, bytes */
	UNSENT_LOW = 262144,	/* TCP_NOTSENT_LOWAT, bytes */
	DRAIN_MAX = 4194304,	/* read from a client about to go, bytes */
	READ_LEAST = 64,	/* what a read counts for then, at the least */
	BACKLOG = 128,		/* with 16 quick reconnects had to wait */
	LISTENERS = 32,		/* addresses of both sides and metrics */
	NETS = 16,		/* networks a side (-A, -B) */
	SCRAPES = 4,		/* metrics clients at a time (-m) */
	REQUEST_MAX = 2048,	/* bytes in a metrics request */
	ADDRESS_SIZE = 72,	/* bytes in "[v6%zone]:port" */
	NAME_SIZE = 64,		/* characters in a name (-n) */
	ROW_SIZE = 80,		/* more than a row of the trace, bytes */
	TEXT_SIZE = 8192	/* bytes in what is said at once */
};

#define MSEC INT64_C(1000)	/* times are in microseconds */
#define SECOND INT64_C(1000000)
#define SECS(time) ((double)(time) / (double)SECOND)
#define NEVER INT64_MAX
#define SECONDS_MAX 1e9		/* in an argument; 31 years */
#define PATIENCE (2 * SECOND)	/* when stopping; with a metrics client */
#define WAIT_MAX (1000000 * SECOND) /* longer ones fail on some systems */
#define LATE SECOND		/* a wait so much too long is a pause */

/* ---- Types and state ------------------------------------------------- */

enum { SIDE_A, SIDE_B, SIDES, METRICS = SIDES, SERVICES };
/* Why a client goes, or a newcomer is refused. */
enum reason { STAYS, END, RESET, TIMEOUT, REPLACED, SHUTDOWN, FAILED, DENIED,
    BUSY, LIMIT, REASONS };

static const char *const service_names[] = { "side=A", "side=B",
    "service=metrics" };
static const char *const reason_names[] = { "none", "eof", "reset",
    "timeout", "replaced", "shutdown", "error", "denied", "busy", "limit" };

/* A queue of bytes in a circle.  It holds READ_SMALL bytes less than it could,
 * and has as many behind it, so that a small read always has a place. */
struct ring {
	size_t capacity;	/* bytes in the circle, READ_SMALL and -b */
	size_t start, used;	/* offset of the oldest byte; bytes held */
	unsigned char bytes[(BUFFER_MAX) + 2 * READ_SMALL];
};

static struct side {
	const char *name, *dir;	/* "side=A", "A->B" */
	struct side *other;

	/* The direction from here to the other side; counts are of all time. */
	struct ring ring;	/* bytes received and not yet sent */
	uint64_t received, sent, dropped; /* bytes */
	uint64_t drops;		/* reads dropped, and expiries */
	uint64_t unacked;	/* sent, but unacknowledged at a disconnect */
	uint64_t told;		/* of the dropped bytes, in log lines */
	const char *drop_reason; /* of the last drop */
	uint64_t drop_session;	/* who sent what was dropped then */
	int64_t drop_time;	/* when the last drop was */
	int64_t drop_said;	/* when it was logged; 0 when a run is over */
	uint64_t rated;		/* sent, when the rate was last made */
	double rate;		/* bytes a second, for the live line (-t) */

	/* Those who may come (-A, -B; everyone if there are none), and came. */
	struct net {
		int family;		/* AF_INET or AF_INET6 */
		size_t bits;		/* that have to agree, 0 to 128 */
		unsigned char bytes[16];
	} nets[NETS];
	int net_count;
	uint64_t connects, counts[REASONS]; /* came; went or were refused */
	uint64_t refused_unsaid; /* newcomers, since the last refuse line */
	int64_t refused_said;	/* when that was; 0 if never */
	enum reason refusal;	/* why the last one was refused */
	char refused_peer[ADDRESS_SIZE]; /* and its address */
	int64_t left;		/* when the last client left; the start */

	/* A newcomer, until the client in the slot is read out. */
	int next;		/* its socket, or 0 */
	char next_peer[ADDRESS_SIZE];

	/* The slot, and the client in it. */
	int fd;			/* its socket, above 2; 0: it is free */
	enum reason lost;	/* why it goes, or STAYS */
	char detail[80];	/* of that: " cause=idle", or empty */
	int half_closed;	/* EOF was read; -e keeps it for sending */
	int shut;		/* stopping: nothing more is sent to it */
	int read_watched, write_watched; /* in the sets of the last wait */
	uint64_t session;	/* number of the connection, from 1 */
	uint64_t received_before, sent_before; /* counts when it came */
	size_t drained;		/* bytes read since it was to go */
	int64_t since, ended;	/* when it took the slot, EOF was read */
	int64_t heard;		/* when it last sent, or was not read */
	int64_t progress;	/* when it last took a byte, or none waited */
	int64_t sampled;	/* when acked was asked for */
	uint64_t acked;		/* what of all sent it acknowledged */
	int64_t acked_time;	/* when that grew, it sent, or owed none */
	char peer[ADDRESS_SIZE];
} sides[SIDES];

/* A socket that clients dial. */
static struct listener {
	int fd, service;	/* the socket; SIDE_A, SIDE_B or METRICS */
	int64_t rest_until;	/* if accept() failed for a lack, else 0 */
	char address[ADDRESS_SIZE];
} listeners[LISTENERS];

/* A client of the metrics port. */
static struct scrape {
	int fd;			/* 0 when free */
	int answered;		/* what still comes is thrown away */
	int64_t deadline;	/* when it is closed at the latest */
	size_t used;		/* bytes of the request so far */
	char request[REQUEST_MAX];
} scrapes[SCRAPES];

/* What the command line says. */
static struct {
	int64_t family, level;		/* -4, -6; -q, -v: LOG_... */
	int64_t lossless, syslog, trace; /* -l, -s, -x */
	const char *name;		/* -n; empty if none */
	size_t capacity;		/* -b, bytes */
	int64_t eof_hold, grace, keepalive, silence;	/* -e, -g, -k, -r */
	int64_t hold, idle, period, stall;	/* -H, -i, -t, -w; or NEVER */
	struct place {
		char host[256];		/* or empty, which means */
		int flags;		/* all (AI_PASSIVE) or loopback (0) */
		int port;		/* 0: any free one; -1: nowhere */
	} places[SERVICES];		/* operands, -m */
} conf = {
	.level = LOG_INFO, .name = "", .capacity = BUFFER_MAX,
	.grace = 3 * SECOND, .keepalive = 30 * SECOND, .hold = NEVER,
	.idle = NEVER, .period = NEVER, .stall = 60 * SECOND,
	.places = { { "", AI_PASSIVE, 1024 }, { "", AI_PASSIVE, 1025 },
	    { "", 0, -1 } }
};

static struct listener *listener_end = listeners; /* behind the last one */
static char message[TEXT_SIZE];	/* an event, or why the program ends */
static char page[TEXT_SIZE];	/* what is about to be written; */
static size_t page_used;	/* who begins one sets this to 0 */
static int fd_top;		/* highest descriptor the loop ever watched */
static int64_t now;		/* what clock_read() said, once a turn */
static int64_t due;		/* when something is next due, or NEVER */
static int64_t stop_time = NEVER; /* when stopping is over, once begun */
static int64_t totals_last;	/* when -t was last done */
static time_t start_time;	/* CLOCK_REALTIME at start, seconds */
static uint64_t sessions;	/* connections so far */
static uint64_t log_lost, log_told; /* lines not written; what was told */
static int live, live_shown;	/* -t keeps a line in place; it stands */
static sigset_t wait_mask;	/* signals blocked while pselect waits */
static int64_t signals_heard;	/* when a wait last let signals in */
static volatile sig_atomic_t stop_signal, stop_count, totals_asked, continued;

/* ---- Messages -------------------------------------------------------- */

/* Adds to the page, as printf(3) would; what does not fit is cut. */
#define page_add(...) page_grow(snprintf(page + page_used, \
    sizeof page - page_used, __VA_ARGS__))

/* Logs an event, one line, with a level of syslog(3); LOG_NOTICE is what was
 * asked for, so it is told under -q, too. */
#define log_event(level, event, ...) \
    (snprintf(message, sizeof message, __VA_ARGS__), log_line(level, event))

/* Ends a program that can't start (2: wrong usage) or go on: one line. */
#define fatal(status, ...) \
    (snprintf(message, sizeof message, __VA_ARGS__), leave(status))

static void
page_grow(int size)
{
	size_t room = sizeof page - 1 - page_used;

	if (size > 0)
		page_used += (size_t)size < room ? (size_t)size : room;
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

/* Writes the page in one call if the descriptor takes it now; returns 0 if it
 * does not.  0-2 are shared with others, so they stay blocking: a stopped
 * terminal or a full pipe must not stop the bridge. */
static int
page_write(int fd)
{
	static int cut[STDERR_FILENO + 1]; /* the last page lacks its end */
	struct timeval at_once = { 0, 0 };
	fd_set set;
	ssize_t n;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	if (select(fd + 1, NULL, &set, NULL, &at_once) != 1 ||
	    (cut[fd] && write(fd, "\n", 1) != 1))
		return 0;
	n = write(fd, page, page_used);
	cut[fd] = n > 0 && n < (ssize_t)page_used;
	return n == (ssize_t)page_used;
}

/* Logs the message, if its level is told; syslog has time and level itself.
 * The live line makes way, and how many lines were lost before is told together
 * with this one.  The message is ready by now, for it may need errno, and
 * gmtime_r() looks for a file, once. */
static void
log_line(int level, const char *event)
{
	int lost;

	if (level > conf.level)
		return;
	page_used = 0;
	page_add("%s", live_shown ? "\r\033[K" : "");
	for (lost = log_lost > log_told; lost >= 0; lost--) {
		if (!conf.syslog) {
			page_add("time=");
			page_add_time();
			page_add(" level=%s ", lost || level == LOG_WARNING ?
			    "warn" : level == LOG_DEBUG ? "debug" : "info");
		}
		if (conf.name[0] != '\0')
			page_add(conf.name[strcspn(conf.name, " =")] != '\0' ?
			    "name=\"%s\" " : "name=%s ", conf.name);
		if (lost)
			page_add("event=log_lost lines=" U64 "\n",
			    log_lost - log_told);
	}
	page_add("event=%s %s%s", event, message, conf.syslog ? "" : "\n");
	if (conf.syslog)
		syslog(level, "%s", page);
	else if (page_write(STDERR_FILENO)) {
		log_told = log_lost;
		live_shown = 0;
	} else
		log_lost++;
}

/* What the user typed may hold control characters; they are made harmless. */
static void
leave(int status)
{
	char *c;

	for (c = message; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	fprintf(stderr, "tcpbridge: %s\n", message);
	if (conf.syslog && status == 1)
		syslog(LOG_ERR, "%s", message);
	exit(status);
}

/* ---- Rings ----------------------------------------------------------- */

/* Pure arithmetic, with its contracts in ACSL, which test/prove has proved. */

/*@ predicate sound(struct ring *ring) = \valid(ring) &&
  @     0 < ring->capacity <= BUFFER_MAX + READ_SMALL &&
  @     ring->start < ring->capacity &&
  @     ring->used <= ring->capacity; */

/*@ requires sound(ring);
  @ assigns \nothing;
  @ ensures \result == (ring->start + ring->used) % ring->capacity; */
static size_t
ring_end(const struct ring *ring)
{
	size_t end = ring->start + ring->used;

	return end >= ring->capacity ? end - ring->capacity : end;
}

/* How much of a run of bytes lies in one piece: of the held one from start, or
 * of the free one from the end. */
/*@ requires sound(ring) && from < ring->capacity && size <= ring->capacity;
  @ assigns \nothing;
  @ ensures \result <= size && from + \result <= ring->capacity;
  @ ensures \result == 0 <==> size == 0; */
static size_t
ring_piece(const struct ring *ring, size_t from, size_t size)
{
	return size < ring->capacity - from ? size : ring->capacity - from;
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

/* CLOCK_MONOTONIC, and a second: what never was, at 0, is over for a limit of
 * that length. */
static int64_t
clock_read(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return ((int64_t)time.tv_sec + 1) * SECOND + time.tv_nsec / 1000;
}

/* Whether a limit since then is over; if not, the next turn is due then, unless
 * this is asked within a turn: then timers_run() asks all anew. */
static int
is_over(int64_t since, int64_t limit)
{
	if (limit == NEVER || now - since >= limit)
		return limit != NEVER;
	if (since + limit < due)
		due = since + limit;
	return 0;
}

/* The numeric form of an address: 192.0.2.7:1024, [2001:db8::7%2]:1024. */
static void
address_text(const void *address, socklen_t length, char *text)
{
	char host[ADDRESS_SIZE - 10] = "unknown", port[8] = "0";

	getnameinfo(address, length, host, sizeof host, port, sizeof port,
	    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(text, ADDRESS_SIZE, strchr(host, ':') != NULL ?
	    "[%s]:%s" : "%s:%s", host, port);
}

/* Makes a socket fit for the loop: non-blocking, closed on exec, and below
 * FD_SETSIZE, or it would be written past an fd_set.  Returns 0 if it can't. */
static int
socket_prepare(int fd)
{
	if (fd >= FD_SETSIZE) {
		errno = EMFILE;
		return 0;
	}
	if (fd > fd_top)
		fd_top = fd;
	return fcntl(fd, F_SETFL, O_NONBLOCK) >= 0 &&
	    fcntl(fd, F_SETFD, FD_CLOEXEC) >= 0;
}

/* Sets an option that the bridge works without; a failure is no matter. */
static void
socket_option(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof value);
}

/* Sets the options of a client's socket.  Not TCP_USER_TIMEOUT: Linux times it
 * from the first window probe, and ends peers that read slowly but well. */
static void
socket_tune(int fd)
{
	int64_t secs = conf.keepalive / SECOND;
	int idle = secs < 32767 ? (int)secs : 32767; /* Linux takes no more */

	socket_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	socket_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	socket_option(fd, SOL_SOCKET, SO_KEEPALIVE, idle > 0);
#ifdef TCP_NOTSENT_LOWAT
	socket_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_LOW);
#endif
	if (idle == 0)
		return;
#if defined TCP_KEEPIDLE
	socket_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle);
#elif defined TCP_KEEPALIVE	/* its name on macOS */
	socket_option(fd, IPPROTO_TCP, TCP_KEEPALIVE, idle);
#endif
#if defined TCP_KEEPINTVL && defined TCP_KEEPCNT
	socket_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, (idle + 2) / 3);
	socket_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
#endif
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

/* Opens one more listener, unless there is one at that address, and gives the
 * address its port; returns errno or 0.  SO_REUSEADDR lets a restart bind while
 * connections are in TIME_WAIT; SO_REUSEPORT would let a second bridge steal
 * half of the clients. */
static int
listener_open(struct addrinfo *info, int service)
{
	struct listener *l, *listener = listener_end;
	socklen_t length = info->ai_addrlen;
	int error, fd;

	address_text(info->ai_addr, length, listener->address);
	for (l = listeners; l < listener_end; l++)
		if (l->service == service &&
		    strcmp(l->address, listener->address) == 0)
			return 0;	/* listed twice */
	fd = socket(info->ai_family, SOCK_STREAM, 0);
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
	listener_end++;
	return 0;
}

/* Opens a listener for each address of a service; for port 0 all get the number
 * that the system chose for the first, or all others if one can't have it.  A
 * family that the system lacks, so that it has no ::1, is skipped.  What else
 * fails ends the program. */
static void
service_open(int service)
{
	const struct place *place = &conf.places[service];
	const char *host = *place->host != '\0' ? place->host : NULL;
	const char *text = host != NULL ? host : "*";
	struct addrinfo hints = { .ai_family = (int)conf.family,
	    .ai_flags = place->flags, .ai_socktype = SOCK_STREAM },
	    *list, *info;
	struct listener *first = listener_end;
	in_port_t *slot, port = htons((uint16_t)place->port);
	int error;

	error = getaddrinfo(host, "0", &hints, &list);
	if (error != 0)
		fatal(1, "%s: %s", text, error == EAI_SYSTEM ?
		    strerror(errno) : gai_strerror(error));
	hints.ai_next = list;	/* to begin again at hints */
	for (info = list; info != NULL; info = info->ai_next) {
		if (listener_end == listeners + LISTENERS)
			fatal(1, "%s: too many addresses", text);
		slot = info->ai_family == AF_INET6 ?
		    &((struct sockaddr_in6 *)(void *)info->ai_addr)->sin6_port :
		    &((struct sockaddr_in *)(void *)info->ai_addr)->sin_port;
		*slot = port;
		text = listener_end->address;
		error = listener_open(info, service);
		if (error == 0)
			port = *slot;
		else if (error == EADDRINUSE && place->port == 0 && port != 0) {
			while (listener_end > first)
				close((--listener_end)->fd);
			port = 0;
			info = &hints;
		} else if (error != EAFNOSUPPORT && (error != EADDRNOTAVAIL ||
		    strncmp(text, "[::1]:", 6) != 0))
			fatal(1, "%s: %s: %s", service_names[service], text,
			    strerror(error));
		else
			log_event(LOG_DEBUG, "skip", "%s addr=%s error=\"%s\"",
			    service_names[service], text, strerror(error));
	}
	freeaddrinfo(list);
	if (listener_end == first)
		fatal(1, "%s: %s", text, strerror(error));
}

/* ---- Sides ----------------------------------------------------------- */

/* Writes for -x what came behind a ring's end, like hexdump -C.  How many bytes
 * standard output did not take is said next time, and at the end (size 0). */
static void
trace_bytes(const struct side *side, size_t size)
{
	static uint64_t untraced;
	const unsigned char *bytes = side->ring.bytes + ring_end(&side->ring);
	size_t i, offset = 0;
	char row[ROW_SIZE];

	page_used = 0;
	if (untraced > 0)
		page_add("# " U64 " bytes not traced\n", untraced);
	if (size > 0) {
		page_add_time();
		page_add(" %s session=" U64 " bytes=%zu\n", side->dir,
		    side->session, size);
	}
	for (untraced += size; page_used > 0 || offset < size; page_used = 0) {
		for (; offset < size && page_used + ROW_SIZE <= PIPE_BUF;
		    offset += i) {
			memset(row, ' ', sizeof row);
			for (i = 0; i < 16 && offset + i < size; i++) {
				unsigned char c = bytes[offset + i];
				char *hex = row + 3 * i + (i > 7);

				hex[0] = "0123456789abcdef"[c >> 4];
				hex[1] = "0123456789abcdef"[c & 15];
				row[51 + i] = (char)(c >= ' ' && c <= '~' ? c :
				    '.');
			}
			row[50] = row[51 + i] = '|';
			page_add("%08zx  %.*s\n", offset, (int)(52 + i), row);
		}
		if (!page_write(STDOUT_FILENO))
			break;
		untraced = size - offset;
	}
}

/* Whether a side has a client that can be sent to. */
static int
side_connected(const struct side *side)
{
	return side->fd > 0 && side->lost == STAYS;
}

static const char *
state_name(void)
{
	static const char *const names[] = { "IDLE", "ONLY_A", "ONLY_B",
	    "PAIRED" };

	return names[side_connected(&sides[SIDE_A]) +
	    2 * side_connected(&sides[SIDE_B])];
}

/* Whether a client that is lost can't go, for what it sent has no room. */
static int
side_wedged(const struct side *side)
{
	return side->fd > 0 && side->lost != STAYS && !side->half_closed &&
	    side->ring.used >= conf.capacity;
}

/* Whether a sender waits for room.  With -l always, but where a newcomer would
 * wait for ever, as each side has lost who would take what the other one sent;
 * else for a receiver that is connected and not stuck: that took a byte within
 * -g, or none waited. */
static int
side_paced(const struct side *side)
{
	if (conf.lossless)
		return side->next == 0 || !side_wedged(side) ||
		    !side_wedged(side->other);
	return side_connected(side->other) && (side->ring.used == 0 ||
	    now - side->other->progress < conf.grace);
}

/* Whether what is read from a side has a place to go, or is dropped. */
static int
side_can_receive(const struct side *side)
{
	return side->ring.used < conf.capacity || !side_paced(side);
}

/* The flow-control policy: whether a side is to be read. */
static int
wants_read(const struct side *side)
{
	if (!side_connected(side) || side->half_closed || stop_time != NEVER)
		return side->fd > 0 && side->shut;	/* to see it close */
	if (side_connected(side->other) && side->ring.used >= HIGH_WATER)
		return !side_paced(side);
	return side_can_receive(side);
}

static int
wants_write(const struct side *side)
{
	return side_connected(side) && side->other->ring.used > 0;
}

/* Whether newcomers are let in: one at a time waits for the slot. */
static int
wants_accept(const struct listener *listener)
{
	return stop_time == NEVER && now >= listener->rest_until &&
	    (listener->service == METRICS ||
	    sides[listener->service].next == 0);
}

/* Logs drops and refusals: the first of a run at once, then a line a second. */
static void
side_tell(struct side *side)
{
	if (side->dropped > side->told && is_over(side->drop_said, SECOND)) {
		log_event(LOG_WARNING, "drop", "dir=%s session=" U64
		    " reason=%s bytes=" U64 " drops=" U64 " total=" U64,
		    side->dir, side->drop_session, side->drop_reason,
		    side->dropped - side->told, side->drops, side->dropped);
		side->drop_said = now;
		side->told = side->dropped;
	}
	if (side->refused_unsaid > 0 && is_over(side->refused_said, SECOND)) {
		log_event(LOG_WARNING, "refuse", "%s peer=%s reason=%s count="
		    U64, side->name, side->refused_peer,
		    reason_names[side->refusal], side->refused_unsaid);
		side->refused_said = now;
		side->refused_unsaid = 0;
	}
}

/* Counts bytes that a side sent as dropped. */
static void
drop_count(struct side *side, size_t size, const char *reason)
{
	side->dropped += size;
	side->drops++;
	side->drop_time = now;
	side->drop_reason = reason;
	side->drop_session = side->session;
	side_tell(side);
}

/* Drops what has waited for an absent side when -H is over. */
static void
side_expire(struct side *side)
{
	size_t held = side->other->ring.used;

	if (side->fd == 0 && held > 0 && is_over(side->left, conf.hold)) {
		ring_take(&side->other->ring, held);
		drop_count(side->other, held, "expired");
	}
}

/* A client can't stay.  The first reason counts; the loop closes it. */
static void
side_lose(struct side *side, enum reason reason, const char *detail)
{
	if (side->lost != STAYS)
		return;
	side->lost = reason;
	snprintf(side->detail, sizeof side->detail, reason == FAILED ?
	    " error=\"%s\"" : "%s", detail);
}

/* A call on a client's socket met EOF, or errno, which may mean nothing. */
static void
side_end(struct side *side, int eof)
{
	if (eof) {
		side->half_closed = 1;
		side->ended = now;
		if (side->shut || conf.eof_hold == 0)
			side_lose(side, side->shut ? SHUTDOWN : END, "");
		else if (side->lost == STAYS)
			log_event(LOG_INFO, "half_close", "%s session=" U64,
			    side->name, side->session);
	} else if (errno == ECONNRESET || errno == EPIPE)
		side_lose(side, RESET, "");
	else if (errno == ETIMEDOUT)
		side_lose(side, TIMEOUT, " cause=keepalive");
	else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		side_lose(side, FAILED, strerror(errno));
}

/* Receives once from a client, behind what the ring holds: what has room there
 * in one piece, or else a small read, stored or dropped whole; of a sender that
 * is held back no more than has room.  Stored bytes end a run of drops a second
 * after the last.  Returns how many came. */
static size_t
side_receive(struct side *side)
{
	struct ring *ring = &side->ring;
	const struct side *other = side->other;
	int late = other->fd == 0 && now - other->left >= conf.hold;
	size_t room = late ? 0 : conf.capacity - ring->used;
	size_t size, end = ring_end(ring), most = ring_piece(ring, end, room);
	ssize_t n;

	if (most < READ_SMALL || side->shut)
		most = side_paced(side) && room < READ_SMALL && !side->shut ?
		    room : READ_SMALL;
	if (most == 0)
		return 0;	/* recv() would return 0, as for EOF */
	n = recv(side->fd, ring->bytes + end, most, 0);
	if (n <= 0)
		side_end(side, n == 0);
	if (n <= 0 || side->shut)	/* a stop takes no more */
		return 0;
	size = (size_t)n;
	side->heard = side->acked_time = now;
	side->received += size;
	if (conf.trace)
		trace_bytes(side, size);
	if (size > room) {
		drop_count(side, size, late ? "expired" : "overflow");
		return size;
	}
	ring_put(ring, size);
	if (end + size > ring->capacity)	/* the rest begins the circle */
		memcpy(ring->bytes, ring->bytes + ring->capacity,
		    end + size - ring->capacity);
	if (side->drop_said > 0 && now - side->drop_time >= SECOND) {
		side_tell(side);
		log_event(LOG_INFO, "drop_end", "dir=%s drops=" U64 " total="
		    U64, side->dir, side->drops, side->dropped);
		side->drop_said = 0;
	}
	return size;
}

/* Sends the oldest held piece to a client, as much as its socket takes. */
static void
side_send(struct side *side)
{
	struct ring *ring = &side->other->ring;
	ssize_t n = send(side->fd, ring->bytes + ring->start,
	    ring_piece(ring, ring->start, ring->used), 0);

	if (n < 0) {
		side_end(side, 0);
		return;
	}
	if (side->acked == side->other->sent)	/* it owed nothing */
		side->acked_time = side->sampled = now;
	ring_take(ring, (size_t)n);
	side->other->sent += (uint64_t)n;
	side->progress = now;
}

/* Reads what a client that is to go has sent; returns 0 if the rest must wait
 * for room, or with -l for the next turn.  An endless one has a bound; reads
 * that are small, though there was room, count as larger. */
static int
side_drained(struct side *side)
{
	size_t room, n = 1;

	while (n > 0 && !side->half_closed && side->drained < DRAIN_MAX) {
		room = conf.capacity - side->ring.used;
		if (!side_can_receive(side))
			return 0;
		n = side_receive(side);
		side->drained += n < READ_LEAST && n != room ? READ_LEAST : n;
	}
	side->drained = 0;
	if (n == 0 || side->half_closed || !conf.lossless || !side_paced(side))
		return 1;
	due = now;
	return 0;
}

/* Closes a client's socket and frees the slot; an earlier reason counts. */
static void
side_close(struct side *side, enum reason reason)
{
	struct side *other = side->other;
	int unacked = socket_unacked(side->fd);

	if (side->shut && unacked > 0)
		unacked--;	/* Linux counts the FIN as a byte */
	side_lose(side, reason, "");
	close(side->fd);	/* never again, also after EINTR */
	side->fd = 0;
	side->left = now;
	side->counts[side->lost]++;
	other->unacked += (uint64_t)unacked;
	log_event(LOG_INFO, "disconnect", "%s session=" U64 " peer=%s "
	    "reason=%s%s duration=%.3f received=" U64 " sent=" U64
	    " unacked=%d held=%zu state=%s", side->name, side->session,
	    side->peer, reason_names[side->lost], side->detail,
	    SECS(now - side->since), side->received - side->received_before,
	    other->sent - side->sent_before, unacked, other->ring.used,
	    state_name());
}

/* Whether -A or -B lets a peer in; everyone where it is not given. */
static int
side_admits(const struct side *side, const struct sockaddr_storage *peer)
{
	const unsigned char *bytes = peer->ss_family == AF_INET6 ?
	    ((const struct sockaddr_in6 *)peer)->sin6_addr.s6_addr :
	    (const void *)&((const struct sockaddr_in *)peer)->sin_addr;
	const struct net *net;
	size_t bit;

	for (net = side->nets; net < side->nets + side->net_count; net++) {
		if (net->family != peer->ss_family)
			continue;
		for (bit = 0; bit < net->bits && ((net->bytes[bit / 8] ^
		    bytes[bit / 8]) & 0x80 >> bit % 8) == 0; bit++)
			continue;
		if (bit == net->bits)
			return 1;
	}
	return side->net_count == 0;
}

/* The newcomer takes the slot, which is free. */
static void
side_take(struct side *side)
{
	side_expire(side);
	side->fd = side->next;
	side->next = 0;
	side->lost = STAYS;
	side->half_closed = side->shut = 0;
	side->session = ++sessions;
	side->received_before = side->received;
	side->sent_before = side->other->sent;
	side->acked = side->sent_before;
	side->since = side->heard = side->progress = now;
	memcpy(side->peer, side->next_peer, sizeof side->peer);
	side->connects++;
	log_event(LOG_INFO, "connect", "%s session=" U64 " peer=%s state=%s "
	    "held=%zu", side->name, side->session, side->peer, state_name(),
	    side->other->ring.used);
}

/* The newcomer is closed without a byte. */
static void
side_refuse(struct side *side, enum reason reason)
{
	close(side->next);
	side->next = 0;
	side->counts[reason]++;
	side->refused_unsaid++;
	side->refusal = reason;
	memcpy(side->refused_peer, side->next_peer, sizeof side->peer);
	side_tell(side);
}

/* Closes a client that is lost or that a newcomer replaces, once it is read out
 * and if it was silent for long enough (-r); the newcomer takes the slot. */
static void
side_change(struct side *side)
{
	int comes = side->next > 0 && stop_time == NEVER;

	if (side->fd > 0 && (comes || side->lost != STAYS)) {
		if (stop_time == NEVER && !side_drained(side))
			return;
		if (side_connected(side) && !side->half_closed &&
		    now - side->heard < conf.silence) {
			side_refuse(side, BUSY);
			return;
		}
		side_close(side, REPLACED);
	}
	if (comes)
		side_take(side);
}

/* A newcomer.  Its peer is what accept() gave; getpeername() fails on one
 * already reset. */
static void
side_accept(struct side *side, int fd, const struct sockaddr_storage *address,
    socklen_t length)
{
	side->next = fd;
	address_text(address, length, side->next_peer);
	if (!side_admits(side, address))
		side_refuse(side, DENIED);
	else if (!socket_prepare(fd))
		side_refuse(side, LIMIT);
	else {
		socket_tune(fd);
		side_change(side);
	}
}

/* ---- Totals and metrics ---------------------------------------------- */

/* Logs what was counted since start, both directions and both sides. */
static void
totals_log(int level)
{
	struct side *s;

	for (EACH(s, sides))
		log_event(level, "stats", "dir=%s received=" U64 " sent=" U64
		    " dropped=" U64 " held=%zu capacity=%zu drops=" U64
		    " unacked=" U64, s->dir, s->received, s->sent, s->dropped,
		    s->ring.used, conf.capacity, s->drops, s->unacked);
	for (EACH(s, sides))
		log_event(level, "stats", "%s connected=%d session=" U64
		    " peer=%s connects=" U64, s->name, side_connected(s),
		    side_connected(s) ? s->session : 0,
		    side_connected(s) ? s->peer : "-", s->connects);
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

/* Draws the live line: state; of each side the peer without its port, and what
 * came from there: rate, total, and held bytes as a bar; dropped bytes.  It is
 * cut so that it never wraps. */
static void
live_draw(void)
{
	const struct side *s;
	size_t width = 80;
#ifdef TIOCGWINSZ
	struct winsize window;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
		width = window.ws_col;
#endif
	page_used = 0;
	page_add("\r\033[K%s", state_name());
	for (EACH(s, sides)) {
		const char *peer = side_connected(s) ? s->peer : "-:";
		int marks = (int)((s->ring.used * 3 + conf.capacity - 1) /
		    conf.capacity);

		page_add(" %.*s %c", (int)(strrchr(peer, ':') - peer), peer,
		    s->dir[0] == 'A' ? '>' : '<');
		page_add_human(s->rate);
		page_add("/s ");
		page_add_human((double)s->sent);
		page_add(" %.*s%.*s", marks, "###", 3 - marks, "...");
	}
	page_add(" !");
	page_add_human((double)(sides[SIDE_A].dropped + sides[SIDE_B].dropped));
	width += strlen("\r\033[K") - 1;
	page_used = page_used < width ? page_used : width;
	live_shown = page_write(STDERR_FILENO);
}

/* Adds a metric in the Prometheus text format 0.0.4: its head, if help is
 * given, and a value of each side, labelled with "dir" or "side" and the reason
 * if there is one. */
static void
metric_add(const char *name, const char *help, const char *key,
    const char *reason, uint64_t a, uint64_t b)
{
	const struct side *s;

	if (help != NULL)
		page_add("# HELP tcpbridge_%s %s\n# TYPE tcpbridge_%s %s\n",
		    name, help, name, strstr(name, "_total") ? "counter" :
		    "gauge");
	for (EACH(s, sides))
		page_add("tcpbridge_%s{%s=\"%s\"%s%s%s} " U64 "\n", name, key,
		    *key == 'd' ? s->dir : s->name + strlen("side="),
		    reason != NULL ? ",reason=\"" : "",
		    reason != NULL ? reason : "",
		    reason != NULL ? "\"" : "", s == sides ? a : b);
}

/* Adds all metrics. */
static void
metrics_add(void)
{
#define BOTH(what) sides[SIDE_A].what, sides[SIDE_B].what
#define BY_DIR(name, what, help) metric_add(name, help, "dir", NULL, BOTH(what))
#define METRIC(name, type, help) "# HELP tcpbridge_" name " " help "\n" \
    "# TYPE tcpbridge_" name " " type "\ntcpbridge_" name
	int i;

	BY_DIR("bytes_received_total", received, "Bytes received.");
	BY_DIR("bytes_sent_total", sent, "Bytes sent.");
	BY_DIR("bytes_dropped_total", dropped, "Bytes dropped.");
	BY_DIR("bytes_unacked_total", unacked, "Bytes sent that a connection "
	    "left unacknowledged.");
	BY_DIR("drops_total", drops, "Reads dropped, and expiries.");
	BY_DIR("held_bytes", ring.used, "Bytes held now.");
	metric_add("connected", "A client is there.", "side", NULL,
	    (uint64_t)side_connected(&sides[SIDE_A]),
	    (uint64_t)side_connected(&sides[SIDE_B]));
	metric_add("connects_total", "Clients that came.", "side", NULL,
	    BOTH(connects));
	for (i = END; i < REASONS; i++)
		metric_add(i < DENIED ? "disconnects_total" : "refused_total",
		    i == END ? "Clients that went, by reason." : i == DENIED ?
		    "Newcomers refused, by reason." : NULL, "side",
		    reason_names[i], BOTH(counts[i]));
	page_add(METRIC("capacity_bytes", "gauge", "Most bytes held in each "
	    "direction.") " %zu\n", conf.capacity);
	page_add(METRIC("log_lost_lines_total", "counter", "Log lines not "
	    "written.") " " U64 "\n", log_lost);
	page_add(METRIC("start_time_seconds", "gauge", "Start, seconds since "
	    "1970.") " %" PRId64 "\n", (int64_t)start_time);
	page_add(METRIC("build_info", "gauge", "Version and name.")
	    "{version=\"" VERSION "\",name=\"%s\"} 1\n", conf.name);
}

/* Answers a request line, "method target HTTP/1.x", at once: a fresh socket
 * takes a few kilobytes, or the client sees less than the Content-Length. */
static void
scrape_answer(int fd, char *request)
{
	const char *status = "200 OK";
	char head[256], *target, *version = NULL;

	request[strcspn(request, "\r\n")] = '\0';
	target = strchr(request, ' ');
	if (target != NULL) {
		*target++ = '\0';
		version = strchr(target, ' ');
		target[strcspn(target, "? ")] = '\0';
	}
	page_used = 0;
	if (version == NULL || *target != '/' ||
	    strncmp(version + 1, "HTTP/1.", 7) != 0)
		status = "400 Bad Request";
	else if (strcmp(request, "GET") != 0 && strcmp(request, "HEAD") != 0)
		status = "405 Method Not Allowed\r\nAllow: GET, HEAD";
	else if (strcmp(target, "/metrics") == 0)
		metrics_add();
	else if (strcmp(target, "/healthz") == 0)
		page_add("%s\n", state_name());
	else
		status = "404 Not Found";
	if (page_used == 0)
		page_add("%.3s\n", status);
	snprintf(head, sizeof head, "HTTP/1.0 %s\r\nContent-Type: text/plain; "
	    "version=0.0.4; charset=utf-8\r\nContent-Length: %zu\r\n"
	    "Connection: close\r\n\r\n", status, page_used);
	send(fd, head, strlen(head), 0);
	if (strcmp(request, "HEAD") != 0)
		send(fd, page, page_used, 0);
	shutdown(fd, SHUT_WR);
	log_event(LOG_DEBUG, "request", "status=%.3s", status);
}

/* Reads a metrics client.  After the answer it is read until it closes: to
 * close with unread input would reset the connection under the answer. */
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
	struct scrape *s, *oldest = scrapes;

	for (EACH(s, scrapes))
		oldest = s->deadline < oldest->deadline ? s : oldest;
	if (oldest->fd > 0)
		close(oldest->fd);
	*oldest = (struct scrape){ .fd = fd,
	    .deadline = socket_prepare(fd) ? now + PATIENCE : now };
}

/* ---- The loop -------------------------------------------------------- */

/* How long a client that sends nothing may acknowledge nothing, either: twice
 * -k, for keepalive is not sent while data is unacknowledged (tcp(7)).  A live
 * client that takes nothing looks the same, so not where -w says never; and
 * where data waits for it, -w decides if that is no longer. */
static int64_t
side_ack_limit(const struct side *side)
{
	int64_t limit = 2 * conf.keepalive;

	return !side_connected(side) || side->acked == side->other->sent ||
	    limit == 0 || conf.stall == NEVER ||
	    (wants_write(side) && conf.stall <= limit) ? NEVER : limit;
}

/* How often to ask what a client has acknowledged: often enough for -g and -w
 * while data waits for it, and for that limit. */
static int64_t
side_sampling(const struct side *side)
{
	int64_t limit = side_ack_limit(side), patience = !wants_write(side) ?
	    NEVER : conf.grace < conf.stall && now - side->progress <
	    conf.grace ? conf.grace : conf.stall;

	return patience == NEVER && limit == NEVER ? NEVER : MSEC +
	    (patience / 20 < limit / 4 ? patience / 20 : limit / 4);
}

/* Asks, if it is time to or a limit would be over; more acked is progress. */
static void
side_sample(struct side *side)
{
	int64_t every = side_sampling(side);
	uint64_t acked;

	if (every == NEVER || (now - side->progress < conf.stall &&
	    now - side->acked_time < side_ack_limit(side) &&
	    !is_over(side->sampled, every)))
		return;
	acked = side->other->sent - (uint64_t)socket_unacked(side->fd);
	if (acked > side->acked) {
		side->acked = acked;
		side->progress = side->acked_time = now;
	}
	side->sampled = now;
	is_over(now, side_sampling(side));
}

/* Does what is due on a side by the clock. */
static void
side_timers(struct side *side)
{
	side_expire(side);
	side_tell(side);
	if (!side_connected(side))
		return;
	if (stop_time != NEVER && side->other->ring.used == 0 && !side->shut) {
		side->shut = 1;		/* has all: gets the EOF */
		shutdown(side->fd, SHUT_WR);
	}
	if (side->half_closed && is_over(side->ended, conf.eof_hold))
		side_lose(side, END, "");
	if (wants_read(side) && is_over(side->heard, conf.idle))
		side_lose(side, TIMEOUT, " cause=idle");
	if (is_over(side->acked_time, side_ack_limit(side)))
		side_lose(side, TIMEOUT, " cause=keepalive");
	if (!wants_write(side))
		return;
	is_over(side->progress, conf.grace); /* its sender is read, then */
	if (is_over(side->progress, conf.stall))
		side_lose(side, TIMEOUT, " cause=write");
}

/* Changes clients that are to go, and does all that is due by the clock; with
 * -t, the totals or new rates in the live line. */
static void
timers_run(void)
{
	const char *state;
	struct scrape *scrape;
	struct listener *l;
	struct side *s;

	do {
		state = state_name();
		due = NEVER;
		side_change(&sides[SIDE_A]);
		side_change(&sides[SIDE_B]);
		side_change(&sides[SIDE_A]);	/* B waits now, perhaps */
		for (EACH(s, sides))
			side_sample(s);
		for (EACH(s, sides))
			side_timers(s);
	} while (state_name() != state);	/* another one is lost */
	for (EACH(scrape, scrapes))
		if (scrape->fd > 0 && is_over(scrape->deadline, 0)) {
			close(scrape->fd);
			scrape->fd = 0;
		}
	for (l = listeners; l < listener_end; l++)
		is_over(l->rest_until, 0);
	is_over(stop_time, 0);
	if (is_over(totals_last, conf.period)) {
		for (EACH(s, sides)) {
			s->rate = (double)(s->sent - s->rated) /
			    SECS(now - totals_last);
			s->rated = s->sent;
		}
		totals_last = now;
		live_shown = 0;
		if (!live)
			totals_log(LOG_INFO);
		is_over(now, conf.period);
	}
	if (live && !live_shown)
		live_draw();
}

/* Takes one client from a listener.  Without descriptors or memory it would be
 * reported again and again, so the listener rests. */
static void
listener_accept(struct listener *listener)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof address;
	int fd = accept(listener->fd, (struct sockaddr *)&address, &length);
	int lack = fd < 0 && errno != EAGAIN && errno != EWOULDBLOCK &&
	    errno != EINTR && errno != ECONNABORTED;

	if (lack && listener->rest_until == 0)
		log_event(LOG_WARNING, "accept_failed", "%s error=\"%s\"",
		    service_names[listener->service], strerror(errno));
	listener->rest_until = lack ? now + SECOND : 0;
	if (fd >= 0 && listener->service != METRICS)
		side_accept(&sides[listener->service], fd, &address, length);
	else if (fd >= 0)
		scrape_accept(fd);
}

/* Waits until a descriptor is ready, something is due, or a signal came.  Time
 * in which a client was not read, or nothing waited for it, does not count, nor
 * does any of a wait in which the bridge was stopped: nothing tells when. */
static void
loop_wait(fd_set *readable, fd_set *writable)
{
	int64_t before = now, began = clock_read(), paused = 0, wait =
	    due <= now ? 0 : due - now < WAIT_MAX ? due - now : WAIT_MAX;
	struct timespec timeout = { .tv_sec = (time_t)(wait / SECOND),
	    .tv_nsec = (long)(wait % SECOND * 1000) };
	struct side *s;
	sigset_t mask;

	if (pselect(fd_top + 1, readable, writable, NULL,
	    due == NEVER ? NULL : &timeout, &wait_mask) < 0) {
		if (errno != EINTR)
			fatal(1, "pselect: %s", strerror(errno));
		FD_ZERO(readable);
		FD_ZERO(writable);
	}
	now = clock_read();
	if (now - began >= 100 * MSEC)	/* it slept */
		signals_heard = now;
	else if (now - signals_heard >= SECOND) {
		/* Linux lets no signal in while something is always ready. */
		sigprocmask(SIG_SETMASK, &wait_mask, &mask);
		sigprocmask(SIG_SETMASK, &mask, NULL);
		signals_heard = now;
	}
	if (continued || (due != NEVER && now - before - wait > LATE)) {
		paused = now - before;
		log_event(LOG_DEBUG, "pause", "waited=%.3f", SECS(paused));
	}
	continued = 0;
	for (EACH(s, sides)) {
		s->ended += paused;
		s->acked_time += paused;
		s->heard = s->read_watched ? s->heard + paused : now;
		s->progress = s->write_watched ? s->progress + paused : now;
	}
}

/* One turn.  All is received before anything is sent, so that nothing goes to a
 * client whose EOF came with it; a side that nothing waited for, so that its
 * socket was not watched, is sent to at once; a slot is read before its
 * listener is accepted from. */
static void
loop_turn(void)
{
	fd_set readable, writable;
	struct scrape *scrape;
	struct listener *l;
	struct side *s;

	FD_ZERO(&readable);
	FD_ZERO(&writable);
	for (EACH(s, sides)) {
		if ((s->read_watched = wants_read(s)))
			FD_SET(s->fd, &readable);
		if ((s->write_watched = wants_write(s)))
			FD_SET(s->fd, &writable);
	}
	for (l = listeners; l < listener_end; l++)
		if (wants_accept(l))
			FD_SET(l->fd, &readable);
	for (EACH(scrape, scrapes))
		if (scrape->fd > 0)
			FD_SET(scrape->fd, &readable);
	loop_wait(&readable, &writable);
	for (EACH(s, sides))
		if (s->read_watched && FD_ISSET(s->fd, &readable))
			side_receive(s);
	for (EACH(s, sides))
		if (wants_write(s) && (!s->write_watched ||
		    FD_ISSET(s->fd, &writable)))
			side_send(s);
	for (EACH(scrape, scrapes))
		if (scrape->fd > 0 && FD_ISSET(scrape->fd, &readable))
			scrape_read(scrape);
	for (l = listeners; l < listener_end; l++)
		if (FD_ISSET(l->fd, &readable) && wants_accept(l))
			listener_accept(l);
}

/* The life of the bridge.  A signal ends it when all held bytes have reached
 * the connected clients and these have closed, when the time for that is over
 * or a second one comes. */
static void
loop_run(void)
{
	struct side *s;

	for (;;) {
		timers_run();
		if (stop_count > 1 || now >= stop_time || (stop_time != NEVER &&
		    sides[SIDE_A].fd == 0 && sides[SIDE_B].fd == 0))
			break;
		loop_turn();
		if (totals_asked)
			totals_log(LOG_NOTICE);
		totals_asked = 0;
		if (stop_count > 0 && stop_time == NEVER)
			stop_time = now + PATIENCE;
	}
	for (EACH(s, sides)) {
		if (s->fd > 0)
			side_close(s, SHUTDOWN);
		s->drop_said = s->refused_said = 0;
		side_tell(s);
	}
	if (conf.trace)
		trace_bytes(sides, 0);
	totals_log(sides[SIDE_A].ring.used + sides[SIDE_B].ring.used > 0 ?
	    LOG_WARNING : LOG_INFO);	/* what is held is lost */
}

/* ---- Signals --------------------------------------------------------- */

static void
signal_note(int number)
{
	if (number == SIGCONT)
		continued = 1;
	else if (number == SIGTERM || number == SIGINT || number == SIGHUP) {
		stop_signal = number;
		stop_count = stop_count > 0 ? 2 : 1;
	} else
		totals_asked = 1;
}

/* Handlers run only inside pselect: there is no moment between looking at a
 * flag and waiting.  A stop signal ignored at start (nohup) stays ignored. */
static void
signals_open(void)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGCONT,
#ifdef SIGINFO
	    SIGINFO,
#endif
	    SIGUSR1 };
	struct sigaction action = { .sa_handler = signal_note }, old;
	const int *number;

	sigemptyset(&action.sa_mask);
	sigprocmask(SIG_SETMASK, NULL, &wait_mask);
	for (EACH(number, numbers)) {
		sigaction(*number, NULL, &old);
		if (old.sa_handler != SIG_IGN || number > numbers + 2)
			sigaction(*number, &action, NULL);
		sigaddset(&action.sa_mask, *number);
		sigdelset(&wait_mask, *number);
	}
	sigprocmask(SIG_BLOCK, &action.sa_mask, NULL);
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
"  -A, -B net  let only this network in on that side (up to 16 times each)\n"
"  -b size   bytes held per direction, suffix k or m (4m)\n"
"  -e secs   after a side's EOF go on sending to it this long (0)\n"
"  -g secs   hold a sender back this long for a stuck receiver (3)\n"
"  -H secs   hold data for an absent side no longer than this (no limit)\n"
"  -h, -V    print this help; the version\n"
"  -i secs   close a side that sends nothing for this long (0: never)\n"
"  -k secs   TCP keepalive after this silence (30; 0: off)\n"
"  -l        lossless: never drop, hold the sender back instead\n"
"  -m addr   serve /metrics and /healthz over HTTP at [host:]port\n"
"  -n name   name of this bridge, in log and metrics\n"
"  -q, -v    log only warnings and errors; also debug lines\n"
"  -r secs   replace a client only if silent this long (0: always)\n"
"  -s        log to syslog, not to standard error\n"
"  -t secs   log totals this often; on a terminal, one live line\n"
"  -w secs   close a side that takes no data for this long (60; 0: never)\n"
"  -x        trace all traffic on standard output, in hex and text\n";

/* Reads digits and moves past them; -1 for none, or for more than the limit. */
static long
parse_number(char **text, long limit)
{
	long number = **text >= '0' && **text <= '9' ?
	    strtol(*text, text, 10) : -1;

	return number <= limit ? number : -1;
}

/* Seconds with decimals, as microseconds; 0 alone gives 0. */
static int64_t
parse_seconds(const char *what, const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	if (text[strspn(text, "0123456789.")] != '\0' || *end != '\0' ||
	    *text == '.' || end == text || end[-1] == '.' ||
	    seconds > SECONDS_MAX)
		fatal(2, "%s: not a number of seconds: '%s'", what, text);
	return (int64_t)(seconds * (double)SECOND + 0.999999);
}

/* [host:]port with host a name, an IPv4 address, *, or [IPv6 address]; a port
 * alone is on all interfaces, of -m on loopback. */
static void
parse_place(const char *what, char *text, struct place *place)
{
	char *colon = strrchr(text, ':'), *host = text;
	char *port = colon != NULL ? colon + 1 : text;
	size_t length = colon != NULL ? (size_t)(colon - text) : 0;
	long number = parse_number(&port, 65535);

	if (number < 0 || *port != '\0')
		fatal(2, "%s: not a port from 0 to 65535: '%s'", what, text);
	if (length > 2 && host[0] == '[' && host[length - 1] == ']' &&
	    strcspn(host + 1, "[]") == length - 2 &&
	    memchr(host, ':', length) != NULL) {
		host++;
		length -= 2;
	} else if (strcspn(host, ":[]") < length)
		fatal(2, "%s: not [IPv6 address]:port: '%s'", what, text);
	if (length == 1 && *host == '*')
		length = 0;
	snprintf(place->host, sizeof place->host, "%.*s", (int)length, host);
	place->flags = colon == NULL && place == &conf.places[METRICS] ?
	    0 : AI_PASSIVE;
	place->port = (int)number;
}

/* A numeric address, or one with the number of bits that have to agree.  No
 * client is v4-mapped (RFC 4291), for IPv6 sockets are V6ONLY. */
static void
parse_net(const char *what, char *text, struct side *side)
{
	static const unsigned char v4_mapped[12] = { [10] = 255, [11] = 255 };
	struct net *net = &side->nets[side->net_count];
	char *slash = strchr(text, '/'), *bits = slash != NULL ? slash + 1 : "";
	long most = strchr(text, ':') != NULL ? 128 : 32;
	long number = slash != NULL ? parse_number(&bits, most) : most;
	char copy[ADDRESS_SIZE];

	if (side->net_count++ == NETS)
		fatal(2, "%s: more than %d networks: '%s'", what, NETS, text);
	snprintf(copy, sizeof copy, "%.*s", (int)strcspn(text, "/"), text);
	net->family = most == 128 ? AF_INET6 : AF_INET;
	net->bits = (size_t)number;
	if (number < 0 || *bits != '\0' ||
	    inet_pton(net->family, copy, net->bytes) != 1 || (most == 128 &&
	    memcmp(net->bytes, v4_mapped, sizeof v4_mapped) == 0))
		fatal(2, "%s: not an address or network: '%s'", what, text);
}

/* Takes one option; what is wrong with it ends the program.  The list says what
 * flags set, and what 0 seconds stand for. */
static void
option_take(int option, const char *what, char *text)
{
	static const struct setting { int option; int64_t *set, to; } list[] = {
	    { '4', &conf.family, AF_INET }, { '6', &conf.family, AF_INET6 },
	    { 'e', &conf.eof_hold, 0 }, { 'g', &conf.grace, 0 },
	    { 'H', &conf.hold, 0 }, { 'i', &conf.idle, NEVER },
	    { 'k', &conf.keepalive, 0 }, { 'l', &conf.lossless, 1 },
	    { 'l', &conf.grace, 0 }, { 'q', &conf.level, LOG_NOTICE },
	    { 'r', &conf.silence, 0 }, { 's', &conf.syslog, 1 },
	    { 't', &conf.period, NEVER }, { 'v', &conf.level, LOG_DEBUG },
	    { 'w', &conf.stall, NEVER }, { 'x', &conf.trace, 1 } }, *s;
	char *end = text;
	int64_t size;

	for (EACH(s, list))
		if (s->option == option && (text == NULL ||
		    (*s->set = parse_seconds(what, text)) == 0))
			*s->set = s->to;
	if (option == 'A' || option == 'B')
		parse_net(what, text, &sides[option == 'A' ? SIDE_A : SIDE_B]);
	else if (option == 'b') {
		size = parse_number(&end, BUFFER_MAX);
		if (size > 0 && (*end == 'k' || *end == 'm'))
			size *= *end++ == 'k' ? 1024 : 1048576;
		if (size < 1 || size > BUFFER_MAX || *end != '\0')
			fatal(2, "%s: not a size from 1 to %d: '%s'", what,
			    BUFFER_MAX, text);
		conf.capacity = (size_t)size;
	} else if (option == 'm')
		parse_place(what, text, &conf.places[METRICS]);
	else if (option == 'n') {
		for (; (unsigned char)*end >= ' ' && *end != 127 &&
		    *end != '"' && *end != '\\'; end++)
			continue;
		if (*end != '\0' || end == text || end - text > NAME_SIZE)
			fatal(2, "%s: not 1 to %d characters without quote, "
			    "backslash or control: '%s'", what, NAME_SIZE,
			    text);
		conf.name = text;
	} else if (option == 'h' || option == 'V') {
		if (fputs(option == 'h' ? usage_text : "tcpbridge " VERSION
		    "\n", stdout) < 0 || fflush(stdout) != 0)
			fatal(1, "standard output: %s", strerror(errno));
		exit(0);
	} else if (option == '?' || option == ':')
		fatal(2, "-%c: %s: '%c'", optopt, option == '?' ?
		    "unknown option, see -h" : "option needs an argument",
		    optopt);
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
		optarg = NULL;	/* musl leaves it for flags that follow */
	}
	/* The system's keepalive has whole seconds. */
	conf.keepalive = (conf.keepalive + SECOND - 1) / SECOND * SECOND;
	if (conf.lossless && excluded)
		fatal(2, "-l: excludes -%c", excluded);
	argc -= optind;
	text = argv[optind + argc - 1];
	if (argc == 1 || argc > SIDES)
		fatal(2, "not two addresses after the options, or none, but "
		    "%d: '%s'", argc, text);
	if (argc == SIDES) {
		parse_place("side A", argv[optind], &conf.places[SIDE_A]);
		parse_place("side B", text, &conf.places[SIDE_B]);
	}
}

/* Opens what is closed of 0-2, or a socket with that number would get the log
 * into its stream; and a terminal behind 1 or 2 anew, non-blocking: of it
 * select() says only that it takes something, which may be less than a line.
 * Whoever shares the old descriptor is not touched. */
static void
descriptors_open(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		int closed = fcntl(fd, F_GETFD) < 0;
		const char *name = closed ? "/dev/null" : isatty(fd) &&
		    fd > STDIN_FILENO ? ttyname(fd) : NULL;
		int own = name == NULL ? fd :
		    open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);

		if (closed && own != fd)
			fatal(1, "%s: %s", name, strerror(errno));
		if (own >= 0 && own != fd) {
			dup2(own, fd);
			close(own);
		}
	}
}

int
main(int argc, char **argv)
{
	struct listener *l;
	struct side *s;
	int i;

	descriptors_open();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);	/* a log that may not grow */
	options_read(argc, argv);
	if (conf.syslog)
		openlog(conf.name[0] != '\0' ? conf.name : "tcpbridge",
		    LOG_NDELAY, LOG_DAEMON);
	now = totals_last = clock_read();
	start_time = time(NULL);
	live = conf.period != NEVER && !conf.syslog && isatty(STDERR_FILENO);
	for (EACH(s, sides)) {
		s->name = service_names[s - sides];
		s->dir = s == sides ? "A->B" : "B->A";
		s->other = &sides[s == sides];
		s->ring.capacity = conf.capacity + READ_SMALL;
		s->left = now;
	}
	for (i = 0; i < SERVICES; i++)
		if (conf.places[i].port >= 0)
			service_open(i);
	signals_open();
	for (l = listeners; l < listener_end; l++)
		log_event(LOG_INFO, "listen", "%s addr=%s",
		    service_names[l->service], l->address);
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
