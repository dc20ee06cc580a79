/*
 * sim - tcpbridge in a simulated world
 *
 *	sim SEED		replay one run; -v traces it
 *	sim -n COUNT [-s FIRST]	that many seeds, from FIRST
 *	sim -t SECS [-s FIRST]	seeds for that many seconds
 *	sim -y YEARS [-s SEED]	years of field traffic: a poll every second,
 *				a drop every hour
 *
 * tcpbridge.c is compiled into this file with its system calls replaced by a
 * kernel of our own: virtual time, listeners with a bounded backlog, TCP
 * connections with finite buffers, latency and rates, resets, peers that
 * vanish, a log reader that stalls, signals, and injected faults.  Two
 * clients act at random.  Everything comes from one seed, so a run can be
 * repeated exactly.
 *
 * The program has control between two calls of pselect(); each time it comes
 * back there, the oracle compares what it did with the contract.  The oracle
 * keeps its own model of the rings, the clocks and the policy, fed by the
 * system calls alone; of the program it reads only the public counters.
 *
 * Content is never stored.  Byte number `off` of the connection with the
 * serial `id` has a value computed from both, so the simulated network moves
 * runs (id, off, len), and any byte that is altered, repeated or out of place
 * shows when the program sends it.
 */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* ---- What the program sees instead of the system ---------------------- */

int	 sim_pselect(int, fd_set *, fd_set *, fd_set *,
	    const struct timespec *, const sigset_t *);
int	 sim_select(int, fd_set *, fd_set *, fd_set *, struct timeval *);
int	 sim_socket(int, int, int);
int	 sim_bind(int, const struct sockaddr *, socklen_t);
int	 sim_listen(int, int);
int	 sim_accept(int, struct sockaddr *, socklen_t *);
ssize_t	 sim_recv(int, void *, size_t, int);
ssize_t	 sim_send(int, const void *, size_t, int);
ssize_t	 sim_write(int, const void *, size_t);
int	 sim_close(int);
int	 sim_shutdown(int, int);
int	 sim_fcntl(int, int, ...);
int	 sim_ioctl(int, unsigned long, ...);
int	 sim_setsockopt(int, int, int, const void *, socklen_t);
int	 sim_getsockopt(int, int, int, void *, socklen_t *);
int	 sim_getsockname(int, struct sockaddr *, socklen_t *);
int	 sim_getaddrinfo(const char *, const char *, const struct addrinfo *,
	    struct addrinfo **);
void	 sim_freeaddrinfo(struct addrinfo *);
int	 sim_getnameinfo(const struct sockaddr *, socklen_t, char *, socklen_t,
	    char *, socklen_t, int);
int	 sim_clock_gettime(clockid_t, struct timespec *);
int	 sim_sigaction(int, const struct sigaction *, struct sigaction *);
int	 sim_sigprocmask(int, const sigset_t *, sigset_t *);
int	 sim_isatty(int);
int	 sim_open(const char *, int, ...);
char	*sim_ttyname(int);
int	 sim_dup2(int, int);
void	 sim_exit(int) __attribute__((noreturn));
int	 tcpbridge_main(int, char **);

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
#define TCPBRIDGE_C "../tcpbridge.c"
#endif
#include TCPBRIDGE_C

#undef pselect
#undef select
#undef socket
#undef bind
#undef listen
#undef accept
#undef recv
#undef send
#undef write
#undef close
#undef shutdown
#undef fcntl
#undef ioctl
#undef setsockopt
#undef getsockopt
#undef getsockname
#undef getaddrinfo
#undef freeaddrinfo
#undef getnameinfo
#undef clock_gettime
#undef sigaction
#undef sigprocmask
#undef isatty
#undef open
#undef ttyname
#undef dup2
#undef exit
#undef main

/* ---- Time, chance and counters ---------------------------------------- */

#define US		INT64_C(1000)		/* all sim times are in ns */
#define MS		INT64_C(1000000)
#define SEC		INT64_C(1000000000)
#define TOLERANCE	(4 * MS)	/* rounding and time within a turn */

/* What has to happen at least once in many runs. */
#define COVERAGE(X) \
	X(n_twice, "start: an address listed twice") \
	X(n_skipped, "start: a family that the system lacks") \
	X(n_again, "start: the chosen port was in use, another one") \
	X(n_closed, "start: a standard descriptor was closed") \
	X(n_fails, "start: fails") \
	X(turns, "turns") \
	X(waits_forever, "turns that waited without a timeout") \
	X(f_eintr_pselect, "fault: pselect EINTR") \
	X(f_spurious, "fault: ready, then EAGAIN") \
	X(f_eintr_recv, "fault: recv EINTR") \
	X(f_eintr_send, "fault: send EINTR") \
	X(f_eagain_send, "fault: send EAGAIN though writable") \
	X(f_short_send, "fault: short send") \
	X(f_recv_error, "fault: recv fails with an odd errno") \
	X(f_send_error, "fault: send fails with an odd errno") \
	X(f_send_epipe, "fault: send EPIPE") \
	X(f_rst_data, "fault: reset, with data left to read") \
	X(f_rst_nodata, "fault: reset, data destroyed") \
	X(f_rst_full_close, "fault: reset by a client closed in full") \
	X(f_etimedout_idle, "fault: ETIMEDOUT from keepalive") \
	X(f_etimedout_data, "fault: ETIMEDOUT with data unacknowledged") \
	X(f_vanish, "fault: client vanishes") \
	X(f_accept_aborted, "fault: accept ECONNABORTED") \
	X(f_accept_again, "fault: accept EAGAIN or EINTR") \
	X(f_accept_full, "fault: accept EMFILE, ENFILE, ENOBUFS, ENOMEM") \
	X(f_accept_dead, "fault: accepted when already reset") \
	X(f_no_address, "fault: accepted without an address") \
	X(f_high_fd, "fault: descriptor past FD_SETSIZE") \
	X(f_fcntl, "fault: fcntl fails on a new connection") \
	X(f_no_outq, "fault: TIOCOUTQ unsupported") \
	X(f_close_eintr, "fault: close EINTR") \
	X(f_pause_wait, "fault: stopped while waiting") \
	X(f_late, "fault: a timeout wakes late") \
	X(f_pause_turn, "fault: stopped within a turn") \
	X(f_wall_jump, "fault: the wall clock jumps") \
	X(f_log_stall, "fault: log reader stalls") \
	X(f_log_error, "fault: log write fails") \
	X(f_log_cut, "fault: log line cut short") \
	X(f_backlog, "fault: backlog overflows") \
	X(f_oob, "fault: urgent byte") \
	X(f_zero_window, "fault: client stops reading") \
	X(p_connect, "peer: connects") \
	X(p_takeover, "peer: connects while connected") \
	X(p_write, "peer: writes") \
	X(p_bulk, "peer: writes in bulk") \
	X(p_halfclose, "peer: half-closes") \
	X(p_close, "peer: closes") \
	X(p_close_unread, "peer: closes with unread data") \
	X(p_reset, "peer: resets") \
	X(p_hasty, "peer: connects, sends, closes at once") \
	X(p_flood, "peer: sends faster than it is read") \
	X(r_eof, "reason: eof") \
	X(r_eof_linger, "reason: eof, after -e") \
	X(r_reset, "reason: reset") \
	X(r_idle, "reason: timeout idle") \
	X(r_write, "reason: timeout write") \
	X(r_keepalive, "reason: timeout keepalive") \
	X(r_unacked, "reason: timeout keepalive, nothing acknowledged") \
	X(r_replaced, "reason: replaced") \
	X(r_replaced_linger, "reason: replaced during -e") \
	X(r_shutdown, "reason: shutdown") \
	X(r_error, "reason: error") \
	X(r_denied, "refused: denied") \
	X(r_busy, "refused: busy") \
	X(r_limit, "refused: limit") \
	X(b_read_below, "policy: read below the high-water mark") \
	X(b_hold_high, "policy: held back at the high-water mark") \
	X(b_read_absent, "policy: read while the other side is absent") \
	X(b_read_stuck, "policy: read while the other side is stuck") \
	X(b_hold_lossless, "policy: held back by a full ring under -l") \
	X(b_drop_absent, "policy: dropped, absent and full") \
	X(b_drop_stuck, "policy: dropped, stuck and full") \
	X(b_drop_wedged, "policy: dropped under -l, for a newcomer") \
	X(b_expire, "policy: held data expired") \
	X(b_expire_new, "policy: new data expired at once") \
	X(b_replay, "policy: held data met a newcomer") \
	X(b_wrap, "ring: read across the end") \
	X(b_full, "ring: full to the last byte") \
	X(s_drained, "stop: all delivered") \
	X(s_timeup, "stop: time was up") \
	X(s_second, "stop: second signal") \
	X(s_usr1, "signal: totals asked for") \
	X(s_let_in, "signals: let in while something is always ready") \
	X(l_lost, "log: log_lost told") \
	X(l_stats, "log: totals by -t") \
	X(l_drop, "log: drop") \
	X(l_drop_later, "log: drop, told a second later") \
	X(l_drop_end, "log: drop_end") \
	X(l_refuse, "log: refuse") \
	X(l_refuse_later, "log: refuse, more than one") \
	X(m_request, "metrics: request served") \
	X(m_broken, "metrics: request broken off") \
	X(w_31, "clock crossed 2^31 ms") \
	X(w_32, "clock crossed 2^32 ms") \
	X(f_pselect, "fault: pselect fails, the program ends")

enum {
#define X(name, text) COV_##name,
	COVERAGE(X)
#undef X
	COV_COUNT
};

static const char *const cov_text[] = {
#define X(name, text) text,
	COVERAGE(X)
#undef X
};

static struct totals {			/* shared by all runs of a batch */
	uint64_t cov[COV_COUNT];
	uint64_t seeds;
	uint64_t bytes;			/* received by the program */
	uint64_t conns;			/* accepted by the program */
	double	 simulated;		/* virtual seconds */
} *totals;

#define COUNT(name)	(totals->cov[COV_##name]++)

struct chance {
	uint64_t x;			/* xorshift state, never 0 */
};

static struct chance world_dice;	/* faults, network */
static struct chance peer_dice[2];	/* the two clients */

