/*
 * restarts: two clients of a bridge that dial again by themselves.
 *
 *	restarts portA portB
 *
 * Each sends numbered lines of 16 bytes, and checks those of the other one,
 * until standard input ends; then it waits for what is still under way.  Now
 * and then a client leaves for a while, or reads slowly.  At EOF it stops
 * sending, ends its side and dials again.  What a broken connection did not
 * acknowledge it sends again.  The bridge is at 127.0.0.1, or at the address in
 * PEER_HOST.
 *
 * The result is a line for each side, of the stream that it received:
 *
 *	side=B sent=N got=N lost=N twice=N again=N connects=N resets=N
 *
 * sent is what this side sent, got what it received for the first time, lost
 * what it missed, twice what came more than once, and again what this side
 * sent more than once, all in bytes.
 */
#define _DEFAULT_SOURCE 1

#include <sys/ioctl.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#define HELPER "restarts"
#include "tcp.h"

enum { LINE = 16, BLOCK = 65536, PROBE = 64, QUIET = 5000, SETTLE = 500,
    SLOW = 50 };

/* One client.  Positions are offsets in a stream; times are milliseconds. */
struct client {
	char name;		/* 'A' or 'B' */
	const char *port;
	struct client *other;
	int fd;			/* -1 while it is not connected */
	int ended;		/* it has sent EOF on this connection */
	int slow;		/* it reads little on this connection */
	long dial_at;		/* when it dials again */
	long leave_at;		/* when it ends this connection by itself */
	long read_at;		/* when it reads next */
	long sent;		/* where it goes on sending */
	long top;		/* the end of all that it has sent */
	long got;		/* all before this has come, or is lost */
	long place;		/* of the next byte to come; -1: not known */
	char probe[PROBE];	/* first bytes of this connection */
	size_t probed;		/* how many these are */
	long lost, twice, again;	/* bytes */
	int connects, resets;
};

/* A number from 0 to below limit. */
static long
chance(long limit)
{
	static unsigned long state = 1;

	state = state * 1103515245UL + 12345UL;
	return (long)(state >> 16 & 0x7fff) % limit;
}

/* The byte at a place of a stream: the name, 14 digits, the end of the line. */
static char
stream_byte(char name, long place)
{
	long number = place / LINE;
	int column = (int)(place % LINE), i;

	if (column == 0)
		return name;
	if (column == LINE - 1)
		return '\n';
	for (i = LINE - 2; i > column; i--)
		number /= 10;
	return (char)('0' + number % 10);
}

static int
stream_has(char name, long place, const char *bytes, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++)
		if (bytes[i] != stream_byte(name, place + (long)i))
			return 0;
	return 1;
}

/* Finds the place of a connection's first bytes: the nearest one to what was
 * expected, first among what has come already. */
static long
stream_find(const struct client *c)
{
	long place;

	for (place = c->got; place >= 0; place--)
		if (stream_has(c->other->name, place, c->probe, c->probed))
			return place;
	for (place = c->got + 1; place < c->other->top; place++)
		if (stream_has(c->other->name, place, c->probe, c->probed))
			return place;
	fprintf(stderr, "restarts: side %c got what nobody sent: '%.*s'\n",
	    c->name, (int)c->probed, c->probe);
	exit(1);
}

/* Takes bytes whose place is known. */
static void
client_take(struct client *c, size_t size)
{
	long end = c->place + (long)size;

	if (c->place > c->got) {
		c->lost += c->place - c->got;
		c->got = c->place;
	}
	c->twice += (end < c->got ? end : c->got) - c->place;
	if (end > c->got)
		c->got = end;
	c->place = end;
}

/* Bytes are put together until they tell where in the stream they are. */
static void
client_settle(struct client *c)
{
	if (c->place >= 0 || c->probed == 0)
		return;
	c->place = stream_find(c);
	client_take(c, c->probed);
	c->probed = 0;
}

/* A place is looked for at the begin of a connection, and where the other side
 * has sent something again. */
static void
client_received(struct client *c, const char *bytes, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++) {
		if (c->place >= 0 &&
		    bytes[i] == stream_byte(c->other->name, c->place)) {
			client_take(c, 1);
			continue;
		}
		c->place = -1;
		c->probe[c->probed++] = bytes[i];
		if (c->probed == PROBE)
			client_settle(c);
	}
}

