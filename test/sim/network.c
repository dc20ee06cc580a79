/*
 * network.c - TCP connections, both kernels and the way between
 *
 * A connection has finite buffers, a latency and a rate.  It can be reset, its
 * peer can vanish, and the line of a side can be cut and mended: then bytes
 * and their acknowledgements wait both ways, and go on when it is mended, as
 * TCP sends again.  What our system knows of the peer is what the last
 * acknowledgement said.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t
conn_unread(const struct tconn *c)
{
	return c->in_arr - c->in_read;
}

/* What our system does not know to have arrived. */
uint64_t
conn_unacked(const struct tconn *c)
{
	return c->out_sent - c->out_acked;
}

/* Of that, what it has sent: the peer's window was open for it. */
uint64_t
conn_flight(const struct tconn *c)
{
	uint64_t edge = c->out_edge > c->out_acked ? c->out_edge :
	    c->out_acked;

	return least(c->out_sent, edge) - c->out_acked;
}

/* Whether nothing comes through, either way, for now. */
bool
conn_cut(const struct tconn *c)
{
	return c->side != METRICS && W.cut[c->side] != 0;
}

bool
conn_wakes(const struct tconn *c)
{
	return c->in_arr > c->in_read || c->fin_arr || c->error != 0 ||
	    c->dead;
}

/* Linux: a third of the buffer free, and not too much of it unsent. */
bool
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

/* What the client's program handed to its kernel so far. */
static uint64_t
conn_written(const struct tconn *c)
{
	return least(c->in_goal, c->in_arr + c->in_csnd);
}

static uint64_t
roll_buffer(struct chance *d)
{
	return (uint64_t)roll_log(d, 1 + (int64_t)C.buffers / 16,
	    (int64_t)C.buffers);
}

struct tconn *
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
	c->t_in = c->t_out = c->t_ack = c->t_cread = c->t_ctl = c->t_lost =
	    NEVER;
	c->in_room = roll_buffer(d);
	c->in_csnd = roll_buffer(d);
	c->out_buf = roll_buffer(d);
	c->out_room = c->out_edge = roll_buffer(d);
	c->latency = C.net_latency / 2 +
	    (int64_t)roll(d, (uint64_t)C.net_latency + 1);
	c->ns_per_kb = one_in(d, 3) ? roll_log(d, 1, C.net_rate) : 0;
	c->quantum = (uint64_t)roll_log(d, 1 + (int64_t)C.buffers / 64,
	    (int64_t)C.buffers);
	c->w_decide.since = c->w_send.since = c->w_read.since =
	    c->w_held.since = c->w_close.since = c->w_leaving.since =
	    c->w_silent.since = c->w_deaf.since = c->w_over.since =
	    c->w_over_all.since = NEVER;
	c->in_most = c->told_arrived = UINT64_MAX;
	c->told_unacked = -1;
	c->state = TC_SYN;
	W.live[W.nlive++] = c;
	return c;
}

void
conn_free(struct tconn *c)
{
	int i;

	runq_clear(&c->out);
	c->state = TC_FREE;
	for (i = 0; W.live[i] != c; i++)
		continue;
	W.live[i] = W.live[--W.nlive];
	for (i = 0; i < 2; i++) {
		if (W.actors[i].conn == c)
			W.actors[i].conn = NULL;
		if (M[i].taker == c)
			M[i].taker = NULL;
	}
	if (W.prober.conn == c)
		W.prober.conn = NULL;
}

/* When data is on its way in, and can go on, see to it that it does. */
void
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

/* The same for the way out. */
void
arm_out(struct tconn *c, int64_t delay)
{
	if (c->t_out != NEVER || c->vanished || c->dead)
		return;
	if (c->out_sent > c->out_arr && (c->client_closed ||
	    c->out_arr < c->out_edge))
		c->t_out = W.now + delay;
}

/* An acknowledgement is due, if none is on its way. */
static void
arm_ack(struct tconn *c)
{
	if (c->t_ack != NEVER || c->vanished || c->dead)
		return;
	c->ack_goal = c->out_arr;
	c->t_ack = W.now + c->latency / 2;
}

