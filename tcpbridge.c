/*
 * tcpbridge - join two TCP clients that can both only dial out
 *
 * SPDX-License-Identifier: ISC
 * Copyright (c) 2026 the tcpbridge contributors
 *
 * Permission to use, copy, modify, and/or distribute this software for any
 * purpose with or without fee is hereby granted, provided that the above
 * copyright notice and this permission notice appear in all copies.
 *
 * THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES
 * WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
 * MERCHANTABILITY AND FITNESS.  IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
 * ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
 * WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
 * ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
 * OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
 */

/*
 * There are two sides, A and B.  The same code serves both.
 *
 *	client of A --recv--> ring A->B --send--> client of B
 *	client of A <--send-- ring B->A <--recv-- client of B
 *
 * A flow is one direction: a ring with its counters.  A byte is held in the
 * ring from the moment it is received until the receiver's system has
 * acknowledged it.  For each flow, at every moment:
 *
 *	received = sent (acknowledged) + dropped + held
 *	held = away (given to a socket, not acknowledged) + unsent
 *
 * A side has one client, and during a hand-over a short queue of them, in the
 * order in which they came.  Only the oldest is read.  Only the newest is sent
 * to.  When a newcomer comes, the client before it is leaving: it is read for
 * exactly what had arrived from it, then it is closed.  What it had not
 * acknowledged goes to the newcomer.
 *
 * With -o two clients that are there together are a session, and partners.
 * When one leaves, the session is over.  The other one is sent what had arrived
 * from its partner, then EOF, and is closed.  All else that is held is dropped.
 *
 * A client that acknowledges nothing becomes silent, and counts as absent.  To
 * ask means to ask the system what a client has acknowledged.
 *
 * One turn of the loop does what is due, and reads and closes clients that are
 * leaving.  It builds the fd sets from the state alone, and waits in pselect().
 * Then it receives, sends, and accepts newcomers.
 */

/* Ask for POSIX, and for what systems have beyond it. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE 1
#define _DARWIN_C_SOURCE 1
#define _NETBSD_SOURCE 1
#define _BSD_SOURCE 1
#define _ALL_SOURCE 1
#define __BSD_VISIBLE 1
#define __XSI_VISIBLE 700	/* SIGXFSZ on FreeBSD and DragonFly */
#define __EXTENSIONS__ 1

#ifdef __sun
#include <sys/filio.h>		/* FIONREAD on illumos */
#endif
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
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
#include <termios.h>		/* TIOCGWINSZ on illumos */
#include <time.h>
#include <unistd.h>

/* ---- Limits ---------------------------------------------------------- */

#define VERSION "2.0"
#define U64 "%" PRIu64
#define LENGTH(array) (sizeof (array) / sizeof (array)[0])

#ifndef BUFFER_MAX
#define BUFFER_MAX 4194304	/* most bytes held in each direction (-b) */
#endif
#define READ_SMALL 4096	/* reads up to this are held or dropped whole */
#ifndef PIPE_BUF		/* bytes that a ready pipe takes at once */
#define PIPE_BUF _POSIX_PIPE_BUF
#endif
#ifndef _PATH_LOG		/* where syslogd listens */
#define _PATH_LOG "/dev/log"
#endif
#ifdef __GNUC__
#define PRINTF(text, first) __attribute__((format(printf, text, first)))
#define NORETURN __attribute__((noreturn))
#else
#define PRINTF(text, first)
#define NORETURN
#endif

enum {
	/* Measured: no other value from 64 KiB to 1 MiB is faster. */
	HIGH_WATER = 262144,	/* unsent bytes at which a sender waits */
	UNSENT_LOW = 262144,	/* TCP_NOTSENT_LOWAT, bytes */
	ASK_SIZE = 4096,	/* bytes sent, after which the code asks */
	CLIENTS = 8,		/* at a time on a side, leaving ones, too */
	BACKLOG = 128,		/* with 16, quick redials had to wait */
	LISTENERS = 32,		/* addresses of both sides and metrics */
	PORT_TRIES = 16,	/* to find one port for all addresses */
	NETS = 16,		/* networks a side (-A, -B) */
	CONTEST = 3,		/* quick replacements: contested */
	SCRAPES = 4,		/* metrics clients at a time (-m) */
	REQUEST_MAX = 2048,	/* bytes in the first line of a request */
	ADDRESS_SIZE = 72,	/* bytes in "[v6%zone]:port" */
	NAME_SIZE = 64,		/* characters in a name (-n) */
	ROW_SIZE = 80,		/* bytes; a row of the trace has fewer */
	SAVE_PATH = 4096,	/* bytes in the name of a file (-f) */
	TEXT_SIZE = 8192,	/* bytes in the page */
	PIPE_SAFE = PIPE_BUF < TEXT_SIZE / 2 ? PIPE_BUF : TEXT_SIZE / 2
};

#define MSEC INT64_C(1000)	/* times are in microseconds */
#define SECOND INT64_C(1000000)
#define SECS(time) ((double)(time) / (double)SECOND)
#define NEVER INT64_MAX
#define SECONDS_MAX 1e9		/* in an argument; 31 years */
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define PATIENCE (2 * SECOND)	/* a stop, a request, the end of -o */
#define QUICK MINUTE		/* replaced so soon: quick */
#define SLOW_MIN (5 * SECOND)	/* a receiver that needs longer is slow */
#define RUN_QUIET (5 * MINUTE)	/* without an event: the run ends */
#define WAIT_MAX (1000000 * SECOND) /* longer waits fail on some systems */
#define PAUSE_MIN SECOND	/* a wait too long by this was a pause */
#define ASK_FIRST (MSEC / 4)	/* from ask to ask for room, at first */
#define ASK_LAST (50 * MSEC)	/* and at most */

/* ---- Types and state ------------------------------------------------- */

enum { SIDE_A, SIDE_B, SIDES, METRICS = SIDES, SERVICES };

/* Reasons to drop bytes (up to ENDED), to refuse a newcomer (up to LIMIT), to
 * close a client (from REPLACED).  Those before RUNS are logged in runs. */
enum reason { OVERFLOWN, EXPIRED, ENDED, DENIED, BUSY, LIMIT, REPLACED, RUNS,
    END = RUNS, RESET, IDLE, STALLED, DEAD, SHUTDOWN, FAILED, SESSION, REASONS,
    STAYS = REASONS };

static const char *const service_names[] = { "side=A", "side=B",
    "service=metrics" };
static const char *const place_names[] = { "side A", "side B", "-m" };
static const char *const reason_names[] = { "overflow", "expired", "session",
    "denied", "busy", "limit", "replaced", "eof", "reset",
    "timeout cause=idle", "timeout cause=write", "timeout cause=keepalive",
    "shutdown", "error", "session" };

/* A queue of bytes in a circle.  The circle has READ_SMALL bytes more than may
 * be held, and READ_SMALL bytes follow it.  So a small read always fits in one
 * piece. */
struct ring {
	size_t capacity;	/* bytes in the circle: -b and READ_SMALL */
	size_t start, used;	/* offset of the oldest byte; bytes held */
	size_t away;		/* how many of these a socket has got */
	unsigned char bytes[(BUFFER_MAX) + 2 * READ_SMALL];
};

/* A run of equal events: drops, newcomers that are refused, or clients that
 * replace each other.  It is logged at once, then ever more rarely, and at its
 * end. */
struct run {
	int64_t began;		/* when its first event was; 0: no run */
	int64_t last;		/* when its last one was */
	int64_t told;		/* when it was last logged; 0: not yet */
	uint64_t count, untold;	/* clients or bytes; not logged yet */
	uint64_t session;	/* of the client in the last event, or 0 */
	char peer[ADDRESS_SIZE]; /* of that client, or "" */
};

/* One direction.  Counts are totals since the start. */
static struct flow {
	const char *name;	/* "A->B" */
	struct side *from, *to;
	struct ring ring;
	uint64_t received, sent, dropped; /* bytes; sent: acknowledged */
	uint64_t unacked;	/* bytes that came back at a disconnect */
	uint64_t session;	/* of the client that sent last */
	uint64_t drops;		/* times that bytes were dropped */
	uint64_t slow;		/* 1 from event=slow to event=slow_end */
	int64_t slow_since;	/* when the wait for that began */
	int64_t wait_began;	/* since when its sender waits, or 0 */
	uint64_t wait_goal;	/* sent, once all held then is gone */
	uint64_t rated;		/* sent, when rate was last computed */
	double rate;		/* bytes a second, for the live line (-t) */
} flows[SIDES];		/* by the side that the bytes come from */

/* What a client does.  Only the newest of a side is other than LEAVING. */
enum state {
	OPEN,			/* it is read and sent to */
	HALF_CLOSED,		/* its EOF was read; -e still sends to it */
	SILENT,			/* like OPEN; it acknowledges nothing */
	LEAVING			/* is read out, then closed */
};

/* One connection. */
struct client {
	int fd;			/* its socket */
	enum state state;
	enum reason reason;	/* why it is leaving */
	char detail[80];	/* " by=PEER", " error=TEXT" or "" */
	int level;		/* log level for its leaving */
	char peer[ADDRESS_SIZE];
	uint64_t session;	/* number of the connection, from 1 */
	uint64_t partner;	/* -o: session of its partner; 0: none yet */
	uint64_t received, sent; /* bytes; sent: acknowledged */
	size_t unacked;		/* bytes that came back from it */
	size_t unread;		/* leaving or stop: bytes to read */
	int told;		/* event=leaving was logged */
	int shut;		/* it was sent EOF (a stop, -o) */
	int error;		/* errno kept by socket_unacked(), or 0 */
	int watched;		/* in the read set of the last wait */
	size_t unasked;		/* bytes sent since the last ask */
	int64_t ask_wait;	/* until the next ask, if room is short */
	int64_t asked;		/* when the code last asked */
	int64_t since;		/* when it came */
	int64_t ended;		/* when its EOF was read, else 0 */
	int64_t silenced;	/* when it became SILENT */
	int64_t heard;		/* when it last sent, or was not read */
	int64_t took;		/* last ack, or nothing was held */
	int64_t alive;		/* when it last acknowledged or sent */
};

static struct side {
	const char *name;	/* "A" */
	struct flow *in, *out;	/* from its clients; to them */
	struct client clients[CLIENTS]; /* the oldest first */
	int count;		/* of clients */
	int64_t left;		/* last client left, or the start */
	int64_t heard;		/* last byte came, or the start */
	uint64_t connects, counts[REASONS]; /* let in; closed or refused */

	/* Networks that are let in (-A, -B); without any, all are. */
	struct net {
		int family;		/* AF_INET or AF_INET6 */
		size_t bits;		/* that have to agree, 0 to 128 */
		unsigned char bytes[16];
	} nets[NETS];
	int net_count;
	struct run runs[RUNS];	/* drops of its bytes; newcomers */
	int quick;		/* replacements in a row, each within QUICK */
} sides[SIDES];

/* A socket that clients dial. */
static struct listener {
	int fd, service;	/* the socket; SIDE_A, SIDE_B or METRICS */
	int64_t rest_until;	/* accept() failed: when to retry; else 0 */
	char address[ADDRESS_SIZE];
} listeners[LISTENERS];

/* A client of the metrics port. */
static struct scrape {
	int fd;			/* 0 when free */
	int answered;		/* what it still sends is ignored */
	int in_head;		/* the request line is complete */
	int at_begin;		/* at the begin of a line of the head */
	int64_t deadline;	/* when it is closed at the latest */
	size_t used;		/* bytes of the request line so far */
	char request[REQUEST_MAX];
} scrapes[SCRAPES];

/* What the command line says. */
static struct {
	int family;		/* -4, -6; else AF_UNSPEC */
	int level;		/* -q, -v: what is logged, LOG_... */
	int lossless, sessions, syslog, trace; /* -l, -o, -s, -x */
	const char *name;	/* -n; empty if none */
	const char *file;	/* -f; empty if none */
	size_t capacity;	/* -b, bytes */
	int64_t eof_hold, grace, keepalive, replace;	/* -e, -g, -k, -r */
	int64_t hold, idle, period, stall;	/* -H, -i, -t, -w; or NEVER */
	struct place {
		char host[256];		/* empty: depends on flags */
		int flags;		/* AI_PASSIVE: all; 0: loopback */
		int port;		/* 0: any free one; -1: nowhere */
	} places[SERVICES];	/* operands, -m */
} conf = {
	.level = LOG_INFO, .name = "", .file = "", .capacity = BUFFER_MAX,
	.grace = 3 * SECOND, .keepalive = 30 * SECOND, .hold = NEVER,
	.idle = NEVER, .period = NEVER, .stall = 60 * SECOND,
	.places = { { "", AI_PASSIVE, 1024 }, { "", AI_PASSIVE, 1025 },
	    { "", 0, -1 } }
};

static int listener_count;
static char page[TEXT_SIZE];	/* text that is about to be written */
static size_t page_used;	/* bytes of it */
static int fd_top;		/* highest descriptor the loop ever watched */
static int64_t now;		/* what clock_read() said, once a turn */
static int64_t stop_deadline = NEVER; /* when a stop has to end */
static int64_t totals_last;	/* when -t was last done */
static int64_t started;		/* when the bridge started */
static uint64_t sessions;	/* connections so far */
static uint64_t accept_failures; /* accept_failed, any port */
static uint64_t log_lost, log_told; /* lines lost; of these logged */
static int live, live_shown;	/* -t redraws one line; it is shown */
static int is_shared[STDERR_FILENO + 1]; /* a terminal that others use, too */
static int syslog_fd = -1;	/* to syslogd (-s), or -1 */
static int in_journal;		/* standard error is read by journald */
static int save_fd = -1, save_loaded; /* of save_new; -f was read */
static char save_new[SAVE_PATH]; /* a stop writes this, then renames it */
static unsigned changes;	/* clients that came, left or changed state */
static sigset_t wait_mask;	/* signals blocked while pselect waits */
static int64_t signals_heard;	/* when a wait last let signals in */
static volatile sig_atomic_t stop_signal, stop_count, totals_asked, continued;

/* ---- Messages -------------------------------------------------------- */

static void page_add(const char *, ...) PRINTF(1, 2);
static void log_event(int, const char *, const char *, ...) PRINTF(3, 4);
static void fatal(int, const char *, ...) PRINTF(2, 3) NORETURN;

/* Adds to the page, as vprintf(3) would; what does not fit is cut. */
static void
page_add_list(const char *format, va_list list)
{
	size_t room = sizeof page - page_used;
	int size = vsnprintf(page + page_used, room, format, list);

	if (size > 0)
		page_used += (size_t)size < room ? (size_t)size : room - 1;
}