static uint64_t
mix64(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static void
dice_seed(struct chance *d, uint64_t seed)
{
	d->x = mix64(seed + UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

static inline uint64_t
dice(struct chance *d)
{
	d->x ^= d->x << 13;
	d->x ^= d->x >> 7;
	d->x ^= d->x << 17;
	return d->x * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 to n - 1. */
static inline uint64_t
roll(struct chance *d, uint64_t n)
{
	return (dice(d) >> 32) * n >> 32;
}

/* True once in n times; never if n is 0. */
static inline bool
one_in(struct chance *d, uint64_t n)
{
	return n != 0 && roll(d, n) == 0;
}

/* lo to hi, small values as likely as large ones (by magnitude). */
static int64_t
roll_log(struct chance *d, int64_t lo, int64_t hi)
{
	double r = (double)(dice(d) >> 11) / 9007199254740992.0;
	int64_t v = (int64_t)(exp(log((double)lo) +
	    r * (log((double)hi + 1.0) - log((double)lo))));

	return v < lo ? lo : v > hi ? hi : v;
}

/* ---- The content of streams ------------------------------------------- */

static inline uint64_t
stream_word(uint64_t id, uint64_t index)
{
	uint64_t x = (index + id * UINT64_C(0x9e3779b97f4a7c15)) *
	    UINT64_C(0xff51afd7ed558ccd);

	x ^= x >> 32;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 29;
}

static inline unsigned char
stream_byte(uint64_t id, uint64_t off)
{
	uint64_t w = stream_word(id, off / 8);
	unsigned char b[8];

	memcpy(b, &w, 8);
	return b[off % 8];
}

static void
stream_fill(unsigned char *p, uint64_t id, uint64_t off, size_t n)
{
	uint64_t w;

	for (; n > 0 && off % 8 != 0; n--)
		*p++ = stream_byte(id, off++);
	for (; n >= 8; n -= 8, p += 8, off += 8) {
		w = stream_word(id, off / 8);
		memcpy(p, &w, 8);
	}
	for (; n > 0; n--)
		*p++ = stream_byte(id, off++);
}

/* How many bytes at p are those of the stream from off on. */
static size_t
stream_match(const unsigned char *p, uint64_t id, uint64_t off, size_t n)
{
	size_t done = 0;
	uint64_t w, v;

	while (done + 8 <= n && off % 8 == 0) {
		w = stream_word(id, off / 8);
		memcpy(&v, p + done, 8);
		if (v != w)
			break;
		done += 8;
		off += 8;
	}
	while (done < n && p[done] == stream_byte(id, off)) {
		done++;
		off++;
		if (off % 8 == 0 && done + 8 <= n)
			return done + stream_match(p + done, id, off,
			    n - done);
	}
	return done;
}

struct run {
	uint64_t id;			/* serial of the connection */
	uint64_t off;			/* position in its stream */
	uint64_t len;
};

struct runq {
	struct run *v;			/* a power of two of them */
	size_t	 size, head, count;
	uint64_t bytes;
};

static struct run *
runq_at(const struct runq *q, size_t i)
{
	return &q->v[(q->head + i) & (q->size - 1)];
}

static void
runq_push(struct runq *q, uint64_t id, uint64_t off, uint64_t len)
{
	struct run *r;
	size_t i, size;

	if (len == 0)
		return;
	q->bytes += len;
	if (q->count > 0) {
		r = runq_at(q, q->count - 1);
		if (r->id == id && r->off + r->len == off) {
			r->len += len;
			return;
		}
	}
	if (q->count == q->size) {
		size = q->size == 0 ? 16 : 2 * q->size;
		r = malloc(size * sizeof *r);
		if (r == NULL)
			abort();
		for (i = 0; i < q->count; i++)
			r[i] = *runq_at(q, i);
		free(q->v);
		q->v = r;
		q->size = size;
		q->head = 0;
	}
	r = runq_at(q, q->count++);
	r->id = id;
	r->off = off;
	r->len = len;
}

/* Take up to n bytes of one run off the front. */
static struct run
runq_take(struct runq *q, uint64_t n)
{
	struct run *r = runq_at(q, 0), got = *r;

	if (n < got.len)
		got.len = n;
	r->off += got.len;
	r->len -= got.len;
	q->bytes -= got.len;
	if (r->len == 0) {
		q->head = (q->head + 1) & (q->size - 1);
		q->count--;
	}
	return got;
}

static void
runq_clear(struct runq *q)
{
	q->head = q->count = 0;
	q->bytes = 0;
}

/* ---- The world -------------------------------------------------------- */

#define SIM_FDS		(FD_SETSIZE + 64)
#define BACKLOG_MAX	128
#define CONNS_MAX	192

/* Where a connection is in its life. */
enum {
	TC_FREE, TC_SYN, TC_QUEUED, TC_OPEN,
	TC_CLOSED		/* by the program; the kernel sends the rest */
};

/*
 * A moment, on two clocks that stand still while the program is stopped:
 * lo counts all time that it surely had, hi none that it may set aside.
 */
struct stamp {
	int64_t	 lo, hi;
};

/* A TCP connection: client program, both kernels and the way between. */
struct tconn {
	int	 state;
	int	 side;			/* SIDE_A, SIDE_B or METRICS */
	int	 fd;			/* of the program, -1: none */
	int	 family;
	uint64_t name;			/* unique, for the trace */
	uint64_t serial;		/* order of acceptance, 0: not yet */
	uint64_t session;		/* as the program numbers them, or 0 */
	uint32_t host;			/* last byte of the peer's address */
	uint16_t port;
	struct vlisten *door;

	/* Client to program. */
	uint64_t in_goal;		/* what the client means to write */
	uint64_t in_arr;		/* has reached our receive buffer */
	uint64_t in_read;		/* was read by the program */
	uint64_t in_taken;		/* of that before it was stopped */
	uint64_t in_flood;		/* what came while it was read out */
	uint64_t in_room;		/* our receive buffer */
	uint64_t in_csnd;		/* the client's send buffer */
	bool	 fin;			/* client is done writing */
	bool	 fin_arr;
	bool	 eof_told;		/* recv() returned 0 */

	/* Program to client. */
	uint64_t out_sent;		/* accepted by send() */
	uint64_t out_arr;		/* has arrived and is acknowledged */
	uint64_t out_read;		/* was read by the client program */
	uint64_t out_buf;		/* our send buffer */
	uint64_t out_room;		/* the client's receive buffer */
	struct runq out;		/* sent, not arrived */
	struct run last;		/* that arrived */
	bool	 shut;			/* the program half-closed */

	/* Fate. */
	int	 error;			/* pending socket error */
	int	 told;			/* fatal errno a call returned */
	bool	 dead;			/* reset or timed out */
	bool	 vanished;
	bool	 client_closed;		/* client program closed in full */
	bool	 floods;		/* what it sends has no end */
	bool	 client_gone;		/* nobody on the other end any more */
	int	 ctl;			/* what happens at t_ctl */
	int	 ctl_errno;
	bool	 ctl_data;		/* a reset leaves data readable */

	/* Times. */
	int64_t	 t_in, t_out, t_cread, t_ctl;
	int64_t	 t_accept;
	int64_t	 t_fin_acked;		/* of the program's half-close */
	int64_t	 latency;
	int64_t	 ns_per_kb;		/* 0: no limit */
	uint64_t quantum;		/* bytes that move at once */
	int64_t	 cread_every;		/* 0: reads at once, NEVER: not */
	uint64_t cread_size;

	/* Socket options, as set by the program. */
	bool	 nonblock, cloexec, nodelay, oobinline;
	bool	 keepalive;
	int	 keepidle, keepintvl, keepcnt, user_timeout, lowat;
	bool	 faulty;		/* fcntl failed on it */

	/* What the oracle needs to know. */
	struct stamp heard;		/* sent last, or was not read */
	struct stamp eof;
	struct stamp took;		/* took a byte last, or none waited */
	struct stamp acked;		/* its TCP acknowledged one last */
	struct stamp seen;		/* program knew of either, or asked */
	uint64_t known_acked;		/* as the program could see */
	struct stamp owed;		/* when that grew, or it sent */
	struct stamp owes;		/* the same, whatever the program knows */
	int64_t	 asked;			/* last answer to TIOCOUTQ */
	int64_t	 t_asked;
	int	 asked_often;		/* times in a row, too soon */
	uint64_t turn_told;		/* the turn after an error was told */
	uint64_t turn_again;		/* a read was told to try again */
	uint64_t turn_of_read;		/* the last turn it was read in ... */
	uint64_t turn_read;		/* ... and how many bytes then */
	bool	 kept;			/* took the slot */
	bool	 leaving;		/* timed out, but not yet read out */
	bool	 unheard;		/* ... for want of acknowledgements */
	bool	 unsure;		/* ... or perhaps not: it is too near */
	bool	 idled;			/* -i was over when it was read out */
	bool	 presumed;		/* treated like that within a turn */
	const char *request;		/* of a metrics client */
};

/* What can happen at t_ctl. */
enum { CTL_NONE, CTL_SYN, CTL_ERROR, CTL_CLIENT_EOF, CTL_CLIENT_RST };

struct vlisten {
	int	 fd;
	int	 side, family;
	uint32_t host;			/* last byte of the address */
	uint16_t port;
	int	 backlog, queued;
	struct tconn *queue[BACKLOG_MAX];
	int64_t	 t_rest;		/* accept failed for want of room */
};

enum { VF_NONE, VF_STD, VF_SOCKET, VF_LISTEN, VF_CONN };

struct vfile {
	int	 kind;
	struct tconn *conn;
	struct vlisten *door;
	int	 family;		/* as bound */
	uint32_t host;
	uint16_t port;
};

/* What makes the program fail when it starts, or ends it later. */
enum { GOES_ON, NO_NAME, TOO_MANY, NO_SOCKET, NO_BIND, NO_LISTEN, NO_PORT,
	NO_FAMILY, NO_NULL, NO_WAIT };

/* A client: the program that one side's connections come from. */
struct actor {
	int	 side;
	int64_t	 t_act;
	int64_t	 period;		/* mean time between acts */
	int64_t	 size_max;		/* of a message */
	int64_t	 bulk_max;
	struct tconn *conn;		/* the latest, NULL: none */
	unsigned w_connect, w_write, w_bulk, w_mode, w_half, w_close, w_reset,
	    w_vanish, w_oob, w_takeover, w_hasty, w_rest;
};

static struct config {
	char	 text[48][48];
	char	*argv[49];
	int	 argc;
	size_t	 capacity;
	int64_t	 eof_keep, grace, expire, idle, keepalive, silent, stats,
	    write;			/* expire: NEVER for no limit */
	bool	 lossless, v4, v6, metrics, fds_lowest, tty, quiet;
	int	 bits[2];		/* of host that -A, -B demand to be 0 */
	int	 failure;		/* NO_... */
	uint32_t hosts;			/* addresses of a name, each family */
	bool	 twice;			/* ... and each in the list again */
	bool	 any_port;		/* operands and -m are 0 */
	bool	 closed;		/* standard input is, at start */
	bool	 no_outq, gives_up_early, slow_calls, floods;
	uint64_t fault;			/* one in so many calls; 0: none */
	uint64_t pause;
	uint64_t turns;			/* then SIGTERM */
	int64_t	 clock, wall;		/* at start, ns */
	int64_t	 net_latency, net_rate;
	uint64_t buffers;
	bool	 field;			/* the scenario of -y */
} C;

static struct world {
	int64_t	 now;			/* ns since the start of the run */
	struct stamp away;		/* what of it the program missed */
	int64_t	 frozen;		/* the program is stopped since */
	int64_t	 turn_began;		/* when pselect() returned last */
	int64_t	 began_lo;		/* the same, as stamp.lo */
	int64_t	 wall_jump;
	int64_t	 wall_read;		/* last time of day that was told */
	uint64_t turn, steps, names, serials;
	int	 floods;		/* clients that flood, so far */
	bool	 in_start;		/* before the first pselect() */
	int	 fd_next;
	struct vfile files[SIM_FDS];
	struct vlisten doors[LISTENERS];
	int	 ndoors;
	int	 named;			/* services whose name was asked for */
	int	 in_use;		/* times that a port was */
	bool	 failed;		/* the program is to end */
	struct tconn conns[CONNS_MAX];
	struct tconn *live[CONNS_MAX];
	int	 nlive;
	struct actor actors[2];
	struct actor prober;		/* of the metrics port */
	struct sigaction handlers[NSIG];
	int64_t	 t_signal[2];		/* SIGUSR1; SIGTERM */
	int64_t	 t_let_in;		/* when these were last let in */
	int	 stops;			/* SIGTERMs delivered */
	int64_t	 t_stop, away_at_stop;
	int64_t	 log_stalled;		/* until then */
	int64_t	 t_log_stall;
	bool	 asked_log, asked_out;	/* select() said yes just now */
	int	 lack;			/* how accept() failed last */
	bool	 log_cut;		/* the last line lacks its end */
	uint64_t log_skipped;		/* lines, since the last log_lost */
	uint64_t log_faults;		/* lines, since the start */
	bool	 cont_pending;		/* SIGCONT came outside pselect() */
	bool	 progress;		/* since pselect() returned */
	bool	 progressed;		/* in the turn before that */
	int	 idle_turns, empty_wakes;
	bool	 timed_out;		/* pselect() returned for its timeout */
	uint64_t turn_calls;
	bool	 turn_paused;
	bool	 at_once;		/* pselect() is called not to wait */
	bool	 may_wait;		/* something may be due very soon */
	fd_set	 last_r, last_w;
	fd_set	 ready_r;		/* as pselect() returned it */
} W;

static struct side_model {
	struct tconn *cur;		/* has the slot */
	struct tconn *newcomer;		/* accepted, not yet known what for */
	struct tconn *next;		/* let in, and waits for the slot */
	uint64_t connects;		/* how many have taken it */
	uint64_t session;		/* of the last who did */
	uint64_t drop_session;		/* of the last whose bytes were dropped */
	int64_t	 t_left;		/* when the slot became free */
	bool	 watched;		/* was in the last read set */
	bool	 write_watched;		/* ... and in the last write set */
	bool	 send_due;		/* came for it, to be sent at once */
	/* The direction that comes from this side. */
	struct runq ring;
	uint64_t received, sent, dropped, unacked, arrived, lost;
	/* What the log has to tell of it. */
	uint64_t dropped_told;		/* bytes */
	int64_t	 t_drop, t_drop_told;	/* the last; NEVER: no run of drops */
	bool	 overflow, expired;	/* what the last one may be called */
	bool	 end_due;		/* something was stored, a second later */
	/* And of those who came to this side. */
	uint64_t refused, refused_told;
	int64_t	 t_refuse_told;
	const char *refusal;		/* the reason of the last one */
	char	 refused_peer[80];
} M[2];

static struct pending {			/* a recv() not yet accounted for */
	struct tconn *conn;
	size_t	 len;
} P;

static int	 verbose;
static uint64_t	 run_seed;
static uint64_t	 kept_count;

/* Facts about a closed connection, for the log line that may follow. */
static struct gone {
	uint64_t session;
	int	 side, told;
	bool	 eof, lingered, idle, write, keepalive, unheard, replaced,
	    shutdown;
	uint64_t received, sent, unacked;
} graves[64];

/* ---- Telling ---------------------------------------------------------- */

#define EVENTS_KEPT	48

static char events[EVENTS_KEPT][160];
static unsigned nevents;

static void violate(const char *, ...) __attribute__((noreturn,
    format(printf, 1, 2)));

/* A line of the trace; formatted only when someone will read it. */
#define NOTE(...) do {							\
	if (verbose)							\
		note(__VA_ARGS__);					\
} while (0)

static void note(const char *, ...) __attribute__((format(printf, 1, 2)));

static void
note(const char *fmt, ...)
{
	char *line = events[nevents++ % EVENTS_KEPT];
	va_list ap;
	int n;

	n = snprintf(line, sizeof events[0], "%8" PRIu64 " %14.6f  ", W.turn,
	    (double)W.now / 1e9);
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof events[0] - (size_t)n, fmt, ap);
	va_end(ap);
	if (verbose > 1)
		fprintf(stdout, "%s\n", line);
}

static void
violate(const char *fmt, ...)
{
	va_list ap;
	unsigned i;
	int k;

	if (verbose > 1)
		fflush(stdout);
	fprintf(stderr, "FAIL seed %" PRIu64 " turn %" PRIu64 " time %.6f: ",
	    run_seed, W.turn, (double)W.now / 1e9);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n\toptions:");
	for (k = 1; k < C.argc; k++)
		fprintf(stderr, " %s", C.argv[k]);
	fprintf(stderr, "\n");
	for (i = nevents > EVENTS_KEPT ? nevents - EVENTS_KEPT : 0;
	    i < nevents && verbose == 1; i++)
		fprintf(stderr, "\t%s\n", events[i % EVENTS_KEPT]);
	fflush(stderr);
	_exit(1);
}

static const char *
side_text(int side)
{
	return side == SIDE_A ? "A" : side == SIDE_B ? "B" : "M";
}

static struct stamp
stamp_now(void)
{
	int64_t at = W.frozen != 0 ? W.frozen : W.now;
	struct stamp t = { at - W.away.lo, at - W.away.hi };

	/* In a long turn the program takes it to be earlier. */
	if (W.turn_paused && W.began_lo < t.lo)
		t.lo = W.began_lo;
	return t;
}

/* ---- Connections and the network -------------------------------------- */

static uint64_t
least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t
conn_unread(const struct tconn *c)
{
	return c->in_arr - c->in_read;
}

static uint64_t
conn_unacked(const struct tconn *c)
{
	return c->out_sent - c->out_arr;
}

/* Whether so much came while it was read out that this may end. */
static bool
endless(const struct tconn *c)
{
	return c->in_flood >= DRAIN_MAX / READ_LEAST;
}

/* What the client's program handed to its kernel so far. */
static uint64_t
conn_written(const struct tconn *c)
{
	return least(c->in_goal, c->in_arr + c->in_csnd);
}

static struct tconn *
conn_new(int side, struct chance *d)
{
	struct tconn *c;
	struct runq keep;
	int i;

	for (i = 0; i < CONNS_MAX && W.conns[i].state != TC_FREE; i++)
		continue;
	if (i == CONNS_MAX)
		return NULL;
	c = &W.conns[i];
	keep = c->out;
	memset(c, 0, sizeof *c);
	c->out = keep;
	runq_clear(&c->out);
	c->side = side;
	c->fd = -1;
	c->name = ++W.names;
	c->port = (uint16_t)(1024 + roll(d, 64000));
	c->t_in = c->t_out = c->t_cread = c->t_ctl = NEVER;
	c->in_room = (uint64_t)roll_log(d, 1 + (int64_t)C.buffers / 16,
	    (int64_t)C.buffers);
	c->in_csnd = (uint64_t)roll_log(d, 1 + (int64_t)C.buffers / 16,
	    (int64_t)C.buffers);
	c->out_buf = (uint64_t)roll_log(d, 1 + (int64_t)C.buffers / 16,
	    (int64_t)C.buffers);
	c->out_room = (uint64_t)roll_log(d, 1 + (int64_t)C.buffers / 16,
	    (int64_t)C.buffers);
	c->latency = C.net_latency / 2 +
	    (int64_t)roll(d, (uint64_t)C.net_latency + 1);
	c->ns_per_kb = one_in(d, 3) ? roll_log(d, 1, C.net_rate) : 0;
	c->quantum = (uint64_t)roll_log(d, 1 + (int64_t)C.buffers / 64,
	    (int64_t)C.buffers);
	c->state = TC_SYN;
	W.live[W.nlive++] = c;
	return c;
}

static void
conn_free(struct tconn *c)
{
	int i;

	if (c->side != METRICS)
		M[!c->side].lost += c->out.bytes;
	runq_clear(&c->out);
	c->state = TC_FREE;
	for (i = 0; W.live[i] != c; i++)
		continue;
	W.live[i] = W.live[--W.nlive];
	for (i = 0; i < 2; i++)
		if (W.actors[i].conn == c)
			W.actors[i].conn = NULL;
	if (W.prober.conn == c)
		W.prober.conn = NULL;
}

static bool
conn_wakes(const struct tconn *c)
{
	return c->in_arr > c->in_read || c->fin_arr || c->error != 0 ||
	    c->dead;
}

/* Linux: a third of the buffer free, and not too much of it unsent. */
static bool
conn_takes(const struct tconn *c)
{
	uint64_t used = conn_unacked(c);

	if (c->dead || c->error != 0)
		return true;
	if (used * 3 > c->out_buf * 2)
		return false;
	if (c->lowat > 0 && used > c->out_room &&
	    used - c->out_room >= (uint64_t)c->lowat)
		return false;
	return true;
}

/* When data is on its way in, and can go on, see to it that it does. */
static void
arm_in(struct tconn *c, int64_t delay)
{
	uint64_t ready;

	if (c->t_in != NEVER || c->vanished || c->dead || c->state == TC_SYN)
		return;
	ready = conn_written(c) - c->in_arr;
	if ((ready > 0 && conn_unread(c) < c->in_room) || (c->fin &&
	    !c->fin_arr && c->in_arr == c->in_goal))
		c->t_in = W.now + delay;
}

static void
arm_out(struct tconn *c, int64_t delay)
{
	if (c->t_out != NEVER || c->vanished || c->dead)
		return;
	if (conn_unacked(c) > 0 && (c->client_closed ||
	    c->out_arr - c->out_read < c->out_room))
		c->t_out = W.now + delay;
}

static void
control(struct tconn *c, int what, int err, int64_t when)
{
	if (c->t_ctl <= when)
		return;
	c->ctl = what;
	c->ctl_errno = err;
	c->ctl_data = true;
	c->t_ctl = when;
}

/* The connection is no more; the program learns of it by err. */
static void
conn_kill(struct tconn *c, int err, bool data_left)
{
	if (c->dead)
		return;
	NOTE("net: %s#%" PRIu64 " dies of %s", side_text(c->side), c->name,
	    strerror(err));
	c->dead = true;
	c->error = err;
	c->t_in = c->t_out = NEVER;
	if (!data_left) {
		c->in_arr = c->in_read;
		c->fin_arr = false;
	}
	c->client_gone = true;
	if (c->state == TC_CLOSED || c->state == TC_SYN)
		conn_free(c);
}

/* How long until our kernel gives a silent peer up, from now on. */
static int64_t
patience(const struct tconn *c)
{
	if (conn_unacked(c) > 0)
		return C.gives_up_early ? 8 * SEC : 924 * SEC;
	if (!c->keepalive || c->state == TC_CLOSED)
		return NEVER;
	return (int64_t)(c->keepidle + c->keepintvl * c->keepcnt) * SEC;
}

static void
vanish(struct tconn *c)
{
	int64_t p;

	c->vanished = true;
	c->t_in = c->t_out = c->t_cread = NEVER;
	if (c->ctl != CTL_SYN) {
		c->ctl = CTL_NONE;
		c->t_ctl = NEVER;
	}
	p = patience(c);
	if (p != NEVER)
		control(c, CTL_ERROR, ETIMEDOUT, W.now + p);
}

/* The next piece of what the client wrote reaches us. */
static void
event_in(struct tconn *c)
{
	uint64_t n = conn_written(c) - c->in_arr;

	c->t_in = NEVER;
	n = least(n, c->in_room - least(c->in_room, conn_unread(c)));
	n = least(n, c->quantum);
	if (n > 0 && c->state == TC_CLOSED) {
		/* Nobody reads this any more. */
		control(c, CTL_CLIENT_RST, 0, W.now + c->latency);
		return;
	}
	c->in_arr += n;
	if (n > 0)
		NOTE("net: %s#%" PRIu64 " in +%" PRIu64, side_text(c->side),
		    c->name, n);
	if (c->fin && c->in_arr == c->in_goal && !c->fin_arr) {
		c->fin_arr = true;
		NOTE("net: %s#%" PRIu64 " FIN", side_text(c->side), c->name);
	}
	arm_in(c, 1 + (int64_t)n * c->ns_per_kb / 1024);
}

/* Bytes arrived at the client: in order, whole, none twice. */
static void
arrive(struct tconn *c, uint64_t n)
{
	struct side_model *m;
	struct run r;

	c->out_arr += n;
	c->acked = c->owes = stamp_now();
	if (c->side == METRICS)
		return;
	m = &M[!c->side];
	while (n > 0) {
		r = runq_take(&c->out, n);
		n -= r.len;
		m->arrived += r.len;
		if (r.id < c->last.id || (r.id == c->last.id &&
		    r.off < c->last.off + c->last.len))
			violate("client %s got byte %" PRIu64 " of connection "
			    "%" PRIu64 " after byte %" PRIu64 " of %" PRIu64,
			    side_text(c->side), r.off, r.id,
			    c->last.off + c->last.len, c->last.id);
		c->last = r;
	}
}

static void
event_out(struct tconn *c)
{
	uint64_t n = conn_unacked(c);

	c->t_out = NEVER;
	if (c->client_closed) {
		COUNT(f_rst_full_close);
		control(c, CTL_ERROR, ECONNRESET, W.now + c->latency);
		return;
	}
	n = least(n, c->out_room - least(c->out_room,
	    c->out_arr - c->out_read));
	n = least(n, c->quantum);
	if (n > 0) {
		NOTE("net: %s#%" PRIu64 " acks %" PRIu64, side_text(c->side),
		    c->name, n);
		arrive(c, n);
		if (c->cread_every == 0)
			c->out_read = c->out_arr;
		else if (c->t_cread == NEVER && c->cread_every != NEVER)
			c->t_cread = W.now + c->cread_every;
		if (c->ctl == CTL_ERROR && c->ctl_errno == ETIMEDOUT) {
			c->ctl = CTL_NONE;
			c->t_ctl = NEVER;
		}
	}
	arm_out(c, 1 + (int64_t)n * c->ns_per_kb / 1024);
	if (conn_unacked(c) == 0 && (c->state == TC_CLOSED || c->shut))
		control(c, CTL_CLIENT_EOF, 0, W.now + c->latency);
}

static void
event_cread(struct tconn *c)
{
	c->t_cread = NEVER;
	if (c->cread_every == NEVER || c->client_closed)
		return;
	c->out_read += least(c->out_arr - c->out_read, c->cread_size);
	if (c->cread_every == 0)
		c->out_read = c->out_arr;
	else if (c->out_read < c->out_arr)
		c->t_cread = W.now + c->cread_every;
	arm_out(c, c->latency);
}

/* The client program closes: a reset if it leaves something unread. */
static void
client_close(struct tconn *c)
{
	c->client_closed = true;
	c->fin = true;
	c->in_goal = conn_written(c);
	COUNT(p_close);
	if (c->out_read < c->out_arr) {
		COUNT(p_close_unread);
		if (c->state != TC_CLOSED)
			control(c, CTL_ERROR, ECONNRESET, W.now + c->latency);
		else
			conn_free(c);
		return;
	}
	if (c->state == TC_CLOSED && conn_unacked(c) == 0) {
		conn_free(c);
		return;
	}
	arm_in(c, c->latency);
	arm_out(c, c->latency);
}

static void
client_reset(struct tconn *c, bool data_left)
{
	int64_t when = W.now + c->latency;

	COUNT(p_reset);
	if (c->state == TC_SYN) {
		conn_free(c);
		return;
	}
	c->client_closed = true;
	c->fin = false;
	c->in_goal = conn_written(c);
	if (data_left)
		c->t_in = NEVER;	/* what is on its way is lost */
	control(c, CTL_ERROR, ECONNRESET, when);
	c->ctl_data = data_left;
}

static void
syn_arrives(struct tconn *c)
{
	struct vlisten *l = c->door;

	if (l->queued >= l->backlog) {
		COUNT(f_backlog);
		control(c, CTL_SYN, 0, W.now + SEC);
		return;
	}
	NOTE("net: %s#%" PRIu64 " in the backlog", side_text(c->side),
	    c->name);
	l->queue[l->queued++] = c;
	c->state = TC_QUEUED;
	arm_in(c, c->latency);
}

static void
event_ctl(struct tconn *c)
{
	int what = c->ctl;

	c->t_ctl = NEVER;
	c->ctl = CTL_NONE;
	switch (what) {
	case CTL_SYN:
		syn_arrives(c);
		break;
	case CTL_ERROR:
		if (c->ctl_errno == ETIMEDOUT && conn_unacked(c) == 0)
			COUNT(f_etimedout_idle);
		else if (c->ctl_errno == ETIMEDOUT)
			COUNT(f_etimedout_data);
		else if (c->ctl_data)
			COUNT(f_rst_data);
		else
			COUNT(f_rst_nodata);
		conn_kill(c, c->ctl_errno, c->ctl_data);
		break;
	case CTL_CLIENT_EOF:
		if (c->state == TC_CLOSED)
			conn_free(c);
		else if (!c->client_closed)
			client_close(c);
		break;
	case CTL_CLIENT_RST:
		conn_free(c);
		break;
	}
}

/* ---- The clients ------------------------------------------------------ */

static struct tconn *
client_connect(struct actor *a, struct chance *d)
{
	struct vlisten *l;
	struct tconn *c;
	int i, tries = 0;

	for (i = 0; W.nlive > 24 && i < W.nlive; i++)
		if (W.live[i]->state == TC_CLOSED)
			conn_free(W.live[i]);
	if (W.nlive > 40)
		return NULL;
	do {
		l = &W.doors[roll(d, (uint64_t)W.ndoors)];
	} while (l->side != a->side && tries++ < 50);
	if (l->side != a->side)
		return NULL;
	c = conn_new(a->side, d);
	if (c == NULL)
		return NULL;
	c->door = l;
	c->family = l->family;
	c->host = (uint32_t)roll(d, 256);
	control(c, CTL_SYN, 0, W.now + c->latency);
	if (C.floods && W.floods < 50) {
		W.floods++;
		c->floods = true;
	}
	if (one_in(d, 6)) {
		c->cread_every = roll_log(d, a->period / 10 + 1,
		    a->period * 10);
		c->cread_size = (uint64_t)roll_log(d, 1, a->size_max * 4);
	}
	COUNT(p_connect);
	NOTE("%s#%" PRIu64 " connects", side_text(a->side), c->name);
	return c;
}

static void
client_write(struct tconn *c, uint64_t n)
{
	if (c->fin || c->client_closed || c->in_goal - c->in_arr > 1 << 22)
		return;
	NOTE("%s#%" PRIu64 " writes %" PRIu64, side_text(c->side), c->name,
	    n);
	c->in_goal += n;
	arm_in(c, c->latency);
}

static void
client_mode(struct actor *a, struct tconn *c, struct chance *d)
{
	switch (roll(d, 4)) {
	case 0:
	case 1:
		c->cread_every = 0;
		break;
	case 2:
		c->cread_every = roll_log(d, a->period / 10 + 1,
		    a->period * 10);
		c->cread_size = (uint64_t)roll_log(d, 1, a->size_max * 4);
		break;
	default:
		COUNT(f_zero_window);
		c->cread_every = NEVER;
		break;
	}
	NOTE("%s#%" PRIu64 " %s", side_text(c->side), c->name,
	    c->cread_every == 0 ? "reads" : c->cread_every == NEVER ?
	    "stops reading" : "reads slowly");
	c->t_cread = W.now;
	event_cread(c);
}

static void
client_oob(struct tconn *c)
{
	if (c->fin || c->client_closed || c->state != TC_OPEN)
		return;
	COUNT(f_oob);
	if (!c->oobinline)
		violate("urgent byte to a socket without SO_OOBINLINE");
	client_write(c, 1);
}

/* Connect, send, close, all at once; perhaps again. */
static void
client_hasty(struct actor *a, struct chance *d)
{
	struct tconn *c;
	uint64_t n = 1 + roll(d, 4);

	COUNT(p_hasty);
	if (a->conn != NULL && !a->conn->client_closed && one_in(d, 2))
		client_close(a->conn);
	while (n-- > 0 && (c = client_connect(a, d)) != NULL) {
		a->conn = c;
		client_write(c, (uint64_t)roll_log(d, 1, a->size_max));
		if (n == 0)
			break;
		client_close(c);
	}
}

static void
act_on(struct actor *a, struct tconn *c, struct chance *d)
{
	unsigned sum = a->w_write + a->w_bulk + a->w_mode + a->w_half +
	    a->w_close + a->w_reset + a->w_vanish + a->w_oob + a->w_takeover +
	    a->w_hasty;
	unsigned r = (unsigned)roll(d, sum);

#define PICK(w)	(r < a->w ? true : (r -= a->w, false))
	if (PICK(w_write)) {
		COUNT(p_write);
		client_write(c, (uint64_t)roll_log(d, 1, a->size_max));
	} else if (PICK(w_bulk)) {
		COUNT(p_bulk);
		client_write(c, (uint64_t)roll_log(d, 1, a->bulk_max));
	} else if (PICK(w_mode)) {
		client_mode(a, c, d);
	} else if (PICK(w_half)) {
		if (!c->fin)
			COUNT(p_halfclose);
		NOTE("%s#%" PRIu64 " half-closes", side_text(c->side),
		    c->name);
		c->fin = true;
		arm_in(c, c->latency);
	} else if (PICK(w_close)) {
		NOTE("%s#%" PRIu64 " closes", side_text(c->side), c->name);
		a->conn = NULL;
		client_close(c);
	} else if (PICK(w_reset)) {
		NOTE("%s#%" PRIu64 " resets", side_text(c->side), c->name);
		a->conn = NULL;
		client_reset(c, !one_in(d, 3));
	} else if (PICK(w_vanish)) {
		COUNT(f_vanish);
		NOTE("%s#%" PRIu64 " vanishes", side_text(c->side), c->name);
		a->conn = NULL;
		vanish(c);
	} else if (PICK(w_oob)) {
		client_oob(c);
	} else if (PICK(w_takeover)) {
		c = client_connect(a, d);
		if (c != NULL) {
			COUNT(p_takeover);
			a->conn = c;
		}
	} else {
		client_hasty(a, d);
	}
#undef PICK
}

static const char *const requests[] = {
	"GET /metrics HTTP/1.0\r\n\r\n",
	"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"HEAD /metrics HTTP/1.0\r\n\r\n",
	"GET / HTTP/1.0\r\n\r\n",
	"POST /metrics HTTP/1.0\r\n\r\n",
	"nonsense\r\n\r\n",
	"GET /metr"
};

static void
probe(struct actor *a, struct chance *d)
{
	struct tconn *c = client_connect(a, d);

	if (c == NULL)
		return;
	c->request = requests[roll(d, sizeof requests / sizeof requests[0])];
	c->in_goal = strlen(c->request);
	if (one_in(d, 4))
		c->in_goal = roll(d, c->in_goal);
	if (one_in(d, 8))
		c->fin = true;
}

static void
event_act(struct actor *a, struct chance *d)
{
	a->t_act = W.now + roll_log(d, a->period / 16 + 1, a->period * 4);
	if (one_in(d, a->w_rest))
		a->t_act += roll_log(d, a->period, a->period * 400);
	if (a->side == METRICS) {
		probe(a, d);
	} else if (a->conn == NULL || a->conn->client_closed ||
	    a->conn->client_gone) {
		a->conn = NULL;
		if (roll(d, 100) < a->w_connect)
			a->conn = client_connect(a, d);
	} else {
		act_on(a, a->conn, d);
	}
}

/* ---- Events ----------------------------------------------------------- */

/* The field: A asks every second, B answers; now and then one is cut off. */
static void	 field_act(struct actor *, struct chance *);

static int64_t
next_event(void)
{
	int64_t t = NEVER;
	const struct tconn *c;
	int i;

	for (i = 0; i < W.nlive; i++) {
		c = W.live[i];
		t = c->t_in < t ? c->t_in : t;
		t = c->t_out < t ? c->t_out : t;
		t = c->t_cread < t ? c->t_cread : t;
		t = c->t_ctl < t ? c->t_ctl : t;
	}
	for (i = 0; i < 2; i++)
		t = W.actors[i].t_act < t ? W.actors[i].t_act : t;
	t = W.prober.t_act < t ? W.prober.t_act : t;
	return W.t_log_stall < t ? W.t_log_stall : t;
}

static void
log_stalls(void)
{
	COUNT(f_log_stall);
	W.log_stalled = W.now + roll_log(&world_dice, MS, 1000 *
	    W.actors[0].period);
	W.t_log_stall = W.log_stalled + roll_log(&world_dice, 1,
	    3000 * W.actors[0].period);
	NOTE("log stalls until %.6f", (double)W.log_stalled / 1e9);
}

/* Let happen what is due by now. */
static void
run_events(void)
{
	struct tconn *c;
	int i;

	for (i = 0; i < W.nlive; i++) {
		c = W.live[i];
		if (c->t_in <= W.now)
			event_in(c);
		if (c->t_out <= W.now)
			event_out(c);
		if (c->t_cread <= W.now)
			event_cread(c);
		if (c->t_ctl <= W.now)
			event_ctl(c);
	}
	for (i = 0; i < 2; i++)
		if (W.actors[i].t_act <= W.now) {
			if (C.field)
				field_act(&W.actors[i], &peer_dice[i]);
			else
				event_act(&W.actors[i], &peer_dice[i]);
		}
	if (W.prober.t_act <= W.now)
		event_act(&W.prober, &world_dice);
	if (W.t_log_stall <= W.now)
		log_stalls();
}

/* ---- The oracle ------------------------------------------------------- */

#define UNCLEAR	(-1)		/* too near to the moment to say */

/* The marks of a listener that failed, and how a metrics client is bound. */
#define REST		SEC
#define SCRAPE_SPAN	(2 * SEC)
#define STOP_SPAN	(2 * SEC)
#define SCRAPES_MAX	4

static uint64_t
high_water(void)
{
	return least(HIGH_WATER, C.capacity);
}

/* Whether at least span has passed since t, for the program surely. */
static int
passed(struct stamp t, int64_t span)
{
	int64_t lo = W.now - W.away.lo - t.lo - span;
	int64_t hi = W.now - W.away.hi - t.hi - span;

	if (lo < -TOLERANCE)
		return 0;
	return hi > TOLERANCE && !W.turn_paused ? 1 : UNCLEAR;
}

static struct stamp
later(struct stamp a, struct stamp b)
{
	struct stamp t = { a.lo > b.lo ? a.lo : b.lo,
	    a.hi > b.hi ? a.hi : b.hi };

	return t;
}

static uint64_t
space(int s)
{
	return C.capacity - M[s].ring.bytes;
}

/* It sent EOF, and -e keeps it. */
static bool
half_closed(const struct tconn *c)
{
	return c->eof_told && c->told == 0 && C.eof_keep > 0;
}

/* It is only there until it is read out. */
static bool
going(const struct tconn *c)
{
	return c->told != 0 || c->leaving || (c->eof_told && C.eof_keep == 0);
}

/* It can't be read out, for want of room. */
static bool
wedged(int s)
{
	return M[s].cur != NULL && going(M[s].cur) && !M[s].cur->eof_told &&
	    C.capacity == M[s].ring.bytes;
}

static bool
connected(int s)
{
	return M[s].cur != NULL && !going(M[s].cur);
}

/* Whether that is not certain, for its time is up about now. */
static bool
unsure(int s)
{
	return connected(s) && M[s].cur->unsure;
}

/*
 * Has the client of side s taken nothing of what waits for it for -g?
 * Until it certainly has not, an acknowledgement may have excused it.
 */
static int
is_stuck(int s)
{
	const struct tconn *c = M[s].cur;

	if (C.lossless || M[!s].ring.bytes == 0)
		return 0;
	if (passed(c->took, C.grace) == 0)
		return 0;
	return passed(c->seen, C.grace) == 1 ? 1 : UNCLEAR;
}

/* May what side s sends be thrown away for want of room? */
static int
may_drop(int s)
{
	int stuck;

	if (C.lossless)
		return M[s].next != NULL && wedged(s) && wedged(!s);
	stuck = connected(!s) ? is_stuck(!s) : 1;
	return stuck != 1 && unsure(!s) ? UNCLEAR : stuck;
}

/* Is -H over for what waits for the client of side s? */
static int
is_expired(int s)
{
	int64_t over;

	if (C.expire == NEVER || (connected(s) && !unsure(s)))
		return 0;
	if (M[s].cur != NULL)		/* is leaving now */
		return C.expire == 0 ? UNCLEAR : 0;
	over = W.now - M[s].t_left - C.expire;
	return over < -TOLERANCE ? 0 : over > TOLERANCE && !W.turn_paused ?
	    1 : UNCLEAR;
}

/* The policy for reading side s. */
static int
should_read(int s)
{
	const struct tconn *c = M[s].cur;
	int stuck;

	if (c == NULL)
		return 0;
	if (W.stops > 0)
		return c->shut;
	if (half_closed(c))
		return 0;
	if (M[s].next != NULL)	/* with -l it may go on next turn */
		return C.lossless && space(s) > 0 ? UNCLEAR : 0;
	if (connected(!s) && (stuck = is_stuck(!s)) != 1) {
		if (M[s].ring.bytes < high_water()) {
			COUNT(b_read_below);
			return 1;
		}
		if (stuck == UNCLEAR || unsure(!s))
			return UNCLEAR;
		COUNT(b_hold_high);
		return 0;
	}
	if (C.lossless && space(s) == 0) {
		COUNT(b_hold_lossless);
		return 0;
	}
	if (connected(!s))
		COUNT(b_read_stuck);
	else
		COUNT(b_read_absent);
	return 1;
}

/* The policy for asking a listener. */
static int
should_accept(const struct vlisten *l)
{
	if (W.stops > 0)
		return 0;
	if (l->t_rest != NEVER) {
		if (W.now < l->t_rest + REST - TOLERANCE)
			return 0;
		if (W.now <= l->t_rest + REST + TOLERANCE)
			return UNCLEAR;
	}
	if (l->side == METRICS)
		return 1;
	return M[l->side].next == NULL && M[l->side].newcomer == NULL;
}

static bool
net_allows(const struct tconn *c)
{
	return c->family == AF_UNSPEC ? C.bits[c->side] == 0 :
	    c->host < 256U >> C.bits[c->side];
}

static void
check_options(const struct tconn *c)
{
	if (!c->nonblock || !c->cloexec)
		violate("a socket without O_NONBLOCK or FD_CLOEXEC is kept");
	if (c->side == METRICS)
		return;
	if (!c->nodelay || !c->oobinline)
		violate("socket options not set: nodelay %d oobinline %d",
		    c->nodelay, c->oobinline);
	if (c->keepalive != (C.keepalive > 0))
		violate("keepalive is %d", c->keepalive);
	if (C.keepalive > 0 && (c->keepidle != (C.keepalive + SEC - 1) / SEC ||
	    c->keepintvl != (C.keepalive / 3 + SEC - 1) / SEC ||
	    c->keepcnt != 3))
		violate("keepalive after %d s, %d times, every %d s",
		    c->keepidle, c->keepcnt, c->keepintvl);
	/* Linux would end peers that read slowly (measured). */
	if (c->user_timeout != 0)
		violate("TCP_USER_TIMEOUT is %d ms", c->user_timeout);
}

/* A client takes the slot of its side. */
static void
keep(struct tconn *c)
{
	struct side_model *m = &M[c->side];

	if (m->cur != NULL)
		violate("two clients on side %s", side_text(c->side));
	check_options(c);
	m->cur = c;
	m->next = NULL;
	m->connects++;
	m->send_due = false;
	c->kept = true;
	c->session = m->session = ++kept_count;
	c->heard = c->took = c->seen = c->owes = stamp_now();
	if (M[!c->side].ring.bytes > 0)
		COUNT(b_replay);
	totals->conns++;
}

/* A newcomer was not closed at once, so it is the next. */
static void
let_in(struct tconn *c)
{
	struct side_model *m = &M[c->side];

	m->newcomer = NULL;
	if (m->next != NULL)
		violate("two newcomers wait on side %s", side_text(c->side));
	if (!net_allows(c))
		violate("%s#%" PRIu64 " is let in from a net that is not",
		    side_text(c->side), c->name);
	if (c->faulty)
		violate("a connection without its flags is kept");
	m->next = c;
}

/* Who was let in waits until the program counts it as connected. */
static void
resolve_newcomers(void)
{
	int s;

	for (s = 0; s < 2; s++) {
		if (M[s].newcomer != NULL)
			let_in(M[s].newcomer);
		if (M[s].next != NULL && sides[s].connects > M[s].connects)
			keep(M[s].next);
	}
}

/* Does it matter how long c has acknowledged nothing?  Not where -w decides. */
static bool
has_to_acknowledge(const struct tconn *c)
{
	return C.keepalive > 0 && C.write > 0 &&
	    c->known_acked < c->out_sent &&
	    (M[!c->side].ring.bytes == 0 || C.write > 2 * C.keepalive);
}

/* Which reasons there are to close c, now. */
static struct gone
facts(const struct tconn *c)
{
	const struct side_model *m = &M[c->side];
	struct gone g;

	memset(&g, 0, sizeof g);
	g.session = c->session;
	g.side = c->side;
	g.told = c->told;
	g.eof = c->eof_told && (C.eof_keep == 0 || W.stops > 0 ||
	    passed(c->eof, C.eof_keep) != 0);
	g.lingered = c->eof_told && C.eof_keep > 0;
	g.idle = c->idled || (C.idle > 0 && !c->eof_told &&
	    passed(c->heard, C.idle) != 0);
	g.write = c->leaving || (C.write > 0 && M[!c->side].ring.bytes > 0 &&
	    passed(c->took, C.write) != 0 &&
	    (C.no_outq || passed(later(c->took, c->acked), C.write) != 0));
	g.unheard = c->unheard || c->unsure || (has_to_acknowledge(c) &&
	    passed(c->owed, 2 * C.keepalive) != 0);
	g.keepalive = c->told == ETIMEDOUT || g.unheard;
	g.replaced = m->next != NULL && (C.silent == 0 || going(c) ||
	    c->unsure || half_closed(c) || passed(c->heard, C.silent) != 0);
	g.shutdown = W.stops > 0;
	g.received = c->in_taken;
	g.sent = c->out_sent;
	g.unacked = C.no_outq ? 0 : conn_unacked(c);
	return g;
}

/* Whether the client of side s has timed out, though it is still there. */
static bool
presume_leaving(int s)
{
	struct gone g;

	if (M[s].cur == NULL)
		return false;
	g = facts(M[s].cur);
	if (g.eof || g.idle || g.write || g.unheard)
		M[s].cur->presumed = true;
	return M[s].cur->presumed;
}

/* Whether a newcomer of side s waits, and could for ever. */
static bool
both_wait(int s)
{
	return M[s].next != NULL && space(!s) == 0 &&
	    (wedged(s) || presume_leaving(s)) &&
	    (wedged(!s) || presume_leaving(!s));
}

/* The time that the program takes it to be, at the earliest. */
static int64_t
turn_time(void)
{
	return W.turn_paused ? W.turn_began : W.now;
}

/* Bytes of side s were dropped; what the log may say was the reason. */
static void
note_drop(int s, bool overflow, bool expired)
{
	M[s].overflow = overflow;
	M[s].expired = expired;
	M[s].t_drop = turn_time();
	M[s].drop_session = M[s].session;
}

/* The program has dropped n of the bytes that it just read from side s. */
static void
check_drop(int s, uint64_t n)
{
	int may = may_drop(s), expired = is_expired(!s);

	note_drop(s, expired != 1, expired != 0);
	if (expired != 0 && n == P.len) {
		COUNT(b_expire_new);
		return;
	}
	if (C.lossless)
		COUNT(b_drop_wedged);
	if (may == 0 && (C.lossless ? !both_wait(s) : !presume_leaving(!s)))
		violate("%" PRIu64 " bytes dropped while side %s %s", n,
		    side_text(!s), C.lossless ? "may be waited for, under -l" :
		    "is connected and not stuck");
	if (P.len <= space(s))
		violate("%" PRIu64 " of %zu bytes dropped with room for "
		    "%" PRIu64, n, P.len, space(s));
	if (n != P.len && P.len <= 4096)
		violate("a read of %zu bytes kept in part", P.len);
	if (connected(!s))
		COUNT(b_drop_stuck);
	else
		COUNT(b_drop_absent);
}

static void
settle_read(void)
{
	int s = P.conn->side;
	struct side_model *m = &M[s];
	uint64_t dropped = sides[s].dropped - m->dropped;
	uint64_t stored;

	m->received += P.len;
	totals->bytes += P.len;
	if (sides[s].received != m->received)
		violate("read %zu bytes, but received is %" PRIu64 ", not "
		    "%" PRIu64, P.len, sides[s].received, m->received);
	if (m->ring.bytes > 0 && dropped == m->ring.bytes + P.len &&
	    sides[s].ring.used == 0 && is_expired(!s) != 0) {
		/* -H ended in the same turn. */
		runq_clear(&m->ring);
		m->dropped += dropped;
		note_drop(s, false, true);
		P.conn = NULL;
		return;
	}
	if (dropped > P.len)
		violate("%" PRIu64 " bytes dropped of %zu read", dropped,
		    P.len);
	if (dropped > 0)
		check_drop(s, dropped);
	m->dropped += dropped;
	stored = P.len - dropped;
	if (stored > space(s))
		violate("%" PRIu64 " bytes stored where there is room for "
		    "%" PRIu64, stored, space(s));
	if (stored > 0 && is_expired(!s) == 1)
		violate("%" PRIu64 " bytes stored after -H", stored);
	if (stored > 0 && m->ring.bytes == 0 && M[!s].cur != NULL)
		M[!s].cur->took = M[!s].cur->seen = stamp_now();
	runq_push(&m->ring, P.conn->serial, P.conn->in_read - P.len, stored);
	if (m->ring.bytes == C.capacity)
		COUNT(b_full);
	if (stored > 0 && m->t_drop_told != NEVER && !W.turn_paused &&
	    W.now - m->t_drop > SEC + TOLERANCE)
		m->end_due = true;
	P.conn = NULL;
}

static void
settle_expired(int s, uint64_t n)
{
	if (is_expired(!s) == 0)
		violate("%" PRIu64 " bytes of %s dropped without a cause", n,
		    side_text(s));
	if (n != M[s].ring.bytes)
		violate("%" PRIu64 " bytes expired of %" PRIu64 " held", n,
		    M[s].ring.bytes);
	COUNT(b_expire);
	runq_clear(&M[s].ring);
	M[s].dropped += n;
	note_drop(s, false, true);
}

/*
 * Bring the model up to what the program did since its last system call,
 * and see that it was right to.
 */
static void
settle(void)
{
	int s;

	if (P.conn != NULL)
		settle_read();
	for (s = 0; s < 2; s++) {
		const struct side_model *m = &M[s];
		const struct side *f = &sides[s];

		if (f->dropped != m->dropped)
			settle_expired(s, f->dropped - m->dropped);
		if (f->received != m->received || f->sent != m->sent ||
		    f->ring.used != m->ring.bytes)
			violate("%s: received %" PRIu64 " sent %" PRIu64
			    " held %zu, not %" PRIu64 " %" PRIu64 " %" PRIu64,
			    side_text(s), f->received, f->sent, f->ring.used,
			    m->received, m->sent, m->ring.bytes);
		if (f->received != f->sent + f->dropped + f->ring.used)
			violate("received is not sent + dropped + held");
	}
}

/* Say where in the ring, if anywhere, the bytes at p come from. */
static void
locate(int s, const unsigned char *p, size_t n)
{
	const struct runq *q = &M[s].ring;
	uint64_t skip = 0, k;
	size_t i, want;
	struct run *r;

	for (i = 0; i < q->count; i++) {
		r = runq_at(q, i);
		for (k = 0; k < r->len && skip + k < 1000000; k++) {
			want = (size_t)least(n < 16 ? n : 16, r->len - k);
			if (stream_match(p, r->id, r->off + k, want) == want)
				violate("side %s is sent bytes from %" PRIu64
				    " past the first held", side_text(!s),
				    skip + k);
		}
		skip += r->len;
	}
	violate("side %s is sent bytes that are not held", side_text(!s));
}

/* What is sent must be what is held, from its start. */
static void
check_content(int s, const void *buf, size_t len)
{
	const struct runq *q = &M[s].ring;
	const unsigned char *p = buf;
	size_t i, n, done = 0;
	struct run *r;

	for (i = 0; done < len; i++) {
		r = runq_at(q, i);
		n = (size_t)least(len - done, r->len);
		if (stream_match(p + done, r->id, r->off, n) != n)
			locate(s, p + done, n);
		done += n;
	}
}

/* A newcomer is closed at once: was there a reason? */
static void
check_refusal(struct tconn *c)
{
	struct side_model *m = &M[c->side];
	const struct tconn *old = m->cur;

	if (c == m->next && C.silent == 0)
		violate("a newcomer that waits is closed");
	m->newcomer = m->next = NULL;
	m->refused++;
	snprintf(m->refused_peer, sizeof m->refused_peer, c->family ==
	    AF_UNSPEC ? "unknown:0" : c->family == AF_INET6 ?
	    "[fd00::%x]:%d" : "10.0.0.%d:%d", c->host, c->port);
	/* Who is refused tries again later. */
	W.actors[c->side].t_act += 8 * W.actors[c->side].period;
	if (c->in_read > 0 || c->out_sent > 0)
		violate("bytes passed with a client that is refused");
	if (!net_allows(c)) {
		COUNT(r_denied);
		m->refusal = "denied";
	} else if (c->faulty || c->fd >= FD_SETSIZE) {
		COUNT(r_limit);
		m->refusal = "limit";
	} else if (old != NULL && !going(old) && !half_closed(old) &&
	    C.silent > 0 && passed(old->heard, C.silent) != 1) {
		COUNT(r_busy);
		m->refusal = "busy";
	} else
		violate("%s#%" PRIu64 " is refused for no reason",
		    side_text(c->side), c->name);
}

/* The client of a side is closed. */
static void
check_leaving(struct tconn *c)
{
	struct gone g = facts(c);
	struct side_model *m = &M[c->side];
	bool bounded;

	if (!g.eof && g.told == 0 && !g.idle && !g.write && !g.unheard &&
	    !g.replaced && !g.shutdown)
		violate("%s#%" PRIu64 " is closed for no reason",
		    side_text(c->side), c->name);
	if (W.stops == 1 && !g.eof && g.told == 0 && !g.idle && !g.write &&
	    !g.unheard) {
		if (W.now < W.t_stop + STOP_SPAN - TOLERANCE)
			violate("%s#%" PRIu64 " is closed before the time is "
			    "up", side_text(c->side), c->name);
		COUNT(s_timeup);
	} else if (W.stops == 1 && c->shut && M[!c->side].ring.bytes == 0 &&
	    conn_unacked(c) == 0) {
		COUNT(s_drained);
	}
	/* There is a bound, but not where nothing must be lost. */
	bounded = (endless(c) || (c->turn_of_read == W.turn &&
	    c->turn_read >= C.capacity)) && (!C.lossless ||
	    m->drop_session == c->session);
	if (conn_unread(c) > 0 && !g.shutdown && c->turn_again != W.turn &&
	    !bounded)
		violate("%s#%" PRIu64 " is closed with %" PRIu64
		    " bytes unread", side_text(c->side), c->name,
		    conn_unread(c));
	graves[c->session % 64] = g;
	M[!c->side].unacked += g.unacked;
	m->cur = NULL;
	m->t_left = turn_time();
}

/* ---- The oracle: once a turn ------------------------------------------ */

/* What the program must be back for at the latest, on W.now's clock. */
static int64_t
due_by(struct stamp t, int64_t span)
{
	return t.hi + W.away.hi + span;
}

static int64_t
sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* How late the program may learn that an acknowledgement came. */
static int64_t
sampling(bool waiting)
{
	int64_t span = C.write / (waiting ? 20 : 1);

	if (C.keepalive > 0 && (!waiting || C.keepalive / 2 < span))
		span = C.keepalive / 2;
	return MS + span;
}

/* When the log has to tell the rest of what happened often. */
static int64_t
untold_due(void)
{
	const struct side_model *m;
	int64_t first = NEVER;

	for (m = M; m < M + 2 && W.log_faults == 0; m++) {
		if (m->dropped > m->dropped_told && m->t_drop_told == NEVER)
			violate("a drop is not told at once");
		if (m->dropped > m->dropped_told)
			first = sooner(first, m->t_drop_told + SEC);
		if (m->refused > m->refused_told && m->t_refuse_told == NEVER)
			violate("a refusal is not told at once");
		if (m->refused > m->refused_told)
			first = sooner(first, m->t_refuse_told + SEC);
		if (m->end_due && !C.quiet)
			violate("a run of drops has no end");
	}
	return first;
}

static int64_t
side_due(int s)
{
	const struct tconn *c = M[s].cur;
	int64_t first = NEVER;
	int over;

	if (c == NULL)
		return C.expire != NEVER && M[!s].ring.bytes > 0 ?
		    M[s].t_left + C.expire : NEVER;
	if (W.stops > 0 || going(c))
		return NEVER;
	if (c->unsure) {
		W.may_wait = true;
		return NEVER;
	}
	if (c->eof_told)
		first = due_by(c->eof, C.eof_keep);
	else if (C.idle > 0 && M[s].watched)
		first = due_by(c->heard, C.idle);
	if (has_to_acknowledge(c))
		first = sooner(first, due_by(c->owed, 2 * C.keepalive));
	if (has_to_acknowledge(c) && !C.no_outq && conn_unacked(c) > 0)
		first = sooner(first, due_by(c->owes, 2 * C.keepalive +
		    sampling(false)));
	if (M[!s].ring.bytes == 0)
		return first;
	if (C.write > 0)
		first = sooner(first, due_by(c->seen, C.write));
	if (C.write > 0 && !C.no_outq)
		first = sooner(first, due_by(later(c->took, c->acked), C.write +
		    sampling(true)));
	/* The end of -g matters to a sender that waits for it. */
	over = C.lossless ? 1 : passed(c->seen, C.grace);
	if (over == 0 && M[!s].cur != NULL && !M[!s].watched &&
	    !half_closed(M[!s].cur))
		first = sooner(first, due_by(c->seen, C.grace));
	else if (over != 1)
		W.may_wait = true;
	return first;
}

/* The next moment at which the program has to act by itself, or NEVER. */
static int64_t
next_due(void)
{
	int64_t first, over;
	int i;

	W.may_wait = false;
	first = sooner(sooner(side_due(0), side_due(1)), untold_due());
	for (i = 0; i < W.ndoors; i++)
		if (W.doors[i].t_rest != NEVER) {
			over = W.now - W.doors[i].t_rest - REST;
			if (over < -TOLERANCE)
				first = sooner(first, W.now - over);
			else if (over < TOLERANCE)
				W.may_wait = true;
		}
	for (i = 0; C.metrics && i < W.nlive; i++)
		if (W.live[i]->side == METRICS && W.live[i]->fd >= 0)
			first = sooner(first,
			    W.live[i]->t_accept + SCRAPE_SPAN);
	if (W.stops > 0)
		first = sooner(first, W.t_stop + STOP_SPAN);
	/* When a line was lost, who knows what the next has to tell. */
	if (W.log_faults > 0 && M[0].dropped + M[1].dropped +
	    M[0].refused + M[1].refused > 0)
		W.may_wait = true;
	return first;
}

/* The timeout that the program asks for, against what is due. */
static void
check_timeout(const struct timespec *ts)
{
	int64_t first = next_due(), wake;

	if (ts == NULL) {
		if (first != NEVER && !W.turn_paused)
			violate("waits without a timeout, with something due "
			    "in %.6f s", (double)(first - W.now) / 1e9);
		if (C.stats > 0)
			violate("waits without a timeout under -t");
		COUNT(waits_forever);
		return;
	}
	if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec > 999999999)
		violate("timeout of %ld s %ld ns", (long)ts->tv_sec,
		    ts->tv_nsec);
	wake = W.now + (int64_t)ts->tv_sec * SEC + ts->tv_nsec;
	/* After a change it may look again at once. */
	if (first == NEVER && C.stats == 0 && !W.may_wait && !W.turn_paused &&
	    (wake > W.now || !W.progressed))
		violate("a timeout of %.6f s with nothing to do",
		    (double)(wake - W.now) / 1e9);
	if (C.stats > 0 && wake > W.now + C.stats + TOLERANCE)
		violate("a timeout of %.6f s under -t",
		    (double)(wake - W.now) / 1e9);
	if (first != NEVER && !W.turn_paused && W.now > first + TOLERANCE)
		violate("something was due %.6f s ago",
		    (double)(W.now - first) / 1e9);
	if (first != NEVER && !W.turn_paused && wake > first + TOLERANCE)
		violate("a timeout of %.6f s with something due in %.6f s",
		    (double)(wake - W.now) / 1e9,
		    (double)(first - W.now) / 1e9);
}

/* One descriptor's place in a set, against the policy. */
static void
check_member(const fd_set *set, int fd, int should, const char *what,
    const char *who)
{
	int is = FD_ISSET(fd, set) != 0;

	if (should != UNCLEAR && !W.turn_paused && is != should)
		violate("%s %s %s", who, is ? "is waited for to" :
		    "is not waited for to", what);
}

static int
set_count(const fd_set *set)
{
	unsigned long words[sizeof *set / sizeof(unsigned long)];
	size_t i;
	int n = 0;

	memcpy(words, set, sizeof words);
	for (i = 0; i < sizeof words / sizeof words[0]; i++)
		for (; words[i] != 0; words[i] &= words[i] - 1)
			n++;
	return n;
}

static void
check_side_sets(int s, const fd_set *r, const fd_set *w)
{
	struct tconn *c = M[s].cur;

	M[s].watched = M[s].write_watched = false;
	if (c == NULL && M[s].next != NULL && W.stops == 0)
		violate("a newcomer waits for the slot of %s, which is free",
		    side_text(s));
	if (c == NULL)
		return;
	if (M[s].send_due && M[!s].ring.bytes > 0 && !going(c) && !c->shut &&
	    !W.turn_paused)
		violate("what came for %s was not sent at once", side_text(s));
	M[s].send_due = false;
	check_member(r, c->fd, should_read(s), "read", side_text(s));
	check_member(w, c->fd, M[!s].ring.bytes > 0 && !going(c) &&
	    !c->shut, "write", side_text(s));
	M[s].watched = FD_ISSET(c->fd, r) != 0;
	M[s].write_watched = FD_ISSET(c->fd, w) != 0;
	/* What it left is read first, and may have to wait for room. */
	if ((going(c) || (M[s].next != NULL && W.stops == 0)) &&
	    (space(s) > 0 || may_drop(s) == 1) &&
	    (!W.at_once || (c->turn_told != W.turn &&
	    !(C.lossless && c->turn_of_read + 1 == W.turn))))
		violate("%s#%" PRIu64 " stays after its connection ended",
		    side_text(s), c->name);
	if (c->presumed && !c->leaving && !c->unsure)
		violate("bytes were dropped as if %s#%" PRIu64 " had left",
		    side_text(s), c->name);
}

/*
 * A client whose time is up is not sent to any more, and may yet have
 * to wait for room for what it sent itself.  With nothing to send, that
 * can't be seen; only the clock tells, once the moment is past.
 */
static void
find_leaving(int s, const fd_set *r, const fd_set *w)
{
	struct tconn *c = M[s].cur;
	struct gone g;

	if (c == NULL)
		return;
	if (c->told != 0 || c->shut || FD_ISSET(c->fd, r) ||
	    FD_ISSET(c->fd, w) || space(s) > 0 || may_drop(s) == 1) {
		c->unsure = c->idled = false;
		return;
	}
	g = facts(c);
	if (M[!s].ring.bytes > 0 ? g.write || g.unheard || g.idle :
	    (g.unheard && passed(c->owed, 2 * C.keepalive) == 1) ||
	    (g.idle && passed(c->heard, C.idle) == 1)) {
		c->unheard = g.unheard;
		c->idled = g.idle;
		c->leaving = true;
	} else if (g.unheard)
		c->unsure = true;
}

/* The sets hold what they should, and nothing else. */
static void
check_sets(int nfds, const fd_set *r, const fd_set *w, const fd_set *e)
{
	int i, fd, known_r = 0, known_w = 0, top = -1, scrape_count = 0;

	if (e != NULL && set_count(e) > 0)
		violate("exceptional conditions are waited for");
	find_leaving(0, r, w);
	find_leaving(1, r, w);
	for (i = 0; i < W.ndoors; i++)
		check_member(r, W.doors[i].fd, should_accept(&W.doors[i]),
		    "accept", side_text(W.doors[i].side));
	check_side_sets(0, r, w);
	check_side_sets(1, r, w);
	for (i = 0; i < W.nlive + W.ndoors; i++) {
		fd = i < W.nlive ? W.live[i]->fd : W.doors[i - W.nlive].fd;
		if (fd < 0)
			continue;
		if (i < W.nlive && W.live[i]->side == METRICS) {
			scrape_count++;
			check_options(W.live[i]);
		} else if (i < W.nlive && W.live[i] !=
		    M[W.live[i]->side].cur && W.live[i] !=
		    M[W.live[i]->side].next)
			violate("descriptor %d leaked", fd);
		known_r += FD_ISSET(fd, r) != 0;
		known_w += FD_ISSET(fd, w) != 0;
		if (fd > top && (FD_ISSET(fd, r) || FD_ISSET(fd, w)))
			top = fd;
	}
	if (scrape_count > SCRAPES_MAX)
		violate("%d metrics clients at a time", scrape_count);
	if (set_count(r) != known_r || set_count(w) != known_w)
		violate("a descriptor that is not open is waited for");
	if (nfds <= top)
		violate("nfds is %d, descriptor %d is waited for", nfds, top);
}

/* Turns that change nothing must not follow each other. */
static void
check_spin(const fd_set *r, const fd_set *w)
{
	if (W.progress || memcmp(r, &W.last_r, sizeof *r) != 0 ||
	    memcmp(w, &W.last_w, sizeof *w) != 0)
		W.idle_turns = 0;
	else if (++W.idle_turns > 3)
		violate("%d turns without progress", W.idle_turns);
	/* To wake by oneself must be for something. */
	if (!W.timed_out || W.turn_calls > 0 || C.stats > 0 ||
	    memcmp(r, &W.last_r, sizeof *r) != 0 ||
	    memcmp(w, &W.last_w, sizeof *w) != 0)
		W.empty_wakes = 0;
	else if (++W.empty_wakes > 3)
		violate("%d wake-ups for nothing", W.empty_wakes);
	W.last_r = *r;
	W.last_w = *w;
	W.progressed = W.progress;
	W.progress = false;
	W.turn_calls = 0;
}

/* The model's counters against those that the program keeps besides. */
static void
check_counters(void)
{
	int s;

	for (s = 0; s < 2; s++) {
		if (sides[s].unacked != M[s].unacked)
			violate("unacked of %s is %" PRIu64 ", not %" PRIu64,
			    side_text(s), sides[s].unacked, M[s].unacked);
		if (sides[s].connects != M[s].connects)
			violate("%" PRIu64 " clients of %s, not %" PRIu64,
			    sides[s].connects, side_text(s), M[s].connects);
	}
}

/* ---- The log, as an oracle of its own --------------------------------- */

/* The value of a key in a line, up to the next blank; "" if there is none. */
static const char *
log_value(const char *line, const char *key)
{
	static char values[4][80];
	static unsigned turn;
	char *v = values[turn++ % 4];
	size_t n = strlen(key);
	const char *p = line;

	while ((p = strstr(p, key)) != NULL &&
	    (p == line || p[-1] != ' ' || p[n] != '='))
		p += n;
	v[0] = '\0';
	if (p != NULL) {
		p += n + 1;
		n = strcspn(p, " \n");
		n = n < 79 ? n : 79;
		memcpy(v, p, n);
		v[n] = '\0';
	}
	return v;
}

static bool
log_is(const char *line, const char *key, const char *value)
{
	return strcmp(log_value(line, key), value) == 0;
}

static void
log_number(const char *line, const char *key, uint64_t want)
{
	const char *v = log_value(line, key);
	char *end;

	if (strtoull(v, &end, 10) != want || end == v || *end != '\0')
		violate("the log says %s=%s, not %" PRIu64 ": %s", key, v,
		    want, line);
}

/* The state that a line tells; a side that is just leaving may be out. */
static void
log_state(const char *line)
{
	const char *state = log_value(line, "state");
	bool told[2];
	int s;

	told[0] = strcmp(state, "ONLY_A") == 0 || strcmp(state, "PAIRED") == 0;
	told[1] = strcmp(state, "ONLY_B") == 0 || strcmp(state, "PAIRED") == 0;
	for (s = 0; s < 2; s++)
		if (told[s] != connected(s) &&
		    (told[s] || !presume_leaving(s)))
			violate("side %s is %sconnected: %s", side_text(s),
			    connected(s) ? "" : "not ", line);
}

static void
log_connect(const char *line, int s)
{
	settle();
	resolve_newcomers();
	if (M[s].cur == NULL)
		violate("a connect line with nobody there: %s", line);
	log_number(line, "session", M[s].cur->session);
	log_number(line, "held", M[!s].ring.bytes);
	log_state(line);
}

/* Was the client closed for the reason that the log tells? */
static bool
log_reason(const char *line, const struct gone *g)
{
	const char *reason = log_value(line, "reason");
	const char *cause = log_value(line, "cause");

	if (strcmp(reason, "eof") == 0) {
		if (g->lingered)
			COUNT(r_eof_linger);
		else
			COUNT(r_eof);
		return g->eof;
	} else if (strcmp(reason, "reset") == 0) {
		COUNT(r_reset);
		return g->told == ECONNRESET || g->told == EPIPE;
	} else if (strcmp(reason, "replaced") == 0) {
		if (g->lingered)
			COUNT(r_replaced_linger);
		else
			COUNT(r_replaced);
		return g->replaced;
	} else if (strcmp(reason, "shutdown") == 0) {
		COUNT(r_shutdown);
		return g->shutdown;
	} else if (strcmp(reason, "error") == 0) {
		COUNT(r_error);
		return g->told != 0;
	} else if (strcmp(cause, "idle") == 0) {
		COUNT(r_idle);
		return g->idle;
	} else if (strcmp(cause, "write") == 0) {
		COUNT(r_write);
		return g->write;
	}
	if (g->told == ETIMEDOUT)
		COUNT(r_keepalive);
	else
		COUNT(r_unacked);
	return strcmp(cause, "keepalive") == 0 && g->keepalive;
}

static void
log_disconnect(const char *line, int s)
{
	uint64_t session = strtoull(log_value(line, "session"), NULL, 10);
	const struct gone *g = &graves[session % 64];

	settle();
	resolve_newcomers();	/* its line may be lost */
	if (g->session != session || g->side != s)
		violate("session %" PRIu64 " did not end: %s", session, line);
	if (!log_reason(line, g))
		violate("that was not the reason: %s", line);
	log_number(line, "received", g->received);
	log_number(line, "sent", g->sent);
	log_number(line, "unacked", g->unacked);
	log_number(line, "held", M[!s].ring.bytes);
	log_state(line);
}

static void
log_drop(const char *line, int s)
{
	struct side_model *m = &M[s];

	settle();
	log_number(line, "total", m->dropped);
	resolve_newcomers();	/* one may have come before what expired */
	if (!m->expired || strtoull(log_value(line, "session"), NULL, 10) !=
	    m->session)
		log_number(line, "session", m->drop_session);
	if (!(m->overflow && log_is(line, "reason", "overflow")) &&
	    !(m->expired && log_is(line, "reason", "expired")))
		violate("that was not the reason: %s", line);
	if (m->t_drop_told != NEVER && W.now - m->t_drop_told < SEC -
	    TOLERANCE && !C.quiet && W.log_faults == 0 && W.stops == 0)
		violate("drops are told too often: %s", line);
	COUNT(l_drop);
	if (W.now - m->t_drop > TOLERANCE)
		COUNT(l_drop_later);
	m->t_drop_told = turn_time();
	m->dropped_told += strtoull(log_value(line, "bytes"), NULL, 10);
	if (W.log_faults == 0 && m->dropped_told != m->dropped)
		violate("drop lines told %" PRIu64 " bytes so far: %s",
		    m->dropped_told, line);
}

static void
log_drop_end(const char *line, int s)
{
	struct side_model *m = &M[s];

	settle();
	log_number(line, "total", m->dropped);
	if (W.log_faults == 0 && m->t_drop_told == NEVER)
		violate("there was no run of drops: %s", line);
	if (W.log_faults == 0 && m->dropped_told != m->dropped)
		violate("not all drops were told before: %s", line);
	if (W.now - m->t_drop < SEC - TOLERANCE)
		violate("the last drop was %.6f s ago: %s",
		    (double)(W.now - m->t_drop) / 1e9, line);
	COUNT(l_drop_end);
	m->t_drop_told = NEVER;
	m->end_due = false;
}

static void
log_refuse(const char *line, int s)
{
	struct side_model *m = &M[s];
	uint64_t count = strtoull(log_value(line, "count"), NULL, 10);

	if (!log_is(line, "reason", m->refusal) ||
	    !log_is(line, "peer", m->refused_peer))
		violate("that was %s, %s: %s", m->refused_peer, m->refusal,
		    line);
	if (m->t_refuse_told != NEVER && W.log_faults == 0 && W.stops == 0 &&
	    W.now - m->t_refuse_told < SEC - TOLERANCE)
		violate("refusals are told too often: %s", line);
	COUNT(l_refuse);
	if (count > 1)
		COUNT(l_refuse_later);
	m->t_refuse_told = turn_time();
	m->refused_told += count;
	if (W.log_faults == 0 && m->refused_told != m->refused)
		violate("refuse lines told %" PRIu64 " of %" PRIu64 ": %s",
		    m->refused_told, m->refused, line);
}

static void
log_stats(const char *line, int s)
{
	const struct side *f = &sides[s];

	COUNT(l_stats);
	if (log_is(line, "dir", "")) {
		settle();
		resolve_newcomers();	/* the connect line may be lost */
		if (!connected(s) || !log_is(line, "connected", "0") ||
		    !presume_leaving(s))
			log_number(line, "connected", connected(s));
		return;
	}
	log_number(line, "received", f->received);
	log_number(line, "sent", f->sent);
	log_number(line, "dropped", f->dropped);
	log_number(line, "held", f->ring.used);
	log_number(line, "capacity", C.capacity);
	log_number(line, "unacked", f->unacked);
}

/* The stamp is that of the wall clock, as it was read for the line. */
static void
log_time(const char *line)
{
	int64_t wall = W.wall_read;
	time_t secs = (time_t)(wall / SEC);
	char want[48];
	struct tm tm;
	size_t n;

	gmtime_r(&secs, &tm);
	n = strftime(want, sizeof want, "time=%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(want + n, sizeof want - n, ".%03dZ",
	    (int)(wall % SEC / MS));
	if (strncmp(line, want, strlen(want)) != 0)
		violate("it is %s: %s", want, line);
}

static void
check_log(const char *line, bool last)
{
	const char *event = log_value(line, "event");
	const char *dir = log_value(line, "dir");
	int s = dir[0] == 'B' || log_is(line, "side", "B");

	if (strcmp(event, "connect") == 0)
		log_connect(line, s);
	else if (strcmp(event, "disconnect") == 0)
		log_disconnect(line, s);
	else if (strcmp(event, "drop") == 0)
		log_drop(line, s);
	else if (strcmp(event, "drop_end") == 0)
		log_drop_end(line, s);
	else if (strcmp(event, "refuse") == 0)
		log_refuse(line, s);
	else if (strcmp(event, "accept_failed") == 0) {
		if (strstr(line, strerror(W.lack)) == NULL)
			violate("it is %s: %s", strerror(W.lack), line);
	} else if (strcmp(event, "stats") == 0)
		log_stats(line, s);
	else if (strcmp(event, "log_lost") == 0) {
		COUNT(l_lost);
		if (!C.tty)
			log_number(line, "lines", W.log_skipped);
		W.log_skipped = 0;
	}
	if (last && roll(&world_dice, 32) == 0)
		log_time(line);
}

/* ---- System calls ----------------------------------------------------- */

/* Every call passes here: it takes time, and the process may be stopped. */
static void
enter(void)
{
	/* For each listener a client may be read out: DRAIN_MAX. */
	if (++W.turn_calls > 100000 * (1 + (uint64_t)W.ndoors))
		violate("a turn of %" PRIu64 " system calls", W.turn_calls);
	if (C.slow_calls)
		W.now += (int64_t)roll(&world_dice, 3 * US);
	/* The program does not look at the clock in between. */
	if (W.now - W.turn_began > TOLERANCE / 2 && !W.in_start)
		W.turn_paused = true;
	if (C.pause != 0 && !W.in_start && roll(&world_dice,
	    C.pause * 64) == 0) {
		int64_t span = roll_log(&world_dice, MS, 100 * SEC);

		COUNT(f_pause_turn);
		NOTE("stopped for %.6f s within the turn", (double)span / 1e9);
		W.now += span;
		W.away.lo += span;
		W.turn_paused = true;
		W.cont_pending = true;
	}
}

static int
fail(int err)
{
	errno = err;
	return -1;
}

/* The program can't go on after this. */
static int
must_end(int err)
{
	W.failed = true;
	return fail(err);
}

/* Whether this call is to be what ends the start. */
static bool
fails_now(int failure)
{
	return C.failure == failure && one_in(&world_dice, 2);
}

/* A fault is injected into this call. */
static bool
fault(uint64_t rarity)
{
	return C.fault != 0 && roll(&world_dice, C.fault * rarity) == 0;
}

static struct vfile *
file_of(int fd, const char *call)
{
	if (fd < 0 || fd >= SIM_FDS || W.files[fd].kind == VF_NONE)
		violate("%s() on descriptor %d, which is not open", call, fd);
	return &W.files[fd];
}

static struct tconn *
conn_of(int fd, const char *call)
{
	struct vfile *f = file_of(fd, call);

	if (f->kind != VF_CONN)
		violate("%s() on descriptor %d, not a connection", call, fd);
	return f->conn;
}

static int
fd_new(int kind)
{
	int fd;

	if (C.fds_lowest) {
		for (fd = 3; W.files[fd].kind != VF_NONE; fd++)
			continue;
	} else {
		/* A number comes back late, so its use after close() shows. */
		do {
			fd = W.fd_next++;
			if (W.fd_next == FD_SETSIZE)
				W.fd_next = 3;
		} while (W.files[fd].kind != VF_NONE);
	}
	W.files[fd].kind = kind;
	return fd;
}

int
sim_clock_gettime(clockid_t clock, struct timespec *ts)
{
	int64_t t = clock == CLOCK_MONOTONIC ? C.clock + W.now :
	    C.wall + W.now + W.wall_jump;

	if (clock != CLOCK_MONOTONIC)
		W.wall_read = t;
	ts->tv_sec = (time_t)(t / SEC);
	ts->tv_nsec = (long)(t % SEC);
	errno = ENOENT;	/* as what succeeds may do, gmtime_r() among it */
	return 0;
}

int
sim_isatty(int fd)
{
	(void)fd;
	return C.tty;
}

char *
sim_ttyname(int fd)
{
	static char name[] = "/dev/pts/7";

	return fd == STDERR_FILENO ? name : NULL;
}

/* At start, before there are others: the lowest that is free. */
int
sim_open(const char *path, int flags, ...)
{
	if (strcmp(path, "/dev/null") != 0) {
		if (!(flags & O_NONBLOCK))
			violate("a terminal is opened that may block");
		return fd_new(VF_STD);
	}
	if (C.failure == NO_NULL)
		return must_end(ENOENT);
	COUNT(n_closed);
	W.files[STDIN_FILENO].kind = VF_STD;
	return STDIN_FILENO;
}

int
sim_dup2(int from, int to)
{
	file_of(from, "dup2");
	file_of(to, "dup2");
	return to;
}

int
sim_socket(int family, int type, int protocol)
{
	(void)type;
	(void)protocol;
	if ((family == AF_INET && !C.v4) || (family == AF_INET6 && !C.v6)) {
		COUNT(n_skipped);
		return fail(EAFNOSUPPORT);
	}
	if (fails_now(NO_SOCKET))
		return must_end(EMFILE);
	return fd_new(VF_SOCKET);
}

/* Another listener has that port, or somebody else where any would do. */
static bool
port_in_use(const struct vfile *f)
{
	int i;

	for (i = 0; i < W.ndoors; i++)
		if (W.doors[i].family == f->family &&
		    W.doors[i].host == f->host && W.doors[i].port == f->port)
			return true;
	if (!C.any_port || W.in_use >= 3 || !one_in(&world_dice, 4))
		return false;
	W.in_use++;
	COUNT(n_again);
	return true;
}

int
sim_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct vfile *f = file_of(fd, "bind");
	const void *p = sa;
	const struct sockaddr_in *in = p;
	const struct sockaddr_in6 *in6 = p;

	(void)len;
	f->family = sa->sa_family;
	f->host = f->family == AF_INET6 ? in6->sin6_addr.s6_addr[15] :
	    ntohl(in->sin_addr.s_addr) & 255;
	f->port = ntohs(f->family == AF_INET6 ? in6->sin6_port : in->sin_port);
	if (fails_now(NO_BIND))
		return must_end(C.any_port ? EACCES : EADDRINUSE);
	if (f->port == 0)
		f->port = (uint16_t)(20000 + W.named * 1000 +
		    (int)roll(&world_dice, 1000));
	else if (port_in_use(f))
		return fail(EADDRINUSE);
	return 0;
}

