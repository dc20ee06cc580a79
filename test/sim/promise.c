/*
 * promise.c - what tcpbridge promises, as rules that a machine can check
 *
 * Each rule stands under the sentence that it checks.  It speaks of what the
 * two systems and the clients know, and of the public counters; it does not
 * repeat how the program decides.  A rule that says "in time" has a bound: see
 * must().  Where the clocks are too near to a moment to say, a rule is silent.
 *
 * The program has control between two calls of pselect().  Nothing happens in
 * the world meanwhile, so what it asks of the system is true until it waits.
 */
#include "sim.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HIGH_WATER	262144	/* "while 256 KiB or more wait for it" */
#define SHORT_READ	4096	/* "a read of up to 4096 bytes" */
#define REST		SEC	/* of a listener, after a lack */
#define STOP_SPAN	(2 * SEC)
#define SCRAPES_MAX	4
#define SCRAPE_SPAN	(2 * SEC)

/* How soon is in time: */
#define SOON		(100 * MS)	/* what waits for nobody */
#define SOON_ROOM	(300 * MS)	/* what waits for room */
#define SOON_DECIDED	(program_is_1 ? SEC : SOON)

/*
 * Wake-ups by the clock, for nothing: so many a second, or within -g or -w;
 * and at first.
 */
#define WAKES_SECOND	21
#define WAKES_FIRST	40
#define WAKES_IDLE	3

struct promises M[2];
struct grave graves[64];

static struct pending {			/* a recv() not yet accounted for */
	struct tconn *conn;
	size_t	 len;
} P;

static uint64_t	 sessions;
static struct watch w_signal = { NEVER };

/* ---- Bounds ----------------------------------------------------------- */

/*
 * What is wrong now, and was all the time since the watch began, has to end
 * within this span.  Time in which the program was stopped does not count.
 */
bool
is_overdue(struct watch *w, bool wrong, int64_t span)
{
	int64_t now = W.now - W.away.hi;

	if (!wrong)
		w->since = NEVER;
	else if (w->since == NEVER)
		w->since = now;
	return wrong && now - w->since > span;
}

void
must_fail(const struct watch *w, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	violate("for %.3f s %s", (double)(W.now - W.away.hi - w->since) / 1e9,
	    text);
}

/* The time that the program takes it to be, at the earliest. */
int64_t
turn_time(void)
{
	return W.turn_paused ? W.turn_began : W.now;
}

/* ---- The clients of a side -------------------------------------------- */

/* The one that was let in last, or NULL. */
struct tconn *
newest(int s)
{
	int i;

	for (i = M[s].count - 1; i >= 0; i--)
		if (M[s].line[i]->kept)
			return M[s].line[i];
	return NULL;
}

struct tconn *
oldest(int s)
{
	return M[s].count > 0 && M[s].line[0]->kept ? M[s].line[0] : NULL;
}

/* Bytes that wait for the client of side s and were not sent to it. */
static uint64_t
unsent_for(int s)
{
	return M[!s].held.bytes - M[!s].given;
}

/*
 * BSD empties the send buffer when a connection is disconnected.  "The last
 * figure known before counts: rather twice than lost."
 */
static bool
is_hidden(const struct tconn *c)
{
	return C.bsd && (c->dead || (c->shut && c->fin_arr && !c->eof_told));
}

/* Room for what side s sends, as the program counts. */
static uint64_t
space(int s)
{
	return C.capacity - M[s].held.bytes;
}

/* The same, with what our system knows to be acknowledged. */
static uint64_t
space_true(int s)
{
	const struct tconn *c = M[s].taker;
	uint64_t acked = c == NULL || c->settled || is_hidden(c) ? 0 :
	    c->out_acked - c->counted;

	return space(s) + least(acked, M[s].given);
}

/* It sent EOF, and -e keeps it. */
static bool
half_closed(const struct tconn *c)
{
	return c->eof_told && c->told == 0 && C.eof_keep > 0;
}

/*
 * The reasons of its own that there may be to close c, now.
 *
 * -e: "After the EOF of a client go on sending to it for this long."
 * -i: "Close a client that sends nothing for this long.  Time in which it is
 * held back does not count."
 * -w: "Close a client that takes no byte for this long while data waits for
 * it."
 */
static struct reasons
reasons_own(const struct tconn *c)
{
	const struct promises *m = &M[!c->side];
	struct reasons r;

	memset(&r, 0, sizeof r);
	r.told = c->told;
	r.lingered = c->eof_told && C.eof_keep > 0;
	r.eof = c->eof_told && (C.eof_keep == 0 || W.stops > 0 ||
	    passed(c->eof, C.eof_keep) != 0);
	if (c->fin_arr && c !=
	    M[c->side].line[M[c->side].count - 1])
		r.eof = true;		/* the system told, for a newcomer */
	r.idle = C.idle > 0 && !c->eof_told && passed(c->heard, C.idle) != 0;
	r.write = C.write > 0 && m->held.bytes > 0 &&
	    passed(c->took, C.write) != 0;
	r.unheard = C.keepalive > 0 && !c->eof_told && conn_unacked(c) > 0 &&
	    passed(c->owes, 2 * C.keepalive) != 0;
	r.replaced = c != newest(c->side);
	/* The newcomer may not be counted yet. */
	if (!r.replaced && c != M[c->side].line[M[c->side].count - 1])
		r.replaced = C.silent == 0 || c->told != 0 || c->eof_told ||
		    c->dead || c->fin_arr || c->silent || r.write || r.idle ||
		    r.unheard || passed(c->heard, C.silent) != 0;
	r.shutdown = W.stops > 0;
	return r;
}

/* ---- Sessions (-o) ---------------------------------------------------- */

static bool reasons_any(const struct reasons *);
static void reasons_add(struct reasons *, const struct reasons *);
static struct reasons reasons_own(const struct tconn *);

/* The other client of its session, while it is not closed. */
static struct tconn *
partner(const struct tconn *c)
{
	int i;

	for (i = 0; i < M[!c->side].count; i++)
		if (M[!c->side].line[i]->serial == c->partner)
			return M[!c->side].line[i];
	return NULL;
}

/*
 * Whether the other client of its session has left: 1, 0 or UNCLEAR.  "When a
 * client goes, the session is over."
 */
static int
is_over(const struct tconn *c)
{
	const struct tconn *p = partner(c);
	struct reasons r;

	if (!C.sessions || c->partner == 0)
		return c->blurred ? UNCLEAR : 0;
	if (p == NULL || p->gone)
		return 1;
	r = reasons_own(p);
	reasons_add(&r, &p->why);
	r.session = false;
	return reasons_any(&r) ? UNCLEAR : 0;
}

/*
 * "The other one is closed, too": when it has acknowledged what it was sent,
 * or closes before, or has taken nothing for the time of -w.
 */
static bool
session_closes(const struct tconn *c)
{
	if (is_over(c) == 0)
		return false;
	return passed(c->took, C.write) != 0 || (c->shut && (c->eof_told ||
	    (c->back == 0 && M[!c->side].held.bytes == 0)));
}

/* All reasons that there may be to close c, now. */
struct reasons
reasons_now(const struct tconn *c)
{
	struct reasons r = reasons_own(c);

	r.session = session_closes(c);
	/* -r does not protect it, and the newcomer may not be counted yet. */
	if (c != M[c->side].line[M[c->side].count - 1] && is_over(c) != 0)
		r.replaced = true;
	return r;
}