void
control(struct tconn *c, int what, int64_t when)
{
	if (c->t_ctl <= when)
		return;
	c->ctl = what;
	c->ctl_data = true;
	c->t_ctl = when;
}

/* The connection is no more; the program learns of it by err. */
void
conn_kill(struct tconn *c, int err, bool data_left)
{
	if (c->dead)
		return;
	NOTE("net: %s dies of %s", conn_text(c), strerror(err));
	c->dead = true;
	c->error = err;
	c->t_in = c->t_out = c->t_ack = c->t_lost = NEVER;
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
	if (conn_flight(c) > 0 || (c->shut && W.now < c->t_fin_acked))
		return C.gives_up_early ? 8 * SEC : 924 * SEC;
	if (conn_unacked(c) > 0)	/* window probes are not answered */
		return C.gives_up_early ? 8 * SEC : 924 * SEC;
	if (!c->keepalive || c->state == TC_CLOSED)
		return NEVER;
	return (int64_t)(c->keepidle + c->keepintvl * c->keepcnt) * SEC;
}

/* Our kernel begins to count, where the peer can't answer. */
void
arm_lost(struct tconn *c)
{
	int64_t span, answer;

	if (c->t_unreached == 0 && (c->vanished || conn_cut(c)))
		c->t_unreached = W.now;
	if (c->dead || (!c->vanished && !conn_cut(c)) ||
	    (c->state != TC_OPEN && c->state != TC_CLOSED))
		return;
	span = patience(c);
	c->lost_errno = ETIMEDOUT;
	if (c->t_reboot != 0 && (conn_unacked(c) > 0 || c->keepalive)) {
		answer = c->t_reboot - W.now;
		answer = (answer > 0 ? answer : 0) +
		    roll_log(&world_dice, MS, SEC);
		if (answer < span) {
			c->lost_errno = ECONNRESET;
			span = answer;
		}
	}
	c->t_lost = span == NEVER ? NEVER : W.now + span;
}

/* The client's machine loses its power. */
void
vanish(struct tconn *c)
{
	c->vanished = true;
	c->t_in = c->t_out = c->t_ack = c->t_cread = NEVER;
	if (c->ctl != CTL_SYN) {
		c->ctl = CTL_NONE;
		c->t_ctl = NEVER;
	}
	arm_lost(c);
}

/* The line of a side is cut. */
void
line_cut(int side, int64_t span)
{
	int i;

	if (W.cut[side] != 0)
		return;
	COUNT(f_cut);
	NOTE("the line of %s is cut for %.3f s", side_text(side),
	    (double)span / 1e9);
	W.cut[side] = W.now + span;
	for (i = 0; i < W.nlive; i++)
		if (W.live[i]->side == side)
			arm_lost(W.live[i]);
}

static void
line_mended(int side)
{
	struct tconn *c;
	int i;

	COUNT(f_mended);
	NOTE("the line of %s is mended", side_text(side));
	W.cut[side] = 0;
	for (i = 0; i < W.nlive; i++) {
		c = W.live[i];
		if (c->side != side)
			continue;
		if (!c->vanished) {
			c->t_lost = NEVER;
			c->t_unreached = 0;
		} else if (c->t_lost == NEVER)
			arm_lost(c);
	}
}

/* When what meets a cut line tries again: TCP waits longer each time. */
static int64_t
again(struct tconn *c)
{
	int64_t left = W.cut[c->side] - W.now;

	c->waited = true;
	return W.cut[c->side] + roll_log(&world_dice, MS,
	    2 * MS + left / 4);
}

