/*
 * wait.c - time passes in pselect(), and signals come
 *
 * As Linux does it: what is ready goes before a signal, and a signal that is
 * blocked outside pselect() is let in only by a wait with nothing ready.
 */
#include "sim.h"

#include <errno.h>
#include <stdio.h>

#include "calls.h"

/* Every call passes here: it takes time, and the process may be stopped. */
void
enter(void)
{
	int64_t span;

	if (++W.turn_calls > 100000 * (1 + (uint64_t)W.ndoors))
		violate("a turn of %" PRIu64 " system calls", W.turn_calls);
	if (C.slow_calls)
		W.now += (int64_t)roll(&world_dice, 3 * US);
	/* The program does not look at the clock in between. */
	if (W.now - W.turn_began > TOLERANCE / 2 && !W.in_start)
		W.turn_paused = true;
	if (C.pause == 0 || W.in_start || roll(&world_dice, C.pause * 64) != 0)
		return;
	span = roll_log(&world_dice, MS, 100 * SEC);
	COUNT(f_pause_turn);
	NOTE("stopped for %.6f s within the turn", (double)span / 1e9);
	W.now += span;
	W.away.lo += span;
	W.turn_paused = true;
	W.pending[SIGCONT] = true;
	signals_unblocked();
}

/* Whether a fault is injected into this call. */
bool
fault(uint64_t rarity)
{
	return C.fault != 0 && roll(&world_dice, C.fault * rarity) == 0;
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

int64_t
world_next(void)
{
	return sooner(sooner(network_next(), clients_next()), W.t_log_stall);
}

void
world_run(void)
{
	while (world_next() <= W.now) {
		network_run();
		clients_run();
		if (W.t_log_stall <= W.now)
			log_stalls();
	}
}

static void
deliver(int sig)
{
	if (W.handlers[sig].sa_handler == NULL)
		violate("no handler for signal %d", sig);
	NOTE("signal %d", sig);
	if (sig == SIGUSR1)
		COUNT(s_usr1);
	if (sig == SIGTERM && W.stops++ == 0) {
		W.t_stop = W.now;
		W.turn_stop = W.turn;
		W.away_at_stop = W.away.hi;
		promise_stop();
	} else if (sig == SIGTERM)
		COUNT(s_second);
	W.handlers[sig].sa_handler(sig);
	W.progress = W.acted = true;
}

/* Delivers what is pending and not in this mask; true if there was any. */
static bool
deliver_pending(const sigset_t *mask)
{
	static const int sigs[] = { SIGCONT, SIGUSR1, SIGTERM };
	bool any = false;
	size_t i;

	for (i = 0; i < sizeof sigs / sizeof sigs[0]; i++)
		if (W.pending[sigs[i]] && sigismember(mask, sigs[i]) != 1) {
			W.pending[sigs[i]] = false;
			deliver(sigs[i]);
			any = true;
		}
	return any;
}

/* Outside pselect(), those that are not blocked run their handlers at once. */
void
signals_unblocked(void)
{
	deliver_pending(&W.blocked);
}

/* The signals that someone sends by now become pending. */
static void
signals_due(void)
{
	if (W.t_signal[0] <= W.now) {
		W.pending[SIGUSR1] = true;
		W.t_signal[0] = W.now + roll_log(&world_dice, SEC, 600 * SEC);
	}
	if (W.t_signal[1] <= W.now) {
		W.pending[SIGTERM] = true;
		W.t_signal[1] = one_in(&world_dice, 4) ? W.now +
		    (int64_t)roll(&world_dice, 3 * SEC) : NEVER;
	}
}

/* Marks what is ready; with count_only it leaves the sets alone. */
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
		if (W.doors[i].fd >= 0 && FD_ISSET(W.doors[i].fd, &was_r) &&
		    W.doors[i].queued > 0) {
			n++;
			if (!count_only)
				FD_SET(W.doors[i].fd, r);
		}
	for (i = 0; i < W.nlive; i++) {
		c = W.live[i];
		if (c->fd < 0 || c->fd >= FD_SETSIZE)
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

/* Says that a socket is ready which is not. */
static int
spurious(fd_set *r, fd_set *w)
{
	fd_set was_r = *r;
	struct tconn *c = oldest((int)roll(&world_dice, 2));

	FD_ZERO(r);
	FD_ZERO(w);
	if (c == NULL || !FD_ISSET(c->fd, &was_r))
		return 0;
	COUNT(f_spurious);
	W.progress = W.acted = true;
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
	while (world_next() <= end) {
		W.now = world_next() > W.now ? world_next() : W.now;
		world_run();
	}
	W.now = end;
	if (cont || wait != NEVER) {
		W.away.lo += W.now - W.frozen;
		W.away.hi += W.now - W.turn_began;
	}
	W.frozen = 0;
	W.pending[SIGCONT] = W.pending[SIGCONT] || cont;
	W.progress = true;
}

/* The moment at which something happens next, or the wait is over. */
static int64_t
wait_until(int64_t deadline, int64_t pause)
{
	int64_t t = sooner(sooner(world_next(), deadline), pause);

	t = sooner(t, sooner(W.t_signal[0], W.t_signal[1]));
	if (t == NEVER)
		violate("nothing will ever happen");
	if (t > W.now)
		W.progress = true;
	return t > W.now ? t : W.now;
}

/* The wait itself: lets time pass until there is something to return. */
static int
wait_for(fd_set *r, fd_set *w, int64_t wait, const sigset_t *mask)
{
	int64_t deadline = wait == NEVER ? NEVER : W.now + wait, late;
	int64_t pause = C.pause != 0 && one_in(&world_dice, C.pause) ?
	    W.now + (int64_t)roll(&world_dice, SEC) : NEVER;

	for (;;) {
		/* Some worlds come to a standstill. */
		if (++W.steps > 10000 && W.steps / 4 > C.turns &&
		    W.stops == 0 && W.t_signal[1] == NEVER)
			W.t_signal[1] = W.now;
		world_run();
		signals_due();
		promise_watch();
		if (ready(r, w, true) > 0) {
			if (W.pending[SIGCONT])
				COUNT(f_pause_ready);
			return ready(r, w, false);
		}
		if (deliver_pending(mask)) {
			errno = EINTR;
			return -1;
		}
		if (W.now >= deadline) {
			FD_ZERO(r);
			FD_ZERO(w);
			W.timed_out = wait > 0;
			NOTE("the clock wakes it");
			return 0;
		}
		W.now = wait_until(deadline, pause);
		promise_watch();
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

/* The clocks of a turn, once the program has looked at its own. */
static void
turn_begins(void)
{
	int64_t ms0 = (C.clock + W.turn_began) / MS;
	int64_t ms1 = (C.clock + W.now) / MS;

	if (W.turn_paused)
		W.away.hi += W.now - W.turn_began;
	W.turn_paused = false;
	if (ms0 < INT64_C(1) << 31 && ms1 >= INT64_C(1) << 31)
		COUNT(w_31);
	if (ms0 < INT64_C(1) << 32 && ms1 >= INT64_C(1) << 32)
		COUNT(w_32);
	W.turn_began = W.now;
	W.began_lo = W.now - W.away.lo;
}

/* What pselect() does this time: a fault, or a wait. */
static int
wait_or_fail(fd_set *r, fd_set *w, const struct timespec *ts,
    const sigset_t *mask)
{
	if (C.failure == NO_WAIT && W.turn >= C.turns / 2) {
		W.failed = true;
		errno = ENOMEM;
		return -1;
	}
	if (fault(8)) {
		COUNT(f_eintr_pselect);
		W.progress = W.acted = true;
		errno = EINTR;
		return -1;
	}
	if (fault(8))
		return spurious(r, w);
	return wait_for(r, w, ts == NULL ? NEVER :
	    (int64_t)ts->tv_sec * SEC + ts->tv_nsec, mask);
}

int
sim_pselect(int nfds, fd_set *r, fd_set *w, fd_set *e,
    const struct timespec *ts, const sigset_t *mask)
{
	int64_t began = W.now;
	struct stamp before;
	int n;

	if (e != NULL)
		violate("exceptional conditions are waited for");
	if (W.std_flags[1] != 0 || W.std_flags[2] != 0)
		violate("a terminal that others share does not block");
	settle();
	if (W.failed)
		violate("it goes on after a failure, %d", C.failure);
	if (W.in_start)
		check_doors();
	W.in_start = false;
	W.turn++;
	COUNT(turns);
	promise_turn(nfds, r, w, ts);
	W.timed_out = false;
	if (W.turn >= C.turns && W.t_signal[1] == NEVER && W.stops == 0)
		W.t_signal[1] = W.now + (int64_t)roll(&world_dice,
		    (uint64_t)W.actors[0].period * 4);
	before = stamp_now();
	n = wait_or_fail(r, w, ts, mask);
	signals_unblocked();
	if (C.fault != 0 && one_in(&world_dice, C.fault * 64)) {
		COUNT(f_wall_jump);
		W.wall_jump += roll_log(&world_dice, 1, 1000000) * SEC *
		    (one_in(&world_dice, 2) ? 1 : -1);
	}
	if (n <= 0)
		FD_ZERO(&W.ready_r);
	else
		W.ready_r = *r;
	if (W.now - began >= (program_is_1 ? 100 * MS : MS))
		W.t_let_in = W.now;
	turn_begins();
	promise_wake(before);
	return n;
}
