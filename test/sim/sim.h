/*
 * sim.h - what the parts of the simulation share
 *
 * The state of the simulated world is in W, the random settings of a run are
 * in C, and what the promises speak of is in M, one entry for each side.
 * All times are in nanoseconds since the start of the run.
 */
#ifndef SIM_H
#define SIM_H

#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700

#include <sys/types.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netdb.h>
#include <signal.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "program.h"

#define US		INT64_C(1000)
#define MS		INT64_C(1000000)
#define SEC		INT64_C(1000000000)
#define NEVER		INT64_MAX
#define TOLERANCE	(4 * MS)	/* rounding, and time within a turn */

enum { SIDE_A, SIDE_B, METRICS };

/* ---- Chance (dice.c) -------------------------------------------------- */

struct chance {
	uint64_t x;			/* xorshift state, never 0 */
};

extern struct chance world_dice;	/* faults, network */
extern struct chance peer_dice[2];	/* the clients of A, and of B */

void	 dice_seed(struct chance *, uint64_t);
int64_t	 roll_log(struct chance *, int64_t, int64_t);

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

static inline uint64_t
least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline int64_t
sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* ---- The content of streams (stream.c) -------------------------------- */

/* Bytes off to off + len of the stream that connection id sends. */
struct run {
	uint64_t id;			/* serial of the connection */
	uint64_t off;			/* position in its stream */
	uint64_t len;
};

/* A queue of runs. */
struct runq {
	struct run *v;			/* a power of two of them */
	size_t	 size, head, count;
	uint64_t bytes;			/* in all runs */
};

void	 stream_fill(unsigned char *, uint64_t, uint64_t, size_t);
size_t	 stream_match(const unsigned char *, uint64_t, uint64_t, size_t);
struct run *runq_at(const struct runq *, size_t);
void	 runq_push(struct runq *, uint64_t, uint64_t, uint64_t);
struct run runq_take(struct runq *, uint64_t);
void	 runq_cut(struct runq *, uint64_t);
void	 runq_clear(struct runq *);

/* ---- What has to happen at least once in many runs -------------------- */

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
	X(f_reboot, "fault: client vanishes, its system restarts") \
	X(f_cut, "fault: a line is cut") \
	X(f_mended, "fault: a line is mended") \
	X(f_healed, "fault: a mended line delivers what waited") \
	X(f_accept_aborted, "fault: accept ECONNABORTED") \
	X(f_accept_again, "fault: accept EAGAIN or EINTR") \
	X(f_accept_net, "fault: accept EPROTO or a network error") \
	X(f_accept_full, "fault: accept EMFILE, ENFILE, ENOBUFS, ENOMEM") \
	X(f_accept_dead, "fault: accepted when already reset") \
	X(f_no_address, "fault: accepted without an address") \
	X(f_high_fd, "fault: descriptor past FD_SETSIZE") \
	X(f_fcntl, "fault: fcntl fails on a new connection") \
	X(f_no_outq, "fault: TIOCOUTQ unsupported") \
	X(n_bsd, "start: the system is a BSD") \
	X(n_restart, "start: another one after a stop") \
	X(d_save, "stop: what is held is saved") \
	X(d_restore, "start: what was saved is held again") \
	X(d_full, "fault: the disk is full") \
	X(d_failed, "stop: what is held can't be saved") \
	X(b_emptied, "BSD: the send buffer is empty after a reset") \
	X(b_finished, "BSD: a connection that both have finished") \
	X(f_close_eintr, "fault: close EINTR") \
	X(f_pause_wait, "fault: stopped while waiting") \
	X(f_pause_ready, "fault: stopped while waiting, then ready") \
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
	X(p_crowd, "peer: three or more connect behind each other") \
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
	X(r_replaced, "reason: replaced") \
	X(r_replaced_linger, "reason: replaced during -e") \
	X(r_shutdown, "reason: shutdown") \
	X(r_error, "reason: error") \
	X(r_session, "reason: session") \
	X(r_denied, "refused: denied") \
	X(r_busy, "refused: busy") \
	X(r_limit, "refused: limit") \
	X(k_back, "bytes came back for the next client") \
	X(k_next, "bytes that came back reached the next client") \
	X(k_twice, "bytes came twice") \
	X(k_abort, "closed with an abort, for its bytes came back") \
	X(k_silent, "a client is silent") \
	X(k_resumed, "a silent client is back") \
	X(k_queue, "a newcomer is sent to, the one before is read") \
	X(k_queue3, "three or more clients on a side") \
	X(k_all_places, "all places of a side are taken") \
	X(k_stranger, "a stranger is closed while a newcomer waits") \
	X(k_both_full, "both rings are full") \
	X(b_drop_absent, "dropped: absent and full") \
	X(b_drop_stuck, "dropped: stuck and full") \
	X(b_expire, "dropped: held data expired") \
	X(b_expire_new, "dropped: new data expired at once") \
	X(b_session, "dropped: held data of a session that is over") \
	X(b_session_new, "dropped: new data of a session that is over") \
	X(b_replay, "held data met a newcomer") \
	X(k_last, "a client got bytes of one that had left its session") \
	X(k_waits, "a newcomer waits for the end of a session") \
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
	X(l_drop_later, "log: drop, told later") \
	X(l_drop_minute, "log: drop, told a minute after the first") \
	X(l_drop_end, "log: drop_end") \
	X(l_refuse, "log: refuse") \
	X(l_refuse_later, "log: refuse, more than one") \
	X(l_refuse_end, "log: refuse_end") \
	X(l_contested, "log: contested") \
	X(l_contested_again, "log: contested, told again") \
	X(l_contested_end, "log: contested_end") \
	X(l_leaving, "log: leaving") \
	X(l_slow, "log: slow") \
	X(l_slow_end, "log: slow_end") \
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