/* It may have left. */
static bool
may_be_gone(const struct tconn *c)
{
	struct reasons r = reasons_now(c);

	reasons_add(&r, &c->why);
	return c->gone || c->blurred || reasons_any(&r);
}

/*
 * Whether what c sends now is for nobody, and dropped: 1, 0 or UNCLEAR.  Its
 * session is over, or it leaves before one began.
 */
static int
is_for_nobody(const struct tconn *c)
{
	if (!C.sessions)
		return 0;
	if (c->partner != 0 || c->blurred)
		return is_over(c);
	if (c->gone)
		return 1;
	return may_be_gone(c) ? UNCLEAR : 0;
}

/* Whether the end of a session may drop what is held from side s. */
static bool
session_drops(int s)
{
	const struct tconn *receiver = newest(!s), *sender = newest(s);

	if (!C.sessions)
		return false;
	if (receiver != NULL)
		return may_be_gone(receiver);
	return sender == NULL || may_be_gone(sender);
}

/* "A session begins when both are there." */
static void
session_begins(struct tconn *c)
{
	struct tconn *other = newest(!c->side);

	if (!C.sessions || other == NULL || other->partner != 0)
		return;
	if (other->blurred || may_be_gone(other)) {
		c->blurred = other->blurred = true;
		return;
	}
	c->partner = other->serial;
	other->partner = c->serial;
}

/*
 * "Never a byte of a session to a client of another one": id is the sender.
 * Where it was unclear who came to whom, the first byte tells.
 */
static void
check_session(struct tconn *c, uint64_t id)
{
	const struct tconn *p;

	if (!C.sessions)
		return;
	if (c->blurred && c->partner == 0)
		c->partner = id;
	if (c->partner != id)
		violate("%s is sent bytes of connection %" PRIu64 ", and its "
		    "session is with %" PRIu64, conn_text(c), id, c->partner);
	p = partner(c);
	if (p == NULL || p->gone)
		COUNT(k_last);
}

/* Adds reasons that were seen at any time. */
static void
reasons_add(struct reasons *sum, const struct reasons *r)
{
	if (sum->told == 0)
		sum->told = r->told;
	sum->eof |= r->eof;
	sum->lingered |= r->lingered;
	sum->idle |= r->idle;
	sum->write |= r->write;
	sum->unheard |= r->unheard;
	sum->replaced |= r->replaced;
	sum->shutdown |= r->shutdown;
	sum->session |= r->session;
}

/* What is a reason now may not be one after bytes are dropped. */
static void
reasons_seen(struct tconn *c)
{
	struct reasons r;

	if (c == NULL)
		return;
	r = reasons_now(c);
	reasons_add(&c->why, &r);
}

static bool
reasons_any(const struct reasons *r)
{
	return r->told != 0 || r->eof || r->idle || r->write || r->replaced ||
	    r->shutdown || r->session || (program_is_1 && r->unheard);
}

/* Whether c counts as present: 1, 0 or UNCLEAR. */
int
is_present(struct tconn *c)
{
	struct reasons r;

	if (c == NULL || c->told != 0 || c->gone || c->silent)
		return 0;
	if (c != M[c->side].line[M[c->side].count - 1])
		return UNCLEAR;		/* a newcomer replaces it now */
	r = reasons_now(c);
	reasons_add(&r, &c->why);
	if (r.eof)
		return C.eof_keep == 0 || passed(c->eof, C.eof_keep) == 1 ?
		    0 : UNCLEAR;
	return r.idle || r.write || r.unheard || r.shutdown || r.session ||
	    c->shut ?
	    UNCLEAR : 1;
}

/*
 * "Only when data has waited for it, and it took no byte, for the time of -g,
 * is it stuck."  What it acknowledged in the last moment may not be known.
 */
static int
is_stuck(const struct tconn *c)
{
	int over = passed(c->took, C.grace);

	if (over == 0 && C.grace > 0 &&
	    passed(c->stuck, C.grace / 20 + 60 * MS) != 1)
		return UNCLEAR;
	return over;
}

/*
 * -H: "Hold data for an absent side no longer than this after it left; when it
 * was never there, after the start of the bridge."
 */
static int
is_expired(int s)
{
	if (C.expire == NEVER || is_present(newest(s)) == 1)
		return 0;
	if (W.now - M[s].t_present - C.expire < -TOLERANCE)
		return 0;
	if (M[s].t_absent == NEVER || is_present(newest(s)) != 0 ||
	    W.turn_paused)
		return UNCLEAR;
	return W.now - M[s].t_absent - C.expire > TOLERANCE ? 1 : UNCLEAR;
}

/* What is left to read of a client that goes. */
static uint64_t
left_to_read(const struct tconn *c)
{
	uint64_t most = least(c->in_most, c->in_arr);

	return c->eof_told || most < c->in_read ? 0 : most - c->in_read;
}

/*
 * "The one before is read for exactly what had arrived from it at that
 * moment."  The moment may be now, or has passed at the latest now.
 */
static void
may_leave(struct tconn *c)
{
	if (c->must_known)
		return;
	c->must_known = true;
	c->in_must = c->in_arr;
}

static void
has_left(struct tconn *c)
{
	may_leave(c);
	if (c->gone)
		return;
	c->gone = true;
	c->in_most = c->in_arr;
}

/* It does not leave, as is seen by what is done with it. */
static void
stays(struct tconn *c)
{
	if (c->gone)
		return;
	memset(&c->why, 0, sizeof c->why);
	c->must_known = false;
}

/*
 * "Any acknowledgement or any byte from it": it is not silent any more, and
 * counts as present from now on.
 */
static void
resumes(struct tconn *c)
{
	if (!c->silent)
		return;
	c->silent = false;
	if (oldest(!c->side) != NULL)	/* it is let go on from here */
		oldest(!c->side)->w_read.since = NEVER;
	if (c != newest(c->side) || c->gone)
		return;
	c->took = stamp_now();
	M[c->side].t_present = W.now;
	M[c->side].t_absent = NEVER;
	stays(c);
}

/* ---- Who comes -------------------------------------------------------- */

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

void
promise_accepted(struct tconn *c)
{
	struct promises *m;

	c->heard = c->took = c->owes = c->alive = stamp_now();
	if (c->side == METRICS)
		return;
	m = &M[c->side];
	if (newest(c->side) != NULL)
		may_leave(newest(c->side));
	if (m->count == PLACES_MAX)
		violate("%d clients of %s", m->count, side_text(c->side));
	m->line[m->count++] = c;
	reasons_seen(newest(c->side));
	if (m->count == 3)
		COUNT(k_queue3);
	if (m->count == program_clients)
		COUNT(k_all_places);
	if (m->count > 2 && !net_allows(c))
		COUNT(k_stranger);
}

/*
 * -r: "A newcomer replaces the client of its side only if that one has sent
 * nothing for this long."  One that has gone is not in the way.
 */
static void
check_replaces(const struct tconn *c, struct tconn *old)
{
	if (C.silent == 0 || is_present(old) != 1 || half_closed(old) ||
	    is_over(old) != 0 || old->dead || old->error != 0 || old->fin_arr)
		return;
	if (passed(old->heard, C.silent) == 0)
		violate("%s replaces %s, that was heard within -r",
		    conn_text(c), conn_text(old));
}

/*
 * event=contested: "Three times in a row one was replaced less than a minute
 * after it came."  Whether one was replaced, or had gone, is not always clear.
 */