int
sim_listen(int fd, int backlog)
{
	struct vfile *f = file_of(fd, "listen");
	struct vlisten *l = &W.doors[W.ndoors];

	if (backlog < BACKLOG_MAX)
		violate("a backlog of %d", backlog);
	if (fails_now(NO_LISTEN))
		return must_end(C.any_port ? ENOBUFS : EADDRINUSE);
	if (W.ndoors++ == LISTENERS)
		violate("more than %d listeners", LISTENERS);
	l->fd = fd;
	l->family = f->family;
	l->host = f->host;
	l->port = f->port;
	l->side = W.named - 1;
	l->t_rest = NEVER;
	/* A short one in the simulation, so that it overflows at times. */
	l->backlog = one_in(&world_dice, 3) ? 2 : BACKLOG_MAX;
	f->kind = VF_LISTEN;
	f->door = l;
	return 0;
}

/* A port that is in use for one address gives those before it up, too. */
static void
listener_closed(const struct vfile *f)
{
	if (!W.in_start || f->door != &W.doors[W.ndoors - 1])
		violate("a listener is closed");
	W.ndoors--;
}

/* Where it listens, once it runs: everywhere, on one port for a side. */
static void
check_doors(void)
{
	int i, families = C.v4 + C.v6;

	for (i = 1; i < W.ndoors; i++)
		if (W.doors[i].side == W.doors[i - 1].side &&
		    W.doors[i].port != W.doors[i - 1].port)
			violate("side %s has ports %d and %d",
			    side_text(W.doors[i].side), W.doors[i - 1].port,
			    W.doors[i].port);
	if (W.ndoors != W.named * families * (int)C.hosts)
		violate("%d listeners for %d services, %d families, %d "
		    "addresses", W.ndoors, W.named, families, (int)C.hosts);
}