/* Shared by all runs of a batch. */
extern struct totals {
	uint64_t cov[COV_COUNT];
	uint64_t seeds;
	uint64_t bytes;			/* received by the program */
	uint64_t conns;			/* accepted by the program */
	double	 simulated;		/* virtual seconds */
} *totals;

#define COUNT(name)	(totals->cov[COV_##name]++)

/* ---- The world -------------------------------------------------------- */

#define SIM_FDS		(FD_SETSIZE + 64)
#define DOORS_MAX	64
#define BACKLOG_MAX	128
#define CONNS_MAX	192

/*
 * A moment, on two clocks that stand still while the program is stopped:
 * lo counts all time that it surely had, hi none that it may set aside.
 */
struct stamp {
	int64_t	 lo, hi;
};

/* Since when something is true that must not last; see is_overdue(). */
struct watch {
	int64_t	 since;			/* on the hi clock, or NEVER */
};

/* Where a connection is in its life. */
enum {
	TC_FREE, TC_SYN, TC_QUEUED, TC_OPEN,
	TC_CLOSED		/* by the program; the kernel sends the rest */
};

/* What the network does at t_ctl. */
enum { CTL_NONE, CTL_SYN, CTL_RESET, CTL_CLIENT_EOF, CTL_CLIENT_RST };

/* Which reasons there are to close a client. */
struct reasons {
	int	 told;			/* fatal errno that a call returned */
	bool	 eof, lingered, idle, write, unheard, replaced, shutdown,
	    session;
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
	uint64_t partner;		/* -o: serial of the other one, or 0 */
	bool	 blurred;		/* -o: it is unclear who that is */
	uint32_t host;			/* last byte of the peer's address */
	uint16_t port;
	struct vlisten *door;

	/* Client to program. */
	uint64_t in_goal;		/* what the client means to write */
	uint64_t in_arr;		/* has reached our receive buffer */
	uint64_t in_read;		/* was read by the program */
	uint64_t in_flood;		/* what came while it was read out */
	uint64_t in_room;		/* our receive buffer */
	uint64_t in_csnd;		/* the client's send buffer */
	bool	 fin;			/* client is done writing */
	bool	 fin_arr;
	bool	 eof_told;		/* recv() returned 0 */

	/* Program to client. */
	uint64_t out_sent;		/* accepted by send() */
	uint64_t out_arr;		/* has arrived at the client's system */
	uint64_t out_acked;		/* ... and our system knows that */
	uint64_t out_read;		/* was read by the client program */
	uint64_t out_buf;		/* our send buffer */
	uint64_t out_room;		/* the client's receive buffer */
	uint64_t out_edge;		/* end of the window, as we know it */
	uint64_t ack_goal;		/* what the ack on its way says */
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
	bool	 waited;		/* for a line to be mended */
	int	 ctl;			/* what happens at t_ctl */
	bool	 ctl_data;		/* a reset leaves data readable */
	int	 lost_errno;		/* what our system says at t_lost */

	/* Times of what is to happen, or NEVER. */
	int64_t	 t_in, t_out, t_ack, t_cread, t_ctl, t_lost;
	int64_t	 t_unreached;		/* it can't be reached since; or 0 */
	int64_t	 t_reboot;		/* a vanished client's is up; 0: never */
	int64_t	 t_accept;
	int64_t	 t_fin_acked;		/* of the program's half-close */
	int64_t	 latency;
	int64_t	 ns_per_kb;		/* 0: no limit */
	uint64_t quantum;		/* bytes that move at once */
	int64_t	 cread_every;		/* 0: reads at once, NEVER: not */
	uint64_t cread_size;