static void
note_replaced(struct tconn *old)
{
	struct promises *m = &M[old->side];
	struct tale *t = &m->tales[TALE_REPLACED];
	int64_t age = W.now - old->t_let_in;
	bool surely = old->told == 0 && !old->eof_told && !old->fin_arr &&
	    !old->dead && old->error == 0 && !old->why.idle &&
	    !old->why.write && W.stops == 0 && !W.turn_paused;

	if (old->replaced_seen)
		return;
	old->replaced_seen = m->is_replaced = true;
	m->quick_most = turn_time() - old->t_let_in > 60 * SEC + TOLERANCE ?
	    0 : m->quick_most + 1;
	m->quick_least = surely && age < 60 * SEC - TOLERANCE ?
	    m->quick_least + 1 : 0;
	t->count++;
	t->t_event = turn_time();
	old->contested = t->t_line != NEVER || m->quick_most >= 3;
	if (surely && !t->unclear && (t->t_line != NEVER ||
	    m->quick_least >= 3))
		m->replaced++;
}

/* c is let in: it is the newest of its side. */
static void
let_in(struct tconn *c)
{
	struct promises *m = &M[c->side], *in = &M[!c->side];
	struct tconn *old = newest(c->side);

	if (!net_allows(c))
		violate("%s is let in from a net that is not", conn_text(c));
	if (c->faulty)
		violate("%s is let in without its flags", conn_text(c));
	check_options(c);
	if (old != NULL && old->serial > c->serial)
		violate("%s is let in after %s", conn_text(c),
		    conn_text(old));
	if (old != NULL && program_is_1)
		violate("two clients on side %s", side_text(c->side));
	if (old != NULL) {
		check_replaces(c, old);
		if (in->given > 0)
			violate("%s comes while %" PRIu64 " bytes that %s has "
			    "not acknowledged are not back", conn_text(c),
			    in->given, conn_text(old));
		note_replaced(old);
		has_left(old);
		old->why.replaced = true;
		if (left_to_read(old) > 0)
			COUNT(k_queue);
	}
	m->connects++;
	if (!m->is_replaced)
		m->quick_least = m->quick_most = 0;
	m->is_replaced = false;
	c->kept = true;
	c->t_let_in = turn_time();
	c->session = m->session = ++sessions;
	session_begins(c);
	c->heard = c->took = c->owes = c->alive = stamp_now();
	in->taker = c;
	m->t_absent = NEVER;
	if (in->held.bytes > 0)
		COUNT(b_replay);
	totals->conns++;
}

/* Who was let in shows by the number of connects. */
static void
settle_newcomer(int s, uint64_t connects)
{
	struct promises *m = &M[s];
	int i;

	if (connects == m->connects)
		return;
	if (connects != m->connects + 1)
		violate("%" PRIu64 " clients of %s came, not %" PRIu64,
		    connects, side_text(s), m->connects);
	for (i = 0; i < m->count && m->line[i]->kept; i++)
		continue;
	if (i == m->count)
		violate("nobody came to %s", side_text(s));
	let_in(m->line[i]);
}

/*
 * "A stranger is closed at once."  "Who is refused is closed without a byte,
 * and changes nothing."
 */
static void
check_refusal(struct tconn *c)
{
	struct promises *m = &M[c->side];
	struct tconn *old = newest(c->side);

	char peer[80];
	int tale = 0;

	snprintf(peer, sizeof peer, c->family == AF_UNSPEC ? "unknown:0" :
	    c->family == AF_INET6 ? "[fd00::%x]:%d" : "10.0.0.%d:%d",
	    c->host, c->port);
	if (old != NULL)
		stays(old);
	/* Who is refused tries again later. */
	W.actors[c->side].t_act += 8 * W.actors[c->side].period;
	if (c->in_read > 0 || c->out_sent > 0)
		violate("bytes passed with a client that is refused");
	if (!net_allows(c)) {
		COUNT(r_denied);
		tale = TALE_DENIED;
	} else if (c->faulty || c->fd >= FD_SETSIZE) {
		COUNT(r_limit);
		tale = TALE_LIMIT;
	} else if (C.silent > 0 && old != NULL && is_present(old) != 0 &&
	    !half_closed(old) && passed(old->heard, C.silent) != 1) {
		COUNT(r_busy);
		tale = TALE_BUSY;
		/* Others than Linux don't tell of it behind unread bytes. */
		if (!program_is_1 && !C.no_outq && (old->dead ||
		    old->error != 0 || old->fin_arr || is_over(old) == 1) &&
		    !(C.bsd && conn_unread(old) > 0))
			violate("%s is refused for %s, that has gone",
			    conn_text(c), conn_text(old));
	} else
		violate("%s is refused for no reason", conn_text(c));
	tale_note(&m->tales[tale], 1, peer);
}

/* ---- The accounts ----------------------------------------------------- */

/* Bytes of side s were dropped; what the log may say was the reason. */
static void
note_drop(int s, uint64_t size, bool overflow, bool expired, bool over)
{
	bool may[] = { overflow, expired, over };
	struct tale *t = &M[s].tales[overflow ? TALE_OVERFLOW :
	    expired ? TALE_EXPIRED : TALE_SESSION];
	int i;

	M[s].dropped += size;
	M[s].t_drop = turn_time();
	tale_note(t, size, "");
	t->session = P.conn != NULL && P.conn->side == s ?
	    P.conn->session : 0;
	if (overflow + expired + over < 2)
		return;
	M[s].unsure += size;
	for (i = 0; i < 3; i++)
		if (may[i])
			M[s].tales[TALE_OVERFLOW + i].unclear = true;
}

/*
 * "If the line comes back, the client is present again, and nothing is lost":
 * nothing is dropped for a silent client that has acknowledged something.
 */
static void
check_silent(int s)
{
	const struct tconn *r = newest(!s);

	if (r != NULL && r == M[s].taker && r->silent && !r->gone &&
	    !C.no_outq && !is_hidden(r) && r->counted < r->out_acked)
		violate("bytes of %s are dropped for %s, which was silent and "
		    "has acknowledged %" PRIu64 " more", side_text(s),
		    conn_text(r), r->out_acked - r->counted);
}

/*
 * "Past the capacity, new bytes are dropped, counted and logged": for an
 * absent receiver, or one that is stuck.  "-l: never drop."  "A read of up to
 * 4096 bytes is held or dropped whole."
 */
static void
check_drop(int s)
{
	struct tconn *r = newest(!s);
	int present = is_present(r), expired = is_expired(!s);
	int for_nobody = is_for_nobody(P.conn);

	note_drop(s, P.len, expired != 1 && for_nobody != 1, expired != 0 &&
	    for_nobody != 1, for_nobody != 0);
	if (for_nobody != 0) {
		COUNT(b_session_new);
		return;
	}
	check_silent(s);
	if (expired != 0) {
		COUNT(b_expire_new);
		return;
	}
	if (C.lossless)
		violate("%zu bytes of %s are dropped under -l", P.len,
		    side_text(s));
	if (P.len <= space(s))
		violate("%zu bytes dropped with room for %" PRIu64, P.len,
		    space(s));
	if (present == 1 && is_stuck(r) == 0)
		violate("%zu bytes dropped while %s is there and takes",
		    P.len, conn_text(r));
	if (present == 0)
		COUNT(b_drop_absent);
	else
		COUNT(b_drop_stuck);
}