static socklen_t
address_make(struct sockaddr_storage *ss, int family, uint32_t host,
    uint16_t port)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(&in, 0, sizeof in);
	memset(&in6, 0, sizeof in6);
	in.sin_family = AF_INET;
	in.sin_port = htons(port);
	in.sin_addr.s_addr = htonl(0x0a000000 | host);
	in6.sin6_family = AF_INET6;
	in6.sin6_port = htons(port);
	in6.sin6_addr.s6_addr[0] = 0xfd;
	in6.sin6_addr.s6_addr[15] = (unsigned char)host;
	memset(ss, 0, sizeof *ss);
	if (family == AF_INET6)
		memcpy(ss, &in6, sizeof in6);
	else
		memcpy(ss, &in, sizeof in);
	return family == AF_INET6 ? sizeof in6 : sizeof in;
}

static void
address_give(int family, uint32_t host, uint16_t port, struct sockaddr *sa,
    socklen_t *len)
{
	struct sockaddr_storage ss;
	socklen_t n = address_make(&ss, family, host, port);

	memcpy(sa, &ss, (size_t)least(n, *len));
	*len = n;
}

int
sim_getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
	const struct vfile *f = file_of(fd, "getsockname");

	if (f->kind != VF_LISTEN)
		violate("getsockname() on descriptor %d", fd);
	if (fails_now(NO_PORT))
		return must_end(ENOBUFS);
	address_give(f->door->family, f->door->host, f->door->port, sa, len);
	return 0;
}

