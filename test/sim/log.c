/*
 * log.c - what the log says, against what the promises know
 *
 * A line may be lost, but one that is written is true: the reason, the cause
 * and the counts in it.
 */
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* The side's client that a line speaks of, or NULL if it is not there. */
static struct tconn *
log_client(const char *line, int s)
{
	uint64_t session = strtoull(log_value(line, "session"), NULL, 10);
	int i;

	for (i = 0; i < M[s].count; i++)
		if (M[s].line[i]->kept && M[s].line[i]->session == session)
			return M[s].line[i];
	violate("there is no session %" PRIu64 " of %s: %s", session,
	    side_text(s), line);
}

/* The state that a line tells, as far as it is clear. */
static void
log_state(const char *line)
{
	const char *state = log_value(line, "state");
	bool told[2];
	int s, present;

	told[0] = strcmp(state, "ONLY_A") == 0 || strcmp(state, "PAIRED") == 0;
	told[1] = strcmp(state, "ONLY_B") == 0 || strcmp(state, "PAIRED") == 0;
	for (s = 0; s < 2; s++) {
		present = is_present(newest(s));
		if (present != UNCLEAR && told[s] != present)
			violate("side %s is %sconnected: %s", side_text(s),
			    present ? "" : "not ", line);
	}
}

/*
 * "What was lost while its receiver was away is told before that one's
 * event=connect", though it may be early for the run.
 */
static void
log_lost_before(const char *line, struct promises *m)
{
	struct tale *t;

	if (W.log_faults == 0 && m->unsure == 0 &&
	    m->dropped_told != m->dropped)
		violate("%" PRIu64 " dropped bytes were not told before: %s",
		    m->dropped - m->dropped_told, line);
	for (t = m->tales; t <= &m->tales[TALE_SESSION]; t++) {
		t->t_early = NEVER;
		/* A bit early, it is not the line that was due next. */
		if (t->t_line == turn_time())
			t->t_line -= TOLERANCE;
	}
}

/* "In held the bytes that wait for it and are sent to it at once." */
static void
log_connect(const char *line, int s)
{
	struct tconn *c = newest(s);

	if (c == NULL)
		violate("a connect line with nobody there: %s", line);
	log_number(line, "session", c->session);
	log_number(line, "held", M[!s].held.bytes);
	log_state(line);
	if (log_is(line, "level", "info"))
		log_lost_before(line, &M[!s]);
}

/* Was the client closed for the reason that the log tells? */
static bool
log_reason(const char *line, const struct reasons *g)
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
	} else if (strcmp(reason, "session") == 0) {
		COUNT(r_session);
		return g->session;
	} else if (strcmp(cause, "idle") == 0) {
		COUNT(r_idle);
		return g->idle;
	} else if (strcmp(cause, "write") == 0) {
		COUNT(r_write);
		return g->write;
	}
	COUNT(r_keepalive);
	return strcmp(cause, "keepalive") == 0 && (g->told == ETIMEDOUT ||
	    (program_is_1 && g->unheard));
}

/*
 * Its counts are those of the connection: sent is what was acknowledged,
 * unacked what came back.
 */
static void
log_disconnect(const char *line, int s)
{
	uint64_t session = strtoull(log_value(line, "session"), NULL, 10);
	const struct grave *g = &graves[session % 64];

	if (g->session != session || g->side != s)
		violate("session %" PRIu64 " did not end: %s", session, line);
	if (!log_reason(line, &g->why))
		violate("that was not the reason: %s", line);
	if (!program_is_1 || W.stops == 0)
		log_number(line, "received", g->received);
	log_number(line, "sent", g->sent);
	log_number(line, "unacked", g->unacked);
	log_number(line, "held", M[!s].held.bytes);
	promise_exact(!s, "a line");
	log_state(line);
}

/*
 * "Something that waits is told": it is not read out in the same turn.  What had
 * arrived at the moment when it left is not known here: it is what the program
 * was told last, but not less than when it had to leave.
 */
