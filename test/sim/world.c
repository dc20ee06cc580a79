/*
 * world.c - the state of the simulated world, its clocks, and the trace
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EVENTS_KEPT	48

struct config C;
struct world W;
struct totals *totals;
const struct copy *program = &program_first;
int verbose;
uint64_t run_seed;

static char events[EVENTS_KEPT][160];
static unsigned nevents;

void
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

/* A promise is broken: says which, and ends the run. */
void
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

const char *
side_text(int side)
{
	return side == SIDE_A ? "A" : side == SIDE_B ? "B" : "M";
}

/* The name of a connection in the trace, as in A#7. */
const char *
conn_text(const struct tconn *c)
{
	static char texts[4][32];
	static unsigned turn;
	char *text = texts[turn++ % 4];

	snprintf(text, sizeof texts[0], "%s#%" PRIu64, side_text(c->side),
	    c->name);
	return text;
}

struct stamp
stamp_now(void)
{
	int64_t at = W.frozen != 0 ? W.frozen : W.now;
	struct stamp t = { at - W.away.lo, at - W.away.hi };

	/* In a long turn the program takes it to be earlier. */
	if (W.turn_paused && W.began_lo < t.lo)
		t.lo = W.began_lo;
	return t;
}

/* Whether at least span has passed since t, for the program surely. */
int
passed(struct stamp t, int64_t span)
{
	int64_t lo = W.now - W.away.lo - t.lo - span;
	int64_t hi = W.now - W.away.hi - t.hi - span;

	if (lo < -TOLERANCE)
		return 0;
	return hi > TOLERANCE && !W.turn_paused ? 1 : UNCLEAR;
}