static void
page_add(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	page_add_list(format, list);
	va_end(list);
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

/* Writes without blocking to a terminal that others use, too. */
static ssize_t
write_shared(int fd, const char *bytes, size_t size)
{
	int flags = fcntl(fd, F_GETFL);
	ssize_t n;

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	n = write(fd, bytes, size);
	fcntl(fd, F_SETFL, flags);
	return n;
}

/* Writes without blocking what a descriptor takes.  A pipe that is ready takes
 * PIPE_BUF bytes (POSIX).  Returns how many bytes went, 0 if none. */
static size_t
write_now(int fd, const char *bytes, size_t size)
{
	struct timeval at_once = { 0, 0 };
	fd_set set;
	ssize_t n;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	if (select(fd + 1, NULL, &set, NULL, &at_once) != 1)
		return 0;
	if (size > PIPE_SAFE)
		size = PIPE_SAFE;
	if (is_shared[fd])
		n = write_shared(fd, bytes, size);
	else
		n = write(fd, bytes, size);
	return n > 0 ? (size_t)n : 0;
}

/* Writes the page; returns 0 if the descriptor does not take all of it now.
 * Descriptors 0 to 2 are shared with other programs, so they stay blocking.  A
 * stopped terminal or a full pipe must not stop the bridge. */
static int
page_write(int fd)
{
	static int cut[STDERR_FILENO + 1]; /* the last page lacks its end */
	size_t done = 0, n;

	if (cut[fd] && write_now(fd, "\n", 1) != 1)
		return 0;
	cut[fd] = 0;
	while (done < page_used) {
		n = write_now(fd, page + done, page_used - done);
		if (n == 0)
			break;
		done += n;
	}
	cut[fd] = done > 0 && done < page_used;
	return done == page_used;
}

/* Adds what syslog(3) puts before a message (RFC 3164): priority, local time,
 * program. */
static void
page_add_syslog(int level)
{
	time_t wall = time(NULL);
	struct tm local;
	char stamp[32] = "";

	if (localtime_r(&wall, &local) != NULL)
		strftime(stamp, sizeof stamp, "%b %e %H:%M:%S", &local);
	page_add("<%d>%s %s[%ld]: ", LOG_DAEMON | level, stamp,
	    conf.name[0] != '\0' ? conf.name : "tcpbridge", (long)getpid());
}

/* Opens a socket to syslogd that never blocks; syslog(3) would, when syslogd
 * hangs.  Returns 0, or -1 and errno. */
static int
syslog_open(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof address.sun_path, _PATH_LOG);
	syslog_fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (syslog_fd < 0)
		return -1;
	fcntl(syslog_fd, F_SETFL, O_NONBLOCK);
	fcntl(syslog_fd, F_SETFD, FD_CLOEXEC);
	return connect(syslog_fd, (struct sockaddr *)&address, sizeof address);
}

/* Sends the page to syslogd; returns 0 if syslogd does not take it now.  After
 * a restart syslogd has a new socket, so the bridge connects again. */
static int
syslog_send(void)
{
	if (syslog_fd >= 0 && send(syslog_fd, page, page_used, 0) >= 0)
		return 1;
	if (syslog_fd >= 0 && (errno == EAGAIN || errno == EWOULDBLOCK ||
	    errno == ENOBUFS))
		return 0;
	if (syslog_fd >= 0)
		close(syslog_fd);
	if (syslog_open() == 0 && send(syslog_fd, page, page_used, 0) >= 0)
		return 1;
	if (syslog_fd >= 0)
		close(syslog_fd);
	syslog_fd = -1;
	return 0;
}

/* Adds what each line begins with.  Syslog has time and level itself; journald
 * takes the level from "<4>", sd-daemon(3). */
static void
page_add_head(int level)
{
	const char *text = level == LOG_WARNING ? "warn" : "info";

	if (level == LOG_DEBUG)
		text = "debug";
	if (conf.syslog)
		page_add_syslog(level);
	if (in_journal)
		page_add("<%d>", level);
	if (!conf.syslog) {
		page_add("time=");
		page_add_time();
		page_add(" level=%s ", text);
	}
	if (conf.name[strcspn(conf.name, " =")] != '\0')
		page_add("name=\"%s\" ", conf.name);
	else if (conf.name[0] != '\0')
		page_add("name=%s ", conf.name);
}

/* Writes the line that was begun; returns 0 if it is lost. */
static int
log_write(void)
{
	int done;

	if (conf.syslog)
		return syslog_send();
	page_add("\n");
	done = page_write(STDERR_FILENO);
	if (done)
		live_shown = 0;
	return done;
}

/* Begins a line, and erases the live line. */
static void
log_begin(int level, const char *event)
{
	page_used = 0;
	if (live_shown)
		page_add("\r\033[K");
	page_add_head(level);
	page_add("event=%s ", event);
}

/* Logs an event, one line, with a level of syslog(3).  LOG_NOTICE is for what
 * the user asked for: -q logs it, too.  Lines that were lost before are counted
 * in a line of their own. */
static void
log_event(int level, const char *event, const char *format, ...)
{
	va_list list;

	if (level > conf.level)
		return;
	if (log_lost > log_told) {
		log_begin(LOG_WARNING, "log_lost");
		page_add("lines=" U64, log_lost - log_told);
		if (!log_write()) {
			log_lost++;	/* this line is lost, too */
			return;
		}
		log_told = log_lost;
	}
	log_begin(level, event);
	va_start(list, format);
	page_add_list(format, list);
	va_end(list);
	if (!log_write())
		log_lost++;
}

/* Prints why the program can't start or go on, in one line, and ends it.
 * Status 2 is wrong usage.  Control characters, which the user may have typed,
 * become '?'. */
static void
fatal(int status, const char *format, ...)
{
	va_list list;
	char *c, text[1024];

	page_used = 0;
	va_start(list, format);
	page_add_list(format, list);
	va_end(list);
	for (c = page; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	fprintf(stderr, "tcpbridge: %s\n", page);
	if (conf.syslog && status == 1) {
		snprintf(text, sizeof text, "%.1000s", page);
		page_used = 0;
		page_add_syslog(LOG_ERR);
		page_add("%s", text);
		syslog_send();
	}
	if (save_fd >= 0)
		unlink(save_new);
	exit(status);
}

/* ---- Rings ----------------------------------------------------------- */

/* Pure arithmetic.  test/tools/prove proves the contracts, which are ACSL. */

/*@ predicate sound(struct ring *ring) = \valid(ring) &&
  @     0 < ring->capacity <= BUFFER_MAX + READ_SMALL &&
  @     ring->start < ring->capacity &&
  @     ring->away <= ring->used <= ring->capacity; */

/* The offset of a held byte, or of the first free one. */
/*@ requires sound(ring) && index <= ring->used;
  @ assigns \nothing;
  @ ensures \result == (ring->start + index) % ring->capacity; */
static size_t
ring_offset(const struct ring *ring, size_t index)
{
	size_t offset = ring->start + index;

	return offset >= ring->capacity ? offset - ring->capacity : offset;
}

/* How much of a run of bytes lies in one piece, before the circle ends. */
/*@ requires sound(ring) && from < ring->capacity && size <= ring->capacity;
  @ assigns \nothing;
  @ ensures \result == (size < ring->capacity - from ? size :
  @     ring->capacity - from); */
static size_t
ring_piece(const struct ring *ring, size_t from, size_t size)
{
	return size < ring->capacity - from ? size : ring->capacity - from;
}

/* Copies bytes to the begin of the circle.  Provers can check a loop. */
/*@ requires \valid(ring) && size <= from && size <= READ_SMALL;
  @ requires from + size <= BUFFER_MAX + 2 * READ_SMALL;
  @ assigns ring->bytes[0 .. size - 1];
  @ ensures \forall integer i; 0 <= i < size ==>
  @     ring->bytes[i] == \old(ring->bytes[from + i]); */
static void
ring_copy(struct ring *ring, size_t from, size_t size)
{
	size_t i;

	/*@ loop invariant 0 <= i <= size;
	  @ loop invariant \forall integer j; 0 <= j < i ==>
	  @     ring->bytes[j] == \at(ring->bytes[from + j], Pre);
	  @ loop invariant \forall integer j; size <= j <
	  @     BUFFER_MAX + 2 * READ_SMALL ==>
	  @     ring->bytes[j] == \at(ring->bytes[j], Pre);
	  @ loop assigns i, ring->bytes[0 .. size - 1];
	  @ loop variant size - i; */
	for (i = 0; i < size; i++)
		ring->bytes[i] = ring->bytes[from + i];
}

/* Holds bytes that were written behind the last one.  What lies behind the end
 * of the circle is copied to its begin. */
/*@ requires sound(ring) && size <= ring->capacity - ring->used;
  @ requires READ_SMALL <= ring->capacity &&
  @     (ring->start + ring->used) % ring->capacity + size <=
  @     ring->capacity + READ_SMALL;
  @ assigns ring->used, ring->bytes[0 .. READ_SMALL - 1];
  @ ensures sound(ring) && ring->used == \old(ring->used) + size; */
static void
ring_put(struct ring *ring, size_t size)
{
	size_t end = ring_offset(ring, ring->used);
	size_t piece = ring_piece(ring, end, size);

	ring_copy(ring, ring->capacity, size - piece);
	ring->used += size;
}

/* Removes the oldest bytes; those that are away are the first.  If few are
 * left, they move to the begin of the circle, so light traffic touches few
 * pages. */
/*@ requires sound(ring) && size <= ring->used;
  @ assigns ring->used, ring->start, ring->away,
  @     ring->bytes[0 .. READ_SMALL - 1];
  @ ensures sound(ring) && ring->used == \old(ring->used) - size;
  @ ensures ring->away == (\old(ring->away) < size ? 0 :
  @     \old(ring->away) - size); */
static void
ring_take(struct ring *ring, size_t size)
{
	ring->start = ring_offset(ring, size);
	ring->used -= size;
	ring->away -= ring->away < size ? ring->away : size;
	if (ring->used == 0)
		ring->start = 0;
	if (ring->used > READ_SMALL || ring->start <= READ_SMALL ||
	    ring->used > ring->capacity - ring->start)
		return;
	ring_copy(ring, ring->start, ring->used);
	ring->start = 0;
}

/* Removes the bytes that are not away; returns how many these were. */
/*@ requires sound(ring);
  @ assigns ring->used;
  @ ensures sound(ring) && ring->used == ring->away;
  @ ensures \result == \old(ring->used) - ring->away; */
static size_t
ring_cut(struct ring *ring)
{
	size_t size = ring->used - ring->away;

	ring->used = ring->away;
	return size;
}

/* How many held bytes are not away. */
/*@ requires sound(ring);
  @ assigns \nothing;
  @ ensures \result == ring->used - ring->away; */
static size_t
ring_unsent(const struct ring *ring)
{
	return ring->used - ring->away;
}

/* ---- Sockets --------------------------------------------------------- */

/* CLOCK_MONOTONIC, microseconds.  One second is added, so a time of 0 always
 * lies a second in the past. */
static int64_t
clock_read(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return ((int64_t)time.tv_sec + 1) * SECOND + time.tv_nsec / 1000;
}

/* A time plus a duration; NEVER if one of them is NEVER. */
static int64_t
after(int64_t time, int64_t span)
{
	return time == NEVER || span == NEVER ? NEVER : time + span;
}

static int64_t
sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
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

/* The length of a peer without its port. */
static size_t
host_length(const char *peer)
{
	return (size_t)(strrchr(peer, ':') - peer);
}

/* Makes a socket fit for the loop: non-blocking and closed on exec.  Returns 0
 * if it can't.  A descriptor of FD_SETSIZE or more would be written past the
 * end of an fd_set. */
static int
socket_prepare(int fd)
{
	if (fd >= (int)FD_SETSIZE) {
		errno = EMFILE;
		return 0;
	}
	if (fd > fd_top)
		fd_top = fd;
	return fcntl(fd, F_SETFL, O_NONBLOCK) >= 0 &&
	    fcntl(fd, F_SETFD, FD_CLOEXEC) >= 0;
}

/* Sets an option that the bridge can work without; ignores a failure. */
static void
socket_option(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof value);
}

/* Sets the options of a client's socket.  Not TCP_USER_TIMEOUT: Linux counts it
 * from the first window probe, and so ends peers that read slowly. */
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
	/* OpenBSD and Haiku have only the system's own times. */
#if defined TCP_KEEPINTVL && defined TCP_KEEPCNT
	socket_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, (idle + 2) / 3);
	socket_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
#endif
}

/* The request for how many bytes the peer's system has not acknowledged. */
#if defined SO_NWRITE
#define ACKS "SO_NWRITE"	/* macOS */
#elif defined FIONWRITE
#define ACKS "FIONWRITE"	/* FreeBSD, NetBSD */
#elif defined __linux__ && defined TIOCOUTQ
#define ACKS "TIOCOUTQ"		/* other systems: for terminals only */
#define FIN_COUNTS 1		/* TIOCOUTQ counts the FIN as a byte */
#else
#define ACKS "none"		/* what the system took counts as sent */
#endif
#ifndef FIN_COUNTS
#define FIN_COUNTS 0
#endif

/* The pending error of a socket, which the system then forgets; 0 if none. */
static int
socket_error(int fd)
{
	int error = 0;
	socklen_t length = sizeof error;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ?
	    errno : error;
}

/* How many of the bytes that are away are not acknowledged; 0 if the system
 * can't tell.  On Linux the figure is exact after a reset, too.  FreeBSD
 * empties the send buffer when it disconnects (soisdisconnected), so there the
 * figure counts only if the socket is still connected afterwards.  A BSD also
 * disconnects when both ends have finished; without an error all has arrived
 * then.  The system gives an error only once, so it is kept. */
static size_t
socket_unacked(int fd, size_t away, int finished, int *error)
{
	int bytes = 0;
#if defined SO_NWRITE
	socklen_t length = sizeof bytes;

	if (getsockopt(fd, SOL_SOCKET, SO_NWRITE, &bytes, &length) < 0)
		return 0;
#elif defined FIONWRITE
	if (ioctl(fd, FIONWRITE, &bytes) < 0)
		return 0;
#elif defined __linux__ && defined TIOCOUTQ
	if (ioctl(fd, TIOCOUTQ, &bytes) < 0)
		return 0;
#endif
#if defined SO_NWRITE || defined FIONWRITE
	struct sockaddr_storage peer;
	socklen_t size = sizeof peer;

	if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0) {
		if (finished && *error == 0)
			*error = socket_error(fd);
		return finished && *error == 0 ? 0 : away;
	}
#endif
	(void)fd;
	(void)finished;
	(void)error;
	return (size_t)bytes < away ? (size_t)bytes : away;
}

/* How many bytes have arrived and were not read.  Without FIONREAD the bridge
 * can only peek at the first ones; if they fill its buffer, the guess is
 * returned. */
static size_t
socket_unread(int fd, size_t guess)
{
	ssize_t seen;
	char bytes[READ_SMALL];
#ifdef FIONREAD
	int count = 0;

	if (ioctl(fd, FIONREAD, &count) >= 0)
		return count > 0 ? (size_t)count : 0;
#endif
	seen = recv(fd, bytes, sizeof bytes, MSG_PEEK);
	if (seen <= 0)
		return 0;
	return (size_t)seen < sizeof bytes ? (size_t)seen : guess;
}

/* How a connection has ended, before recv() says so. */
enum ending {
	GOES_ON,
	HAS_EOF,		/* perhaps behind unread bytes */
	IS_BROKEN		/* SO_ERROR tells how */
};

#if defined __linux__ && defined TCP_INFO
/* Not SO_ERROR: it gives, and forgets, errors that a connection survives. */
static enum ending
socket_ending(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof info;

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
	if (info.tcpi_state == TCP_CLOSE)
		return IS_BROKEN;
	return info.tcpi_state == TCP_CLOSE_WAIT ? HAS_EOF : GOES_ON;
}

/* Whether the peer's system answers, but has no room, as its program takes
 * nothing.  If the system is cut off, bytes stay in flight or window probes get
 * no answer.  -1: this system can't tell. */