	/* Socket options, as set by the program. */
	bool	 nonblock, cloexec, nodelay, oobinline;
	bool	 keepalive, abort;
	int	 keepidle, keepintvl, keepcnt, user_timeout, lowat;
	bool	 faulty;		/* fcntl failed on it */

	/* What the promises speak of (promise.c). */
	bool	 kept;			/* it was let in */
	bool	 watched;		/* was in the last read set */
	bool	 gone;			/* surely, as the program must know */
	bool	 silent;		/* the log says so, and nothing came */
	bool	 silent_told;		/* ... and has not said resumed */
	bool	 leaving_told;		/* the log says that, too */
	struct reasons why;		/* that were seen, to close it */
	int64_t	 t_let_in;		/* when it was let in */
	bool	 replaced_seen;		/* it counts as replaced */
	bool	 contested;		/* perhaps only -v tells of that */
	struct stamp heard;		/* sent last, or was not read */
	struct stamp eof;		/* its EOF was told */
	struct stamp took;		/* acknowledged, or nothing waited */
	struct stamp owes;		/* acknowledged, sent, or owed nothing */
	struct stamp stuck;		/* end of a time of -g without acks */
	struct stamp alive;		/* a byte or an ack came from it */
	struct stamp flies;		/* nothing was in flight to it */
	uint64_t counted;		/* bytes counted as sent to it */
	uint64_t back;			/* bytes that came back from it */
	bool	 passed_on;		/* they go to another client */
	bool	 settled;		/* its unacknowledged bytes are back */
	bool	 must_known;		/* in_must is set */
	uint64_t in_must;		/* so much of it is read, at least */
	uint64_t in_most;		/* and at most; UINT64_MAX: any */
	uint64_t in_stop;		/* had arrived when a stop began */
	int64_t	 told_unacked;		/* last answer to TIOCOUTQ */
	uint64_t told_arrived;		/* had arrived at the last FIONREAD */
	uint64_t turn_again;		/* a read was told to try again */
	struct watch w_decide, w_send, w_read, w_held, w_close, w_leaving,
	    w_silent, w_deaf, w_over, w_over_all;
	const char *request;		/* of a metrics client */
};

/* A socket that clients dial. */
struct vlisten {
	int	 fd;
	int	 side, family;
	uint32_t host;			/* last byte of the address */
	uint16_t port;
	int	 backlog, queued;
	struct tconn *queue[BACKLOG_MAX];
	int64_t	 t_rest;		/* accept failed for want of room */
	bool	 closed;		/* by a stop */
	struct watch w_accept;
};

/* The file of -f. */
#define SAVE_NAME	"/disk/held"

enum { VF_NONE, VF_STD, VF_SOCKET, VF_LISTEN, VF_CONN, VF_DISK };

struct vfile {
	int	 kind;
	struct tconn *conn;
	struct vlisten *door;
	struct inode *inode;		/* NULL: a directory */
	size_t	 offset;		/* in that */
	int	 family;		/* as bound */
	uint32_t host;
	uint16_t port;
	bool	 oobinline;		/* its connections inherit that */
	bool	 nonblock;		/* and on BSD that, too */
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
	    w_vanish, w_cut, w_oob, w_takeover, w_crowd, w_hasty, w_rest;
	unsigned hangs;			/* of four new modes, so many */
};

/* The settings of a run. */
extern struct config {
	char	 text[48][48];
	char	*argv[49];
	int	 argc;
	size_t	 capacity;
	int64_t	 eof_keep, grace, expire, idle, keepalive, silent, stats,
	    write;			/* expire: NEVER for no limit */
	bool	 lossless, sessions, v4, v6, metrics, fds_lowest, tty, quiet;
	int	 bits[2];		/* of host that -A, -B demand to be 0 */
	int	 failure;		/* NO_... */
	uint32_t hosts;			/* addresses of a name, each family */
	bool	 twice;			/* ... and each in the list again */
	bool	 any_port;		/* operands and -m are 0 */
	bool	 closed;		/* standard input is, at start */
	bool	 file, disk_full;	/* -f; its disk may be full */
	bool	 bsd;			/* the system is FreeBSD, not Linux */
	bool	 no_outq, gives_up_early, slow_calls, floods;
	uint64_t fault;			/* one in so many calls; 0: none */
	uint64_t pause;
	uint64_t turns;			/* then SIGTERM */
	int64_t	 clock, wall;		/* at start, ns */
	int64_t	 net_latency, net_rate;
	uint64_t buffers;
	bool	 field;			/* the scenario of -y */
} C;