/* The bytes that were read are kept. */
static void
store(int s)
{
	struct promises *m = &M[s];
	struct tconn *r = newest(!s);

	if (P.len > space(s))
		violate("%zu bytes stored where there is room for %" PRIu64,
		    P.len, space(s));
	if (is_expired(!s) == 1)
		violate("%zu bytes of %s stored after -H", P.len,
		    side_text(s));
	if (is_for_nobody(P.conn) == 1)
		violate("%zu bytes of %s stored, and its session is over",
		    P.len, conn_text(P.conn));
	if (space_true(s) == C.capacity && r != NULL)
		r->took = stamp_now();
	runq_push(&m->held, P.conn->serial, P.conn->in_read - P.len, P.len);
	if (m->held.bytes == C.capacity) {
		COUNT(b_full);
		if (M[!s].held.bytes == C.capacity)
			COUNT(k_both_full);
	}
	if ((m->tales[TALE_OVERFLOW].t_begin != NEVER ||
	    m->tales[TALE_EXPIRED].t_begin != NEVER ||
	    m->tales[TALE_SESSION].t_begin != NEVER) && !W.turn_paused &&
	    W.now - m->t_drop > SEC + TOLERANCE)
		m->end_due = true;
}

/*
 * "A byte is held from when it is received until the system of the client it
 * went to has acknowledged it."  sent is what was acknowledged.
 */
static void
settle_sent(int s, uint64_t n)
{
	struct promises *m = &M[s];
	struct tconn *c = m->taker;
	uint64_t known, left = n;

	if (c == NULL || n > m->given)
		violate("%s: %" PRIu64 " bytes counted as sent, %" PRIu64
		    " were", side_text(s), n, m->given);
	known = program_is_1 || C.no_outq ? c->out_sent : c->out_acked;
	if (c->counted + n > known)
		violate("%" PRIu64 " bytes counted as sent to %s, which has "
		    "acknowledged %" PRIu64, c->counted + n, conn_text(c),
		    known);
	c->counted += n;
	resumes(c);
	m->given -= n;
	m->sent += n;
	m->back -= least(m->back, n);
	while (left > 0)
		left -= runq_take(&m->held, left).len;
}

/*
 * "When a client goes, what it had not acknowledged goes, from the first such
 * byte and in order, to the next client of that side, before anything newer."
 */
static void
settle_back(int s, uint64_t n)
{
	struct promises *m = &M[s];
	struct tconn *c = m->taker;

	m->unacked += n;
	if (program_is_1)
		return;
	if (c == NULL || n != m->given)
		violate("%s: %" PRIu64 " bytes came back, %" PRIu64 " were on "
		    "their way", side_text(s), n, m->given);
	if (!C.no_outq && n != conn_unacked(c) && !(is_hidden(c) &&
	    n > conn_unacked(c)))
		violate("%" PRIu64 " bytes came back from %s, which has %"
		    PRIu64 " not acknowledged", n, conn_text(c),
		    conn_unacked(c));
	reasons_seen(c);
	COUNT(k_back);
	NOTE("%" PRIu64 " bytes are back from %s", n, conn_text(c));
	c->back = n;
	c->settled = true;
	m->given = 0;
	m->back = n;
	has_left(c);
}

/*
 * "-H expires all that is held": but not what a silent client may yet get.
 * "What is held for a client that goes is dropped" (-o).
 */
static void
settle_expired(int s, uint64_t n)
{
	struct promises *m = &M[s];
	int expired = is_expired(!s);
	bool over = session_drops(s);

	if (expired == 0 && !over)
		violate("%" PRIu64 " bytes of %s dropped without a cause", n,
		    side_text(s));
	if (n != m->held.bytes - m->given)
		violate("%" PRIu64 " bytes expired of %" PRIu64 " held and "
		    "not on their way", n, m->held.bytes - m->given);
	check_silent(s);
	if (over)
		COUNT(b_session);
	else
		COUNT(b_expire);
	reasons_seen(newest(!s));
	note_drop(s, n, false, expired != 0, over);
	runq_cut(&m->held, m->given);
	m->back = 0;
}

/* What the program did with the bytes that it read, and what it dropped. */
static void
settle_read(int s, uint64_t received, uint64_t dropped, uint64_t held)
{
	struct promises *m = &M[s];
	bool mine = P.conn != NULL && P.conn->side == s;
	uint64_t len = mine ? P.len : 0;

	if (received != m->received + len)
		violate("read %" PRIu64 " bytes, but received of %s grew by %"
		    PRIu64, len, side_text(s), received - m->received);
	m->received = received;
	if (mine && dropped >= len && (len > space(s) ||
	    is_expired(!s) == 1 || (dropped == len && held == m->held.bytes))) {
		check_drop(s);
		dropped -= len;
	} else if (mine)
		store(s);
	if (dropped > 0)
		settle_expired(s, dropped);
	if (mine) {
		totals->bytes += len;
		P.conn = NULL;
		m->w_slow.since = NEVER;
	}
}

/*
 * "received = sent + dropped + held, at every moment."  "No counter ever goes
 * back."
 */
static void
settle_direction(int s)
{
	const struct counts now = program->counts(s);
	struct promises *m = &M[s];

	if (now.received < m->received || now.sent < m->sent ||
	    now.dropped < m->dropped || now.unacked < m->unacked)
		violate("a counter of %s goes back: received %" PRIu64
		    ", was %" PRIu64 ", sent %" PRIu64 ", was %" PRIu64,
		    side_text(s), now.received, m->received, now.sent,
		    m->sent);
	if (now.sent > m->sent)
		settle_sent(s, now.sent - m->sent);
	if (now.unacked > m->unacked)
		settle_back(s, now.unacked - m->unacked);
	if ((P.conn != NULL && P.conn->side == s) ||
	    now.received != m->received || now.dropped != m->dropped)
		settle_read(s, now.received, now.dropped - m->dropped,
		    now.held);
	if (now.held != m->held.bytes)
		violate("%" PRIu64 " bytes of %s are held, not %" PRIu64,
		    now.held, side_text(s), m->held.bytes);
	if (now.away != m->given && !program_is_1)
		violate("%" PRIu64 " bytes of %s are on their way, not %"
		    PRIu64, now.away, side_text(s), m->given);
	if (now.received != now.sent + now.dropped + now.held)
		violate("received is not sent + dropped + held");
}

/* Brings the account up to what the program did since its last call. */
void
settle(void)
{
	int s;

	for (s = 0; s < 2; s++)
		settle_direction(s);
	for (s = 0; s < 2; s++)
		settle_newcomer(s, program->counts(s).connects);
}

/* "Totals, metrics and log lines are exact at the moment they are made." */
void
promise_exact(int s, const char *what)
{
	const struct tconn *c = M[s].taker;

	if (program_is_1 || C.no_outq || c == NULL || c->settled ||
	    is_hidden(c))
		return;
	if (c->counted != c->out_acked)
		violate("%s says that %" PRIu64 " bytes went to %s, which has "
		    "acknowledged %" PRIu64, what, c->counted, conn_text(c),
		    c->out_acked);
}

/* ---- What is read ----------------------------------------------------- */

/*
 * "While 256 KiB or more are held for it, the sender is not read."  "A read of
 * up to 4096 bytes is held or dropped whole."
 */