static void
log_leaving(const char *line, int s)
{
	struct tconn *c = log_client(line, s);
	struct grave g = client_facts(c);
	uint64_t most = least(least(c->in_most, c->in_arr), c->told_arrived);

	if (c->must_known && most < c->in_must)
		most = c->in_must;
	COUNT(l_leaving);
	if (!log_reason(line, &g.why))
		violate("that is not the reason: %s", line);
	if (c->leaving_told)
		violate("that was told before: %s", line);
	c->leaving_told = true;
	log_number(line, "unread", most - c->in_read);
	c->gone = true;
	c->in_must = c->in_most = most;
	c->must_known = true;
}

/*
 * "Acknowledges nothing for 2 x -k."  -w: "Close a client whose system answers
 * and whose program takes nothing."  With -l it may be silent instead.
 */
static void
log_silent(const char *line, int s)
{
	struct tconn *c = log_client(line, s);

	COUNT(k_silent);
	if (C.keepalive == 0 && C.write == 0)
		violate("nobody is silent without -k and -w: %s", line);
	/* A BSD forgets what one acknowledged last before it died. */
	if ((C.keepalive == 0 || passed(c->alive, 2 * C.keepalive) == 0) &&
	    (C.write == 0 || passed(c->took, C.write) == 0) &&
	    !(C.bsd && c->dead))
		violate("it was heard of in time: %s", line);
	if (!C.lossless && !C.no_outq && !C.bsd && !c->shut && hangs(c))
		violate("its system answers: %s", line);
	log_number(line, "unacked", M[!s].given);
	log_number(line, "held", M[!s].held.bytes);
	promise_exact(!s, "a line");
	c->silent = c->silent_told = true;
	log_state(line);
}

static void
log_resumed(const char *line, int s)
{
	struct tconn *c = log_client(line, s);

	COUNT(k_resumed);
	if (!c->silent_told && W.log_faults == 0)
		violate("it was not silent: %s", line);
	if (c->silent)
		violate("it is still silent: %s", line);
	c->silent_told = false;
	if (!c->eof_told && c->told == 0)
		log_state(line);
}

/* ---- Runs -------------------------------------------------------------- */

#define QUIET	(300 * SEC)	/* "for five minutes": of what comes in runs */

void
tale_begin(struct tale *t)
{
	t->t_event = t->t_begin = t->t_line = t->t_early = NEVER;
	t->w_tell.since = t->w_end.since = NEVER;
}

/* The run ends with a line, and not by the time. */
static bool
tale_is_drop(const struct tale *t)
{
	int s = t >= M[1].tales && t < M[1].tales + TALES;

	return t - M[s].tales <= TALE_SESSION;
}

/* Something happens that comes in runs. */
void
tale_note(struct tale *t, uint64_t count, const char *peer)
{
	bool over = t->t_event != NEVER && !tale_is_drop(t) &&
	    W.now - t->t_event > QUIET - TOLERANCE;

	/* A run of one has no end in the log, with -q none has. */
	if (over && t->t_begin != NEVER) {
		t->t_begin = t->t_line = NEVER;
		t->unclear = W.now - t->t_event < QUIET + SEC ||
		    W.turn_paused || W.away.hi != t->away;
	}
	if (t->t_begin == NEVER) {
		t->t_begin = turn_time();
		t->t_line = NEVER;
		t->in_run = 0;
	}
	t->count += count;
	t->in_run++;
	t->t_event = turn_time();
	t->away = W.away.hi;
	snprintf(t->peer, sizeof t->peer, "%s", peer);
}

/*
 * "A run is told when it begins, then 1, 10 and 60 seconds later, then each
 * minute, and after an hour each hour."
 */
int64_t
tale_due(const struct tale *t)
{
	static const int64_t marks[] = { 1, 10, 60 };
	size_t i;

	if (t->t_line == NEVER)
		return t->t_begin;
	for (i = 0; i < sizeof marks / sizeof marks[0]; i++)
		if (t->t_line - t->t_begin < marks[i] * SEC - TOLERANCE)
			return t->t_begin + marks[i] * SEC;
	return t->t_line + (t->t_line - t->t_begin < 3600 * SEC - TOLERANCE ?
	    60 : 3600) * SEC;
}