/* The next piece of what the client wrote reaches us. */
static void
event_in(struct tconn *c)
{
	uint64_t n = conn_written(c) - c->in_arr;

	c->t_in = NEVER;
	if (conn_cut(c)) {
		c->t_in = again(c);
		return;
	}
	n = least(n, c->in_room - least(c->in_room, conn_unread(c)));
	n = least(n, c->quantum);
	if (n > 0 && c->state == TC_CLOSED) {
		/* Nobody reads this any more. */
		control(c, CTL_CLIENT_RST, W.now + c->latency);
		return;
	}
	if (n > 0 && c->waited) {
		c->waited = false;
		COUNT(f_healed);
	}
	c->in_arr += n;
	if (n > 0)
		NOTE("net: %s in +%" PRIu64, conn_text(c), n);
	if (c->fin && c->in_arr == c->in_goal && !c->fin_arr) {
		c->fin_arr = true;
		NOTE("net: %s FIN", conn_text(c));
	}
	arm_in(c, 1 + (int64_t)n * c->ns_per_kb / 1024);
}

/* Bytes arrived at the client: in order, whole, none twice. */
static void
arrive(struct tconn *c, uint64_t n)
{
	struct run r;

	c->out_arr += n;
	while (c->side != METRICS && n > 0) {
		r = runq_take(&c->out, n);
		n -= r.len;
		if (r.id < c->last.id || (r.id == c->last.id &&
		    r.off < c->last.off + c->last.len))
			violate("client %s got byte %" PRIu64 " of connection "
			    "%" PRIu64 " after byte %" PRIu64 " of %" PRIu64,
			    side_text(c->side), r.off, r.id,
			    c->last.off + c->last.len, c->last.id);
		c->last = r;
		if (c->back == 0)
			continue;
		COUNT(k_twice);
		if (c->state == TC_CLOSED && c->passed_on)
			violate("bytes that came back from %s still arrive "
			    "there after it was closed", conn_text(c));
	}
}

static void
event_out(struct tconn *c)
{
	uint64_t n = c->out_sent - c->out_arr;

	c->t_out = NEVER;
	if (conn_cut(c)) {
		c->t_out = again(c);
		return;
	}
	if (c->client_closed) {
		COUNT(f_rst_full_close);
		control(c, CTL_RESET, W.now + c->latency);
		return;
	}
	n = least(n, c->out_edge - least(c->out_edge, c->out_arr));
	n = least(n, c->quantum);
	if (n > 0) {
		NOTE("net: %s gets %" PRIu64, conn_text(c), n);
		arrive(c, n);
		if (c->cread_every == 0)
			c->out_read = c->out_arr;
		else if (c->t_cread == NEVER && c->cread_every != NEVER)
			c->t_cread = W.now + c->cread_every;
		arm_ack(c);
	}
	arm_out(c, 1 + (int64_t)n * c->ns_per_kb / 1024);
}

/* An acknowledgement reaches us, and the window with it. */
static void
event_ack(struct tconn *c)
{
	uint64_t n = c->ack_goal - c->out_acked;

	c->t_ack = NEVER;
	if (conn_cut(c)) {
		c->t_ack = again(c);
		return;
	}
	c->out_acked = c->ack_goal;
	if (c->out_read + c->out_room > c->out_edge)
		c->out_edge = c->out_read + c->out_room;
	if (n > 0) {
		NOTE("net: %s acks %" PRIu64, conn_text(c), n);
		promise_acked(c);
	}
	if (c->out_arr > c->out_acked)
		arm_ack(c);
	arm_out(c, c->latency / 2);
	if (conn_unacked(c) == 0 && (c->state == TC_CLOSED || c->shut))
		control(c, CTL_CLIENT_EOF, W.now + c->latency);
}

static void
event_cread(struct tconn *c)
{
	c->t_cread = NEVER;
	if (c->cread_every == NEVER || c->client_closed || c->vanished)
		return;
	if (c->cread_every == 0)
		c->out_read = c->out_arr;
	else
		c->out_read += least(c->out_arr - c->out_read, c->cread_size);
	if (c->out_read < c->out_arr)
		c->t_cread = W.now + c->cread_every;
	if (c->out_read + c->out_room > c->out_edge)
		arm_ack(c);		/* its window opens */
}

/* The client's program begins to read as its mode says. */
void
client_reads(struct tconn *c)
{
	c->t_cread = W.now;
	event_cread(c);
}