static int
socket_window_shut(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof info;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return -1;
	return info.tcpi_unacked == 0 && info.tcpi_probes < 2;
}
#else
static enum ending
socket_ending(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_PEEK);

	if (n == 0)
		return HAS_EOF;
	return n > 0 || errno == EAGAIN || errno == EWOULDBLOCK ||
	    errno == EINTR ? GOES_ON : IS_BROKEN;
}

static int
socket_window_shut(int fd)
{
	(void)fd;
	return -1;
}
#endif

/* Opens one more listener, unless there is one at that address, and stores the
 * port in info; returns errno or 0.  SO_REUSEADDR lets a restart bind while
 * connections are in TIME_WAIT.  SO_REUSEPORT would give half of the clients to
 * a second bridge.  Accepted sockets inherit SO_OOBINLINE, so an urgent byte
 * that comes first stays in the stream. */
static int
listener_open(struct addrinfo *info, int service)
{
	struct listener *l, *listener = &listeners[listener_count];
	socklen_t length = info->ai_addrlen;
	int error, fd;

	address_text(info->ai_addr, length, listener->address);
	for (l = listeners; l < listener; l++)
		if (l->service == service &&
		    strcmp(l->address, listener->address) == 0)
			return 0;	/* listed twice */
	fd = socket(info->ai_family, SOCK_STREAM, 0);
	if (fd < 0)
		return errno;
	socket_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	socket_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
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
	listener->rest_until = 0;
	listener_count++;
	return 0;
}

/* Closes the last listeners until this many are left. */
static void
listeners_close(int left)
{
	while (listener_count > left)
		close(listeners[--listener_count].fd);
}

static in_port_t *
address_port(struct addrinfo *info)
{
	void *address = info->ai_addr;

	if (info->ai_family == AF_INET6)
		return &((struct sockaddr_in6 *)address)->sin6_port;
	return &((struct sockaddr_in *)address)->sin_port;
}

/* Whether the error means that the system lacks IPv4 or IPv6. */
static int
family_is_missing(int error, const char *address)
{
	return error == EAFNOSUPPORT || (error == EADDRNOTAVAIL &&
	    (strncmp(address, "[::1]:", 6) == 0 ||
	    strncmp(address, "[::]:", 5) == 0));
}

/* A hint why an address can't be bound, or "". */
static const char *
address_hint(const struct addrinfo *info)
{
	const void *address = info->ai_addr;
	const struct sockaddr_in6 *v6 = address;

	if (info->ai_family != AF_INET6)
		return "";
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return " (write it as IPv4)";
	if (IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) && v6->sin6_scope_id == 0)
		return " (a link-local address needs a zone: fe80::1%eth0)";
	return "";
}

/* Opens a listener for each address of a list.  For port 0 the system chooses a
 * port for the first, and the others get the same one.  Returns EADDRINUSE if
 * that port is in use at one of the others, the error if the last family is
 * missing, or 0.  Any other failure ends the program. */
static int
addresses_open(struct addrinfo *list, int service)
{
	int asked = conf.places[service].port, error = 0;
	in_port_t port = htons((uint16_t)asked);
	struct addrinfo *info;
	const char *text;

	for (info = list; info != NULL; info = info->ai_next) {
		if (listener_count == LISTENERS)
			fatal(1, "%s: too many addresses",
			    place_names[service]);
		text = listeners[listener_count].address;
		*address_port(info) = port;
		error = listener_open(info, service);
		if (error == 0)
			port = *address_port(info);
		else if (error == EADDRINUSE && asked == 0 && port != 0)
			return error;
		else if (family_is_missing(error, text))
			log_event(LOG_DEBUG, "skip", "%s addr=%s error=\"%s\"",
			    service_names[service], text, strerror(error));
		else
			fatal(1, "%s: %s: %s%s", place_names[service], text,
			    strerror(error), address_hint(info));
	}
	return error;
}

/* Opens the listeners of a service.  A port that the system chose may be in use
 * at the next address; then another one is tried. */
static void
service_open(int service)
{
	const struct place *place = &conf.places[service];
	const char *host = *place->host != '\0' ? place->host : NULL;
	const char *text = host != NULL ? host : "*";
	struct addrinfo hints = { .ai_family = conf.family,
	    .ai_flags = place->flags, .ai_socktype = SOCK_STREAM }, *list;
	int error, tries = 0, before = listener_count;

	error = getaddrinfo(host, "0", &hints, &list);
	if (error != 0)
		fatal(1, "%s: %s", text, error == EAI_SYSTEM ?
		    strerror(errno) : gai_strerror(error));
	error = addresses_open(list, service);
	while (error == EADDRINUSE && ++tries < PORT_TRIES) {
		listeners_close(before);
		error = addresses_open(list, service);
	}
	freeaddrinfo(list);
	if (error == EADDRINUSE)
		fatal(1, "%s: %s: no port is free at all its addresses",
		    place_names[service], text);
	if (listener_count == before)
		fatal(1, "%s: %s: %s", place_names[service], text,
		    strerror(error));
}

/* ---- Traffic trace --------------------------------------------------- */

/* Adds a row for -x, like hexdump -C: offset, 16 bytes in hex and as text. */
static void
page_add_row(const unsigned char *bytes, size_t size, size_t offset)
{
	char row[ROW_SIZE];
	size_t i;

	memset(row, ' ', sizeof row);
	for (i = 0; i < size; i++) {
		unsigned char c = bytes[i];
		char *hex = row + 3 * i + (i > 7);

		hex[0] = "0123456789abcdef"[c >> 4];
		hex[1] = "0123456789abcdef"[c & 15];
		row[51 + i] = (char)(c >= ' ' && c <= '~' ? c : '.');
	}
	row[50] = '|';
	row[51 + size] = '|';
	page_add("%08zx  %.*s\n", offset, (int)(52 + size), row);
}

/* Writes received bytes for -x.  Counts the bytes that standard output did not
 * take; the next call writes that count, the last one with size 0. */
static void
trace_bytes(const char *dir, uint64_t session, const unsigned char *bytes,
    size_t size)
{
	static uint64_t untraced;
	size_t row, offset = 0;

	page_used = 0;
	if (untraced > 0)
		page_add("# " U64 " bytes not traced\n", untraced);
	if (size > 0) {
		page_add_time();
		page_add(" %s session=" U64 " bytes=%zu\n", dir, session,
		    size);
	}
	untraced += size;
	while (page_used > 0 || offset < size) {
		while (offset < size && page_used + ROW_SIZE <= PIPE_SAFE) {
			row = size - offset < 16 ? size - offset : 16;
			page_add_row(bytes + offset, row, offset);
			offset += row;
		}
		if (!page_write(STDOUT_FILENO))
			return;
		untraced = size - offset;
		page_used = 0;
	}
}

/* ---- Sides and what they are asked ----------------------------------- */

/* The peer of a client as the log has it; NULL is no client. */
static const char *
client_peer(const struct client *client)
{
	return client != NULL ? client->peer : "-";
}

static uint64_t
client_session(const struct client *client)
{
	return client != NULL ? client->session : 0;
}

/* The client that is sent to: the newest, unless it is leaving. */
static struct client *
side_receiver(struct side *side)
{
	struct client *newest;

	if (side->count == 0)
		return NULL;
	newest = &side->clients[side->count - 1];
	return newest->state == LEAVING ? NULL : newest;
}

/* The receiver, unless it is silent. */
static struct client *
side_present(struct side *side)
{
	struct client *receiver = side_receiver(side);

	if (receiver == NULL || receiver->state == SILENT)
		return NULL;
	return receiver;
}

static const char *
state_name(void)
{
	static const char *const names[] = { "IDLE", "ONLY_A", "ONLY_B",
	    "PAIRED" };
	int a = side_present(&sides[SIDE_A]) != NULL;
	int b = side_present(&sides[SIDE_B]) != NULL;

	return names[a + 2 * b];
}

/* When -H is over for the bytes held for a side; NEVER while one is present. */
static int64_t
side_expires_at(struct side *side)
{
	const struct client *receiver = side_receiver(side);

	if (receiver != NULL && receiver->state == SILENT)
		return after(receiver->silenced, conf.hold);
	return receiver != NULL ? NEVER : after(side->left, conf.hold);
}

/* What to do with bytes that a sender has. */
enum intake {
	WAIT,			/* leave them in the socket */
	STORE,			/* read as much as has room */
	STORE_OR_DROP,		/* read; what has no room is dropped */
	DROP			/* read and drop */
};

/* The client that is read: the oldest, unless its EOF was read. */
static struct client *
side_sender(struct side *side)
{
	struct client *oldest = &side->clients[0];

	if (side->count == 0 || oldest->state == HALF_CLOSED)
		return NULL;
	return oldest;
}

/* -o: what a client sends is for its partner alone.  STORE means that the
 * session allows it, whether there is room or not. */
static enum intake
session_intake(const struct flow *flow)
{
	const struct client *sender = side_sender(flow->from);
	const struct client *receiver = side_receiver(flow->to);

	if (!conf.sessions || sender == NULL)
		return STORE;
	if (receiver != NULL && receiver->session == sender->partner)
		return STORE;
	/* The partner has left, or the sender left before one came. */
	if (sender->partner != 0 || sender->state == LEAVING)
		return DROP;
	/* The receiver is of the session before, and will be closed. */
	return receiver != NULL ? WAIT : STORE;
}

/* -o: whether a client had a partner that has left. */
static int
session_is_over(const struct side *side, const struct client *client)
{
	const struct client *other = side_receiver(side->in->to);

	return client->partner != 0 && (other == NULL ||
	    other->session != client->partner);
}

/* The flow-control policy, the only one. */
static enum intake
flow_intake(const struct flow *flow)
{
	const struct client *receiver = side_present(flow->to);
	int has_room = flow->ring.used < conf.capacity;
	enum intake intake = session_intake(flow);

	/* -o does not let the receiver have it, or not yet. */
	if (intake != STORE)
		return intake;
	/* -H is over: new bytes are dropped, too. */
	if (now >= side_expires_at(flow->to))
		return DROP;
	/* A stop takes all that has arrived, while there is room. */
	if (stop_deadline != NEVER && has_room)
		return STORE;
	/* The receiver keeps up: it acknowledged something within -g. */
	if (receiver != NULL && (conf.lossless ||
	    now - receiver->took < conf.grace))
		return has_room && ring_unsent(&flow->ring) < HIGH_WATER ?
		    STORE : WAIT;
	/* It is absent or stuck.  Nothing is dropped under -l. */
	if (!conf.lossless)
		return STORE_OR_DROP;
	return has_room ? STORE : WAIT;
}

/* Whether a receiver holds its sender back, or would but for -g. */
static int
flow_waits(const struct flow *flow)
{
	return side_sender(flow->from) != NULL &&
	    (flow_intake(flow) == WAIT || (side_present(flow->to) != NULL &&
	    ring_unsent(&flow->ring) >= HIGH_WATER));
}

/* Whether a sender waits for room in the ring, and acknowledgements would make
 * some. */
static int
flow_is_short(const struct flow *flow)
{
	return flow->ring.away > 0 && flow->ring.used >= conf.capacity &&
	    side_sender(flow->from) != NULL && flow_intake(flow) == WAIT;
}

/* Whether a client that is not leaving is to be read now. */
static int
wants_read(struct side *side)
{
	const struct client *sender = side_sender(side);

	return sender != NULL && sender->state != LEAVING &&
	    flow_intake(side->in) != WAIT;
}

static int
wants_write(struct side *side)
{
	const struct client *receiver = side_receiver(side);

	return receiver != NULL && !receiver->shut &&
	    ring_unsent(&side->out->ring) > 0;
}

/* Whether newcomers are accepted.  If all places of a side are taken, they wait
 * in the listen backlog, as they may have sent bytes. */
static int
wants_accept(const struct listener *listener)
{
	return now >= listener->rest_until && (listener->service == METRICS ||
	    sides[listener->service].count < CLIENTS);
}

/* ---- Runs of drops and of newcomers ---------------------------------- */

/* Adds to a run, or begins it. */
static void
run_note(struct run *run, uint64_t count, uint64_t session, const char *peer)
{
	if (run->began == 0)
		*run = (struct run){ .began = now };
	run->last = now;
	run->count += count;
	run->untold += count;
	run->session = session;
	memcpy(run->peer, peer, strlen(peer) + 1);
}

/* When a run is logged next, if it has news: at once, then 1, 10 and 60 seconds
 * after it began, then each minute, after an hour each hour. */
static int64_t
run_tells_at(const struct run *run)
{
	int64_t age = run->told - run->began;

	if (run->untold == 0)
		return NEVER;
	if (run->told == 0)
		return run->began;
	if (age < SECOND)
		return run->began + SECOND;
	if (age < 10 * SECOND)
		return run->began + 10 * SECOND;
	if (age < MINUTE)
		return run->began + MINUTE;
	return run->told + (age < HOUR ? MINUTE : HOUR);
}

/* When a run is over, unless another event comes. */
static int64_t
run_ends_at(const struct run *run)
{
	return run->began != 0 ? run->last + RUN_QUIET : NEVER;
}

/* Logs what is new of a run. */
static void
run_tell(struct side *side, enum reason reason)
{
	struct run *run = &side->runs[reason];
	const struct client *client = side_receiver(side);
	const struct flow *flow = side->in;
	const char *name = reason_names[reason];

	if (reason == REPLACED)
		log_event(LOG_WARNING, "contested", "side=%s peer=%s other=%s "
		    "count=" U64, side->name, client_peer(client), run->peer,
		    run->untold);
	else if (reason >= DENIED)
		log_event(LOG_WARNING, "refuse", "side=%s peer=%s reason=%s "
		    "count=" U64, side->name, run->peer, name, run->untold);
	else
		log_event(LOG_WARNING, "drop", "dir=%s session=" U64
		    " reason=%s bytes=" U64 " drops=" U64 " total=" U64,
		    flow->name, run->session, name, run->untold,
		    flow->drops, flow->dropped);
	run->told = now;
	run->untold = 0;
}

/* Logs what is new of the runs of a side, up to the given reason. */
static void
side_tell_rest(struct side *side, enum reason end)
{
	enum reason reason;

	for (reason = OVERFLOWN; reason < end; reason++)
		if (side->runs[reason].untold > 0)
			run_tell(side, reason);
}

/* Ends a run of newcomers refused, or of clients replaced. */
static void
run_end(struct side *side, enum reason reason)
{
	struct run *run = &side->runs[reason];
	const struct client *client = side_receiver(side);
	double duration = SECS(run->last - run->began);

	if (run->untold > 0)
		run_tell(side, reason);
	if (reason == REPLACED)
		log_event(LOG_INFO, "contested_end", "side=%s session=" U64
		    " peer=%s count=" U64 " duration=%.3f", side->name,
		    client_session(client), client_peer(client), run->count,
		    duration);
	else if (run->count > 1)
		log_event(LOG_INFO, "refuse_end", "side=%s reason=%s count="
		    U64 " duration=%.3f", side->name, reason_names[reason],
		    run->count, duration);
	run->began = 0;
	if (reason == REPLACED)
		side->quick = 0;
}

/* Does what is due for the runs of a side. */
static void
side_review_runs(struct side *side)
{
	enum reason reason;

	for (reason = OVERFLOWN; reason < RUNS; reason++) {
		if (now >= run_tells_at(&side->runs[reason]))
			run_tell(side, reason);
		if (reason >= DENIED &&
		    now >= run_ends_at(&side->runs[reason]))
			run_end(side, reason);
	}
}