void
promise_recv(const struct tconn *c, size_t len)
{
	struct tconn *r;
	uint64_t unread = least(conn_unread(c), SHORT_READ);
	int present, stuck;

	if (c->side == METRICS || W.stops > 0)
		return;
	if (!c->kept)
		violate("%s is read before it is let in", conn_text(c));
	r = newest(!c->side);
	if (C.sessions && r != NULL && c->partner != r->serial)
		return;			/* it is read to be dropped */
	present = r == NULL ? 0 : is_present(r);
	stuck = present == 1 ? is_stuck(r) : 1;
	if (present == 1 && stuck == 0 && unread > 0 && (program_is_1 ||
	    r->counted == r->out_acked) && unsent_for(!c->side) >=
	    least(HIGH_WATER, C.capacity))
		violate("%s is read while %" PRIu64 " bytes wait for %s",
		    conn_text(c), unsent_for(!c->side), conn_text(r));
	/* It may have heard late of what was taken last, without a clock to ask
	 * by at any time. */
	if (present == 1 && C.keepalive == 0 && C.write == 0)
		return;
	if (present == 1 && passed(r->took, 2 * C.grace + C.write / 20 +
	    C.keepalive / 2 + SOON) != 1)
		return;
	if (present != UNCLEAR && stuck == 1 && !C.lossless &&
	    !c->must_known && len < unread && space(c->side) < unread)
		violate("%zu bytes read of a message of %" PRIu64
		    " for which there is no room", len, unread);
}

/*
 * "It reads the oldest."  "The one before is read, before the newcomer is, for
 * exactly what had arrived from it."
 */
void
promise_read(struct tconn *c, size_t n)
{
	const struct promises *m = &M[c->side];
	int i;

	for (i = 0; m->line[i] != c; i++)
		if (left_to_read(m->line[i]) > 0 && W.stops == 0)
			violate("%s is read before %s", conn_text(c),
			    conn_text(m->line[i]));
	if (c->in_read > c->in_most && W.stops == 0)
		violate("%s is read for more than had arrived from it when it "
		    "was given up", conn_text(c));
	c->w_read.since = c->w_held.since = NEVER;
	if (program->wraps(c->side, n))
		COUNT(b_wrap);
	if (program_is_1 && W.stops > 0)
		return;
	resumes(c);
	if (!c->gone)
		c->heard = c->owes = c->alive = stamp_now();
	P.conn = c;
	P.len = n;
}

/* ---- What is sent ----------------------------------------------------- */

void
promise_send(struct tconn *c, size_t len)
{
	if (c->side == METRICS) {
		if (strncmp(c->request, "GET /metrics", 12) == 0) {
			promise_exact(SIDE_A, "a metric");
			promise_exact(SIDE_B, "a metric");
		}
		return;
	}
	if (c != newest(c->side))
		violate("%s is sent to, which is not the newest of its side",
		    conn_text(c));
	if (len > unsent_for(c->side))
		violate("send() of %zu bytes, %" PRIu64 " wait", len,
		    unsent_for(c->side));
	c->w_send.since = NEVER;
	stays(c);
}

/* Says where in the ring, if anywhere, the bytes at p come from. */
static void
locate(int s, const unsigned char *p, size_t n, uint64_t from)
{
	const struct runq *q = &M[s].held;
	uint64_t skip = 0, k;
	size_t i, want;
	struct run *r;

	for (i = 0; i < q->count; i++) {
		r = runq_at(q, i);
		for (k = 0; k < r->len && skip + k < 1000000; k++) {
			want = (size_t)least(n < 16 ? n : 16, r->len - k);
			if (stream_match(p, r->id, r->off + k, want) == want)
				violate("side %s is sent byte %" PRIu64 " of "
				    "those held, not byte %" PRIu64,
				    side_text(!s), skip + k, from);
		}
		skip += r->len;
	}
	violate("side %s is sent bytes that are not held", side_text(!s));
}

/* Goes to byte `from` of what is held; returns the run that it is in. */
static size_t
find_run(const struct runq *q, uint64_t from, uint64_t *skip)
{
	size_t i;

	for (i = 0; i < q->count && from >= runq_at(q, i)->len; i++)
		from -= runq_at(q, i)->len;
	*skip = from;
	return i;
}

/*
 * "What is held, and comes back unacknowledged from the one before, first."
 * "Order holds": what is sent follows what was sent.
 */
void
promise_sent(struct tconn *c, const void *buf, size_t n, size_t len)
{
	struct promises *m = &M[!c->side];
	const struct runq *q = &m->held;
	const unsigned char *p = buf;
	size_t i, part, done = 0, check = least(len, n + 64);
	uint64_t skip;
	struct run *r;

	m->taker = c;
	for (i = find_run(q, m->given, &skip); done < check; i++, skip = 0) {
		r = runq_at(q, i);
		part = (size_t)least(check - done, r->len - skip);
		check_session(c, r->id);
		if (stream_match(p + done, r->id, r->off + skip, part) != part)
			locate(!c->side, p + done, part, m->given + done);
		if (done < n)
			runq_push(&c->out, r->id, r->off + skip,
			    least(part, n - done));
		done += part;
	}
	if (m->given == 0)
		c->owes = c->alive = stamp_now();
	if (program_is_1 || C.no_outq)
		c->took = stamp_now();
	if (m->given < m->back)
		COUNT(k_next);
	m->given += n;
}

/* A client's system has acknowledged something, and ours knows. */
void
promise_acked(struct tconn *c)
{
	if (c->side == METRICS || C.no_outq)
		return;
	if (passed(c->took, C.grace - C.grace / 20) != 0)
		c->stuck = stamp_now();
	c->took = c->owes = c->alive = stamp_now();
}

/* ---- Who goes --------------------------------------------------------- */

/* The facts of a client's life, now. */
struct grave
client_facts(struct tconn *c)
{
	struct grave g;

	memset(&g, 0, sizeof g);
	reasons_seen(c);
	g.session = c->session;
	g.side = c->side;
	g.why = c->why;
	g.received = c->in_read;
	g.sent = program_is_1 ? c->out_sent : c->counted;
	g.unacked = program_is_1 ? (C.no_outq ? 0 : conn_unacked(c)) : c->back;
	return g;
}

/*
 * "Its bytes go to the next client, so it is aborted, or its system may still
 * deliver them later."
 */
static void
check_abort(const struct tconn *c)
{
	if (program_is_1)
		return;
	if (M[!c->side].taker == c && M[!c->side].given > 0)
		violate("%s is closed with %" PRIu64 " bytes on their way that "
		    "are not back", conn_text(c), M[!c->side].given);
	if (c->back == 0 || c->dead || conn_unacked(c) == 0 ||
	    (W.stops > 0 && !C.file && c == newest(c->side)))
		return;		/* a stop without -f has no next client */
	if (!c->abort)
		violate("%s is closed without an abort, and gets %" PRIu64
		    " bytes that came back", conn_text(c), conn_unacked(c));
	COUNT(k_abort);
}

/*
 * A stop: "What had arrived from clients when the signal came is received and
 * passed on, within the 2 seconds."
 */
static void
check_stop(const struct tconn *c, const struct reasons *r)
{
	bool early = W.now < W.t_stop + STOP_SPAN - TOLERANCE;

	if (W.stops != 1)
		return;
	if (r->told != 0 || r->eof || r->idle || r->write || r->unheard ||
	    r->replaced || r->session) {
		if (c->shut && M[!c->side].held.bytes == 0)
			COUNT(s_drained);
	} else if (early)
		violate("%s is closed before the time is up", conn_text(c));
	else
		COUNT(s_timeup);
	if (early && !program_is_1 && c->told == 0 &&
	    c->turn_again + 1 < W.turn &&
	    c->in_read < least(c->in_stop, c->in_arr))
		violate("%s is closed, and %" PRIu64 " bytes that had come "
		    "before the stop are not read", conn_text(c),
		    c->in_stop - c->in_read);
}

/*
 * "A client goes on EOF, reset, timeout or error.  All that it had sent before
 * is received first."
 */