/* A line tells of a run.  What is early has to be the last of it.  -q does not
 * tell the end of one, so it is not known when the next one begins. */
static void
tale_line(struct tale *t, uint64_t count, const char *line)
{
	bool may = W.log_faults == 0 && W.stops == 0 && !t->unclear &&
	    !C.quiet;

	t->told += count;
	if (may && t->t_begin == NEVER)
		violate("nothing happened: %s", line);
	if (may && t->t_early == NEVER && W.now < tale_due(t) - TOLERANCE)
		t->t_early = W.now;
	t->t_line = turn_time();
}

/* It is over, and all is told; of what, may not have been clear. */
static void
tale_end(struct tale *t)
{
	t->told = t->count;
	t->t_begin = t->t_line = t->t_early = NEVER;
	/* All was told; under which name was not clear. */
	if (t->unclear)
		t->told = t->count;
	t->unclear = false;
}

/* "If there is anything new to tell": it is told in time, and not before. */
void
tale_watch(struct tale *t, const char *what, int s)
{
	bool may = W.log_faults == 0 && W.stops == 0 && !t->unclear &&
	    !C.quiet;

	if (may && t->t_early != NEVER && W.now - t->t_early > SEC / 10)
		violate("%s of %s are told too often", what, side_text(s));
	must(&t->w_tell, may && t->t_begin != NEVER && t->count > t->told &&
	    W.now > tale_due(t), SEC / 10, "%s of %s are not told", what,
	    side_text(s));
	must(&t->w_end, may && t->t_begin != NEVER && t->in_run > 1 &&
	    !C.quiet && !tale_is_drop(t) && W.now > t->t_event + QUIET,
	    SEC / 10, "%s of %s have no end", what, side_text(s));
}

static void
log_drop(const char *line, int s)
{
	struct promises *m = &M[s];
	uint64_t bytes = strtoull(log_value(line, "bytes"), NULL, 10);
	struct tale *t = &m->tales[TALE_OVERFLOW];

	if (log_is(line, "reason", "expired"))
		t = &m->tales[TALE_EXPIRED];
	else if (log_is(line, "reason", "session"))
		t = &m->tales[TALE_SESSION];
	else if (!log_is(line, "reason", "overflow"))
		violate("nothing is dropped for that: %s", line);
	log_number(line, "total", m->dropped);
	if (t->session != 0 && !t->unclear)
		log_number(line, "session", t->session);
	COUNT(l_drop);
	if (t->t_line != NEVER)
		COUNT(l_drop_later);
	if (t->t_line != NEVER && W.now - t->t_begin > 60 * SEC)
		COUNT(l_drop_minute);
	m->dropped_told += bytes;
	tale_line(t, bytes, line);
	if (W.log_faults == 0 && m->unsure == 0 && t->told != t->count)
		violate("of %" PRIu64 " bytes %" PRIu64 " were told so far: %s",
		    t->count, t->told, line);
}

static void
log_drop_end(const char *line, int s)
{
	struct promises *m = &M[s];
	struct tale *t = m->tales;

	log_number(line, "total", m->dropped);
	if (W.log_faults == 0 && t[TALE_OVERFLOW].t_begin == NEVER &&
	    t[TALE_EXPIRED].t_begin == NEVER &&
	    t[TALE_SESSION].t_begin == NEVER)
		violate("there was no run of drops: %s", line);
	if (W.log_faults == 0 && m->dropped_told != m->dropped)
		violate("not all drops were told before: %s", line);
	if (W.now - m->t_drop < SEC - TOLERANCE)
		violate("the last drop was %.6f s ago: %s",
		    (double)(W.now - m->t_drop) / 1e9, line);
	COUNT(l_drop_end);
	tale_end(&t[TALE_OVERFLOW]);
	tale_end(&t[TALE_EXPIRED]);
	tale_end(&t[TALE_SESSION]);
	m->unsure = 0;
	m->end_due = false;
}