/* Counts bytes of a session as dropped. */
static void
flow_drop(struct flow *flow, size_t size, uint64_t session,
    enum reason reason)
{
	flow->dropped += size;
	flow->drops++;
	run_note(&flow->from->runs[reason], size, session, "");
}

/* Bytes are stored again.  This ends runs of drops one second after the last
 * drop.  Within that second small reads may be stored between drops. */
static void
flow_stored(struct flow *flow)
{
	struct run *runs = flow->from->runs;
	enum reason reason;
	int64_t last = 0;

	for (reason = OVERFLOWN; reason < DENIED; reason++)
		if (runs[reason].began != 0 && runs[reason].last > last)
			last = runs[reason].last;
	if (last == 0 || now - last < SECOND)
		return;
	side_tell_rest(flow->from, DENIED);
	for (reason = OVERFLOWN; reason < DENIED; reason++)
		runs[reason].began = 0;
	log_event(LOG_INFO, "drop_end", "dir=%s drops=" U64 " total=" U64,
	    flow->name, flow->drops, flow->dropped);
}

/* Drops the held bytes of a direction that are not away. */
static void
flow_clear(struct flow *flow, enum reason reason)
{
	if (ring_unsent(&flow->ring) == 0)
		return;
	flow_drop(flow, ring_cut(&flow->ring), flow->session, reason);
	flow->wait_began = 0;	/* these bytes never reach wait_goal */
}

/* Why bytes that have just come are dropped. */
static enum reason
flow_drop_reason(const struct flow *flow)
{
	if (session_intake(flow) == DROP)
		return ENDED;
	return now >= side_expires_at(flow->to) ? EXPIRED : OVERFLOWN;
}

/* -o: a client of this side has left.  What is held for it is dropped.  What it
 * sent goes to its partner, or is dropped if there is none.  A stop drops
 * nothing here: event=stop counts it as lost. */
static void
session_end(struct side *side)
{
	if (!conf.sessions || stop_deadline != NEVER)
		return;
	flow_clear(side->out, ENDED);
	if (side_receiver(side->in->to) == NULL)
		flow_clear(side->in, ENDED);
}

/* ---- Clients: what each knows and how it changes --------------------- */

/* A silent client has sent or acknowledged something: it is present again. */
static void
client_resume(struct side *side, struct client *client)
{
	client->state = OPEN;
	client->took = now;
	changes++;
	log_event(LOG_INFO, "resumed", "side=%s session=" U64 " peer=%s "
	    "silent=%.3f state=%s", side->name, client->session, client->peer,
	    SECS(now - client->silenced), state_name());
}

/* Asks what the client has acknowledged.  These bytes are sent, and no longer
 * held. */
static void
client_ask(struct side *side, struct client *client)
{
	struct ring *ring = &side->out->ring;
	size_t fin = FIN_COUNTS && client->shut ? 1 : 0;
	size_t unacked = socket_unacked(client->fd, ring->away + fin,
	    client->shut && client->ended > 0, &client->error);
	size_t acked = ring->away + fin - unacked;

	/* The FIN is acknowledged last. */
	if (acked > ring->away)
		acked = ring->away;
	client->asked = now;
	client->unasked = 0;
	if (acked == 0)
		return;
	ring_take(ring, acked);
	side->out->sent += acked;
	client->sent += acked;
	client->took = client->alive = now;
	client->ask_wait = ASK_FIRST;
	changes++;
	if (client->state == SILENT)
		client_resume(side, client);
}

/* Asks what the receiver of a side has acknowledged, if bytes are away. */
static void
side_ask(struct side *side)
{
	struct client *receiver = side_receiver(side);

	if (receiver != NULL && side->out->ring.away > 0)
		client_ask(side, receiver);
}

/* Drops what has waited for an absent side when -H is over.  A silent client
 * may be back, so it is asked first.  Bytes that are away stay, as they may
 * still arrive. */
static void
side_expire(struct side *side)
{
	struct flow *flow = side->out;

	if (ring_unsent(&flow->ring) == 0 || now < side_expires_at(side))
		return;
	side_ask(side);
	if (now >= side_expires_at(side))
		flow_clear(flow, EXPIRED);
}

/* Whether two peers have the same host, whatever their ports are. */
static int
peer_is_same(const char *a, const char *b)
{
	return strncmp(a, b, host_length(a) + 1) == 0;
}

/* The level of the lines for a client that leaves: a warning if somebody should
 * look at it.  While a side is contested, event=contested counts its
 * replacements, and each of them is a debug line. */
static int
client_level(const struct side *side, const struct client *client,
    enum reason reason, const char *newcomer)
{
	if (reason == FAILED || reason == IDLE || reason == STALLED ||
	    reason == DEAD)
		return LOG_WARNING;
	if (reason != REPLACED)
		return LOG_INFO;
	if (side->runs[REPLACED].began != 0)
		return LOG_DEBUG;
	return peer_is_same(client->peer, newcomer) ? LOG_INFO : LOG_WARNING;
}

/* A client begins to leave.  What it has not acknowledged goes to the next
 * client.  What has arrived from it is read before it is closed.  The detail is
 * the peer that replaces it, or what failed, or "". */
static void
client_leave(struct side *side, struct client *client, enum reason reason,
    const char *detail)
{
	struct ring *ring = &side->out->ring;

	if (client->state == LEAVING)
		return;
	side_ask(side);
	side->left = client->state == SILENT ? client->silenced : now;
	client->state = LEAVING;
	client->reason = reason;
	client->level = client_level(side, client, reason, detail);
	if (reason == FAILED)
		snprintf(client->detail, sizeof client->detail,
		    " error=\"%s\"", detail);
	else if (reason == REPLACED)
		snprintf(client->detail, sizeof client->detail, " by=%s",
		    detail);
	client->unacked = ring->away;
	side->out->unacked += ring->away;
	ring->away = 0;
	client->unread = client->ended > 0 ? 0 :
	    socket_unread(client->fd, conf.capacity);
	changes++;
	session_end(side);
	side_expire(side);
}

/* A call on a client's socket failed with errno.  Some values mean nothing. */
static void
client_fail(struct side *side, struct client *client, int error)
{
	if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR)
		return;
	if (error == ECONNRESET || error == EPIPE)
		client_leave(side, client, RESET, "");
	else if (error == ETIMEDOUT)
		client_leave(side, client, DEAD, "");
	else
		client_leave(side, client, FAILED, strerror(error));
}

/* A client was sent EOF and all before that, and has sent its own EOF. */
static void
client_finish(struct side *side, struct client *client)
{
	client_leave(side, client,
	    stop_deadline != NEVER ? SHUTDOWN : SESSION, "");
}

/* The EOF of a client was read. */
static void
client_got_eof(struct side *side, struct client *client)
{
	client->ended = now;
	client->unread = 0;
	if (client->shut)
		client_finish(side, client);
	else if (conf.eof_hold == 0)
		client_leave(side, client, END, "");
	if (client->state == LEAVING)
		return;
	client->state = HALF_CLOSED;
	changes++;
	log_event(LOG_INFO, "half_close", "side=%s session=" U64, side->name,
	    client->session);
}

/* A client becomes silent: it acknowledges nothing.  Its socket stays open, for
 * TCP delivers what is away if the line comes back.  Until then it counts as
 * absent. */
static void
client_silence(struct side *side, struct client *client)
{
	client->state = SILENT;
	client->silenced = now;
	changes++;
	log_event(LOG_WARNING, "silent", "side=%s session=" U64 " peer=%s "
	    "unacked=%zu held=%zu state=%s", side->name, client->session,
	    client->peer, side->out->ring.away, side->out->ring.used,
	    state_name());
}

/* Bytes came from a client.  They lie in the ring behind the held ones. */
static void
client_received(struct side *side, struct client *client, size_t size,
    size_t room)
{
	struct flow *flow = side->in;
	struct ring *ring = &flow->ring;

	flow->session = client->session;
	flow->received += size;
	client->received += size;
	client->unread -= size < client->unread ? size : client->unread;
	client->heard = client->alive = side->heard = now;
	if (conf.trace)
		trace_bytes(flow->name, client->session, ring->bytes +
		    ring_offset(ring, ring->used), size);
	if (size > room)
		flow_drop(flow, size, client->session, flow_drop_reason(flow));
	else {
		ring_put(ring, size);
		flow_stored(flow);
	}
	if (client->state == SILENT)
		client_resume(side, client);
}

/* Receives once from a client: as much as has room in one piece, but up to
 * READ_SMALL bytes in any case.  Such a small read is stored or dropped whole.
 * If nothing may be dropped, no more is read than has room.  From a client that
 * is leaving, no more is read than had arrived. */
static void
client_receive(struct side *side, struct client *client)
{
	struct ring *ring = &side->in->ring;
	struct client *receiver = side_receiver(side->in->to);
	size_t room, most, end;
	enum intake intake;
	ssize_t n;

	if (receiver != NULL && ring->away > 0 && (receiver->unasked >=
	    ASK_SIZE || conf.capacity - ring->used < READ_SMALL ||
	    receiver->state == SILENT))
		client_ask(side->in->to, receiver);
	intake = flow_intake(side->in);
	if (intake == WAIT)
		return;
	room = intake == DROP ? 0 : conf.capacity - ring->used;
	end = ring_offset(ring, ring->used);
	most = ring_piece(ring, end, room);
	if (most < READ_SMALL)
		most = READ_SMALL;
	if (intake == STORE && room < most)
		most = room;
	if (client->state == LEAVING && client->unread < most)
		most = client->unread;
	n = recv(client->fd, ring->bytes + end, most, 0);
	if (n > 0)
		client_received(side, client, (size_t)n, room);
	else if (n == 0)
		client_got_eof(side, client);
	else if (client->state != LEAVING)
		client_fail(side, client, errno);
	else if (errno != EINTR)
		client->unread = 0;
}

/* Sends the oldest unsent piece to the newest client, as much as its socket
 * takes. */
static void
client_send(struct side *side, struct client *client)
{
	struct ring *ring = &side->out->ring;
	size_t first = ring_offset(ring, ring->away);
	ssize_t n = send(client->fd, ring->bytes + first,
	    ring_piece(ring, first, ring_unsent(ring)), 0);

	if (n < 0) {
		client_fail(side, client, errno);
		return;
	}
	if (ring->away == 0) {		/* nothing was away until now */
		client->alive = client->asked = now;
		client->ask_wait = ASK_FIRST;
	}
	ring->away += (size_t)n;
	client->unasked += (size_t)n;
	if (client->state == SILENT)	/* it had room: is it back? */
		client_ask(side, client);
}

/* Closes a client that has been read out.  Bytes that it had not acknowledged
 * go to another client.  So the connection is aborted, or its system might
 * still deliver them.  At a stop without -f the newest client is not aborted,
 * as no other client gets its bytes. */
static void
client_close(struct side *side, struct client *client)
{
	struct linger abort_now = { 1, 0 };
	int is_newest = client == &side->clients[side->count - 1];

	if (client->unacked > 0 &&
	    (stop_deadline == NEVER || *conf.file != '\0' || !is_newest))
		setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &abort_now,
		    sizeof abort_now);
	close(client->fd);	/* once only, also after EINTR */
	side->counts[client->reason]++;
	side_ask(side);
	log_event(client->level, "disconnect", "side=%s session=" U64
	    " peer=%s reason=%s%s duration=%.3f received=" U64 " sent=" U64
	    " unacked=%zu held=%zu state=%s", side->name, client->session,
	    client->peer, reason_names[client->reason], client->detail,
	    SECS(now - client->since), client->received, client->sent,
	    client->unacked, side->out->ring.used, state_name());
	side->count--;
	memmove(client, client + 1, (size_t)(&side->clients[side->count] -
	    client) * sizeof *client);
	changes++;
}

/* Reads clients that are leaving, the oldest first, and closes those that are
 * read out.  Logs, once, each one that has to wait. */
static void
side_drain(struct side *side)
{
	struct client *client = side->clients;

	while (client < side->clients + side->count) {
		while (client == side->clients && client->state == LEAVING &&
		    client->unread > 0 && flow_intake(side->in) != WAIT)
			client_receive(side, client);
		if (client->state == LEAVING && client->unread == 0) {
			client_close(side, client);
			continue;
		}
		if (client->state == LEAVING && !client->told) {
			client->told = 1;
			log_event(client->level, "leaving", "side=%s session="
			    U64 " peer=%s reason=%s%s unread=%zu state=%s",
			    side->name, client->session, client->peer,
			    reason_names[client->reason], client->detail,
			    client->unread, state_name());
		}
		client++;
	}
}

/* ---- Newcomers ------------------------------------------------------- */

/* Whether an address is in a network. */
static int
net_has(const struct net *net, const unsigned char *bytes)
{
	size_t whole = net->bits / 8, rest = net->bits % 8;
	int mask = 0xff00 >> rest & 0xff;

	return memcmp(net->bytes, bytes, whole) == 0 && (rest == 0 ||
	    ((net->bytes[whole] ^ bytes[whole]) & mask) == 0);
}

/* Whether -A or -B lets a peer in.  Where it is not given, everyone is. */
static int
side_admits(const struct side *side, const struct sockaddr_storage *peer)
{
	const void *address = peer;
	const struct sockaddr_in *v4 = address;
	const struct sockaddr_in6 *v6 = address;
	const unsigned char *bytes = (const void *)&v4->sin_addr;
	int i;

	if (peer->ss_family == AF_INET6)
		bytes = v6->sin6_addr.s6_addr;
	for (i = 0; i < side->net_count; i++)
		if (side->nets[i].family == peer->ss_family &&
		    net_has(&side->nets[i], bytes))
			return 1;
	return side->net_count == 0;
}

/* Before a newcomer is let in: has the client there ended, or is it back? */
static void
side_look(struct side *side)
{
	struct client *client = side_receiver(side);
	enum ending ending;
	int error;

	side_ask(side);
	if (client == NULL || client->state == HALF_CLOSED)
		return;
	ending = socket_ending(client->fd);
	if (ending == IS_BROKEN) {
		error = socket_error(client->fd);
		client_fail(side, client, error != 0 ? error : ECONNRESET);
	} else if (ending == HAS_EOF)
		client_leave(side, client, END, "");
}

/* Whether -r protects the client of a side from a newcomer. */
static int
side_is_busy(struct side *side)
{
	const struct client *client = side_receiver(side);

	return client != NULL && client->state == OPEN &&
	    !session_is_over(side, client) &&
	    now - client->heard < conf.replace;
}

/* Whether a newcomer is let in (STAYS), or why it is refused. */
static enum reason
side_answer(struct side *side, int fd, const struct sockaddr_storage *peer)
{
	if (!side_admits(side, peer))
		return DENIED;
	if (!socket_prepare(fd))
		return LIMIT;
	side_look(side);
	return side_is_busy(side) ? BUSY : STAYS;
}

/* Closes a newcomer without a byte. */
static void
side_refuse(struct side *side, int fd, const char *peer, enum reason reason)
{
	close(fd);
	side->counts[reason]++;
	run_note(&side->runs[reason], 1, 0, peer);
}

/* A newcomer replaces a client.  After CONTEST quick replacements in a row the
 * side is contested: most often two programs dial one port. */
static void
side_replace(struct side *side, struct client *client, const char *newcomer)
{
	struct run *run = &side->runs[REPLACED];

	side->quick = now - client->since < QUICK ? side->quick + 1 : 0;
	if (run->began != 0)
		run_note(run, 1, client->session, client->peer);
	else if (side->quick >= CONTEST)
		run_note(run, CONTEST, client->session, client->peer);
	client_leave(side, client, REPLACED, newcomer);
}