static void
check_leaving(struct tconn *c)
{
	struct grave g = client_facts(c);
	uint64_t had = c->must_known ? least(c->in_must, c->in_arr) :
	    c->in_arr;

	if (!reasons_any(&g.why))
		violate("%s is closed for no reason", conn_text(c));
	check_abort(c);
	check_stop(c, &g.why);
	if (c->in_read < had && !c->eof_told && W.stops == 0 &&
	    c->turn_again + 1 < W.turn && !(program_is_1 && g.why.told))
		violate("%s is closed with %" PRIu64 " bytes unread that had "
		    "arrived before", conn_text(c), had - c->in_read);
	c->passed_on = W.stops == 0 || C.file || c != newest(c->side);
	/* A reset may have destroyed some of it since. */
	if (W.stops > 0 && !c->eof_told)
		W.unread += (c->in_most != UINT64_MAX ? c->in_most :
		    c->in_arr) - c->in_read;
	graves[c->session % 64] = g;
	if (M[!c->side].taker == c)
		M[!c->side].taker = NULL;
}

void
promise_closed(struct tconn *c)
{
	struct promises *m = &M[c->side];
	int i;

	if (c->kept && c != m->line[m->count - 1])
		note_replaced(c);
	if (c->kept)
		check_leaving(c);
	else
		check_refusal(c);
	for (i = 0; m->line[i] != c; i++)
		continue;
	m->count--;
	memmove(&m->line[i], &m->line[i + 1], (size_t)(m->count - i) *
	    sizeof (struct tconn *));
	if (c->kept && newest(c->side) == NULL && m->t_absent == NEVER)
		m->t_absent = W.now;
}

void
promise_stop(void)
{
	struct tconn *c;
	int i, s;

	for (s = 0; s < 2; s++)
		for (i = 0; i < M[s].count; i++) {
			c = M[s].line[i];
			c->in_stop = c->must_known ? c->in_must : c->in_arr;
		}
}

/* A stop, and the end of a session: "each that has all gets EOF". */
void
promise_shutdown(const struct tconn *c)
{
	if (c->side != METRICS && ((W.stops == 0 && is_over(c) == 0) ||
	    unsent_for(c->side) > 0))
		violate("%s is half-closed with %" PRIu64 " bytes unsent",
		    conn_text(c), unsent_for(c->side));
}

/* ---- What has to happen in time --------------------------------------- */

/*
 * "Whoever dials is accepted at once."  It waits while all places of the side
 * are taken, and for a second after a lack of descriptors or memory.
 */
static void
watch_door(struct vlisten *l)
{
	bool may = W.stops == 0 && !l->closed && l->queued > 0 &&
	    (l->t_rest == NEVER || W.now > l->t_rest + REST) &&
	    (l->side == METRICS || M[l->side].count < program_clients);

	must(&l->w_accept, may, SOON, "%s of %s waits in the backlog%s",
	    may && !net_allows(l->queue[0]) ? "a stranger" : "somebody",
	    side_text(l->side), l->side != METRICS && M[l->side].count > 1 ?
	    ", while a newcomer waits" : "");
}

/* "Who dials is served or refused, at once." */
static void
watch_newcomer(struct tconn *c)
{
	struct tconn *old = newest(c->side);

	must(&c->w_decide, !c->kept && W.stops == 0, SOON_DECIDED,
	    "%s is neither refused nor let in; %s: told %d, %" PRIu64
	    " unread, %" PRIu64 " held, %" PRIu64 " wait for it; other side: "
	    "%d clients, room %" PRIu64, conn_text(c), old == NULL ?
	    "nobody is there" : conn_text(old), old == NULL ? 0 : old->told,
	    old == NULL ? 0 : conn_unread(old), M[c->side].held.bytes,
	    M[!c->side].held.bytes, M[!c->side].count, space(!c->side));
}

/*
 * "What waits for a side reaches a client there that reads, whatever the
 * clients of the other side do."
 */
static void
watch_sending(int s)
{
	struct tconn *c = newest(s);

	if (c == NULL)
		return;
	must(&c->w_send, W.stops == 0 && is_present(c) == 1 && !c->shut &&
	    !c->dead && unsent_for(s) > 0 && conn_takes(c), SOON,
	    "%" PRIu64 " bytes wait for %s, which takes, and are not sent",
	    unsent_for(s), conn_text(c));
}

/* Whether what side s sends has a place to go, or is to be dropped. */
static bool
has_place(int s)
{
	struct tconn *r = newest(!s);
	int present = is_present(r);
	bool room = space_true(s) > 0;

	if (room && unsent_for(!s) < least(HIGH_WATER, C.capacity))
		return true;
	return present == 0 && (room || !C.lossless);
}

/*
 * "Looks for acknowledgements each half of this time", of -k, so it may notice
 * by so much later that a silent client is back.
 */
static int64_t
asked_late(const struct tconn *r)
{
	if (r == NULL || !r->silent)
		return 0;
	return C.keepalive > 0 ? C.keepalive / 2 : C.write / 4;
}

/*
 * "A sender is read when there is room and its receiver takes."  "Hold a
 * sender back until its receiver has taken no byte for -g": the program may
 * have heard late of what it took last, so the sender waits for twice that.
 */
static void
watch_reading(int s)
{
	struct tconn *c = oldest(s), *r = newest(!s);
	bool comes;

	if (c == NULL)
		M[s].w_slow.since = NEVER;
	if (c == NULL)
		return;
	if (C.sessions && r != NULL && c->partner != r->serial) {
		if (c->partner == 0 && !c->blurred && is_over(r) == 1)
			COUNT(k_waits);
		c->w_held.since = c->w_read.since = M[s].w_slow.since = NEVER;
		return;
	}
	comes = W.stops == 0 && conn_wakes(c) && !c->eof_told &&
	    !(c->gone && left_to_read(c) == 0);
	must(&c->w_held, comes && !C.lossless && r != NULL &&
	    is_present(r) == 1 &&
	    is_stuck(r) == 1, C.grace + C.grace / 10 + SOON_ROOM,
	    "%s is not read, and %s is stuck", conn_text(c),
	    r == NULL ? "-" : conn_text(r));
	/* Or a part of the 5 seconds counts twice. */
	must(&M[s].w_slow, comes && !M[s].slow && W.log_faults == 0 &&
	    !program_is_1, 10 * SEC + SOON, "%s is held back, and no line "
	    "tells", conn_text(c));
	must(&c->w_read, comes && has_place(s), SOON_ROOM + asked_late(r),
	    "%s is not read: %" PRIu64 " bytes have come, there is room for %"
	    PRIu64, conn_text(c), conn_unread(c), space_true(s));
}

/*
 * "A client given up is closed" when all that had arrived from it is read.
 * Something that waits is told.
 */
static void
watch_leaving(struct tconn *c)
{
	bool goes = c->gone && W.stops == 0;

	must(&c->w_close, goes && left_to_read(c) == 0 && (c->eof_told ||
	    c->in_read >= c->in_most || has_place(c->side)), SOON,
	    "%s stays after it is read out", conn_text(c));
	must(&c->w_leaving, goes && !c->leaving_told && !C.quiet &&
	    !c->contested &&
	    W.log_faults == 0 && !program_is_1, SOON,
	    "%s waits to be read out, and no line tells", conn_text(c));
}

/*
 * -o: "When a client goes, the other one is closed, too": 2 seconds after it
 * has acknowledged all, or when it has taken nothing for the time of -w, of
 * which the program may hear late.
 */