int
sim_getaddrinfo(const char *name, const char *serv,
    const struct addrinfo *hints, struct addrinfo **res)
{
	static struct addrinfo list[4 * LISTENERS];
	static struct sockaddr_storage addrs[4 * LISTENERS];
	uint32_t host, rounds = C.twice ? 2 : 1;
	int family, n = 0;

	(void)name;
	W.named++;
	if (fails_now(NO_NAME)) {
		must_end(EIO);
		return one_in(&world_dice, 2) ? EAI_NONAME : EAI_SYSTEM;
	}
	for (host = 0; host < C.hosts * rounds; host++)
		for (family = AF_INET6; family != 0;
		    family = family == AF_INET6 ? AF_INET : 0) {
			if (hints->ai_family != AF_UNSPEC &&
			    hints->ai_family != family)
				continue;
			memset(&list[n], 0, sizeof list[n]);
			list[n].ai_family = family;
			list[n].ai_socktype = SOCK_STREAM;
			list[n].ai_addrlen = address_make(&addrs[n], family,
			    host % C.hosts, (uint16_t)atoi(serv));
			list[n].ai_addr = (struct sockaddr *)&addrs[n];
			if (n > 0)
				list[n - 1].ai_next = &list[n];
			n++;
		}
	if (C.twice)
		COUNT(n_twice);
	if (C.failure == TOO_MANY || C.failure == NO_FAMILY)
		W.failed = true;
	*res = &list[0];
	return n > 0 ? 0 : EAI_FAMILY;
}