/* How many bytes the bridge's system has not acknowledged.  An EOF counts. */
static long
client_unacked(const struct client *c)
{
	int bytes = 0;

	if (ioctl(c->fd, TIOCOUTQ, &bytes) == -1)
		fail("TIOCOUTQ");
	return bytes > 0 ? bytes - c->ended : 0;
}

static void
client_dial(struct client *c, long now)
{
	c->slow = chance(8) == 0;
	c->fd = dial_address(host_given(), c->port, c->slow ? 2048 : 0);
	if (c->fd == -1) {
		c->dial_at = now + 10;
		return;
	}
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	c->connects++;
	c->ended = 0;
	c->place = -1;
	c->probed = 0;
	c->read_at = now;
	c->leave_at = now + 100 + chance(900);
}

/* The connection is over.  What was not acknowledged is sent again. */
static void
client_close(struct client *c, long now)
{
	long unacked = client_unacked(c);

	client_settle(c);
	c->sent -= unacked;
	c->again += unacked;
	close(c->fd);
	c->fd = -1;
	c->dial_at = now + (chance(3) == 0 ? chance(400) : 5);
}

/* Ends what this side sends, and no more. */
static void
client_end(struct client *c)
{
	if (c->ended)
		return;
	c->ended = 1;
	shutdown(c->fd, SHUT_WR);
}

static void
client_receive(struct client *c, long now)
{
	char block[BLOCK];
	ssize_t n;

	if (c->slow)
		c->read_at = now + SLOW;
	n = recv(c->fd, block, c->slow ? 100 : sizeof(block), 0);
	if (n > 0)
		client_received(c, block, (size_t)n);
	else if (n == 0) {
		client_end(c);
		if (client_unacked(c) == 0)
			client_close(c, now);
	} else if (errno != EAGAIN) {
		c->resets++;
		client_close(c, now);
	}
}

/* Sends some lines, or the rest of one.  At the end it only sends again what it
 * has to. */
static void
client_send(struct client *c, int running)
{
	char block[20 * LINE];
	size_t size = (size_t)(1 + chance(20)) * LINE, i;
	ssize_t n;

	size -= (size_t)(c->sent % LINE);
	if (!running && (long)size > c->top - c->sent)
		size = (size_t)(c->top - c->sent);
	if (size == 0)
		return;
	for (i = 0; i < size; i++)
		block[i] = stream_byte(c->name, c->sent + (long)i);
	n = send(c->fd, block, size, MSG_NOSIGNAL);
	if (n > 0)
		c->sent += n;
	if (c->sent > c->top)
		c->top = c->sent;
}

/* What a client does every few milliseconds. */
static void
client_turn(struct client *c, long now, int running)
{
	if (c->fd == -1 && now >= c->dial_at)
		client_dial(c, now);
	if (c->fd == -1)
		return;
	if (now >= c->read_at)
		client_receive(c, now);
	if (c->fd == -1 || c->ended)
		return;
	if (running && now >= c->leave_at)
		client_end(c);
	else
		client_send(c, running);
}

static void
report(const struct client *c)
{
	printf("side=%c sent=%ld got=%ld lost=%ld twice=%ld again=%ld "
	    "connects=%d resets=%d\n", c->name, c->top, c->got - c->lost,
	    c->lost + c->other->top - c->got, c->twice, c->again,
	    c->connects, c->resets);
}

int
main(int argc, char *argv[])
{
	struct client a = { .name = 'A', .fd = -1 };
	struct client b = { .name = 'B', .fd = -1 };
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	long now, before = 0, quiet_at = 0;
	int running = 1;

	if (argc != 3) {
		fprintf(stderr, "usage: restarts portA portB\n");
		return 2;
	}
	a.port = argv[1];
	b.port = argv[2];
	a.other = &b;
	b.other = &a;
	for (;;) {
		now = now_ms();
		client_turn(&a, now, running);
		client_turn(&b, now, running);
		if (running && poll(&input, 1, 0) == 1)
			running = 0;
		if (running || a.got + b.got != before)
			quiet_at = now + QUIET;
		before = a.got + b.got;
		if (now >= quiet_at - QUIET + SETTLE) {
			client_settle(&a);	/* no more comes */
			client_settle(&b);
		}
		if (!running && ((a.got == b.top && b.got == a.top) ||
		    now >= quiet_at))
			break;
		poll(NULL, 0, 2);
	}
	report(&a);
	report(&b);
	return 0;
}