extern struct world {
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
	struct vlisten doors[DOORS_MAX];
	int	 ndoors;
	int	 named;			/* services whose name was asked for */
	int	 in_use;		/* times that a port was */
	bool	 failed;		/* the program is to end */
	struct tconn conns[CONNS_MAX];
	struct tconn *live[CONNS_MAX];
	int	 nlive;
	struct actor actors[2];
	struct actor prober;		/* of the metrics port */
	int64_t	 cut[2];		/* the line of a side is cut until */
	struct sigaction handlers[NSIG];
	sigset_t blocked;		/* by the program, outside pselect() */
	bool	 pending[NSIG];
	int64_t	 t_signal[2];		/* SIGUSR1; SIGTERM */
	int64_t	 t_let_in;		/* when these were last let in */
	int	 lives;			/* stops that had a start after it */
	int64_t	 t_start;		/* when this life began */
	bool	 save_failed;		/* as the log says */
	uint64_t unread;		/* of who was closed in this stop */
	int	 stops;			/* SIGTERMs delivered */
	int64_t	 t_stop, away_at_stop;
	uint64_t turn_stop;
	int64_t	 log_stalled;		/* until then */
	int64_t	 t_log_stall;
	bool	 asked_log, asked_out;	/* select() said yes just now */
	int	 lack;			/* how accept() failed last */
	int	 std_flags[3];		/* of 0, 1 and 2, that others share */
	char	 log_line[8192];	/* what was written since the last end */
	size_t	 log_used;		/* bytes of it */
	bool	 log_cut;		/* its end is not written any more */
	uint64_t log_skipped;		/* lines, since the last log_lost */
	uint64_t log_faults;		/* lines, since the start */
	bool	 progress;		/* since pselect() returned */
	bool	 acted;			/* the program did something */
	int	 idle_turns;		/* turns without progress */
	uint64_t empty;			/* wake-ups by the clock, for nothing */
	int64_t	 t_acted;		/* hi clock, last that was not */
	uint64_t empty_all, acted_all;	/* turns of both kinds */
	bool	 timed_out;		/* pselect() returned for its timeout */
	uint64_t turn_calls;
	bool	 turn_paused;
	fd_set	 last_r, last_w;
	fd_set	 ready_r;		/* as pselect() returned it */
} W;

extern int verbose;
extern uint64_t run_seed;

void	 violate(const char *, ...) __attribute__((noreturn,
	    format(printf, 1, 2)));
void	 note(const char *, ...) __attribute__((format(printf, 1, 2)));
const char *side_text(int);
const char *conn_text(const struct tconn *);
struct stamp stamp_now(void);
int	 passed(struct stamp, int64_t);

/* A line of the trace; it is formatted only when someone reads it. */
#define NOTE(...) do {							\
	if (verbose)							\
		note(__VA_ARGS__);					\
} while (0)

#define UNCLEAR	(-1)		/* passed(): too near to the moment to say */

/* ---- The network (network.c) ------------------------------------------ */

uint64_t conn_unread(const struct tconn *);
uint64_t conn_unacked(const struct tconn *);
uint64_t conn_flight(const struct tconn *);
bool	 conn_cut(const struct tconn *);
bool	 conn_wakes(const struct tconn *);
bool	 conn_takes(const struct tconn *);
struct tconn *conn_new(int, struct chance *);
void	 conn_free(struct tconn *);
void	 conn_kill(struct tconn *, int, bool);
void	 conn_close(struct tconn *);
void	 arm_in(struct tconn *, int64_t);
void	 arm_out(struct tconn *, int64_t);
void	 arm_lost(struct tconn *);
void	 control(struct tconn *, int, int64_t);
void	 vanish(struct tconn *);
void	 line_cut(int, int64_t);
void	 client_reads(struct tconn *);
void	 client_close(struct tconn *);
void	 client_reset(struct tconn *, bool);
int64_t	 network_next(void);
void	 network_run(void);

/* ---- The clients (clients.c) ------------------------------------------ */

int64_t	 clients_next(void);
void	 clients_run(void);

/* ---- The promises (promise.c) ----------------------------------------- */

#define PLACES_MAX	64

/* What comes in runs, and how the log tells of it. */
enum { TALE_OVERFLOW, TALE_EXPIRED, TALE_SESSION, TALE_REPLACED, TALE_DENIED,
	TALE_BUSY, TALE_LIMIT, TALES };