void
sim_freeaddrinfo(struct addrinfo *res)
{
	(void)res;
}

int
sim_getnameinfo(const struct sockaddr *sa, socklen_t len, char *host,
    socklen_t hostlen, char *serv, socklen_t servlen, int flags)
{
	const void *p = sa;
	const struct sockaddr_in *in = p;
	const struct sockaddr_in6 *in6 = p;

	(void)flags;
	if (len == 0)
		return EAI_FAMILY;
	if (sa->sa_family == AF_INET6)
		snprintf(host, hostlen, "fd00::%x",
		    in6->sin6_addr.s6_addr[15]);
	else
		snprintf(host, hostlen, "10.0.0.%d",
		    (int)(ntohl(in->sin_addr.s_addr) & 255));
	snprintf(serv, servlen, "%d", ntohs(sa->sa_family == AF_INET6 ?
	    in6->sin6_port : in->sin_port));
	return 0;
}

int
sim_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	if (old != NULL)
		*old = W.handlers[sig];
	if (act != NULL)
		W.handlers[sig] = *act;
	return 0;
}

int
sim_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	/* Costs two calls more, so only where no wait has let signals in. */
	if (how == SIG_SETMASK && set != NULL && old != NULL) {
		if (W.now - W.t_let_in < SEC - MS)
			violate("signals are let in twice in a second");
		W.t_let_in = W.now;
		COUNT(s_let_in);
	}
	if (old != NULL)
		sigemptyset(old);
	return 0;
}

int
sim_fcntl(int fd, int cmd, ...)
{
	struct vfile *f;
	va_list ap;
	int arg;

	enter();
	if (cmd == F_GETFD && fd <= STDERR_FILENO &&
	    W.files[fd].kind == VF_NONE)
		return fail(EBADF);
	f = file_of(fd, "fcntl");
	va_start(ap, cmd);
	arg = cmd == F_SETFL || cmd == F_SETFD ? va_arg(ap, int) : 0;
	va_end(ap);
	if (f->kind == VF_STD && fd <= 2 && cmd == F_SETFL)
		violate("the flags of descriptor %d are changed", fd);
	if (f->kind != VF_CONN)
		return cmd == F_GETFL ? O_RDWR : 0;
	if (!f->conn->kept && fault(4)) {
		COUNT(f_fcntl);
		f->conn->faulty = true;
		return fail(ENOMEM);
	}
	if (cmd == F_SETFL)
		f->conn->nonblock = (arg & O_NONBLOCK) != 0;
	if (cmd == F_SETFD)
		f->conn->cloexec = (arg & FD_CLOEXEC) != 0;
	return cmd == F_GETFL ? O_RDWR : 0;
}

static void
option_tcp(struct tconn *c, int name, int value)
{
	switch (name) {
	case TCP_NODELAY: c->nodelay = value != 0; break;
	case TCP_KEEPIDLE: c->keepidle = value; break;
	case TCP_KEEPINTVL: c->keepintvl = value; break;
	case TCP_KEEPCNT: c->keepcnt = value; break;
	case TCP_USER_TIMEOUT: c->user_timeout = value; break;
#ifdef TCP_NOTSENT_LOWAT
	case TCP_NOTSENT_LOWAT: c->lowat = value; break;
#endif
	}
}

int
sim_setsockopt(int fd, int level, int name, const void *p, socklen_t len)
{
	struct vfile *f = file_of(fd, "setsockopt");
	int value = 0;

	enter();
	memcpy(&value, p, (size_t)least(len, sizeof value));
	if (f->kind != VF_CONN) {
		if (level == SOL_SOCKET && name == SO_REUSEPORT && value)
			violate("SO_REUSEPORT on a listener");
		return 0;
	}
	if (level == IPPROTO_TCP)
		option_tcp(f->conn, name, value);
	else if (level == SOL_SOCKET && name == SO_KEEPALIVE)
		f->conn->keepalive = value != 0;
	else if (level == SOL_SOCKET && name == SO_OOBINLINE)
		f->conn->oobinline = value != 0;
	if (f->conn->vanished && !f->conn->dead)
		vanish(f->conn);
	return 0;
}

int
sim_getsockopt(int fd, int level, int name, void *p, socklen_t *len)
{
	(void)level;
	(void)name;
	(void)p;
	(void)len;
	file_of(fd, "getsockopt");
	return fail(ENOPROTOOPT);
}

/* The program has been told how much is unacknowledged. */
static void
note_acked(struct tconn *c, uint64_t unacked)
{
	uint64_t acked = c->out_sent - least(unacked, c->out_sent);

	if (acked <= c->known_acked)
		return;
	c->known_acked = acked;
	c->seen = c->owed = stamp_now();
	W.progress = true;
}

/* How often there may be a reason to ask, at the most. */
static int64_t
ask_span(void)
{
	int64_t span = C.write > 0 ? C.write / 20 : NEVER;

	if (!C.lossless)
		span = sooner(span, C.grace / 20);
	if (C.write > 0 && C.keepalive > 0)
		span = sooner(span, C.keepalive / 2);
	return MS + sooner(span, SEC);
}

int
sim_ioctl(int fd, unsigned long request, ...)
{
	struct tconn *c;
	va_list ap;
	int *p;

	enter();
	if (request != TIOCOUTQ)
		return fail(ENOTTY);
	c = conn_of(fd, "ioctl");
	if (C.no_outq) {
		COUNT(f_no_outq);
		note_acked(c, 0);
		return fail(EINVAL);
	}
	va_start(ap, request);
	p = va_arg(ap, int *);
	va_end(ap);
	*p = (int)conn_unacked(c);
	/* Linux counts an unacknowledged FIN as a byte. */
	if (c->shut && (*p > 0 || W.now < c->t_fin_acked))
		++*p;
	note_acked(c, (uint64_t)*p);
	if (*p == c->asked && W.now - c->t_asked < ask_span() / 2)
		c->asked_often++;
	else
		c->asked_often = 0;
	if (c->asked_often > 3)
		violate("TIOCOUTQ is asked for all the time");
	c->asked = *p;
	c->t_asked = W.now;
	return 0;
}

/* A connection that waits is taken off a listener's queue. */
static struct tconn *
dequeue(struct vlisten *l)
{
	struct tconn *c = l->queue[0];

	l->queued--;
	memmove(&l->queue[0], &l->queue[1],
	    (size_t)l->queued * sizeof l->queue[0]);
	return c;
}

static int
accept_fault(struct vlisten *l)
{
	static const int full[] = { EMFILE, ENFILE, ENOBUFS, ENOMEM };
	static const int again[] = { EAGAIN, EINTR };

	W.progress = true;
	switch (roll(&world_dice, 4)) {
	case 0:
		COUNT(f_accept_aborted);
		if (l->queued > 0)
			conn_free(dequeue(l));
		return fail(ECONNABORTED);
	case 1:
		COUNT(f_accept_again);
		return fail(again[roll(&world_dice, 2)]);
	default:
		COUNT(f_accept_full);
		l->t_rest = W.turn_paused ? W.turn_began : W.now;
		W.lack = full[roll(&world_dice, 4)];
		return fail(W.lack);
	}
}

int
sim_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	struct vfile *f = file_of(fd, "accept");
	struct vlisten *l = f->door;
	struct tconn *c;

	enter();
	settle();
	resolve_newcomers();
	if (f->kind != VF_LISTEN)
		violate("accept() on descriptor %d", fd);
	if (should_accept(l) == 0)
		violate("accept() on %s against the policy",
		    side_text(l->side));
	l->t_rest = NEVER;
	if (fault(2))
		return accept_fault(l);
	if (l->queued == 0)
		return fail(EAGAIN);
	c = dequeue(l);
	if (c->dead)
		COUNT(f_accept_dead);
	c->state = TC_OPEN;
	c->fd = fd_new(VF_CONN);
	if (fault(4)) {
		COUNT(f_high_fd);
		W.files[c->fd].kind = VF_NONE;
		for (c->fd = FD_SETSIZE; W.files[c->fd].kind != VF_NONE; )
			c->fd++;
		W.files[c->fd].kind = VF_CONN;
	}
	W.files[c->fd].conn = c;
	c->serial = ++W.serials;
	c->t_accept = W.turn_paused ? W.turn_began : W.now;
	c->heard = c->took = c->acked = c->seen = c->owes = stamp_now();
	c->asked = INT64_MAX;
	W.progress = true;
	if (c->side != METRICS)
		M[c->side].newcomer = c;
	NOTE("accept %s#%" PRIu64 " as %d", side_text(c->side), c->name,
	    c->fd);
	/* BSD and macOS may know none of a peer that is gone already. */
	if (c->dead && one_in(&world_dice, 2)) {
		COUNT(f_no_address);
		c->family = AF_UNSPEC;
		*len = 0;
	} else
		address_give(c->family, c->host, c->port, sa, len);
	return c->fd;
}

/* A fatal error is told by a call. */
static int
tell(struct tconn *c, int err)
{
	if (c->told == 0) {
		c->told = err;
		c->turn_told = W.turn + 1;
	}
	W.progress = true;
	NOTE("%s#%" PRIu64 ": %s", side_text(c->side), c->name,
	    strerror(err));
	return fail(err);
}

/* An error from nowhere, as after a route is lost. */
static int
odd_error(struct tconn *c)
{
	static const int odd[] = { EHOSTUNREACH, ENETDOWN, ECONNABORTED,
	    ENOBUFS, EIO, ECONNRESET, ETIMEDOUT };

	conn_kill(c, odd[roll(&world_dice, 7)], one_in(&world_dice, 2));
	return c->error;
}

static ssize_t
recv_error(struct tconn *c)
{
	int err = c->error;

	c->error = 0;
	if (err != 0)
		return tell(c, err);
	if (c->fin_arr || c->dead) {
		if (!c->eof_told) {
			W.progress = true;
			c->eof = stamp_now();
			if (c->turn_told == 0)
				c->turn_told = W.turn + 1;
			NOTE("%s#%" PRIu64 ": EOF", side_text(c->side),
			    c->name);
		}
		c->eof_told = true;
		return 0;
	}
	return fail(EAGAIN);
}

static ssize_t
recv_fault(struct tconn *c)
{
	W.progress = true;
	c->turn_again = W.turn;
	if (one_in(&world_dice, 2)) {
		COUNT(f_eintr_recv);
		return fail(EINTR);
	}
	if (c->dead)
		return fail(EAGAIN);
	COUNT(f_recv_error);
	odd_error(c);
	return conn_unread(c) > 0 ? fail(EAGAIN) : recv_error(c);
}

/* When c is read to its end, for a newcomer or so, more comes all the time. */
static void
flood(struct tconn *c, size_t n)
{
	if (c->in_flood == 0)
		COUNT(p_flood);
	c->in_flood += n;
	c->in_goal += n;
	c->in_arr += n;
}

/* The program has read n bytes from c into buf. */
static void
read_done(struct tconn *c, unsigned char *buf, size_t n)
{
	const struct ring *ring;
	struct side_model *m;
	struct gone g;

	if (c->side == METRICS)
		memcpy(buf, c->request + c->in_read, n);
	else
		stream_fill(buf, c->serial, c->in_read, n);
	c->in_read += n;
	W.progress = true;
	arm_in(c, c->latency);
	if (c->side == METRICS || W.stops > 0)
		return;
	c->in_taken += n;
	/* All that is ready is read before anything is sent. */
	if (FD_ISSET(c->fd, &W.ready_r) && c->turn_of_read != W.turn &&
	    c->turn_again != W.turn && connected(!c->side) &&
	    !M[!c->side].write_watched)
		M[!c->side].send_due = true;
	/* What is read after its time was up is no sign of life. */
	if (c->turn_of_read == W.turn || !FD_ISSET(c->fd, &W.ready_r)) {
		g = facts(c);
		c->idled = g.idle;
		c->unsure = g.unheard && !c->leaving;
	}
	if (c->floods && !c->fin && !c->dead && c->in_flood < 1 << 26 &&
	    (c->door->queued > 0 || !FD_ISSET(c->fd, &W.ready_r)))
		flood(c, n);
	if (c->turn_of_read != W.turn)
		c->turn_read = 0;
	c->turn_of_read = W.turn;
	c->turn_read += n;
	c->heard = c->owed = c->owes = stamp_now();
	m = &M[c->side];
	ring = &sides[c->side].ring;
	if (m->ring.bytes > 0 && ring->start + ring->used < ring->capacity &&
	    ring->start + ring->used + n > ring->capacity)
		COUNT(b_wrap);
	P.conn = c;
	P.len = n;
}