/* -o: a newcomer and a client that waits alone begin a session. */
static void
session_begin(struct side *side, struct client *client)
{
	struct client *other = side_receiver(side->in->to);

	if (!conf.sessions || other == NULL || other->partner != 0)
		return;
	client->partner = other->session;
	other->partner = client->session;
}

/* Lets a newcomer in.  From now on the bridge sends to it. */
static void
side_come(struct side *side, int fd, const char *peer)
{
	struct client *client = side_receiver(side);
	int level = LOG_INFO;

	if (client == NULL)
		side->quick = 0;
	else
		side_replace(side, client, peer);
	if (client != NULL && side->runs[REPLACED].began != 0)
		level = LOG_DEBUG;
	side_expire(side);
	side_drain(side);
	client = &side->clients[side->count++];
	*client = (struct client){ .fd = fd, .session = ++sessions,
	    .ask_wait = ASK_FIRST, .asked = now, .since = now, .heard = now,
	    .took = now, .alive = now };
	snprintf(client->peer, sizeof client->peer, "%s", peer);
	session_begin(side, client);
	socket_tune(fd);
	side->connects++;
	changes++;
	/* Drops of the time without a client are logged first. */
	if (level == LOG_INFO)
		side_tell_rest(side->out->from, DENIED);
	log_event(level, "connect", "side=%s session=" U64 " peer=%s "
	    "state=%s held=%zu", side->name, client->session, client->peer,
	    state_name(), side->out->ring.used);
}

/* Answers a newcomer.  Its address is from accept(), because getpeername()
 * fails after a reset.  After a reset macOS gives accept() none (xnu,
 * uipc_syscalls.c): then the newcomer is "unknown:0", and -A or -B denies
 * it. */
static void
side_accept(struct side *side, int fd, const struct sockaddr_storage *address,
    socklen_t length)
{
	char peer[ADDRESS_SIZE];
	enum reason answer;

	address_text(address, length, peer);
	answer = side_answer(side, fd, address);
	if (answer == STAYS)
		side_come(side, fd, peer);
	else
		side_refuse(side, fd, peer, answer);
}

/* ---- Totals and metrics ---------------------------------------------- */

/* Asks all clients what they have acknowledged, so that counts are exact. */
static void
acks_ask(void)
{
	side_ask(&sides[SIDE_A]);
	side_ask(&sides[SIDE_B]);
}

/* Logs what was counted since the start, both directions and both sides. */
static void
totals_log(int level)
{
	const struct flow *f;
	struct side *s;

	acks_ask();
	for (f = flows; f < flows + SIDES; f++)
		log_event(level, "stats", "dir=%s received=" U64 " sent=" U64
		    " dropped=" U64 " held=%zu capacity=%zu drops=" U64
		    " unacked=" U64, f->name, f->received, f->sent, f->dropped,
		    f->ring.used, conf.capacity, f->drops, f->unacked);
	for (s = sides; s < sides + SIDES; s++) {
		const struct client *client = side_present(s);

		log_event(level, "stats", "side=%s connected=%d session=" U64
		    " peer=%s connects=" U64, s->name, client != NULL,
		    client_session(client), client_peer(client), s->connects);
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

/* Columns of the terminal. */
static size_t
live_width(void)
{
#ifdef TIOCGWINSZ
	struct winsize window;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
		return window.ws_col;
#endif
	return 80;
}

/* Adds a duration in a few characters: 59s, 12m, 99h, 400d. */
static void
page_add_age(int64_t span)
{
	if (span < 100 * SECOND)
		page_add("%ds", (int)(span / SECOND));
	else if (span < 100 * MINUTE)
		page_add("%dm", (int)(span / MINUTE));
	else if (span < 100 * HOUR)
		page_add("%dh", (int)(span / HOUR));
	else
		page_add("%dd", (int)(span / HOUR / 24));
}

/* Adds how long a side has been absent, silent, or present and not heard. */
static void
live_add_side(const struct side *side, const struct client *client)
{
	int64_t since = side->left;

	page_add(" %s ", side->name);
	if (client == NULL)
		page_add("absent ");
	else if (client->state == SILENT) {
		page_add("silent ");
		since = client->alive;
	} else
		since = side->heard > client->since ? side->heard :
		    client->since;
	page_add_age(now - since);
}

/* Adds a direction: a bar for the held bytes, and the rate. */
static void
live_add_flow(const struct flow *flow)
{
	int marks = (int)((flow->ring.used * 3 + conf.capacity - 1) /
	    conf.capacity);

	page_add(" %s %.*s%.*s%s ", flow->name, marks, "###", 3 - marks,
	    "...", flow->slow ? " slow" : "");
	page_add_human(flow->rate);
	page_add("B/s");
}

/* Adds a host, or its end if it is too long for the columns. */
static void
live_add_host(const char *host, size_t columns)
{
	size_t length = host_length(host);

	if (length < columns)
		page_add(" %.*s", (int)length, host);
	else if (columns > strlen(" ..0:0]"))
		page_add(" ..%.*s", (int)(columns - 3),
		    host + length - (columns - 3));
}

/* Draws the live line, what matters most first.  It is cut, so it never
 * wraps. */
static void
live_draw(void)
{
	size_t width = live_width() + strlen("\r\033[K") - 1;
	const struct client *a = side_receiver(&sides[SIDE_A]);
	const struct client *b = side_receiver(&sides[SIDE_B]);
	const char *host_a = a != NULL ? a->peer : "-:";
	const char *host_b = b != NULL ? b->peer : "-:";
	size_t left, share;

	page_used = 0;
	page_add("\r\033[K%s dropped ", state_name());
	page_add_human((double)(flows[SIDE_A].dropped + flows[SIDE_B].dropped));
	page_add("B");
	live_add_side(&sides[SIDE_A], a);
	live_add_side(&sides[SIDE_B], b);
	live_add_flow(&flows[SIDE_A]);
	live_add_flow(&flows[SIDE_B]);
	left = page_used < width ? width - page_used : 0;
	share = host_length(host_b) < left / 2 ?
	    left - host_length(host_b) - 1 : left / 2;
	live_add_host(host_a, share);
	if (page_used < width)
		live_add_host(host_b, width - page_used);
	page_used = page_used < width ? page_used : width;
	live_shown = page_write(STDERR_FILENO);
}

/* Adds the head of a metric in the Prometheus text format 0.0.4. */
static void
metric_head(const char *name, const char *help)
{
	page_add("# HELP tcpbridge_%s %s\n# TYPE tcpbridge_%s %s\n", name, help,
	    name, strstr(name, "_total") != NULL ? "counter" : "gauge");
}

/* Adds a metric with a value for each direction. */
static void
metric_flows(const char *name, const char *help, uint64_t a, uint64_t b)
{
	metric_head(name, help);
	page_add("tcpbridge_%s{dir=\"%s\"} " U64 "\ntcpbridge_%s{dir=\"%s\"} "
	    U64 "\n", name, flows[SIDE_A].name, a, name, flows[SIDE_B].name, b);
}

/* Adds a metric with a value for each side. */
static void
metric_sides(const char *name, const char *help, uint64_t a, uint64_t b)
{
	metric_head(name, help);
	page_add("tcpbridge_%s{side=\"A\"} " U64 "\ntcpbridge_%s{side=\"B\"} "
	    U64 "\n", name, a, name, b);
}

/* Adds a reason as a label, and its cause as another: "timeout cause=idle". */
static void
metric_reason(const char *reason)
{
	size_t length = strcspn(reason, " ");

	page_add(",reason=\"%.*s\"", (int)length, reason);
	if (reason[length] != '\0')
		page_add(",cause=\"%s\"", strchr(reason, '=') + 1);
}

/* Adds how many clients went, or were refused, for some reasons. */
static void
metric_reasons(const char *name, const char *help, enum reason first,
    enum reason end)
{
	const struct side *s;
	enum reason reason;

	metric_head(name, help);
	for (reason = first; reason < end; reason++)
		for (s = sides; s < sides + SIDES; s++) {
			page_add("tcpbridge_%s{side=\"%s\"", name, s->name);
			metric_reason(reason_names[reason]);
			page_add("} " U64 "\n", s->counts[reason]);
		}
}

/* Adds a metric of the bridge itself. */
static void
metric_add(const char *name, const char *help, uint64_t value)
{
	metric_head(name, help);
	page_add("tcpbridge_%s " U64 "\n", name, value);
}

/* Adds the metrics of both directions. */
static void
metrics_add_flows(void)
{
	const struct flow *a = &flows[SIDE_A], *b = &flows[SIDE_B];

	metric_flows("bytes_received_total", "Bytes received: the sum of "
	    "sent, dropped and held.", a->received, b->received);
	metric_flows("bytes_sent_total", "Bytes that the receiver's system "
	    "acknowledged.", a->sent, b->sent);
	metric_flows("bytes_dropped_total", "Bytes lost: no room, or -H was "
	    "over.", a->dropped, b->dropped);
	metric_flows("bytes_unacked_total", "Bytes sent again to the next "
	    "client; no more than these came twice.", a->unacked, b->unacked);
	metric_flows("drops_total", "Times that bytes were lost.", a->drops,
	    b->drops);
	metric_flows("held_bytes", "Bytes that wait for the receiver to "
	    "acknowledge them.", a->ring.used, b->ring.used);
	metric_flows("away_bytes", "Held bytes that the system is sending.",
	    a->ring.away, b->ring.away);
	metric_flows("slow", "1 while the receiver holds the sender back, and "
	    "took over 5 s for what was held.", a->slow, b->slow);
}

/* Whether the newest client of a side is silent. */
static int
side_is_silent(struct side *side)
{
	const struct client *receiver = side_receiver(side);

	return receiver != NULL && receiver->state == SILENT;
}

/* Adds the metrics of both sides. */
static void
metrics_add_sides(void)
{
	struct side *a = &sides[SIDE_A], *b = &sides[SIDE_B];

	metric_sides("connected", "1 while a client is present, 0 while bytes "
	    "for it are held.", side_present(a) != NULL,
	    side_present(b) != NULL);
	metric_sides("silent", "1 while a client is connected and acknowledges "
	    "nothing; it counts as absent.", (uint64_t)side_is_silent(a),
	    (uint64_t)side_is_silent(b));
	metric_sides("heard_seconds", "Seconds since a client last sent "
	    "something, or since the start.",
	    (uint64_t)((now - a->heard) / SECOND),
	    (uint64_t)((now - b->heard) / SECOND));
	metric_sides("leaving", "Clients that are gone, with bytes that wait "
	    "to be received.", (uint64_t)(a->count -
	    (side_receiver(a) != NULL)), (uint64_t)(b->count -
	    (side_receiver(b) != NULL)));
	metric_sides("connects_total", "Clients that were let in.",
	    a->connects, b->connects);
	metric_reasons("disconnects_total", "Clients that went; "
	    "reason=replaced often: two dial one port.", REPLACED, REASONS);
	metric_reasons("refused_total", "Newcomers closed at once: not in -A "
	    "or -B, -r, no descriptor.", DENIED, REPLACED);
}

/* Adds all metrics. */
static void
metrics_add(void)
{
	metrics_add_flows();
	metrics_add_sides();
	metric_add("capacity_bytes", "Most bytes held in each direction, -b.",
	    conf.capacity);
	metric_add("accept_failures_total", "Times that the system had no "
	    "descriptor or memory for a newcomer.", accept_failures);
	metric_add("log_lost_lines_total", "Lines of the log that could not "
	    "be written.", log_lost);
	metric_add("start_time_seconds", "When the bridge started, in seconds "
	    "since 1970.",
	    (uint64_t)(time(NULL) - (now - started) / SECOND));
	metric_head("build_info", "Always 1; version and name (-n).");
	page_add("tcpbridge_build_info{version=\"" VERSION "\",name=\"%s\"} "
	    "1\n", conf.name);
}

/* The path of a target: "/metrics" of "/metrics?x" or, in absolute form (RFC
 * 9112, 3.2.2), of "http://host/metrics".  "*" stays. */
static const char *
request_path(char *target)
{
	char *host = strstr(target, "://"), *path = target;

	if (*target != '/' && host != NULL)
		path = strchr(host + 3, '/');
	if (path == NULL)
		return "/";
	path[strcspn(path, "?")] = '\0';
	return path;
}

/* Makes the body of an answer to "method target HTTP/1.x"; returns the status.
 * The request is cut after its method. */
static const char *
request_answer(char *request)
{
	char *target = strchr(request, ' ');
	char *version = target == NULL ? NULL : strchr(target + 1, ' ');
	const char *path;

	if (version == NULL || strncmp(version + 1, "HTTP/1.", 7) != 0)
		return "400 Bad Request";
	*target++ = '\0';
	*version = '\0';
	path = request_path(target);
	if (*path != '/' && strcmp(path, "*") != 0)
		return "400 Bad Request";
	if (strcmp(request, "GET") != 0 && strcmp(request, "HEAD") != 0)
		return "405 Method Not Allowed\r\nAllow: GET, HEAD";
	if (strcmp(path, "/metrics") == 0)
		metrics_add();
	else if (strcmp(path, "/healthz") == 0)
		page_add("%s\n", state_name());
	else
		return "404 Not Found";
	return "200 OK";
}

/* Answers a request at once.  A new socket takes a few kilobytes; if it does
 * not, the client gets fewer bytes than Content-Length. */
static void
scrape_answer(struct scrape *scrape)
{
	const char *status;
	char head[256];

	acks_ask();		/* may log, so it comes before the page */
	page_used = 0;
	status = request_answer(scrape->request);
	if (page_used == 0)
		page_add("%.3s\n", status);
	snprintf(head, sizeof head, "HTTP/1.0 %s\r\nContent-Type: text/plain; "
	    "version=0.0.4; charset=utf-8\r\nContent-Length: %zu\r\n"
	    "Connection: close\r\n\r\n", status, page_used);
	send(scrape->fd, head, strlen(head), 0);
	if (strcmp(scrape->request, "HEAD") != 0)
		send(scrape->fd, page, page_used, 0);
	shutdown(scrape->fd, SHUT_WR);
	scrape->answered = 1;
	log_event(LOG_DEBUG, "request", "status=%.3s", status);
}

/* Takes a byte of a request.  Keeps the first line; skips empty lines before it
 * and the head after it.  Returns 1 when the request is complete, or has a NUL
 * byte, or its first line is too long. */
static int
scrape_take(struct scrape *scrape, char c)
{
	int is_end = c == '\n' && scrape->at_begin;

	if (scrape->in_head) {
		if (c != '\r')
			scrape->at_begin = c == '\n';
		return is_end;
	}
	if (scrape->used == 0 && (c == '\r' || c == '\n'))
		return 0;
	if (c == '\n') {
		scrape->request[strcspn(scrape->request, "\r")] = '\0';
		scrape->in_head = scrape->at_begin = 1;
		return 0;
	}
	scrape->request[scrape->used++] = c;
	if (c != '\0' && scrape->used < REQUEST_MAX - 1)
		return 0;
	scrape->request[0] = '\0';
	return 1;
}

/* Reads a metrics client.  After the answer it is read until it closes.  A
 * close with unread input would reset the connection, and the answer might be
 * lost. */
static void
scrape_read(struct scrape *scrape)
{
	char bytes[512];
	ssize_t i, n = recv(scrape->fd, bytes, sizeof bytes, 0);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK &&
	    errno != EINTR))
		scrape->deadline = now;
	for (i = 0; i < n && !scrape->answered; i++)
		if (scrape_take(scrape, bytes[i]))
			scrape_answer(scrape);
}