static void
watch_session(struct tconn *c)
{
	bool over = C.sessions && c == newest(c->side) && W.stops == 0 &&
	    is_over(c) == 1;

	must(&c->w_over, over && M[!c->side].held.bytes > 0 &&
	    passed(c->took, C.write + C.write / 3) == 1, SOON_ROOM,
	    "%s stays after its session, and takes nothing",
	    conn_text(c));
	must(&c->w_over_all, over && partner(c) == NULL &&
	    space_true(!c->side) == C.capacity, STOP_SPAN + SOON_ROOM,
	    "%s stays after its session, and has all", conn_text(c));
}

/* Whether this client's system answers while its program takes nothing. */
bool
hangs(const struct tconn *c)
{
	return !c->vanished && !conn_cut(c) && !c->dead &&
	    conn_unacked(c) > 0 && conn_flight(c) == 0;
}

/*
 * -w: "Close a client that takes no byte for this long while data waits for
 * it", where its system answers.  Then it counts as given up.
 */
static void
watch_write(struct tconn *c)
{
	int64_t limit = C.write + C.write / 3 + C.keepalive / 2 + SOON;
	bool over = C.write > 0 && !C.no_outq && c == newest(c->side) &&
	    M[!c->side].held.bytes > 0 && hangs(c) && !c->silent &&
	    W.log_faults == 0 &&
	    (C.keepalive == 0 || 2 * C.keepalive > limit) &&
	    passed(c->took, limit) == 1;

	if (over && W.stops == 0)
		has_left(c);
}

/*
 * "A client that acknowledges nothing for 2 x -k is told, and counts as
 * absent, but its socket stays open."  "If the line comes back, the client is
 * present again."
 */
static void
watch_silent(struct tconn *c)
{
	int64_t limit = 2 * C.keepalive + C.keepalive / 2 + SEC;

	/* Its window is shut, and it answers. */
	if (conn_flight(c) == 0 && c->t_unreached == 0 && !c->dead)
		c->flies = stamp_now();
	must(&c->w_silent, !program_is_1 && W.stops == 0 && C.keepalive > 0 &&
	    !C.quiet && W.log_faults == 0 && c == newest(c->side) &&
	    M[!c->side].taker == c && M[!c->side].given > 0 && !c->gone &&
	    !c->silent && !c->eof_told && !c->why.write && conn_unread(c) == 0 &&
	    passed(c->alive, limit) == 1 && passed(c->flies, limit) == 1, SOON,
	    "%s has acknowledged nothing, and no line tells", conn_text(c));
	must(&c->w_deaf, W.stops == 0 && c->silent && !c->gone && !c->dead &&
	    c == newest(c->side) && !c->eof_told && c->t_unreached == 0 &&
	    conn_unacked(c) == 0, SOON_ROOM + asked_late(c),
	    "%s has acknowledged all, and counts as silent", conn_text(c));
}

/* -e and -i are over, or a call told the end: the client is given up. */
static void
find_gone(struct tconn *c)
{
	struct reasons r;

	if (!c->kept)
		return;
	r = reasons_now(c);
	reasons_add(&c->why, &r);
	if (r.told != 0 || r.eof || r.idle || r.write || r.session ||
	    (program_is_1 && r.unheard))
		may_leave(c);
	if (W.turn_paused || W.stops > 0)
		return;
	if (r.told != 0 || (r.eof && (C.eof_keep == 0 ||
	    passed(c->eof, C.eof_keep) == 1)) ||
	    (r.idle && passed(c->heard, C.idle) == 1))
		has_left(c);
	watch_write(c);
}

/* "What is held is dropped when -H is over." */
static void
watch_expiry(int s)
{
	must(&M[s].w_expire, W.stops == 0 && is_expired(!s) == 1 &&
	    M[s].held.bytes > M[s].given, SOON,
	    "%" PRIu64 " bytes of %s are held after -H",
	    M[s].held.bytes - M[s].given, side_text(s));
}

/*
 * "Told when it begins, then 1, 10 and 60 seconds later": two who replace each
 * other.
 */
static void
watch_contest(int s)
{
	struct promises *m = &M[s];
	struct tale *t = &m->tales[TALE_REPLACED];
	/* -q does not tell the end of a contest. */
	bool may = W.log_faults == 0 && W.stops == 0 && !t->unclear && !C.quiet;

	if (may && t->t_early != NEVER && W.now - t->t_early > SOON)
		violate("a contest of %s is told too often", side_text(s));
	must(&t->w_tell, may && m->replaced > 0 && (t->t_line == NEVER ||
	    W.now > tale_due(t)), SOON, "clients of %s replace each other, "
	    "and no line tells", side_text(s));
	must(&t->w_end, may && t->t_line != NEVER &&
	    W.now > t->t_event + 300 * SEC, SOON,
	    "a contest of %s has no end", side_text(s));
}

/* What comes in runs is told. */
static void
watch_log(int s)
{
	static const char *const names[TALES] = { "overflows",
	    "expiries", "drops of ended sessions", "", "denials",
	    "refusals of the busy", "refusals for a lack" };
	struct promises *m = &M[s];
	bool may = W.log_faults == 0 && W.stops == 0;
	int i;

	for (i = 0; i < TALES; i++)
		if (i != TALE_REPLACED)
			tale_watch(&m->tales[i], names[i], s);
	watch_contest(s);
	if (may && m->end_due && !C.quiet && W.frozen == 0)
		violate("a run of drops of %s has no end", side_text(s));
}

/* All that has to happen in time; looked at whenever time has passed. */
void
promise_watch(void)
{
	struct tconn *c;
	int i, s;

	if (W.turn_paused || W.frozen != 0)
		return;
	must(&w_signal, W.pending[SIGTERM], program_is_1 ? 2 * SEC : SOON,
	    "a stop signal is not let in");
	for (i = 0; i < W.ndoors; i++)
		watch_door(&W.doors[i]);
	for (s = 0; s < 2; s++) {
		for (i = 0; i < M[s].count; i++) {
			c = M[s].line[i];
			watch_newcomer(c);
			watch_leaving(c);
			watch_silent(c);
			watch_session(c);
		}
		watch_sending(s);
		watch_reading(s);
		watch_expiry(s);
		watch_log(s);
	}
}

/* ---- What it costs ---------------------------------------------------- */

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

/* In how many directions bytes wait for somebody, so that it may be asked. */
static int
waits(void)
{
	return (M[0].held.bytes > 0 || M[1].count > 1) +
	    (M[1].held.bytes > 0 || M[0].count > 1);
}

/* "20 times within -g or -w where bytes wait", or a second. */
static int64_t
asking_span(void)
{
	int64_t span = SEC;

	if (C.write > 0)
		span = sooner(span, C.write);
	if (!C.lossless && C.grace > 0)
		span = sooner(span, C.grace);
	return span;
}

/*
 * "Idle is 0 wake-ups."  "A full ring that waits for acknowledgements costs no
 * more than some 20 wake-ups a second in the long run."  Turns that change nothing must not follow each other.
 */