/*
 * Where the rest of a short message would be dropped, it has to be read
 * whole.
 */
static void
check_read_size(const struct tconn *c, size_t len)
{
	uint64_t unread = least(conn_unread(c), 4096);

	if (len < unread && space(c->side) < unread && may_drop(c->side) == 1)
		violate("%zu bytes read of a message of %" PRIu64
		    " for which there is no room", len, unread);
}

ssize_t
sim_recv(int fd, void *buf, size_t len, int flags)
{
	struct tconn *c = conn_of(fd, "recv");
	size_t n;

	enter();
	settle();
	if (flags != 0)
		violate("recv() with flags %d", flags);
	if (len == 0)
		violate("recv() of no bytes");
	resolve_newcomers();
	if (!c->nonblock)
		violate("recv() on a blocking socket");
	if (c->side != METRICS && W.stops == 0)
		check_read_size(c, len);
	if (fault(3))
		return recv_fault(c);
	n = (size_t)least(len, conn_unread(c));
	if (n == 0)
		return recv_error(c);
	NOTE("recv %s#%" PRIu64 " %zu of %" PRIu64, side_text(c->side),
	    c->name, n, conn_unread(c));
	read_done(c, buf, n);
	return (ssize_t)n;
}

static ssize_t
send_error(struct tconn *c)
{
	int err = c->error;

	c->error = 0;
	return tell(c, err != 0 ? err : EPIPE);
}

static ssize_t
send_fault(struct tconn *c)
{
	W.progress = true;
	switch (roll(&world_dice, 4)) {
	case 0:
		COUNT(f_eintr_send);
		return fail(EINTR);
	case 1:
		COUNT(f_eagain_send);
		return fail(EAGAIN);
	case 2:
		COUNT(f_send_epipe);
		conn_kill(c, EPIPE, true);
		return send_error(c);
	default:
		COUNT(f_send_error);
		odd_error(c);
		return send_error(c);
	}
}

/* The bytes that send() takes now. */
static size_t
send_size(struct tconn *c, size_t len)
{
	uint64_t free_space = c->out_buf - least(c->out_buf, conn_unacked(c));
	size_t n = (size_t)least(len, free_space);

	if (!conn_takes(c) && one_in(&world_dice, 2))
		return 0;
	if (n > 1 && fault(1)) {
		COUNT(f_short_send);
		n = 1 + (size_t)roll(&world_dice, n);
	}
	return n;
}

static void
sent_done(struct tconn *c, size_t n)
{
	struct side_model *m = &M[!c->side];
	uint64_t left = n;
	struct run r;

	while (left > 0) {
		r = runq_take(&m->ring, left);
		runq_push(&c->out, r.id, r.off, r.len);
		left -= r.len;
	}
	m->sent += n;
	c->took = c->seen = stamp_now();
	if (c->known_acked == c->out_sent)
		c->owed = stamp_now();
	if (conn_unacked(c) == 0)
		c->owes = stamp_now();
	c->asked = INT64_MAX;
}

ssize_t
sim_send(int fd, const void *buf, size_t len, int flags)
{
	struct tconn *c = conn_of(fd, "send");
	bool was_idle = conn_unacked(c) == 0;
	size_t n;

	(void)flags;
	enter();
	settle();
	resolve_newcomers();
	if (!c->nonblock)
		violate("send() on a blocking socket");
	if (len == 0 || c->shut)
		violate("send() of %zu bytes, half-closed %d", len, c->shut);
	if (c->side != METRICS && c != M[c->side].cur)
		violate("send() to a client that has no slot");
	if (c->side != METRICS)
		M[c->side].send_due = false;
	if (c->side != METRICS && len > M[!c->side].ring.bytes)
		violate("send() of %zu bytes, %" PRIu64 " held", len,
		    M[!c->side].ring.bytes);
	if (c->dead || c->error != 0)
		return send_error(c);
	if (fault(3) && c->side != METRICS)
		return send_fault(c);
	n = send_size(c, len);
	if (n == 0)
		return fail(EAGAIN);
	if (c->side != METRICS) {
		check_content(!c->side, buf, (size_t)least(len, n + 64));
		sent_done(c, n);
	}
	NOTE("send %s#%" PRIu64 " %zu of %zu", side_text(c->side), c->name, n,
	    len);
	W.progress = true;
	c->out_sent += n;
	arm_out(c, c->latency);
	if (c->vanished && was_idle)
		vanish(c);
	return (ssize_t)n;
}

int
sim_shutdown(int fd, int how)
{
	struct tconn *c = conn_of(fd, "shutdown");

	enter();
	settle();
	W.progress = true;
	if (how != SHUT_WR)
		violate("shutdown() other than of the sending half");
	if (c->side != METRICS && (W.stops == 0 ||
	    M[!c->side].ring.bytes > 0))
		violate("half-closed with %" PRIu64 " bytes held",
		    M[!c->side].ring.bytes);
	c->shut = true;
	if (c->dead)
		return fail(ENOTCONN);
	c->t_fin_acked = W.now + 2 * c->latency;
	if (conn_unacked(c) == 0 && !c->vanished)
		control(c, CTL_CLIENT_EOF, 0, W.now + c->latency);
	return 0;
}

/* A metrics client is closed: served, gone, late, or one too many. */
static void
check_scrape_close(const struct tconn *c)
{
	int i, newer = 0;

	for (i = 0; i < W.nlive; i++)
		if (W.live[i]->side == METRICS && W.live[i]->fd >= 0 &&
		    W.live[i] != c &&
		    W.live[i]->t_accept >= c->t_accept - TOLERANCE)
			newer++;
	if (c->shut)
		COUNT(m_request);
	else
		COUNT(m_broken);
	if (!c->eof_told && c->told == 0 && newer < SCRAPES_MAX &&
	    !c->faulty && c->fd < FD_SETSIZE &&
	    W.now < c->t_accept + SCRAPE_SPAN - TOLERANCE)
		violate("a metrics client is closed too early");
}

/* What the kernel does when the program closes a connection. */
static void
conn_close(struct tconn *c)
{
	bool unread = conn_unread(c) > 0;

	c->fd = -1;
	c->state = TC_CLOSED;
	c->in_read = c->in_arr;
	if (c->dead || c->vanished || unread) {
		conn_free(c);
		return;
	}
	if (c->client_closed && conn_unacked(c) == 0)
		conn_free(c);
	else if (conn_unacked(c) == 0)
		control(c, CTL_CLIENT_EOF, 0, W.now + c->latency);
	else
		arm_out(c, c->latency);
}

int
sim_close(int fd)
{
	struct vfile *f = file_of(fd, "close");
	struct tconn *c = f->conn;
	int kind = f->kind;

	enter();
	settle();
	if (c != M[0].newcomer && c != M[1].newcomer)
		resolve_newcomers();
	f->kind = VF_NONE;
	if (fd < FD_SETSIZE)
		FD_CLR(fd, &W.ready_r);
	if (kind == VF_LISTEN)
		listener_closed(f);
	if (kind != VF_CONN)
		return 0;
	W.progress = true;
	NOTE("close %s#%" PRIu64, side_text(c->side), c->name);
	if (c->side == METRICS)
		check_scrape_close(c);
	else if (c == M[c->side].newcomer || c == M[c->side].next)
		check_refusal(c);
	else
		check_leaving(c);
	conn_close(c);
	if (fault(4)) {
		COUNT(f_close_eintr);
		return fail(EINTR);
	}
	return 0;
}

static bool
log_open(void)
{
	return W.now >= W.log_stalled;
}

int
sim_select(int nfds, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv)
{
	enter();
	if (r != NULL || e != NULL || w == NULL || tv == NULL ||
	    tv->tv_sec != 0 || tv->tv_usec != 0)
		violate("a select() that may block");
	if (nfds <= STDERR_FILENO || !FD_ISSET(STDERR_FILENO, w)) {
		W.asked_out = true;
		return 1;
	}
	W.asked_log = log_open();
	if (!W.asked_log) {
		W.log_skipped++;
		W.log_faults++;
		FD_ZERO(w);
	}
	return W.asked_log;
}

ssize_t
sim_write(int fd, const void *buf, size_t len)
{
	char text[2400], *p = text, *end;
	size_t n = len < sizeof text - 1 ? len : sizeof text - 1;

	enter();
	if (fd == STDOUT_FILENO) {
		if (!W.asked_out || len > PIPE_BUF)
			violate("%zu bytes to standard output", len);
		W.asked_out = false;
		return (ssize_t)len;
	}
	if (fd != STDERR_FILENO)
		violate("write() to descriptor %d", fd);
	if (!W.asked_log || !log_open())
		violate("a log line is written without asking");
	W.asked_log = false;
	if (W.log_cut && (len != 1 || *(const char *)buf != '\n'))
		violate("the last line has no end");
	if (fault(4)) {
		COUNT(f_log_error);
		W.log_skipped++;
		W.log_faults++;
		if (len > 1 && one_in(&world_dice, 3)) {
			COUNT(f_log_cut);
			W.log_cut = true;
			return 1 + (ssize_t)roll(&world_dice, len - 1);
		}
		return fail(one_in(&world_dice, 2) ? EPIPE : ENOSPC);
	}
	if (W.log_cut) {		/* now for the next line itself */
		W.log_cut = false;
		W.asked_log = true;
		return 1;
	}
	memcpy(text, buf, n);
	text[n] = '\0';
	if (strncmp(p, "\r\033[K", 4) == 0)
		p += 4;
	if (strncmp(p, "time=", 5) != 0) {
		if (!C.tty)
			violate("not a log line: %s", p);
		return (ssize_t)len;
	}
	for (; *p != '\0'; p = end + 1) {	/* log_lost, and the next */
		end = strchr(p, '\n');
		if (end == NULL)
			violate("a log line without its end: %s", p);
		*end = '\0';
		NOTE("log: %s", p);
		check_log(p, end[1] == '\0');
	}
	return (ssize_t)len;
}

/* ---- Waiting ---------------------------------------------------------- */

static void
deliver(int sig)
{
	if (W.handlers[sig].sa_handler == NULL)
		violate("no handler for signal %d", sig);
	NOTE("signal %d", sig);
	W.handlers[sig].sa_handler(sig);
	W.progress = true;
}

/* Deliver what signals are due; true if there were any. */
static bool
signals_due(void)
{
	bool any = W.cont_pending;

	if (W.cont_pending)
		deliver(SIGCONT);
	W.cont_pending = false;
	if (W.t_signal[0] <= W.now) {
		COUNT(s_usr1);
		deliver(SIGUSR1);
		W.t_signal[0] = W.now + roll_log(&world_dice, SEC, 600 * SEC);
		any = true;
	}
	if (W.t_signal[1] <= W.now) {
		if (W.stops++ == 0) {
			W.t_stop = W.now;
			W.away_at_stop = W.away.hi;
		} else
			COUNT(s_second);
		deliver(SIGTERM);
		W.t_signal[1] = one_in(&world_dice, 4) ? W.now +
		    (int64_t)roll(&world_dice, 3 * SEC) : NEVER;
		any = true;
	}
	return any;
}

static void
events_until_now(void)
{
	while (next_event() <= W.now)
		run_events();
}

/* Mark what is ready; with count_only leave the sets alone. */
static int
ready(fd_set *r, fd_set *w, bool count_only)
{
	fd_set was_r = *r, was_w = *w;
	struct tconn *c;
	int i, n = 0;

	if (!count_only) {
		FD_ZERO(r);
		FD_ZERO(w);
	}
	for (i = 0; i < W.ndoors; i++)
		if (FD_ISSET(W.doors[i].fd, &was_r) &&
		    W.doors[i].queued > 0) {
			n++;
			if (!count_only)
				FD_SET(W.doors[i].fd, r);
		}
	for (i = 0; i < W.nlive; i++) {
		c = W.live[i];
		if (c->fd < 0)
			continue;
		if (FD_ISSET(c->fd, &was_r) && conn_wakes(c)) {
			n++;
			if (!count_only)
				FD_SET(c->fd, r);
		}
		if (FD_ISSET(c->fd, &was_w) && conn_takes(c)) {
			n++;
			if (!count_only)
				FD_SET(c->fd, w);
		}
	}
	return n;
}

/* Say that a socket is ready which is not. */
static int
spurious(fd_set *r, fd_set *w)
{
	fd_set was_r = *r;
	struct tconn *c = M[roll(&world_dice, 2)].cur;

	FD_ZERO(r);
	FD_ZERO(w);
	if (c == NULL || c->fd < 0 || !FD_ISSET(c->fd, &was_r))
		return 0;
	COUNT(f_spurious);
	W.progress = true;
	FD_SET(c->fd, r);
	return 1;
}

/* The program is stopped, or the machine suspended, while it waits. */
static void
pause_now(int64_t deadline, int64_t wait)
{
	int64_t span = roll_log(&world_dice, MS, 100 * SEC);
	int64_t end = W.now + span;
	bool cont = !one_in(&world_dice, 3);

	COUNT(f_pause_wait);
	NOTE("stopped for %.6f s%s", (double)span / 1e9, cont ? "" :
	    ", suspended");
	/* A suspend is noticed by waking late; here it always is. */
	if (!cont && deadline != NEVER && end < deadline + 2 * SEC)
		end = deadline + 2 * SEC;
	W.frozen = W.now;
	while (next_event() <= end) {
		W.now = next_event() > W.now ? next_event() : W.now;
		run_events();
	}
	W.now = end;
	if (cont || wait != NEVER) {
		W.away.lo += W.now - W.frozen;
		W.away.hi += W.now - W.turn_began;
	}
	W.frozen = 0;
	W.cont_pending = cont;
	W.progress = true;
}

/* The wait itself: let time pass until there is something to return. */
static int
wait_for(fd_set *r, fd_set *w, int64_t wait)
{
	int64_t deadline = wait == NEVER ? NEVER : W.now + wait, t, late;
	int64_t pause = C.pause != 0 && one_in(&world_dice, C.pause) ?
	    W.now + (int64_t)roll(&world_dice, SEC) : NEVER;

	for (;;) {
		/* Some worlds come to a standstill. */
		if (++W.steps > 10000 && W.steps / 20 > C.turns &&
		    W.stops == 0)
			W.t_signal[1] = W.now;
		events_until_now();
		if (signals_due())
			return fail(EINTR);
		if (ready(r, w, true) > 0)
			return ready(r, w, false);
		if (W.now >= deadline) {
			FD_ZERO(r);
			FD_ZERO(w);
			W.timed_out = wait > 0;
			return 0;
		}
		t = sooner(sooner(next_event(), deadline), pause);
		t = sooner(t, sooner(W.t_signal[0], W.t_signal[1]));
		if (t == NEVER)
			violate("nothing will ever happen");
		if (t > W.now)
			W.progress = true;
		W.now = t > W.now ? t : W.now;
		if (W.now >= pause) {
			pause_now(deadline, wait);
			pause = NEVER;
		} else if (W.now == deadline && fault(2)) {
			/* What it learns by asking, it learns so much later. */
			late = roll_log(&world_dice, MS, 900 * MS);
			COUNT(f_late);
			W.now += late;
			W.away.hi += late;
		} else if (W.now == deadline && C.slow_calls)
			W.now += (int64_t)roll(&world_dice, 200 * US);
	}
}

/* The model's clocks, once the program has looked at its own. */
static void
turn_begins(void)
{
	int64_t ms0 = (C.clock + W.turn_began) / MS;
	int64_t ms1 = (C.clock + W.now) / MS;
	int s;

	if (W.turn_paused)
		W.away.hi += W.now - W.turn_began;
	W.turn_paused = false;
	if (ms0 < INT64_C(1) << 31 && ms1 >= INT64_C(1) << 31)
		COUNT(w_31);
	if (ms0 < INT64_C(1) << 32 && ms1 >= INT64_C(1) << 32)
		COUNT(w_32);
	W.turn_began = W.now;
	W.began_lo = W.now - W.away.lo;
	for (s = 0; s < 2; s++) {
		if (M[s].cur == NULL)
			continue;
		if (!M[s].watched)
			M[s].cur->heard = stamp_now();
		if (M[!s].ring.bytes == 0)
			M[s].cur->took = M[s].cur->seen = stamp_now();
	}
}

int
sim_pselect(int nfds, fd_set *r, fd_set *w, fd_set *e,
    const struct timespec *ts, const sigset_t *mask)
{
	int64_t began = W.now;
	int n;

	(void)mask;
	settle();
	resolve_newcomers();
	check_counters();
	W.at_once = ts != NULL && ts->tv_sec == 0 && ts->tv_nsec == 0;
	check_spin(r, w);
	if (W.failed)
		violate("it goes on after a failure, %d", C.failure);
	if (W.in_start)
		check_doors();
	W.in_start = false;
	W.turn++;
	COUNT(turns);
	check_sets(nfds, r, w, e);
	check_timeout(ts);
	W.timed_out = false;
	if (W.turn >= C.turns && W.t_signal[1] == NEVER && W.stops == 0)
		W.t_signal[1] = W.now + (int64_t)roll(&world_dice,
		    (uint64_t)W.actors[0].period * 4);
	if (C.failure == NO_WAIT && W.turn >= C.turns / 2) {
		n = must_end(ENOMEM);
	} else if (W.cont_pending) {	/* a short stop shows by it alone */
		n = wait_for(r, w, 0);
	} else if (fault(8)) {
		COUNT(f_eintr_pselect);
		W.progress = true;
		n = fail(EINTR);
	} else if (fault(8)) {
		n = spurious(r, w);
	} else {
		n = wait_for(r, w, ts == NULL ? NEVER :
		    (int64_t)ts->tv_sec * SEC + ts->tv_nsec);
	}
	if (C.fault != 0 && one_in(&world_dice, C.fault * 64)) {
		COUNT(f_wall_jump);
		W.wall_jump += roll_log(&world_dice, 1, 1000000) * SEC *
		    (one_in(&world_dice, 2) ? 1 : -1);
	}
	if (n <= 0) {
		FD_ZERO(&W.ready_r);
	} else {
		W.ready_r = *r;
	}
	if (W.now - began >= 100 * MS)
		W.t_let_in = W.now;
	turn_begins();
	return n;
}