/* The run of refusals that a line tells of. */
static struct tale *
log_refusal(const char *line, int s)
{
	static const char *const reasons[] = { "denied", "busy", "limit" };
	int i;

	for (i = 0; i < 3; i++)
		if (log_is(line, "reason", reasons[i]))
			return &M[s].tales[TALE_DENIED + i];
	violate("nobody is refused for that: %s", line);
}

static void
log_refuse(const char *line, int s)
{
	uint64_t count = strtoull(log_value(line, "count"), NULL, 10);
	struct tale *t = log_refusal(line, s);

	if (!log_is(line, "peer", t->peer))
		violate("that was %s: %s", t->peer, line);
	COUNT(l_refuse);
	if (count > 1)
		COUNT(l_refuse_later);
	tale_line(t, count, line);
	if (W.log_faults == 0 && t->told != t->count)
		violate("refuse lines told %" PRIu64 " of %" PRIu64 ": %s",
		    t->told, t->count, line);
}

/* "For five minutes nobody was refused for this reason." */
static void
log_refuse_end(const char *line, int s)
{
	struct tale *t = log_refusal(line, s);

	COUNT(l_refuse_end);
	if (W.now - t->t_event < QUIET - TOLERANCE)
		violate("somebody was refused lately: %s", line);
	if (W.log_faults == 0 && t->told != t->count)
		violate("not all were told before: %s", line);
	if (!t->unclear && W.log_faults == 0)
		log_number(line, "count", t->in_run);
	tale_end(t);
}

/*
 * "Three times in a row one was replaced less than a minute after it came."
 * The last ones may have gone for a reason of their own.
 */
static void
log_contested(const char *line, int s)
{
	struct promises *m = &M[s];
	struct tale *t = &m->tales[TALE_REPLACED];
	uint64_t count = strtoull(log_value(line, "count"), NULL, 10);

	if (t->t_line != NEVER)
		COUNT(l_contested_again);
	else if (m->quick_most < 3 && W.log_faults == 0 && !t->unclear)
		violate("clients did not replace each other: %s", line);
	COUNT(l_contested);
	if (newest(s) != NULL && log_is(line, "peer", "-") !=
	    (newest(s)->gone || is_present(newest(s)) == 0) &&
	    is_present(newest(s)) == 1)
		violate("that is not who is there: %s", line);
	if ((count < m->replaced && W.log_faults == 0 && !C.quiet) ||
	    t->told + count > t->count)
		violate("from %" PRIu64 " to %" PRIu64 " were replaced: %s",
		    m->replaced, t->count - t->told, line);
	if (t->t_begin == NEVER)
		t->t_begin = turn_time();
	tale_line(t, count, line);
	m->replaced = 0;
}

static void
log_contested_end(const char *line, int s)
{
	struct promises *m = &M[s];
	struct tale *t = &m->tales[TALE_REPLACED];

	COUNT(l_contested_end);
	if (m->replaced > 0 && W.log_faults == 0)
		violate("not all were told before: %s", line);
	if (t->t_line == NEVER && W.log_faults == 0)
		violate("there was no run: %s", line);
	tale_end(t);
	m->quick_least = m->quick_most = 0;
}

/*
 * "Its sender is held back, and what was held when that began is not
 * acknowledged after 5 seconds."
 */
static void
log_slow(const char *line, int s)
{
	struct promises *m = &M[s];

	COUNT(l_slow);
	if (m->slow && !C.quiet && W.log_faults == 0)
		violate("that was told before: %s", line);
	if (oldest(s) == NULL)
		violate("nobody is there who is held back: %s", line);
	if (W.now - m->t_none < 5 * SEC - TOLERANCE)
		violate("nothing was held lately: %s", line);
	log_number(line, "held", m->held.bytes);
	promise_exact(s, "a line");
	m->slow = true;
}

static void
log_slow_end(const char *line, int s)
{
	COUNT(l_slow_end);
	if (!M[s].slow && W.log_faults == 0)
		violate("nobody was slow: %s", line);
	M[s].slow = false;
}