/* Takes a metrics client, in the place of the oldest if all are taken. */
static void
scrape_accept(int fd)
{
	struct scrape *s, *oldest = scrapes;

	for (s = scrapes; s < scrapes + SCRAPES; s++)
		if (s->deadline < oldest->deadline)
			oldest = s;
	if (oldest->fd > 0)
		close(oldest->fd);
	*oldest = (struct scrape){ .fd = fd,
	    .deadline = socket_prepare(fd) ? now + PATIENCE : now };
}

/* ---- Deadlines ------------------------------------------------------- */

/* Each function returns a time or NEVER, and does nothing else. */

/* When -e is over for a client whose EOF was read. */
static int64_t
half_closed_at(const struct client *client)
{
	return client->state == HALF_CLOSED ?
	    after(client->ended, conf.eof_hold) : NEVER;
}

/* When -i is over.  Time in which a client is not read does not count. */
static int64_t
idle_at(struct side *side, const struct client *client)
{
	if (stop_deadline != NEVER || client != side_sender(side) ||
	    !wants_read(side))
		return NEVER;
	return after(client->heard, conf.idle);
}

/* When -w is over: bytes are held for a client, and it acknowledges none. */
static int64_t
stall_at(const struct side *side, const struct client *client)
{
	if (client->state == SILENT || side->out->ring.used == 0)
		return NEVER;
	return after(client->took, conf.stall);
}

/* When a client whose session is over is closed at the latest: it has had -w to
 * take what its partner sent, or PATIENCE to close after that. */
static int64_t
session_closes_at(const struct side *side, const struct client *client)
{
	if (!session_is_over(side, client))
		return NEVER;
	if (client->shut && side->out->ring.used == 0)
		return after(client->took, PATIENCE);
	return after(client->took, conf.stall);
}

/* When a client becomes silent: it has acknowledged and sent nothing for twice
 * -k.  TCP sends no keepalive while bytes are unacknowledged (tcp(7)). */
static int64_t
silent_at(const struct side *side, const struct client *client)
{
	if (client->state != OPEN || side->out->ring.away == 0 ||
	    conf.keepalive == 0)
		return NEVER;
	return client->alive + 2 * conf.keepalive;
}

/* When a receiver is stuck (-g), and its sender need not wait any longer. */
static int64_t
stuck_at(const struct flow *flow)
{
	const struct client *receiver = side_present(flow->to);

	if (conf.lossless || receiver == NULL ||
	    side_sender(flow->from) == NULL || flow_intake(flow) != WAIT ||
	    session_intake(flow) == WAIT)
		return NEVER;
	return after(receiver->took, conf.grace);
}

/* When a receiver is slow: it has had SLOW_MIN for the bytes that were held
 * when its sender began to wait. */
static int64_t
slow_at(const struct flow *flow)
{
	return flow->slow || flow->wait_began == 0 ? NEVER :
	    flow->wait_began + SLOW_MIN;
}

/* When to ask a client next.  Often, if room is short, at a stop, or if its
 * session is over; 20 times within -g or -w, if bytes wait to be sent; else
 * after half of -k or a quarter of -w.  Never if nothing is away, so an idle
 * bridge sleeps. */
static int64_t
ask_at(const struct side *side, const struct client *client)
{
	int64_t patience = conf.stall, wait = NEVER;

	if (side->out->ring.away == 0)
		return NEVER;
	if (conf.keepalive > 0)
		wait = conf.keepalive / 2;
	if (conf.stall != NEVER)
		wait = sooner(wait, conf.stall / 4 + MSEC);
	if (client->state == SILENT)
		return after(client->asked, wait);
	if (now - client->took < conf.grace)
		patience = sooner(conf.grace, conf.stall);
	if (ring_unsent(&side->out->ring) > 0 && patience != NEVER)
		wait = sooner(wait, patience / 20 + MSEC);
	if (flow_is_short(side->out))
		wait = sooner(wait, client->ask_wait);
	if (stop_deadline != NEVER || session_is_over(side, client))
		wait = sooner(wait, ASK_LAST);
	return after(client->asked, wait);
}

/* When a run of a side is told or over. */
static int64_t
side_runs_due(const struct side *side)
{
	int64_t due = NEVER;
	enum reason reason;

	for (reason = OVERFLOWN; reason < RUNS; reason++) {
		due = sooner(due, run_tells_at(&side->runs[reason]));
		if (reason >= DENIED)
			due = sooner(due, run_ends_at(&side->runs[reason]));
	}
	return due;
}

/* When something is next due on a side. */
static int64_t
side_due(struct side *side)
{
	const struct client *client = side_receiver(side);
	int64_t due = sooner(stuck_at(side->in), slow_at(side->in));

	due = sooner(due, side_runs_due(side));
	if (ring_unsent(&side->out->ring) > 0)
		due = sooner(due, side_expires_at(side));
	if (client == NULL)
		return due;
	due = sooner(due, half_closed_at(client));
	due = sooner(due, idle_at(side, client));
	due = sooner(due, session_closes_at(side, client));
	due = sooner(due, stall_at(side, client));
	due = sooner(due, silent_at(side, client));
	return sooner(due, ask_at(side, client));
}

/* When the loop is next due, if nothing happens before. */
static int64_t
loop_due(void)
{
	int64_t due = sooner(stop_deadline, after(totals_last, conf.period));
	size_t i;

	for (i = 0; i < SIDES; i++)
		due = sooner(due, side_due(&sides[i]));
	for (i = 0; i < (size_t)listener_count; i++)
		if (listeners[i].rest_until > now)
			due = sooner(due, listeners[i].rest_until);
	for (i = 0; i < SCRAPES; i++)
		if (scrapes[i].fd > 0)
			due = sooner(due, scrapes[i].deadline);
	return due;
}

/* ---- What a restart keeps (-f) --------------------------------------- */

/* The file: a head of SAVE_HEAD bytes in text, the bytes of the ring A->B, then
 * those of the ring B->A.  The head has both sizes, the times when side B and
 * side A were left (microseconds since 1970), and an FNV-1a sum of the rest. */
#define SAVE_HEAD 128
#define SAVE_MAGIC "tcpbridge-held-1"
#define SAVE_FORMAT SAVE_MAGIC " %zu %zu %" PRId64 " %" PRId64

static uint64_t
save_sum(uint64_t sum, const void *bytes, size_t size)
{
	const unsigned char *byte = bytes;

	while (size-- > 0)
		sum = (sum ^ *byte++) * UINT64_C(0x100000001b3);
	return sum;
}

static uint64_t
save_sum_flow(uint64_t sum, const struct ring *ring)
{
	size_t piece = ring_piece(ring, ring->start, ring->used);

	sum = save_sum(sum, ring->bytes + ring->start, piece);
	return save_sum(sum, ring->bytes, ring->used - piece);
}

/* Makes the head for what both rings hold. */
static void
save_head(char *head, int64_t left_b, int64_t left_a)
{
	const struct ring *a = &flows[SIDE_A].ring, *b = &flows[SIDE_B].ring;
	uint64_t sum;
	int length;

	memset(head, ' ', SAVE_HEAD);
	length = snprintf(head, SAVE_HEAD, SAVE_FORMAT, a->used, b->used,
	    left_b, left_a);
	sum = save_sum(UINT64_C(0xcbf29ce484222325), head, (size_t)length);
	sum = save_sum_flow(save_sum_flow(sum, a), b);
	length += snprintf(head + length, (size_t)(SAVE_HEAD - length),
	    " %016" PRIx64, sum);
	head[length] = ' ';
	head[SAVE_HEAD - 1] = '\n';
}

/* Reads or writes this many bytes; returns 0, or -1 and errno.  At the end of
 * the file errno is 0. */