/* The client program closes: a reset if it leaves something unread. */
void
client_close(struct tconn *c)
{
	c->client_closed = true;
	c->fin = true;
	c->in_goal = conn_written(c);
	COUNT(p_close);
	if (c->out_read < c->out_arr) {
		COUNT(p_close_unread);
		if (c->state != TC_CLOSED)
			control(c, CTL_RESET, W.now + c->latency);
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

void
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
	control(c, CTL_RESET, when);
	c->ctl_data = data_left;
}

static void
syn_arrives(struct tconn *c)
{
	struct vlisten *l = c->door;

	if (l->closed) {
		NOTE("net: %s finds nobody listening", conn_text(c));
		conn_free(c);
		return;
	}
	if (l->queued >= l->backlog) {
		COUNT(f_backlog);
		control(c, CTL_SYN, W.now + SEC);
		return;
	}
	NOTE("net: %s in the backlog", conn_text(c));
	l->queue[l->queued++] = c;
	c->state = TC_QUEUED;
	arm_in(c, c->latency);
}

static void
event_ctl(struct tconn *c)
{
	int what = c->ctl;
	bool data = c->ctl_data;

	c->t_ctl = NEVER;
	c->ctl = CTL_NONE;
	if (conn_cut(c)) {
		control(c, what, again(c));
		c->ctl_data = data;
		return;
	}
	switch (what) {
	case CTL_SYN:
		syn_arrives(c);
		break;
	case CTL_RESET:
		if (data)
			COUNT(f_rst_data);
		else
			COUNT(f_rst_nodata);
		conn_kill(c, ECONNRESET, data);
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

/* Our system gives the peer up; or the peer's, new, knows nothing of it. */
static void
event_lost(struct tconn *c)
{
	c->t_lost = NEVER;
	if (c->lost_errno == ECONNRESET)
		COUNT(f_reboot);
	else if (conn_unacked(c) == 0)
		COUNT(f_etimedout_idle);
	else
		COUNT(f_etimedout_data);
	conn_kill(c, c->lost_errno, true);
}

/* What the kernel does when the program closes a connection. */
void
conn_close(struct tconn *c)
{
	bool unread = conn_unread(c) > 0;

	c->fd = -1;
	c->state = TC_CLOSED;
	c->in_read = c->in_arr;
	if (c->dead || c->vanished || c->abort || unread) {
		conn_free(c);
		return;
	}
	if (c->client_closed && conn_unacked(c) == 0)
		conn_free(c);
	else if (conn_unacked(c) == 0)
		control(c, CTL_CLIENT_EOF, W.now + c->latency);
	else
		arm_out(c, c->latency);
}

int64_t
network_next(void)
{
	int64_t t = NEVER;
	const struct tconn *c;
	int i;

	for (i = 0; i < W.nlive; i++) {
		c = W.live[i];
		t = sooner(t, sooner(c->t_in, c->t_out));
		t = sooner(t, sooner(c->t_ack, c->t_cread));
		t = sooner(t, sooner(c->t_ctl, c->t_lost));
	}
	for (i = 0; i < 2; i++)
		if (W.cut[i] != 0)
			t = sooner(t, W.cut[i]);
	return t;
}

/* Lets happen what is due by now. */
void
network_run(void)
{
	struct tconn *c;
	uint64_t name;
	int i;

	for (i = 0; i < 2; i++)
		if (W.cut[i] != 0 && W.cut[i] <= W.now)
			line_mended(i);
	for (i = 0; i < W.nlive; i++) {
		c = W.live[i];
		name = c->name;
		if (c->t_in <= W.now)
			event_in(c);
		if (c->t_out <= W.now)
			event_out(c);
		if (c->t_ack <= W.now)
			event_ack(c);
		if (c->t_cread <= W.now)
			event_cread(c);
		if (c->t_ctl <= W.now)
			event_ctl(c);
		if (c->state != TC_FREE && c->name == name &&
		    c->t_lost <= W.now)
			event_lost(c);
	}
}
