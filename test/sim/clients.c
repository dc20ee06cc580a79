/*
 * clients.c - the programs that dial, one for each side, and their habits
 *
 * A client acts at random: it writes, reads fast or slowly or not at all,
 * closes, resets, vanishes, has its line cut, and dials again while its last
 * connection is still there, several times at once, too.  Who probes the
 * metrics port is here as well.
 */
#include "sim.h"

#include <stdio.h>
#include <string.h>

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
	control(c, CTL_SYN, W.now + c->latency);
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
	NOTE("%s connects", conn_text(c));
	return c;
}

static void
client_write(struct tconn *c, uint64_t n)
{
	if (c->fin || c->client_closed || c->in_goal - c->in_arr > 1 << 22)
		return;
	NOTE("%s writes %" PRIu64, conn_text(c), n);
	c->in_goal += n;
	arm_in(c, c->latency);
}

static void
client_hangs(struct tconn *c)
{
	COUNT(f_zero_window);
	c->cread_every = NEVER;
	NOTE("%s stops reading", conn_text(c));
}

static void
client_mode(struct actor *a, struct tconn *c, struct chance *d)
{
	unsigned r = (unsigned)roll(d, 4);

	if (r < a->hangs) {
		client_hangs(c);
		return;
	}
	if (r == 3) {
		c->cread_every = roll_log(d, a->period / 10 + 1,
		    a->period * 10);
		c->cread_size = (uint64_t)roll_log(d, 1, a->size_max * 4);
	} else
		c->cread_every = 0;
	NOTE("%s %s", conn_text(c), c->cread_every == 0 ? "reads" :
	    "reads slowly");
	client_reads(c);
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
client_vanish(struct tconn *c, struct chance *d)
{
	COUNT(f_vanish);
	NOTE("%s vanishes", conn_text(c));
	if (one_in(d, 3))
		c->t_reboot = W.now + roll_log(d, MS, 100 * SEC);
	vanish(c);
}

/* Dials again, while it has a connection; that one is left as it is. */
static void
client_takeover(struct actor *a, struct chance *d)
{
	struct tconn *c = client_connect(a, d);

	if (c == NULL)
		return;
	COUNT(p_takeover);
	a->conn = c;
}

/* Several dial behind each other; some of them hang, or vanish. */
static void
client_crowd(struct actor *a, struct chance *d)
{
	struct tconn *c;
	uint64_t n = 2 + roll(d, 9);

	COUNT(p_crowd);
	while (n-- > 0 && (c = client_connect(a, d)) != NULL) {
		a->conn = c;
		client_write(c, (uint64_t)roll_log(d, 1, a->bulk_max));
		if (n > 0 && one_in(d, 2))
			client_hangs(c);
		else if (n > 0 && one_in(d, 6))
			client_reset(c, one_in(d, 2));
	}
}

/* The cable is pulled; the device may dial again when it is back. */
static void
client_cut(struct actor *a, struct chance *d)
{
	int64_t most = sooner(200 * SEC, 2000 * a->period);

	line_cut(a->side, one_in(d, 3) ? roll_log(d, 10 * SEC, 200 * SEC) :
	    roll_log(d, MS, most));
	if (one_in(d, 3))
		client_takeover(a, d);
}

static void
act_on(struct actor *a, struct tconn *c, struct chance *d)
{
	unsigned sum = a->w_write + a->w_bulk + a->w_mode + a->w_half +
	    a->w_close + a->w_reset + a->w_vanish + a->w_cut + a->w_oob +
	    a->w_takeover + a->w_crowd + a->w_hasty;
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
		NOTE("%s half-closes", conn_text(c));
		c->fin = true;
		arm_in(c, c->latency);
	} else if (PICK(w_close)) {
		NOTE("%s closes", conn_text(c));
		a->conn = NULL;
		client_close(c);
	} else if (PICK(w_reset)) {
		NOTE("%s resets", conn_text(c));
		a->conn = NULL;
		client_reset(c, !one_in(d, 3));
	} else if (PICK(w_vanish)) {
		a->conn = NULL;
		client_vanish(c, d);
	} else if (PICK(w_cut)) {
		client_cut(a, d);
	} else if (PICK(w_oob)) {
		client_oob(c);
	} else if (PICK(w_takeover)) {
		client_takeover(a, d);
	} else if (PICK(w_crowd)) {
		client_crowd(a, d);
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

/*
 * The field: A asks once a second, B answers; about once an hour the
 * connection is lost instead.
 */
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
	switch (roll(d, 4)) {
	case 0: client_close(c); break;
	case 1: client_reset(c, true); break;
	case 2: client_vanish(c, d); break;
	default: line_cut(a->side, roll_log(d, SEC, 200 * SEC)); break;
	}
	a->t_act += roll_log(d, 1, 60) * SEC;
}

int64_t
clients_next(void)
{
	int64_t t = sooner(W.actors[0].t_act, W.actors[1].t_act);

	return sooner(t, W.prober.t_act);
}

void
clients_run(void)
{
	int i;

	for (i = 0; i < 2; i++)
		if (W.actors[i].t_act <= W.now) {
			if (C.field)
				field_act(&W.actors[i], &peer_dice[i]);
			else
				event_act(&W.actors[i], &peer_dice[i]);
		}
	if (W.prober.t_act <= W.now)
		event_act(&W.prober, &world_dice);
}