static void
log_stats(const char *line, int s)
{
	const struct promises *m = &M[s];
	int present;

	COUNT(l_stats);
	if (log_is(line, "dir", "")) {
		present = is_present(newest(s));
		if (present != UNCLEAR)
			log_number(line, "connected", (uint64_t)present);
		log_number(line, "connects", m->connects);
		return;
	}
	log_number(line, "received", m->received);
	log_number(line, "sent", m->sent);
	log_number(line, "dropped", m->dropped);
	log_number(line, "held", m->held.bytes);
	log_number(line, "capacity", C.capacity);
	log_number(line, "unacked", m->unacked);
	promise_exact(s, "a line");
}

static void
log_save(const char *line, int s)
{
	COUNT(d_save);
	log_number(line, "bytes", M[s].held.bytes);
}

/* "Their receiver's side has been absent for age seconds." */
static void
log_restore(const char *line, int s)
{
	const struct promises *to = &M[!s];
	int64_t since = W.now - (int64_t)(strtod(log_value(line, "age"),
	    NULL) * 1e9);

	COUNT(d_restore);
	log_number(line, "bytes", M[s].held.bytes);
	if (C.pause == 0 && (since < to->t_present - 2 * TOLERANCE ||
	    (to->t_absent != NEVER && since > to->t_absent + 2 * TOLERANCE)))
		violate("the side is absent for %.6f to %.6f s: %s",
		    (double)(W.now - to->t_absent) / 1e9,
		    (double)(W.now - to->t_present) / 1e9, line);
}

/*
 * "lost bytes were held or had arrived, and were neither acknowledged nor
 * saved."  What had arrived behind an error can't be read.
 */
static void
log_stop(const char *line)
{
	uint64_t lost = strtoull(log_value(line, "lost"), NULL, 10);
	uint64_t held = disk_has(SAVE_NAME) ? 0 : M[0].held.bytes + M[1].held.bytes;

	if (lost < held || lost > held + W.unread)
		violate("%" PRIu64 " bytes are held and not saved, and %"
		    PRIu64 " not read: %s", held, W.unread, line);
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

void
log_check(const char *line, bool last)
{
	const char *event = log_value(line, "event");
	const char *dir = log_value(line, "dir");
	int s = dir[0] == 'B' || log_is(line, "side", "B");

	settle();

	if (strcmp(event, "connect") == 0)
		log_connect(line, s);
	else if (strcmp(event, "disconnect") == 0)
		log_disconnect(line, s);
	else if (strcmp(event, "leaving") == 0)
		log_leaving(line, s);
	else if (strcmp(event, "silent") == 0)
		log_silent(line, s);
	else if (strcmp(event, "resumed") == 0)
		log_resumed(line, s);
	else if (strcmp(event, "drop") == 0)
		log_drop(line, s);
	else if (strcmp(event, "drop_end") == 0)
		log_drop_end(line, s);
	else if (strcmp(event, "refuse") == 0)
		log_refuse(line, s);
	else if (strcmp(event, "refuse_end") == 0)
		log_refuse_end(line, s);
	else if (strcmp(event, "contested") == 0)
		log_contested(line, s);
	else if (strcmp(event, "contested_end") == 0)
		log_contested_end(line, s);
	else if (strcmp(event, "slow") == 0)
		log_slow(line, s);
	else if (strcmp(event, "slow_end") == 0)
		log_slow_end(line, s);
	else if (strcmp(event, "accept_failed") == 0) {
		if (strstr(line, strerror(W.lack)) == NULL)
			violate("it is %s: %s", strerror(W.lack), line);
	} else if (strcmp(event, "stats") == 0)
		log_stats(line, s);
	else if (strcmp(event, "save") == 0)
		log_save(line, s);
	else if (strcmp(event, "restore") == 0)
		log_restore(line, s);
	else if (strcmp(event, "save_failed") == 0) {
		COUNT(d_failed);
		W.save_failed = true;
	} else if (strcmp(event, "stop") == 0)
		log_stop(line);
	else if (strcmp(event, "log_lost") == 0) {
		COUNT(l_lost);
		if (!C.tty)
			log_number(line, "lines", W.log_skipped);
		W.log_skipped = 0;
	}
	if (last && roll(&world_dice, 32) == 0)
		log_time(line);
}