static int
file_read(int fd, void *bytes, size_t size)
{
	char *next = bytes;
	ssize_t n;

	while (size > 0) {
		errno = 0;
		n = read(fd, next, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		next += n;
		size -= (size_t)n;
	}
	return 0;
}

static int
file_write(int fd, const void *bytes, size_t size)
{
	const char *next = bytes;
	ssize_t n;

	while (size > 0) {
		n = write(fd, next, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		next += n;
		size -= (size_t)n;
	}
	return 0;
}

static int
file_write_ring(int fd, const struct ring *ring)
{
	size_t piece = ring_piece(ring, ring->start, ring->used);

	if (file_write(fd, ring->bytes + ring->start, piece) < 0)
		return -1;
	return file_write(fd, ring->bytes, ring->used - piece);
}

/* The directory of a file, "." if there is no other. */
static void
directory_of(const char *path, char *directory)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		snprintf(directory, SAVE_PATH, ".");
	else
		snprintf(directory, SAVE_PATH, "%.*s", (int)(slash - path) + 1,
		    path);
}

/* Writes a directory to the disk.  Only then is a name in it made or removed
 * for good. */
static void
directory_sync(const char *path)
{
	char directory[SAVE_PATH];
	int fd;

	directory_of(path, directory);
	fd = open(directory, O_RDONLY);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

/* Whether this is a plain file of this user; else errno is EPERM.  Another user
 * may have put a file or a link there. */
static int
save_is_plain(int fd)
{
	struct stat file;

	if (fd < 0 || fstat(fd, &file) < 0)
		return 0;
	errno = EPERM;
	return S_ISREG(file.st_mode) && file.st_uid == geteuid() &&
	    file.st_nlink <= 1;
}

/* Ends the program, as errno says about a file. */
static void
save_fatal(const char *path)
{
	fatal(1, "-f: %s: %s", path, errno == EPERM ?
	    "not a plain file of this user" : strerror(errno));
}

/* Whether the open file still has the name save_new. */
static int
save_is_named(int fd)
{
	struct stat file, named;

	return fstat(fd, &file) == 0 && stat(save_new, &named) == 0 &&
	    file.st_dev == named.st_dev && file.st_ino == named.st_ino;
}

/* Opens and locks the file that a stop would write.  Returns -1 and errno:
 * EAGAIN if another bridge has locked it, or has just renamed it. */
static int
save_lock(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int is_locked, fd = open(save_new, O_RDWR | O_CREAT | O_NOFOLLOW |
	    O_NONBLOCK, S_IRUSR | S_IWUSR);

	if (!save_is_plain(fd))
		return -1;
	/* Without locks in the file system (ENOLCK) nothing is known: go on. */
	is_locked = fcntl(fd, F_SETLK, &lock) < 0 &&
	    (errno == EACCES || errno == EAGAIN);
	if (is_locked || !save_is_named(fd)) {
		close(fd);
		errno = EAGAIN;
		return -1;
	}
	fchmod(fd, S_IRUSR | S_IWUSR);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

/* Ends the program if the file that a stop would write belongs to another
 * program, or if its directory would not let a stop rename it. */
static void
save_check(void)
{
	char begin[sizeof SAVE_MAGIC - 1], directory[SAVE_PATH];
	int fd = save_fd;
	ssize_t n = read(fd, begin, sizeof begin);

	save_fd = -1;		/* or fatal() would remove the file */
	if (n > 0 && memcmp(begin, SAVE_MAGIC, (size_t)n) != 0)
		fatal(1, "-f: %s: not a file of tcpbridge", save_new);
	directory_of(conf.file, directory);
	if (access(directory, W_OK | X_OK) < 0)
		fatal(1, "-f: %s: %s", conf.file, strerror(errno));
	save_fd = fd;
}

/* Opens the file that a stop would write, so a bad place is found at the start.
 * Waits up to 3 seconds for another bridge that is stopping. */
static void
save_open(void)
{
	struct timespec nap = { 0, 100000000 };
	int tries;

	snprintf(save_new, sizeof save_new, "%s.new", conf.file);
	save_fd = save_lock();
	for (tries = 0; save_fd < 0 && errno == EAGAIN && tries < 30; tries++) {
		nanosleep(&nap, NULL);
		save_fd = save_lock();
	}
	if (save_fd < 0 && errno == EAGAIN)
		fatal(1, "-f: %s: another tcpbridge uses it", conf.file);
	if (save_fd < 0)
		save_fatal(save_new);
	save_check();
}

/* The time of day when the bridge's clock was 0, microseconds since 1970. */
static int64_t
wall_offset(void)
{
	struct timespec wall;

	clock_gettime(CLOCK_REALTIME, &wall);
	return (int64_t)wall.tv_sec * SECOND + wall.tv_nsec / 1000 - now;
}

/* Takes one direction from the file; its bytes count as received. */
static void
save_take(int fd, struct flow *flow, unsigned long long size)
{
	if (size > conf.capacity)
		fatal(1, "-f: %s: has %llu bytes %s, more than -b %zu",
		    conf.file, size, flow->name, conf.capacity);
	if (file_read(fd, flow->ring.bytes, (size_t)size) < 0)
		fatal(1, "-f: %s: %s", conf.file, errno != 0 ?
		    strerror(errno) : "cut short");
	flow->ring.used = (size_t)size;
	flow->received = size;
}

/* Takes what the last stop saved.  If the file is damaged, or of another
 * program, this program ends, and the file stays. */
static void
save_load(void)
{
	char head[SAVE_HEAD + 1] = "", again[SAVE_HEAD], rest;
	char *end = head + strlen(SAVE_MAGIC);
	int fd = open(conf.file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	int64_t left_a, left_b, offset = wall_offset();

	if (fd < 0 && errno == ENOENT)
		return;
	if (!save_is_plain(fd))
		save_fatal(conf.file);
	if (file_read(fd, head, SAVE_HEAD) < 0 ||
	    strncmp(head, SAVE_MAGIC, strlen(SAVE_MAGIC)) != 0)
		fatal(1, "-f: %s: not a file of tcpbridge", conf.file);
	save_take(fd, &flows[SIDE_A], strtoull(end, &end, 10));
	save_take(fd, &flows[SIDE_B], strtoull(end, &end, 10));
	left_b = strtoll(end, &end, 10);
	left_a = strtoll(end, &end, 10);
	save_head(again, left_b, left_a);
	if (memcmp(head, again, SAVE_HEAD) != 0 || read(fd, &rest, 1) != 0)
		fatal(1, "-f: %s: damaged", conf.file);
	close(fd);
	sides[SIDE_A].left = sooner(now, left_a - offset);
	sides[SIDE_B].left = sooner(now, left_b - offset);
	save_loaded = 1;
}

/* Removes the file that was loaded.  This is done when the bridge listens: if a
 * start fails before, the file stays. */
static void
save_remove(void)
{
	const struct flow *flow;

	if (!save_loaded)
		return;
	if (unlink(conf.file) < 0)
		fatal(1, "-f: %s: %s", conf.file, strerror(errno));
	directory_sync(conf.file);
	for (flow = flows; flow < flows + SIDES; flow++)
		log_event(LOG_NOTICE, "restore", "dir=%s bytes=%zu age=%.3f",
		    flow->name, flow->ring.used, SECS(now - flow->to->left));
}

/* Writes what both rings hold.  Returns 0, or -1 and errno.  If somebody has
 * removed the file, another one is made. */
static int
save_write(void)
{
	int64_t offset = wall_offset();
	char head[SAVE_HEAD];

	if (!save_is_named(save_fd))
		save_fd = save_lock();
	if (save_fd < 0)
		return -1;
	save_head(head, sides[SIDE_B].left + offset,
	    sides[SIDE_A].left + offset);
	if (ftruncate(save_fd, 0) < 0 || lseek(save_fd, 0, SEEK_SET) < 0 ||
	    file_write(save_fd, head, SAVE_HEAD) < 0 ||
	    file_write_ring(save_fd, &flows[SIDE_A].ring) < 0 ||
	    file_write_ring(save_fd, &flows[SIDE_B].ring) < 0 ||
	    fsync(save_fd) < 0 || rename(save_new, conf.file) < 0)
		return -1;
	directory_sync(conf.file);
	return 0;
}

/* At the end of a stop: saves what is held, if -f asks for it.  Returns the
 * number of bytes that are lost. */
static size_t
save_end(void)
{
	const struct flow *flow;
	size_t held = flows[SIDE_A].ring.used + flows[SIDE_B].ring.used;

	if (*conf.file == '\0')
		return held;
	if (held == 0) {
		unlink(save_new);
		return 0;
	}
	if (save_write() < 0) {
		log_event(LOG_WARNING, "save_failed",
		    "file=\"%s\" error=\"%s\"", conf.file, strerror(errno));
		if (save_fd >= 0)
			unlink(save_new);
		return held;
	}
	for (flow = flows; flow < flows + SIDES; flow++)
		log_event(LOG_NOTICE, "save", "dir=%s bytes=%zu", flow->name,
		    flow->ring.used);
	return 0;
}

/* ---- The loop -------------------------------------------------------- */

/* -l: whether what has arrived from a side may wait for ever: the ring has no
 * room, and the receiver is absent or acknowledges nothing. */
static int
side_is_wedged(struct side *side)
{
	const struct client *receiver = side_present(side->in->to);
	const struct client *sender = side_sender(side);

	return conf.lossless && sender != NULL &&
	    socket_unread(sender->fd, 1) > 0 &&
	    flow_intake(side->in) == WAIT && (receiver == NULL ||
	    now - receiver->took >= conf.stall);
}

/* The time of -w is over.  If the client's system answers, its program hangs,
 * and the client is closed.  Where TCP_INFO does not tell, the system counts as
 * answering if the client sent something lately, or nothing is away.  A client
 * whose bytes have no room (-l) becomes silent instead, as it may take bytes
 * again. */
static void
client_stall(struct side *side, struct client *client)
{
	int lives = socket_window_shut(client->fd);

	if (lives < 0)
		lives = side->out->ring.away == 0 ||
		    now - client->alive < conf.stall / 2;
	if (client->state == HALF_CLOSED ||
	    (lives && !side_is_wedged(side)))
		client_leave(side, client, STALLED, "");
	else
		client_silence(side, client);
}

/* Does what is due for the client that is sent to. */
static void
client_review(struct side *side, struct client *client)
{
	int64_t wait = client->ask_wait;

	if (now >= ask_at(side, client)) {
		client_ask(side, client);
		/* Nothing was acknowledged: wait longer. */
		if (client->took < now)
			client->ask_wait = sooner(2 * wait, ASK_LAST);
	}
	if (client->error != 0)
		client_fail(side, client, client->error);
	else if (now >= half_closed_at(client))
		client_leave(side, client, END, "");
	else if (now >= idle_at(side, client))
		client_leave(side, client, IDLE, "");
	if (client->state == LEAVING || (now < stall_at(side, client) &&
	    now < silent_at(side, client) &&
	    now < session_closes_at(side, client)))
		return;
	side_ask(side);		/* it may have acknowledged since */
	if (now >= session_closes_at(side, client))
		client_leave(side, client, SESSION, "");
	else if (now >= stall_at(side, client))
		client_stall(side, client);
	else if (now >= silent_at(side, client) &&
	    socket_window_shut(client->fd) > 0)
		client->alive = now;
	else if (now >= silent_at(side, client))
		client_silence(side, client);
}

/* Whether bytes that had arrived from a client at a stop are still to be read.
 * The number kept may be a guess, so it is corrected. */
static int
client_has_unread(struct client *client)
{
	size_t unread;

	if (client->unread == 0)
		return 0;
	unread = socket_unread(client->fd, client->unread);
	if (unread < client->unread)
		client->unread = unread;
	return client->unread > 0;
}

/* At a stop, and when a session is over (-o): sends EOF to a client after all
 * bytes for it, which include what had arrived when the signal came.  If the
 * client has sent EOF itself, it leaves when it has acknowledged all. */
static void
side_finish(struct side *side)
{
	struct side *from = side->out->from;
	struct client *client = side_receiver(side);

	if (client == NULL || ring_unsent(&side->out->ring) > 0)
		return;
	if (stop_deadline == NEVER && !session_is_over(side, client))
		return;
	/* Bytes of the next session (-o) are not for this client. */
	if (from->count > 1 || (from->count == 1 &&
	    session_intake(side->out) != WAIT &&
	    client_has_unread(&from->clients[0])))
		return;
	if (!client->shut) {
		client->shut = 1;
		shutdown(client->fd, SHUT_WR);
	}
	if (client->state == HALF_CLOSED && side->out->ring.away == 0)
		client_finish(side, client);
}

/* Logs that a receiver is slow, or is not any more. */
static void
flow_tell_slow(struct flow *flow, int is_slow)
{
	const struct client *client = side_receiver(flow->to);

	if (is_slow) {
		log_event(LOG_WARNING, "slow", "dir=%s session=" U64
		    " peer=%s held=%zu", flow->name, client_session(client),
		    client_peer(client), flow->ring.used);
		flow->slow_since = flow->wait_began;
	} else
		log_event(LOG_INFO, "slow_end", "dir=%s held=%zu "
		    "duration=%.3f", flow->name, flow->ring.used,
		    SECS(now - flow->slow_since));
	flow->slow = (uint64_t)is_slow;
}

/* Decides whether a receiver is slow.  A sender that is faster is read and held
 * back in turns, which is no fault.  What counts is how long the receiver takes
 * for the bytes that were held when the sender began to wait. */
static void
flow_review_slow(struct flow *flow)
{
	int waits = flow_waits(flow), is_late = now >= slow_at(flow), went;
	int is_parted = side_sender(flow->from) == NULL ||
	    side_present(flow->to) == NULL;

	if (is_late)
		side_ask(flow->to);	/* acks may have come since */
	went = flow->sent >= flow->wait_goal;
	/* The time is over, and those bytes have not gone. */
	if (is_late && waits && !went)
		flow_tell_slow(flow, 1);
	/* They went in time, or the sender need not wait any more. */
	else if (flow->slow && ((went && now - flow->wait_began < SLOW_MIN) ||
	    (!waits && (went || is_parted))))
		flow_tell_slow(flow, 0);
	if (went || is_late || (!waits && is_parted))
		flow->wait_began = 0;
	if (waits && flow->wait_began == 0) {
		flow->wait_began = now;
		flow->wait_goal = flow->sent + flow->ring.used;
	}
}

/* Does what is due on a side. */
static void
side_review(struct side *side)
{
	struct client *client = side_receiver(side);

	if (client != NULL)
		client_review(side, client);
	side_finish(side);
	side_expire(side);
	side_drain(side);
	flow_review_slow(side->in);
	side_review_runs(side);
}

/* The time of -t is over: logs the totals, or makes rates for the live line.
 * It also asks, which may make room, so it comes before the reviews. */
static void
period_end(void)
{
	struct flow *flow;

	acks_ask();
	for (flow = flows; flow < flows + SIDES; flow++) {
		flow->rate = (double)(flow->sent - flow->rated) /
		    SECS(now - totals_last);
		flow->rated = flow->sent;
	}
	totals_last = now;
	if (!live)
		totals_log(LOG_INFO);
}

/* Does what is due by the clock.  A change on one side may let the other one go
 * on, so both are reviewed until nothing changes. */
static void
loop_review(void)
{
	int is_period = now >= after(totals_last, conf.period);
	unsigned before;
	struct scrape *scrape;

	if (is_period)
		period_end();
	do {
		before = changes;
		side_review(&sides[SIDE_A]);
		side_review(&sides[SIDE_B]);
	} while (changes != before);
	for (scrape = scrapes; scrape < scrapes + SCRAPES; scrape++)
		if (scrape->fd > 0 && now >= scrape->deadline) {
			close(scrape->fd);
			scrape->fd = 0;
		}
	if (live && (is_period || !live_shown))
		live_draw();
}

/* Whether accept() failed for this newcomer alone (accept(2)): it is gone, or
 * its network is.  BSD and illumos give ECONNABORTED after a reset (FreeBSD:
 * uipc_socket.c, soaccept); what the newcomer had sent is lost. */
static int
accept_passes(int error)
{
	static const int errors[] = { EAGAIN, EWOULDBLOCK, EINTR, ECONNABORTED,
	    EPROTO, ENOPROTOOPT, ENETDOWN, ENETUNREACH, EHOSTUNREACH,
#ifdef EHOSTDOWN
	    EHOSTDOWN,
#endif
#ifdef ENONET
	    ENONET,
#endif
	    EOPNOTSUPP };
	size_t i;

	for (i = 0; i < LENGTH(errors); i++)
		if (errors[i] == error)
			return 1;
	return 0;
}

/* Takes one client from a listener; returns 0 if there is none.  If it fails
 * for lack of descriptors or memory, pselect() would report it again and again,
 * so the listener rests for a second. */
static int
listener_accept(struct listener *listener)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof address;
	int fd = accept(listener->fd, (struct sockaddr *)&address, &length);
	int rested = listener->rest_until > 0;

	listener->rest_until = 0;
	if (fd >= 0 && listener->service == METRICS)
		scrape_accept(fd);
	else if (fd >= 0)
		side_accept(&sides[listener->service], fd, &address, length);
	else if (!accept_passes(errno)) {
		if (!rested)
			log_event(LOG_WARNING, "accept_failed",
			    "%s error=\"%s\"",
			    service_names[listener->service], strerror(errno));
		accept_failures++;
		listener->rest_until = now + SECOND;
	}
	return fd >= 0;
}

/* Moves times of clients forward, so part of the last wait does not count.  For
 * -r and -i that is a wait in which the client was not read.  For -g and -w it
 * is a wait in which nothing was held for it, unless its session is over (-o).
 * A pause of the bridge counts for none of these times. */
static void
clocks_adjust(int64_t elapsed, int64_t paused)
{
	struct side *side;
	struct client *client;

	for (side = sides; side < sides + SIDES; side++) {
		if (side->in->wait_began != 0)
			side->in->wait_began += paused;
		for (client = side->clients;
		    client < side->clients + side->count; client++) {
			client->heard += client->watched ? paused : elapsed;
			client->took += paused;
			client->alive += paused;
			if (client->ended > 0)
				client->ended += paused;
			if (side->out->ring.used == 0 &&
			    !session_is_over(side, client))
				client->took = now;
		}
	}
}

/* On Linux pselect() lets no signal in if a descriptor is ready at once.  If no
 * wait has slept for 50 ms, this function lets signals in. */
static void
signals_let_in(int64_t waited)
{
	sigset_t mask;

	if (waited < MSEC && now - signals_heard < 50 * MSEC)
		return;
	if (waited < MSEC) {
		sigprocmask(SIG_SETMASK, &wait_mask, &mask);
		sigprocmask(SIG_SETMASK, &mask, NULL);
	}
	signals_heard = now;
}

/* Waits until a descriptor is ready, something is due, or a signal comes.  If
 * the bridge was stopped or suspended meanwhile, the system does not tell for
 * how long, so all the time since the last wait counts as a pause. */
static void
loop_wait(fd_set *readable, fd_set *writable)
{
	int64_t before = now, began = clock_read(), due = loop_due(), wait;
	int64_t elapsed, paused = 0;
	struct timespec timeout;
	int was_stopped = 0;

	wait = due <= now ? 0 : sooner(due - now, WAIT_MAX);
	timeout.tv_sec = (time_t)(wait / SECOND);
	timeout.tv_nsec = (long)(wait % SECOND * 1000);
	if (pselect(fd_top + 1, readable, writable, NULL,
	    due == NEVER ? NULL : &timeout, &wait_mask) < 0) {
		if (errno != EINTR)
			fatal(1, "pselect: %s", strerror(errno));
		FD_ZERO(readable);
		FD_ZERO(writable);
	}
	do {			/* again if SIGCONT came meanwhile */
		was_stopped |= continued;
		continued = 0;
		now = clock_read();
	} while (continued);
	signals_let_in(now - began);
	elapsed = now - before;
	if (was_stopped || (due != NEVER && elapsed - wait > PAUSE_MIN)) {
		paused = elapsed;
		log_event(LOG_DEBUG, "pause", "waited=%.3f", SECS(paused));
	}
	clocks_adjust(elapsed, paused);
}

/* Puts the descriptors to wait for into the sets. */
static void
sets_build(fd_set *readable, fd_set *writable)
{
	struct side *side;
	int i;

	FD_ZERO(readable);
	FD_ZERO(writable);
	for (side = sides; side < sides + SIDES; side++) {
		for (i = 0; i < side->count; i++)
			side->clients[i].watched = 0;
		if (wants_read(side)) {
			side->clients[0].watched = 1;
			FD_SET(side->clients[0].fd, readable);
		}
		if (wants_write(side))
			FD_SET(side_receiver(side)->fd, writable);
	}
	for (i = 0; i < listener_count; i++)
		if (wants_accept(&listeners[i]))
			FD_SET(listeners[i].fd, readable);
	for (i = 0; i < SCRAPES; i++)
		if (scrapes[i].fd > 0)
			FD_SET(scrapes[i].fd, readable);
}

/* One turn.  Receives all before it sends, so nothing is sent to a client whose
 * EOF has just come.  A socket that was not in the set, because the ring was
 * empty before, is sent to at once.  Clients are read before newcomers are
 * accepted. */
static void
loop_turn(void)
{
	fd_set readable, writable;
	struct side *side;
	int watched[SIDES], i;

	sets_build(&readable, &writable);
	for (i = 0; i < SIDES; i++)
		watched[i] = wants_write(&sides[i]);
	loop_wait(&readable, &writable);
	for (side = sides; side < sides + SIDES; side++)
		if (side->count > 0 && side->clients[0].watched &&
		    FD_ISSET(side->clients[0].fd, &readable))
			client_receive(side, &side->clients[0]);
	for (i = 0; i < SIDES; i++)
		if (wants_write(&sides[i]) && (!watched[i] ||
		    FD_ISSET(side_receiver(&sides[i])->fd, &writable)))
			client_send(&sides[i], side_receiver(&sides[i]));
	for (i = 0; i < SCRAPES; i++)
		if (scrapes[i].fd > 0 && FD_ISSET(scrapes[i].fd, &readable))
			scrape_read(&scrapes[i]);
	for (i = 0; i < listener_count; i++)
		if (FD_ISSET(listeners[i].fd, &readable) &&
		    wants_accept(&listeners[i]))
			listener_accept(&listeners[i]);
}

/* Accepts the newcomers of a side that have dialled until now. */
static void
listener_drain(struct listener *listener)
{
	int tries;

	for (tries = 0; tries < BACKLOG; tries++)
		if (listener->service == METRICS || !wants_accept(listener) ||
		    !listener_accept(listener))
			return;
}

/* A stop begins.  The listeners are closed, so a program that dials now is
 * refused and keeps its data.  What has arrived from each client is still
 * read. */
static void
stop_begin(void)
{
	struct side *side;
	struct client *client;
	int i;

	for (i = 0; i < listener_count; i++)
		listener_drain(&listeners[i]);
	stop_deadline = now + PATIENCE;
	listeners_close(0);
	for (side = sides; side < sides + SIDES; side++) {
		client = side_receiver(side);
		if (client != NULL && client->state != HALF_CLOSED)
			client->unread = socket_unread(client->fd,
			    conf.capacity);
	}
}

static const char *
signal_name(int number)
{
	if (number == SIGTERM)
		return "SIGTERM";
	return number == SIGINT ? "SIGINT" : "SIGHUP";
}

/* Ends a stop: closes the clients that are left, and logs what is lost. */
static void
stop_end(void)
{
	size_t lost = 0;
	struct side *side;
	struct client *client;

	for (side = sides; side < sides + SIDES; side++) {
		client = side_receiver(side);
		if (client != NULL)
			client_leave(side, client, SHUTDOWN, "");
	}
	for (side = sides; side < sides + SIDES; side++) {
		side_drain(side);
		while (side->count > 0) {
			lost += side->clients[0].unread;
			client_close(side, &side->clients[0]);
		}
	}
	side_tell_rest(&sides[SIDE_A], RUNS);
	side_tell_rest(&sides[SIDE_B], RUNS);
	lost += save_end();
	if (conf.trace)
		trace_bytes("", 0, (const unsigned char *)"", 0);
	totals_log(LOG_INFO);
	log_event(lost > 0 ? LOG_WARNING : LOG_NOTICE, "stop",
	    "signal=%s lost=%zu", signal_name(stop_signal), lost);
}

/* Runs until a stop is over: no client is left, its time has passed, or a
 * second signal comes. */
static void
loop_run(void)
{
	for (;;) {
		loop_review();
		if (stop_count > 1 || now >= stop_deadline ||
		    (stop_deadline != NEVER && sides[SIDE_A].count == 0 &&
		    sides[SIDE_B].count == 0))
			break;
		loop_turn();
		if (totals_asked)
			totals_log(LOG_NOTICE);
		totals_asked = 0;
		if (stop_count > 0 && stop_deadline == NEVER)
			stop_begin();
	}
	stop_end();
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

/* Signals are blocked except in pselect(), so none can come between the look at
 * a flag and the wait.  SIGCONT is not blocked, so after a stop its handler
 * runs before all other code.  A stop signal that is ignored at the start, as
 * under nohup, stays ignored. */
static void
signals_open(void)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGCONT,
#ifdef SIGINFO
	    SIGINFO,
#endif
	    SIGUSR1 };
	struct sigaction action = { .sa_handler = signal_note }, old;
	sigset_t blocked;
	size_t i;

	sigemptyset(&action.sa_mask);
	sigemptyset(&blocked);
	sigprocmask(SIG_SETMASK, NULL, &wait_mask);
	for (i = 0; i < LENGTH(numbers); i++) {
		sigaction(numbers[i], NULL, &old);
		if (old.sa_handler != SIG_IGN || i > 2)
			sigaction(numbers[i], &action, NULL);
		if (numbers[i] != SIGCONT)
			sigaddset(&blocked, numbers[i]);
		sigdelset(&wait_mask, numbers[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, NULL);
}

/* ---- Options and main ------------------------------------------------ */

static const char version_text[] = "tcpbridge " VERSION "\n";

static const char usage_text[] =
"usage: tcpbridge [-46hloqsVvx] [-A net]... [-B net]... [-b size] [-e secs]\n"
"           [-f file] [-g secs] [-H secs] [-i secs] [-k secs]\n"
"           [-m [host:]port] [-n name] [-r secs] [-t secs] [-w secs]\n"
"           [[hostA:]portA [hostB:]portB]\n"
"Join two TCP clients that can both only dial out: one dials port A, the\n"
"other port B (default :1024 :1025).  Bytes for an absent side are held.\n"
"  -4, -6    IPv4 only, IPv6 only\n"
"  -A, -B net  let only this network in on that side (up to 16 times each)\n"
"  -b size   bytes held per direction, suffix k or m (4m)\n"
"  -e secs   after a client's EOF go on sending to it this long (0)\n"
"  -f file   keep what a stop would lose there for the next start\n"
"  -g secs   hold a sender back this long for a stuck receiver (3)\n"
"  -H secs   hold data for an absent side no longer than this (no limit)\n"
"  -h, -V    print this help; the version\n"
"  -i secs   close a client that sends nothing for this long (0: never)\n"
"  -k secs   TCP keepalive after this silence (30; 0: off)\n"
"  -l        lossless: never drop, hold the sender back instead\n"
"  -m addr   serve /metrics and /healthz over HTTP at [host:]port\n"
"  -n name   name of this bridge, in log and metrics\n"
"  -o        one session: when a client goes, close the other one, too\n"
"  -q, -v    log only warnings and errors; also debug lines\n"
"  -r secs   replace a client only if it sent nothing this long (0)\n"
"  -s        log to syslog, not to standard error\n"
"  -t secs   log totals this often; on a terminal, one live line\n"
"  -w secs   close a client that takes no data this long (60; 0: never)\n"
"  -x        trace all traffic on standard output, in hex and text\n"
"Examples: tcpbridge 4001 4002\n"
"          tcpbridge -H 0 -r 5 -m 9100 4001 4002  (Modbus, with metrics)\n"
"The manual, tcpbridge(1), explains each event of the log in DIAGNOSTICS.\n";

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
	    end == text || end[-1] == '.' || seconds > SECONDS_MAX)
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

/* A numeric address, or one with the number of bits that have to agree.  A
 * v4-mapped one (RFC 4291) is refused: IPv6 sockets are V6ONLY, so no client
 * has one. */
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

/* A number of bytes as it would be typed: 4m, 100k, 4095. */
static const char *
size_text(size_t size)
{
	static char text[24];

	if (size % 1048576 == 0)
		snprintf(text, sizeof text, "%zum", size / 1048576);
	else if (size % 1024 == 0)
		snprintf(text, sizeof text, "%zuk", size / 1024);
	else
		snprintf(text, sizeof text, "%zu", size);
	return text;
}

/* A number of bytes, with k for KiB or m for MiB. */
static size_t
parse_size(const char *what, char *text)
{
	char *end = text;
	int64_t size = parse_number(&end, BUFFER_MAX);

	if (size > 0 && (*end == 'k' || *end == 'K')) {
		size *= 1024;
		end++;
	} else if (size > 0 && (*end == 'm' || *end == 'M')) {
		size *= 1048576;
		end++;
	}
	if (size < 1 || size > BUFFER_MAX || *end != '\0')
		fatal(2, "%s: not a size from 1 to %s: '%s'", what,
		    size_text(BUFFER_MAX), text);
	return (size_t)size;
}

/* How many bytes a character of UTF-8 has (RFC 3629); 0 if it is none. */
static size_t
utf8_length(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;
	size_t i, length = 4;

	if (c[0] < 0x80)
		return 1;
	if (c[0] < 0xf0)
		length = c[0] < 0xe0 ? 2 : 3;
	if (c[0] < 0xc2 || c[0] > 0xf4)
		return 0;
	for (i = 1; i < length; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	/* Too long a form, half of a surrogate pair, or above U+10FFFF. */
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
	    (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	return length;
}

/* A name that needs no escape in a log line or a metric. */
static const char *
parse_name(const char *what, const char *text, int most)
{
	const char *end = text;
	size_t length = 1;

	while (length > 0 && (unsigned char)*end >= ' ' && *end != 127 &&
	    *end != '"' && *end != '\\') {
		length = utf8_length(end);
		end += length;
	}
	if (length == 0)
		fatal(2, "%s: not UTF-8: '%s'", what, text);
	if (*end != '\0' || end == text || end - text > most)
		fatal(2, "%s: not 1 to %d bytes without quote, backslash "
		    "or control character: '%s'", what, most, text);
	return text;
}

/* Seconds of which 0 means never. */
static int64_t
parse_limit(const char *what, const char *text)
{
	int64_t time = parse_seconds(what, text);

	return time == 0 ? NEVER : time;
}

/* Prints a text and ends the program. */
static void
print_and_exit(const char *text)
{
	if (fputs(text, stdout) < 0 || fflush(stdout) != 0 || ferror(stdout))
		fatal(1, "standard output: %s", strerror(errno));
	exit(0);
}

/* Takes one option; a wrong argument ends the program. */
static void
option_take(int option, const char *what, char *text)
{
	switch (option) {
	case '4': conf.family = AF_INET; break;
	case '6': conf.family = AF_INET6; break;
	case 'A': parse_net(what, text, &sides[SIDE_A]); break;
	case 'B': parse_net(what, text, &sides[SIDE_B]); break;
	case 'b': conf.capacity = parse_size(what, text); break;
	case 'e': conf.eof_hold = parse_seconds(what, text); break;
	case 'f': conf.file = parse_name(what, text, SAVE_PATH - 5); break;
	case 'g': conf.grace = parse_seconds(what, text); break;
	case 'H': conf.hold = parse_seconds(what, text); break;
	case 'h': print_and_exit(usage_text); break;
	case 'i': conf.idle = parse_limit(what, text); break;
	case 'k': conf.keepalive = parse_seconds(what, text); break;
	case 'l': conf.lossless = 1; break;
	case 'm': parse_place(what, text, &conf.places[METRICS]); break;
	case 'n': conf.name = parse_name(what, text, NAME_SIZE); break;
	case 'o': conf.sessions = 1; break;
	case 'q': conf.level = LOG_NOTICE; break;
	case 'r': conf.replace = parse_seconds(what, text); break;
	case 's': conf.syslog = 1; break;
	case 't': conf.period = parse_limit(what, text); break;
	case 'V': print_and_exit(version_text); break;
	case 'v': conf.level = LOG_DEBUG; break;
	case 'w': conf.stall = parse_limit(what, text); break;
	case 'x': conf.trace = 1; break;
	case ':': fatal(2, "-%c: option needs an argument", optopt);
	default: fatal(2, "-%c: unknown option, see -h", optopt);
	}
}

/* Reads the command line into conf. */
static void
options_read(int argc, char **argv)
{
	int option, operands, excluded = 0;
	char what[] = "-?";

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		print_and_exit(usage_text);
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		print_and_exit(version_text);
	while ((option = getopt(argc, argv,
	    ":46A:B:b:e:f:g:H:hi:k:lm:n:oqr:st:Vvw:x")) != -1) {
		if (option == 'g' || option == 'H')
			excluded = option;
		what[1] = (char)option;
		option_take(option, what, optarg);
	}
	/* The system's keepalive has whole seconds. */
	conf.keepalive = (conf.keepalive + SECOND - 1) / SECOND * SECOND;
	if (conf.lossless && excluded)
		fatal(2, "-l: excludes -%c", excluded);
	if (conf.lossless)
		conf.grace = 0;
	if (conf.sessions && *conf.file != '\0')
		fatal(2, "-o: excludes -f");
	if (conf.sessions && conf.stall == NEVER)
		fatal(2, "-o: excludes -w 0");
	operands = argc - optind;
	if (operands == 1)
		fatal(2, "side B has no address, only side A: '%s'",
		    argv[optind]);
	if (operands > SIDES)
		fatal(2, "more than two addresses: '%s'",
		    argv[optind + SIDES]);
	if (operands == SIDES) {
		parse_place("side A", argv[optind], &conf.places[SIDE_A]);
		parse_place("side B", argv[optind + 1], &conf.places[SIDE_B]);
	}
	if (conf.places[SIDE_A].port > 0 && conf.places[SIDE_A].port ==
	    conf.places[SIDE_B].port && strcmp(conf.places[SIDE_A].host,
	    conf.places[SIDE_B].host) == 0)
		fatal(2, "both sides have port %d", conf.places[SIDE_A].port);
}

/* Opens the terminal of descriptor 1 or 2 again, as non-blocking.  A terminal
 * that select() reports as ready may take less than a line.  Programs that
 * share the old descriptor are not affected.  A terminal of another user, or
 * without a name here (chroot), can't be opened. */
static void
terminal_open(int fd)
{
	const char *name = ttyname(fd);
	int own = name == NULL ? -1 :
	    open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);

	is_shared[fd] = own < 0;
	if (own < 0)
		return;
	dup2(own, fd);
	close(own);
}

/* Opens those of 0 to 2 that are closed.  Else a socket could get that number,
 * and the log would go into its stream. */
static void
descriptors_open(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0) {
			if (open("/dev/null", O_RDWR) != fd)
				fatal(1, "/dev/null: %s", strerror(errno));
		} else if (fd > STDIN_FILENO && isatty(fd))
			terminal_open(fd);
	}
}

/* Whether JOURNAL_STREAM names standard error, systemd.exec(5). */
static int
journal_find(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat file;
	char name[64];

	if (stream == NULL || fstat(STDERR_FILENO, &file) < 0)
		return 0;
	snprintf(name, sizeof name, "%ju:%ju", (uintmax_t)file.st_dev,
	    (uintmax_t)file.st_ino);
	return strcmp(stream, name) == 0;
}

/* Whether standard error is a terminal that can rewrite a line. */
static int
terminal_moves(void)
{
	const char *term = getenv("TERM");

	return isatty(STDERR_FILENO) && term != NULL && *term != '\0' &&
	    strcmp(term, "dumb") != 0;
}

/* Sets what does not change: names, and which flow is between which sides. */
static void
sides_open(void)
{
	static const char *const names[] = { "A", "B" };
	static const char *const flow_names[] = { "A->B", "B->A" };
	int i;

	for (i = 0; i < SIDES; i++) {
		flows[i].name = flow_names[i];
		flows[i].from = &sides[i];
		flows[i].to = &sides[!i];
		flows[i].ring.capacity = conf.capacity + READ_SMALL;
		sides[i].name = names[i];
		sides[i].in = &flows[i];
		sides[i].out = &flows[!i];
		sides[i].left = sides[i].heard = now;
	}
}

int
main(int argc, char **argv)
{
	int i;

	descriptors_open();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);	/* a log at its size limit */
	signal(SIGTTOU, SIG_IGN);	/* stty tostop, in the background */
	options_read(argc, argv);
	if (conf.syslog && syslog_open() < 0)
		fprintf(stderr, "tcpbridge: -s: %s: %s; lines are lost until "
		    "a syslogd listens there\n", _PATH_LOG, strerror(errno));
	in_journal = !conf.syslog && journal_find();
	live = conf.period != NEVER && !conf.syslog && terminal_moves();
	if (*conf.file != '\0')
		save_open();
	now = totals_last = started = clock_read();
	sides_open();
	if (*conf.file != '\0')
		save_load();
	for (i = 0; i < SERVICES; i++)
		if (conf.places[i].port >= 0)
			service_open(i);
	signals_open();
	save_remove();
	for (i = 0; i < listener_count; i++)
		log_event(LOG_INFO, "listen", "%s addr=%s",
		    service_names[listeners[i].service], listeners[i].address);
	log_event(LOG_NOTICE, "ready", "state=%s pid=%ld version=" VERSION
	    " buffer=%zu acks=" ACKS, state_name(), (long)getpid(),
	    conf.capacity);
	loop_run();
	page_used = 0;
	page_add("\r\033[K");
	if (live_shown)		/* under -q no line has cleared it */
		page_write(STDERR_FILENO);
	return 0;
}