static void
check_cost(const fd_set *r, const fd_set *w)
{
	int64_t now = W.now - W.away.hi;
	uint64_t most = WAKES_IDLE;

	if (W.progress || memcmp(r, &W.last_r, sizeof *r) != 0 ||
	    memcmp(w, &W.last_w, sizeof *w) != 0)
		W.idle_turns = 0;
	else if (++W.idle_turns > 3)
		violate("%d turns without progress", W.idle_turns);
	W.last_r = *r;
	W.last_w = *w;
	W.t_acted = sooner(W.t_acted, now);
	if (W.acted || !W.timed_out || C.stats > 0) {
		if (W.acted) {
			W.empty = 0;
			W.t_acted = now;
			W.acted_all++;
		}
	} else {
		W.empty++;
		W.empty_all++;
		if (waits() > 0)
			most = WAKES_FIRST + (uint64_t)((now - W.t_acted) *
			    WAKES_SECOND * waits() / asking_span());
		if (W.empty > most)
			violate("%" PRIu64 " wake-ups for nothing in %.3f s",
			    W.empty, (double)(now - W.t_acted) / 1e9);
		if (W.empty_all > 1000 + 4 * W.acted_all +
		    (uint64_t)(W.now * 2 * WAKES_SECOND / asking_span()))
			violate("%" PRIu64 " wake-ups for nothing, %" PRIu64
			    " for something", W.empty_all, W.acted_all);
	}
	W.progress = W.acted = false;
	W.turn_calls = 0;
}

/* The sets hold only what is open. */
static void
check_sets(int nfds, const fd_set *r, const fd_set *w)
{
	int i, fd, known_r = 0, known_w = 0, top = -1, scrapes = 0;

	for (i = 0; i < W.nlive + W.ndoors; i++) {
		fd = i < W.nlive ? W.live[i]->fd : W.doors[i - W.nlive].fd;
		if (fd < 0)
			continue;
		if (i < W.nlive && W.live[i]->side == METRICS) {
			scrapes++;
			check_options(W.live[i]);
		}
		if (fd >= FD_SETSIZE)
			violate("descriptor %d is kept", fd);
		known_r += FD_ISSET(fd, r) != 0;
		known_w += FD_ISSET(fd, w) != 0;
		if (i < W.nlive)
			W.live[i]->watched = FD_ISSET(fd, r) != 0;
		if (fd > top && (FD_ISSET(fd, r) || FD_ISSET(fd, w)))
			top = fd;
	}
	if (scrapes > SCRAPES_MAX)
		violate("%d metrics clients at a time", scrapes);
	for (i = 0; i < 2; i++)
		if (M[i].count > program_clients)
			violate("%d clients of %s", M[i].count, side_text(i));
	if (set_count(r) != known_r || set_count(w) != known_w)
		violate("a descriptor that is not open is waited for");
	if (nfds <= top)
		violate("nfds is %d, descriptor %d is waited for", nfds, top);
}

/* "A connection lasts 2 seconds at most": of metrics clients. */
static void
check_scrapes(void)
{
	int i;

	for (i = 0; C.metrics && i < W.nlive; i++)
		if (W.live[i]->side == METRICS && W.live[i]->fd >= 0 &&
		    passed(W.live[i]->heard, SCRAPE_SPAN + SOON) == 1)
			violate("a metrics client stays");
}

/* The program is about to wait: all of its turn is done. */
void
promise_turn(int nfds, const fd_set *r, const fd_set *w,
    const struct timespec *ts)
{
	struct promises *m;
	int i;

	check_cost(r, w);
	check_sets(nfds, r, w);
	check_scrapes();
	if (ts == NULL)
		COUNT(waits_forever);
	else if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec > 999999999)
		violate("timeout of %ld s %ld ns", (long)ts->tv_sec,
		    ts->tv_nsec);
	for (m = M; m < M + 2; m++) {
		for (i = 0; i < m->count; i++) {
			/* "A stranger is closed at once." */
			if (!net_allows(m->line[i]) && W.stops == 0)
				violate("a stranger, %s, is not closed",
				    conn_text(m->line[i]));
			find_gone(m->line[i]);
		}
		if (is_present(newest((int)(m - M))) == 1) {
			m->t_present = W.now;
			m->t_absent = NEVER;
		} else if (is_present(newest((int)(m - M))) == 0 &&
		    m->t_absent == NEVER)
			m->t_absent = W.now;
	}
	promise_watch();
}

/*
 * It wakes: clocks that stand still while a client is not read, or nothing
 * waits for it.
 */
void
promise_wake(struct stamp before)
{
	struct stamp now = stamp_now();
	struct tconn *c;
	int i, s;

	for (s = 0; s < 2; s++) {
		for (i = 0; i < M[s].count; i++) {
			c = M[s].line[i];
			if (!c->watched) {
				c->heard.lo += now.lo - before.lo;
				c->heard.hi = now.hi;
			}
			if (space_true(!s) == C.capacity)
				c->took = now;
			if (space_true(!s) == C.capacity)
				M[!s].t_none = W.now;
			if (conn_unacked(c) == 0)
				c->owes = now;
		}
		if (is_present(newest(s)) == 1)
			M[s].t_present = W.now;
	}
}

void
promise_begin(void)
{
	int i, t;

	for (i = 0; i < 2; i++) {
		for (t = 0; t < TALES; t++)
			tale_begin(&M[i].tales[t]);
		M[i].w_expire.since = M[i].w_slow.since = NEVER;
	}
}

/* What has to be true when the program ends. */
void
promise_end(int status)
{
	int s, t;

	settle();
	if (status != 0)
		violate("exit status %d", status);
	if (W.stops == 0)
		violate("the program ends of itself");
	if (W.now > W.t_stop + STOP_SPAN + SOON + W.away.hi -
	    W.away_at_stop && C.pause == 0)
		violate("stopping took %.6f s",
		    (double)(W.now - W.t_stop) / 1e9);
	for (s = 0; s < 2; s++) {
		if (M[s].count > 0)
			violate("the client of %s is not closed",
			    side_text(s));
		for (t = TALE_DENIED; t < TALES && W.log_faults == 0; t++)
			if (M[s].tales[t].count != M[s].tales[t].told)
				violate("refusals were never told");
		if (W.log_faults == 0 && M[s].dropped != M[s].dropped_told)
			violate("drops were never told");
		if (M[s].replaced > 0 && W.log_faults == 0 && !C.quiet &&
		    M[s].tales[TALE_REPLACED].t_line != NEVER)
			violate("those replaced were never told");
	}
}

/*
 * -f: "At a stop, save what is held; at the start, take it up": what was held
 * is held again, in order, unless the stop said that it was not saved.
 */
void
promise_again(void)
{
	struct promises *m;

	if (disk_has(SAVE_NAME ".new"))
		violate("a file that is not whole is left");
	if (W.log_faults == 0 && disk_has(SAVE_NAME) != (M[0].held.bytes +
	    M[1].held.bytes > 0 && !W.save_failed))
		violate("%" PRIu64 " bytes are held at the end, and there is "
		    "%s file", M[0].held.bytes + M[1].held.bytes,
		    disk_has(SAVE_NAME) ? "a" : "no");
	for (m = M; m < M + 2; m++) {
		if (!disk_has(SAVE_NAME)) {
			runq_clear(&m->held);
			M[0].t_present = M[1].t_present = W.now;
			M[0].t_absent = M[1].t_absent = W.now;
		}
		m->received = m->held.bytes;
		m->sent = m->dropped = m->unacked = m->given = 0;
		m->connects = m->session = 0;
		m->dropped_told = m->unsure = m->replaced = 0;
		m->quick_least = m->quick_most = 0;
		memset(m->tales, 0, sizeof m->tales);
		m->taker = NULL;
		m->end_due = m->is_replaced = m->slow = false;
		m->t_drop = m->t_none = W.now;
	}
	memset(graves, 0, sizeof graves);
	sessions = 0;
	w_signal.since = NEVER;
	promise_begin();
}
