/*
 * run.c - one run: its settings, its start and its end
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"

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

/* Sessions have a die of their own, so the other worlds stay as they were. */
static void
config_sessions(uint64_t seed)
{
	struct chance d;

	dice_seed(&d, ~seed);
	C.sessions = C.write > 0 && one_in(&d, 4);
	if (C.sessions)
		option("-o");
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
		C.hosts = (uint32_t)program_listeners / 2 + 1;	/* of each side */
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
	a->w_cut = one_in(d, 2) ? 0 : (unsigned)roll(d, 20);
	a->w_crowd = one_in(d, 2) ? 0 : (unsigned)roll(d, 20);
	a->hangs = one_in(d, 3) ? 3 : 1;
	a->w_rest = one_in(d, 4) ? 0 : 20 + (unsigned)roll(d, 1000);
}

/*
 * The situations that a hand-over has to bear: both sides fill their rings,
 * clients hang or crash and dial again behind each other, one is much slower
 * than the other, or a line is cut again and again.
 */
static void
config_situation(struct chance *d, int64_t period)
{
	struct actor *a;
	uint64_t which = roll(d, 8);

	/* Bytes are too old when it is back, and rings have room. */
	if ((which == 0 || which == 2) && !C.lossless && one_in(d, 2)) {
		C.expire = option_time(d, "-H", period, 3);
		C.capacity = least(program_buffer_max, 8192 + roll(d, 50000));
		option("-b");
		option("%zu", C.capacity);
	}
	if (which == 0 && one_in(d, 2))		/* one that only listens */
		W.actors[1].w_write = W.actors[1].w_oob = W.actors[1].w_hasty =
		    W.actors[1].w_crowd = 0;
	for (a = W.actors; a < W.actors + 2 && which < 4; a++) {
		a->w_bulk = 200 + (unsigned)roll(d, 1000);
		a->w_close /= 4;
		a->w_reset /= 4;
		a->w_half /= 4;
		if (which == 0 || which == 1) {		/* hang, dial again */
			a->w_mode = 20 + (unsigned)roll(d, 100);
			a->hangs = 3;
			a->w_takeover = 5 + (unsigned)roll(d, 50);
			if (a->w_write == 0)
				a->w_bulk = 0;
		}
		if (which == 1) {			/* newcomers, too */
			a->w_crowd = 5 + (unsigned)roll(d, 50);
			a->w_vanish = 5 + (unsigned)roll(d, 20);
		}
		if (which == 2)				/* a bad cable */
			a->w_cut = 5 + (unsigned)roll(d, 50);
		if (which == 3 && a == W.actors) {	/* slow and fast */
			a->period *= 20;
			a->w_takeover = 5 + (unsigned)roll(d, 50);
		}
	}
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
	case 1: C.capacity = program_buffer_max; break;
	case 2: C.capacity = (size_t)roll_log(&d, 100000, 1 << 20); break;
	default: C.capacity = (size_t)roll_log(&d, 16, 50000); break;
	}
	if (C.capacity > program_buffer_max)
		C.capacity = program_buffer_max;
	if (C.capacity != program_buffer_max || one_in(&d, 2)) {
		option("-b");
		option("%zu", C.capacity);
	}
	config_times(&d, period);
	config_flags(&d);
	for (i = 0; i < 2; i++)
		config_actor(&W.actors[i], &d, i, period);
	config_situation(&d, period);
	config_sessions(seed);
	C.file = C.failure == GOES_ON && !program_is_1 && !C.sessions &&
	    one_in(&d, 4);
	C.disk_full = one_in(&d, 4);
	if (C.file) {
		option("-f");
		option(SAVE_NAME);
	}
	option("--");
	option(C.any_port ? "0" : "1001");
	option(C.any_port ? "0" : "1002");
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
	C.bsd = !C.no_outq && !C.file && one_in(&d, 5);
	if (C.bsd) {
		COUNT(n_bsd);
		program = &program_bsd;
	}
}

/* The program is gone, and the world goes on without it. */
static void
world_alone(void)
{
	int64_t end = W.now + roll_log(&world_dice, MS, 100 * SEC);
	int i;

	for (i = W.nlive - 1; i >= 0; i--)	/* metrics clients */
		if (W.live[i]->fd >= 0)
			conn_close(W.live[i]);
	while (world_next() <= end) {
		W.now = world_next() > W.now ? world_next() : W.now;
		world_run();
	}
	W.now = end;
	/* Their listeners may have other places. */
	for (i = W.nlive - 1; i >= 0; i--)
		if (W.live[i]->state == TC_SYN)
			conn_free(W.live[i]);
}

/* It is started again, perhaps after the machine was. */
static void
world_restart(void)
{
	int i;

	world_alone();
	COUNT(n_restart);
	promise_again();
	if (one_in(&world_dice, 2))
		C.clock = roll_log(&world_dice, MS, 3600 * SEC) - W.now;
	for (i = 0; i < SIM_FDS; i++)
		W.files[i].kind = i <= 2 ? VF_STD : VF_NONE;
	if (C.closed)
		W.files[STDIN_FILENO].kind = VF_NONE;
	memset(W.handlers, 0, sizeof W.handlers);
	memset(W.pending, 0, sizeof W.pending);
	memset(W.std_flags, 0, sizeof W.std_flags);
	sigemptyset(&W.blocked);
	FD_ZERO(&W.last_r);
	FD_ZERO(&W.last_w);
	FD_ZERO(&W.ready_r);
	W.in_start = true;
	W.fd_next = 3;
	W.ndoors = W.named = W.in_use = W.stops = W.idle_turns = 0;
	W.log_used = W.log_skipped = W.log_faults = W.empty = 0;
	W.log_cut = W.turn_paused = W.save_failed = false;
	W.t_signal[1] = NEVER;
	W.turn_began = W.t_start = W.now;
	W.began_lo = W.now - W.away.lo;
	W.t_acted = W.now - W.away.hi;
	W.t_let_in = W.now - SEC;
	W.steps = W.unread = 0;
	C.turns += W.turn;
	program = &program_again;
	optind = 1;
}

/* The program ends, by its own will or by ours. */
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
	promise_end(status);
	if (C.file && W.lives++ == 0) {
		world_restart();
		NOTE("tcpbridge starts again");
		sim_exit(program->main(C.argc, C.argv));
	}
	totals->seeds++;
	totals->simulated += (double)W.now / 1e9;
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
	sigemptyset(&W.blocked);
	for (i = 0; i <= 2; i++)
		W.files[i].kind = VF_STD;
	for (i = 0; i < DOORS_MAX; i++)
		W.doors[i].w_accept.since = NEVER;
	W.t_signal[0] = W.t_signal[1] = W.t_log_stall = NEVER;
	W.t_let_in = -SEC;
	W.actors[0].t_act = W.actors[1].t_act = W.prober.t_act = NEVER;
	promise_begin();
}

void
run_seeded(uint64_t seed)
{
	world_begin(seed);
	config_make(seed);
	NOTE("tcpbridge starts");
	sim_exit(program->main(C.argc, C.argv));
}

/* Years in the field: a poll every second, a drop every hour. */
void
run_years(double years, uint64_t seed)
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
	C.capacity = program_buffer_max;
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
		W.actors[i].t_act = 300 * MS * (i + 1);
	}
	W.t_signal[1] = (int64_t)(years * 365.25 * 86400.0) * SEC;
	sim_exit(program->main(C.argc, C.argv));
}