/* ---- A run ------------------------------------------------------------ */

static void option(const char *, ...) __attribute__((format(printf, 1, 2)));

static void
option(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(C.text[C.argc], sizeof C.text[0], fmt, ap);
	va_end(ap);
	C.argv[C.argc] = C.text[C.argc];
	C.argc++;
}

/* An option in seconds, on a whole millisecond; returns ns. */
static int64_t
option_time(struct chance *d, const char *name, int64_t period, unsigned zero)
{
	int64_t ms = one_in(d, zero) ? 0 :
	    roll_log(d, 10 + period / MS / 2, 50 + period / MS * 300);

	option("%s", name);
	option("%" PRId64 ".%03d", ms / 1000, (int)(ms % 1000));
	return ms * MS;
}

static void
config_times(struct chance *d, int64_t period)
{
	C.grace = 3 * SEC;
	C.write = 60 * SEC;
	C.keepalive = 30 * SEC;
	C.expire = NEVER;
	C.lossless = one_in(d, 4);
	if (C.lossless)
		option("-l");
	if (!C.lossless && !one_in(d, 3))
		C.grace = option_time(d, "-g", period, 6);
	if (!C.lossless && one_in(d, 3))
		C.expire = option_time(d, "-H", period, 4);
	if (!one_in(d, 3))
		C.write = option_time(d, "-w", period, 5);
	if (one_in(d, 3))
		C.idle = option_time(d, "-i", period, 5);
	if (one_in(d, 3))
		C.eof_keep = option_time(d, "-e", period, 5);
	if (one_in(d, 3))
		C.silent = option_time(d, "-r", period, 5);
	if (one_in(d, 2))
		C.keepalive = (option_time(d, "-k", period, 5) + SEC - 1) /
		    SEC * SEC;
	if (one_in(d, 6))
		C.stats = option_time(d, "-t", period * 5, 0);
}

/* What it finds when it starts. */
static void
config_start(struct chance *d)
{
	C.hosts = one_in(d, 8) ? 2 + (uint32_t)roll(d, 3) : 1;
	C.twice = one_in(d, 8);
	C.any_port = one_in(d, 3);
	C.closed = one_in(d, 8);
	if (!one_in(d, 32))
		return;
	C.failure = 1 + (int)roll(d, NO_WAIT);
	if (C.failure == TOO_MANY)
		C.hosts = LISTENERS / 2 + 1;	/* of each side */
	else if (C.failure == NO_FAMILY)
		C.v4 = C.v6 = false;
	else if (C.failure == NO_NULL)
		C.closed = true;
}

static void
config_flags(struct chance *d)
{
	int s, n;

	C.v4 = !one_in(d, 4);
	C.v6 = !C.v4 || one_in(d, 4);
	config_start(d);
	if (!C.v6 && one_in(d, 2))
		option("-4");
	if (!C.v4)
		option("-6");
	for (s = 0; s < 2; s++) {
		if (!one_in(d, 6))
			continue;
		n = C.bits[s] = 1 + (int)roll(d, 7);
		option(s == 0 ? "-A" : "-B");
		option("10.0.0.0/%d", 24 + n);
		option(s == 0 ? "-A" : "-B");
		option("fd00::/%d", 120 + n);
	}
	C.quiet = one_in(d, 2);
	if (C.quiet)
		option("-q");
	else if (one_in(d, 8))
		option("-v");
	if (one_in(d, 8))
		option("-nname with blank");
	if (one_in(d, 48))
		option("-x");
	C.metrics = one_in(d, 8);
	if (C.metrics) {
		option("-m");
		option(C.any_port ? "0" : "1003");
	}
	C.tty = one_in(d, 12);
}

static void
config_actor(struct actor *a, struct chance *d, int side, int64_t period)
{
	a->side = side;
	a->t_act = 1;
	a->period = roll_log(d, period / 4 + 1, period * 4);
	a->size_max = roll_log(d, 1, (int64_t)least(C.capacity * 2, 65536));
	a->bulk_max = roll_log(d, a->size_max, (int64_t)least(
	    (uint64_t)a->size_max * 50, C.capacity * 2) + a->size_max);
	a->w_connect = 10 + (unsigned)roll(d, 90);
	a->w_write = 200 + (unsigned)roll(d, 3000);
	a->w_bulk = one_in(d, 2) ? 0 : (unsigned)roll(d, C.capacity > 100000 ?
	    10 : 100);
	a->w_mode = one_in(d, 3) ? 0 : (unsigned)roll(d, 40);
	a->w_half = one_in(d, 2) ? 0 : (unsigned)roll(d, 20);
	a->w_close = one_in(d, 4) ? 0 : (unsigned)roll(d, 40);
	a->w_reset = one_in(d, 3) ? 0 : (unsigned)roll(d, 30);
	a->w_vanish = one_in(d, 3) ? 0 : (unsigned)roll(d, 20);
	a->w_oob = one_in(d, 2) ? 0 : (unsigned)roll(d, 20);
	a->w_takeover = one_in(d, 3) ? 0 : (unsigned)roll(d, 20);
	a->w_hasty = one_in(d, 3) ? 0 : (unsigned)roll(d, 20);
	a->w_rest = one_in(d, 4) ? 0 : 20 + (unsigned)roll(d, 1000);
}

/*
 * Where the clock of the program starts: often just before it overflows, and
 * never at 0, which no system that listens can tell any more.
 */
static int64_t
config_clock(struct chance *d)
{
	static const int64_t marks[] = { INT64_C(1) << 31, INT64_C(1) << 32 };

	if (one_in(d, 3))
		return marks[roll(d, 2)] * MS -
		    roll_log(d, SEC, 3600 * SEC);
	return roll_log(d, MS, INT64_C(1) << 60);
}

static void
config_make(uint64_t seed)
{
	struct chance d;
	int64_t period;
	int i;

	dice_seed(&d, seed * 4);
	dice_seed(&world_dice, seed * 4 + 1);
	dice_seed(&peer_dice[0], seed * 4 + 2);
	dice_seed(&peer_dice[1], seed * 4 + 3);
	option("tcpbridge");
	period = roll_log(&d, MS / 10, SEC);
	switch (roll(&d, 8)) {
	case 0: C.capacity = 1 + roll(&d, 16); break;
	case 1: C.capacity = BUFFER_MAX; break;
	case 2: C.capacity = (size_t)roll_log(&d, 100000, 1 << 20); break;
	default: C.capacity = (size_t)roll_log(&d, 16, 50000); break;
	}
	if (C.capacity > BUFFER_MAX)
		C.capacity = BUFFER_MAX;
	if (C.capacity != BUFFER_MAX || one_in(&d, 2)) {
		option("-b");
		option("%zu", C.capacity);
	}
	config_times(&d, period);
	config_flags(&d);
	option("--");
	option(C.any_port ? "0" : "1001");
	option(C.any_port ? "0" : "1002");
	for (i = 0; i < 2; i++)
		config_actor(&W.actors[i], &d, i, period);
	W.prober = W.actors[0];
	W.prober.side = METRICS;
	W.prober.period = period * 50;
	W.prober.t_act = C.metrics ? 1 : NEVER;
	if (C.closed)
		W.files[STDIN_FILENO].kind = VF_NONE;
	C.no_outq = one_in(&d, 8);
	C.gives_up_early = one_in(&d, 3);
	C.slow_calls = !one_in(&d, 3);
	C.floods = one_in(&d, 8);
	C.fds_lowest = one_in(&d, 4);
	C.fault = one_in(&d, 3) ? 0 : (uint64_t)roll_log(&d, 30, 20000);
	C.pause = one_in(&d, 3) ? (uint64_t)roll_log(&d, 10, 5000) : 0;
	C.turns = (uint64_t)roll_log(&d, 300, 20000);
	C.clock = config_clock(&d);
	C.wall = INT64_C(1769860800) * SEC + (int64_t)roll(&d, 1000000) * SEC;
	C.net_latency = roll_log(&d, 1000, period * 2);
	C.net_rate = roll_log(&d, 2, period * 50);
	C.buffers = (uint64_t)roll_log(&d, 16,
	    (int64_t)least(C.capacity * 3 + 64, 1 << 19));
	if (one_in(&d, 6))
		W.t_signal[0] = roll_log(&d, MS, period * 1000);
	if (one_in(&d, 6))
		W.t_log_stall = roll_log(&d, MS, period * 1000);
}

/* What has to be true when the program ends. */
static void
check_end(int status)
{
	uint64_t rest;
	int i, s;

	settle();
	check_counters();
	if (status != 0)
		violate("exit status %d", status);
	if (W.stops == 0)
		violate("the program ends of itself");
	if (W.now > W.t_stop + STOP_SPAN + TOLERANCE + W.away.hi -
	    W.away_at_stop && C.pause == 0)
		violate("stopping took %.6f s",
		    (double)(W.now - W.t_stop) / 1e9);
	for (s = 0; s < 2; s++) {
		if (M[s].cur != NULL)
			violate("the client of %s is not closed",
			    side_text(s));
		if (W.log_faults == 0 && (M[s].dropped != M[s].dropped_told ||
		    M[s].refused != M[s].refused_told))
			violate("drops or refusals were never told");
		rest = M[s].arrived + M[s].lost;
		for (i = 0; i < W.nlive; i++)
			if (W.live[i]->side == !s)
				rest += W.live[i]->out.bytes;
		if (rest != M[s].sent)
			violate("sent %" PRIu64 ", but arrived, lost and on "
			    "its way are %" PRIu64, M[s].sent, rest);
		if (!C.no_outq && M[s].lost > M[s].unacked)
			violate("%" PRIu64 " bytes lost, %" PRIu64
			    " counted as unacknowledged", M[s].lost,
			    M[s].unacked);
	}
	totals->seeds++;
	totals->simulated += (double)W.now / 1e9;
}

void
sim_exit(int status)
{
	if (W.failed && status == 1) {
		if (C.failure == NO_WAIT)
			COUNT(f_pselect);
		else
			COUNT(n_fails);
		totals->seeds++;
		_exit(0);
	}
	if (W.in_start)
		violate("the program does not start: status %d", status);
	check_end(status);
	if (verbose > 1)
		fflush(stdout);
	_exit(0);
}

static void
world_begin(uint64_t seed)
{
	int i;

	run_seed = seed;
	W.in_start = true;
	W.fd_next = 3;
	C.hosts = 1;
	for (i = 0; i <= 2; i++)
		W.files[i].kind = VF_STD;
	W.t_signal[0] = W.t_signal[1] = W.t_log_stall = NEVER;
	W.t_let_in = -SEC;
	W.actors[0].t_act = W.actors[1].t_act = W.prober.t_act = NEVER;
	for (i = 0; i < 2; i++) {
		M[i].t_drop_told = M[i].t_refuse_told = NEVER;
		M[i].refusal = "nobody";
	}
}

static void run(uint64_t) __attribute__((noreturn));

static void
run(uint64_t seed)
{
	world_begin(seed);
	config_make(seed);
	NOTE("tcpbridge starts");
	sim_exit(tcpbridge_main(C.argc, C.argv));
}

/* ---- Ten years in the field ------------------------------------------- */

/* Once a second; about once an hour the connection is lost instead. */
static void
field_act(struct actor *a, struct chance *d)
{
	struct tconn *c = a->conn;

	a->t_act += SEC;
	if (c == NULL || c->client_closed || c->client_gone) {
		a->conn = client_connect(a, d);
		return;
	}
	if (!one_in(d, 3600)) {
		client_write(c, a->side == SIDE_A ? 8 : 25);
		return;
	}
	a->conn = NULL;
	switch (roll(d, 3)) {
	case 0: client_close(c); break;
	case 1: client_reset(c, true); break;
	default: COUNT(f_vanish); vanish(c); break;
	}
	a->t_act += roll_log(d, 1, 60) * SEC;
}

static void field(double, uint64_t) __attribute__((noreturn));

static void
field(double years, uint64_t seed)
{
	int i;

	world_begin(seed);
	dice_seed(&world_dice, seed * 4 + 1);
	dice_seed(&peer_dice[0], seed * 4 + 2);
	dice_seed(&peer_dice[1], seed * 4 + 3);
	option("tcpbridge");
	option("-q");
	option("-4");
	C.quiet = true;
	option("1001");
	option("1002");
	C.field = C.v4 = true;
	C.capacity = BUFFER_MAX;
	C.expire = NEVER;
	C.grace = 3 * SEC;
	C.write = 60 * SEC;
	C.keepalive = 30 * SEC;
	C.turns = UINT64_MAX;
	C.clock = SEC;
	C.wall = INT64_C(1769860800) * SEC;
	C.net_latency = 20 * MS;
	C.net_rate = 1;
	C.buffers = 65536;
	for (i = 0; i < 2; i++) {
		W.actors[i].side = i;
		W.actors[i].period = SEC;
		W.actors[i].t_act = (i + 1) * 300 * MS;
	}
	W.t_signal[1] = (int64_t)(years * 365.25 * 86400.0) * SEC;
	sim_exit(tcpbridge_main(C.argc, C.argv));
}

/* ---- Many runs -------------------------------------------------------- */

static double
wall_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* One seed in a process of its own; 0 if all was well. */
static int
fork_run(uint64_t seed, bool silent)
{
	struct rlimit cpu = { 10, 11 };
	int status, null;
	pid_t pid;

	pid = fork();
	if (pid < 0) {
		perror("sim: fork");
		exit(2);
	}
	if (pid == 0) {
		if (silent && (null = open("/dev/null", O_RDWR)) >= 0)
			dup2(null, STDERR_FILENO);
		setrlimit(RLIMIT_CPU, &cpu);
		run(seed);
	}
	if (waitpid(pid, &status, 0) < 0) {
		perror("sim: waitpid");
		exit(2);
	}
	if (WIFSIGNALED(status) && !silent)
		fprintf(stderr, "FAIL seed %" PRIu64 ": signal %d%s\n", seed,
		    WTERMSIG(status), WTERMSIG(status) == SIGXCPU ||
		    WTERMSIG(status) == SIGKILL ? " (it hangs)" : "");
	return status;
}

/* What happened, how often; false if something that must did not. */
static bool
report(double secs, bool strict)
{
	bool all = true;
	double turns = (double)totals->cov[COV_turns];
	int i;

	for (i = 0; i < COV_COUNT; i++) {
		printf("%12" PRIu64 "  %s\n", totals->cov[i], cov_text[i]);
		if (totals->cov[i] == 0 && strict)
			all = false;
	}
	printf("%" PRIu64 " runs, %.0f turns, %" PRIu64 " connections, %"
	    PRIu64 " bytes, %.3g simulated days in %.1f s: %.0f turns/s\n",
	    totals->seeds, turns, totals->conns, totals->bytes,
	    totals->simulated / 86400, secs, turns / secs);
	for (i = 0; i < COV_COUNT && strict; i++)
		if (totals->cov[i] == 0)
			printf("FAIL never happened: %s\n", cov_text[i]);
	return all;
}

static int
many(uint64_t first, uint64_t count, double secs)
{
	double start = wall_seconds();
	uint64_t seed = first;

	for (; seed - first < count && (secs <= 0 ||
	    wall_seconds() - start < secs); seed++) {
		if (fork_run(seed, true) == 0)
			continue;
		verbose = 1;
		if (fork_run(seed, false) == 0)
			fprintf(stderr, "FAIL seed %" PRIu64
			    " does not repeat\n", seed);
		return 1;
	}
	return report(wall_seconds() - start, seed - first >= 1000) ? 0 : 1;
}

static int
years(double n, uint64_t seed)
{
	double start = wall_seconds(), secs;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		verbose = 0;
		field(n, seed);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
		fprintf(stderr, "FAIL %g years, seed %" PRIu64 "\n", n, seed);
		return 1;
	}
	secs = wall_seconds() - start;
	printf("%g years: %" PRIu64 " turns, %" PRIu64 " connections, %" PRIu64
	    " bytes in %.0f s; %.2f years a minute\n", n,
	    totals->cov[COV_turns], totals->conns, totals->bytes, secs,
	    n * 60 / secs);
	return 0;
}

static int
usage(void)
{
	fprintf(stderr, "usage: sim [-v] SEED | sim -n COUNT [-s FIRST] | "
	    "sim -t SECS [-s FIRST] |\n       sim -y YEARS [-s SEED]\n");
	return 2;
}

int
main(int argc, char **argv)
{
	uint64_t first = 1, count = 0;
	double secs = 0, span = 0;
	int c;

	totals = mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (totals == MAP_FAILED) {
		perror("sim: mmap");
		return 2;
	}
	while ((c = getopt(argc, argv, "n:s:t:vy:")) != -1) {
		switch (c) {
		case 'n': count = strtoull(optarg, NULL, 10); break;
		case 's': first = strtoull(optarg, NULL, 10); break;
		case 't': secs = strtod(optarg, NULL); break;
		case 'v': verbose = 2; break;
		case 'y': span = strtod(optarg, NULL); break;
		default: return usage();
		}
	}
	argc -= optind;
	argv += optind;
	optind = 1;
	if (span > 0)
		return years(span, first);
	if (count > 0 || secs > 0)
		return many(first, count > 0 ? count : UINT64_MAX, secs);
	if (argc != 1 || argv[0][strspn(argv[0], "0123456789")] != '\0')
		return usage();
	if (verbose == 0)
		verbose = 1;
	first = strtoull(argv[0], NULL, 10);
	if (fork_run(first, false) != 0)
		return 1;
	return report(1, false) ? 0 : 1;
}