struct tale {
	uint64_t count, told;		/* bytes or newcomers, of all time */
	uint64_t in_run;		/* events of this run */
	int64_t	 t_event;		/* the last one; NEVER: none yet */
	int64_t	 away;			/* what the program had missed then */
	int64_t	 t_begin;		/* of the run; NEVER: there is none */
	int64_t	 t_line;		/* its last line; NEVER: none yet */
	int64_t	 t_early;		/* a line came early; NEVER: none did */
	bool	 unclear;		/* when it began is not known */
	char	 peer[80];		/* of the last event */
	uint64_t session;		/* the same; 0: any */
	struct watch w_tell, w_end;
};

/* A side, and the direction that comes from it. */
extern struct promises {
	/* The clients of the side, in the order in which they were accepted. */
	struct tconn *line[PLACES_MAX];
	int	 count;
	uint64_t connects;		/* how many were let in */
	uint64_t session;		/* of the last of them */
	int64_t	 t_present;		/* a client was surely there then */
	int64_t	 t_absent;		/* surely none is since; or NEVER */
	/* What they sent. */
	struct runq held;		/* kept, and not counted as sent */
	uint64_t given;			/* the first of it, that the newest */
	struct tconn *taker;		/* client of the other side was given */
	uint64_t back;			/* the first of it, that came back */
	uint64_t received, sent, dropped, unacked;
	/* What the log has to tell of it. */
	uint64_t dropped_told;		/* bytes, for any reason */
	uint64_t unsure;		/* of these, for a reason not clear */
	int64_t	 t_drop;		/* the last one; NEVER: none */
	bool	 end_due;		/* something was stored, a second later */
	struct tale tales[TALES];	/* and of those who came to this side */
	int	 quick_least, quick_most; /* replaced in a row, each early */
	uint64_t replaced;		/* surely, since the last line */
	bool	 is_replaced;		/* the newest, by one to be let in */
	int64_t	 t_none;		/* nothing was held, the last time */
	bool	 slow;			/* told; so its end is to come */
	struct watch w_expire, w_slow;
} M[2];

/* Facts about a closed connection, for the log line that may follow. */
struct grave {
	uint64_t session;
	int	 side;
	struct reasons why;
	uint64_t received, sent, unacked;
};

extern struct grave graves[64];

bool	 is_overdue(struct watch *, bool, int64_t);
void	 must_fail(const struct watch *, const char *, ...)
	    __attribute__((noreturn, format(printf, 2, 3)));
/* Its text is made only if it is wanted: most rules are asked every turn. */
#define must(w, wrong, span, ...) do { \
	if (is_overdue(w, wrong, span)) \
		must_fail(w, __VA_ARGS__); \
} while (0)
void	 promise_begin(void);
struct tconn *newest(int);
struct tconn *oldest(int);
int	 is_present(struct tconn *);
bool	 hangs(const struct tconn *);
struct reasons reasons_now(const struct tconn *);
struct grave client_facts(struct tconn *);
int64_t	 turn_time(void);
void	 settle(void);
void	 promise_exact(int, const char *);
void	 promise_accepted(struct tconn *);
void	 promise_recv(const struct tconn *, size_t);
void	 promise_read(struct tconn *, size_t);
void	 promise_send(struct tconn *, size_t);
void	 promise_sent(struct tconn *, const void *, size_t, size_t);
void	 promise_shutdown(const struct tconn *);
void	 promise_closed(struct tconn *);
void	 promise_acked(struct tconn *);
void	 promise_stop(void);
void	 promise_turn(int, const fd_set *, const fd_set *,
	    const struct timespec *);
void	 promise_wake(struct stamp);
void	 promise_watch(void);
void	 promise_end(int);
void	 promise_again(void);

/* ---- The log (log.c) -------------------------------------------------- */

void	 log_check(const char *, bool);
void	 tale_begin(struct tale *);
int64_t	 tale_due(const struct tale *);
void	 tale_note(struct tale *, uint64_t, const char *);
void	 tale_watch(struct tale *, const char *, int);

/* ---- The disk (disk.c) ------------------------------------------------ */

bool	 disk_has(const char *);
int	 disk_open(const char *, int, mode_t);
ssize_t	 disk_write(int, const void *, size_t);

/* ---- System calls (calls.c) ------------------------------------------- */

int	 fd_new(int);
void	 check_doors(void);

/* ---- Waiting (wait.c) ------------------------------------------------- */

void	 signals_unblocked(void);
void	 enter(void);
bool	 fault(uint64_t);
int64_t	 world_next(void);
void	 world_run(void);

/* ---- A run (run.c) ---------------------------------------------------- */

void	 run_seeded(uint64_t) __attribute__((noreturn));
void	 run_years(double, uint64_t) __attribute__((noreturn));

#endif
