/*
 * load: make traffic between two TCP clients, and measure it.
 *
 *	load ports count              print that many free port numbers
 *	load bare portA portB         be a relay that does nothing but copy
 *	load mode seconds target...   run one measurement
 *
 * A target is one pair of clients, end A and end B.  "direct" connects the
 * two with each other, which is the baseline; "pid:portA:portB" lets A dial
 * the one port and then B the other one on 127.0.0.1, where the relay with
 * that process id (0: unknown) listens.  All modes but one, both and rate use
 * the first target alone.
 *
 *	one, both   bulk from A to B, or both ways at once
 *	rate        as many 64-byte messages from A to B as will go
 *	rtt1 rtt64 rtt1024
 *	            A sends that many bytes, B echoes them, one at a time
 *	reconnect   A stays; B goes and comes back, and waits for a byte
 *	idle        both are connected and silent for that many seconds
 *	orphan      the same with A alone
 *	fill        A alone sends 8 MiB and goes, then B does the same
 *
 * The result is one line of key=value pairs on standard output.  Times are on
 * the monotonic clock.  Each end is a process of its own, as in real life, but
 * where one of them has nothing to do at the time.  What a relay used
 * is read from /proc while its clients are still connected, because some
 * relays end with them; where there is no /proc, these keys are left out.
 *
 * Every byte of a stream depends on its position, and the receiver compares
 * them all: "lost" is what was sent and never came, "corrupt" is 1 when a
 * byte was not the one that belonged there.
 */
#define _POSIX_C_SOURCE 200809L

#include <sys/time.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>

#define HELPER "load"
#include "tcp.h"

#define PAIRS_MAX	64
#define PERIOD		65521	/* prime, so no power of two repeats in it */
#define CHUNK		262144	/* bytes moved by one call in bulk */
#define MESSAGE		64	/* bytes of a small message */
#define TWO_MESSAGES	128	/* what a reconnect carries */
#define BURST		256	/* messages sent before looking up again */
#define SAMPLES_MAX	1000000	/* round trips remembered */
#define CYCLES_MAX	20	/* reconnects in one run */
#define FILL_BYTES	8388608
#define PATIENCE	2.0	/* seconds without a byte that end a run */
#define BARE_BUFFER	4194304	/* bytes moved at most by a bare relay */
#define RUN_MAX		60	/* seconds after which a run is killed */

enum { END_A, END_B, ENDS };

struct pair {
	long pid;			/* of the relay, 0: unknown */
	int port[ENDS];			/* to dial, 0: direct */
	int fd[ENDS];			/* -1: not connected */
	uint64_t sent[ENDS];		/* bytes, by the end that sent them */
	uint64_t received[ENDS];	/* bytes, by the end that got them */
};

/* What one end tells the other when its part of a transfer is over. */
struct report {
	uint64_t received;	/* bytes, all pairs together */
	uint64_t lost;		/* bytes */
	double last;		/* when the last byte came */
	int corrupt;		/* 1: a byte was not what it should be */
	int ended;		/* connections that ended before their time */
};

/* What all relays of a run have used so far. */
struct usage {
	double cpu;		/* seconds */
	long peak, resident;	/* KiB */
	long switches;		/* times one of them was put to sleep */
	int known;		/* 0: there is nothing to read it from */
};

static struct pair pairs[PAIRS_MAX];
static int npairs;
static unsigned char pattern[PERIOD + CHUNK];
static unsigned char scratch[CHUNK];
static double samples[SAMPLES_MAX];	/* seconds */
static pid_t child = -1;

static void
child_end(void)
{
	if (child > 0)
		kill(child, SIGKILL);
}

/* A run that is interrupted, or takes for ever, takes its child with it. */
static void
on_signal(int signal_number)
{
	(void)signal_number;
	child_end();
	_exit(1);
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/*
 * Bytes that look random, so that a stream from which something is missing
 * does not fit any more.
 */
static void
pattern_init(void)
{
	uint32_t x = 1;
	size_t i;

	for (i = 0; i < PERIOD; i++) {
		x = x * 1664525 + 1013904223;
		pattern[i] = (unsigned char)(x >> 24);
	}
	for (i = PERIOD; i < sizeof pattern; i++)
		pattern[i] = pattern[i - PERIOD];
}

/* What a pair's stream from that end holds at a position. */
static const unsigned char *
stream(int pair, int from, uint64_t position)
{
	uint64_t salt = (uint64_t)(pair * ENDS + from) * 1009;

	return pattern + (size_t)((position + salt) % PERIOD);
}

static void
address(struct sockaddr_in *sin, int port)
{
	memset(sin, 0, sizeof *sin);
	sin->sin_family = AF_INET;
	sin->sin_port = htons((uint16_t)port);
	sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

/* A socket that listens on a port the system chose, which goes to *port. */
static int
listen_any(int *port)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof sin;
	int fd;

	address(&sin, 0);
	if ((fd = socket(AF_INET, SOCK_STREAM, 0)) == -1 ||
	    bind(fd, (struct sockaddr *)&sin, sizeof sin) == -1 ||
	    listen(fd, 8) == -1 ||
	    getsockname(fd, (struct sockaddr *)&sin, &len) == -1)
		fail("listen");
	*port = ntohs(sin.sin_port);
	return fd;
}

static int
with_nodelay(int fd)
{
	int on = 1;

	if (fd != -1)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd;
}

/*
 * Dial the port; where nobody listens yet, try again for that many seconds.
 * -1 if that didn't help.
 */
static int
dial(int port, double patience)
{
	double deadline = now() + patience;
	char text[16];
	int fd;

	snprintf(text, sizeof text, "%d", port);
	while ((fd = dial_address("127.0.0.1", text, 0)) == -1 &&
	    now() <= deadline)
		pause_ms(2);
	return fd;
}

/*
 * Connect both ends of a pair.  A first: there are relays that listen for B
 * only when they have A.
 */
static void
pair_connect(struct pair *p)
{
	int listener, port;

	if (p->port[END_A] == 0) {
		listener = listen_any(&port);
		p->fd[END_B] = dial(port, PATIENCE);
		p->fd[END_A] = with_nodelay(accept(listener, NULL, NULL));
		close(listener);
	} else {
		p->fd[END_A] = dial(p->port[END_A], PATIENCE);
		p->fd[END_B] = dial(p->port[END_B], PATIENCE);
	}
	if (p->fd[END_A] == -1 || p->fd[END_B] == -1)
		fail("connect");
}

/* The number after a word in one of /proc's files, or -1. */
static long
proc_number(long pid, const char *file, const char *word)
{
	char path[64], line[256];
	long number = -1;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%ld/%s", pid, file);
	if ((f = fopen(path, "r")) == NULL)
		return -1;
	while (number == -1 && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, word, strlen(word)) == 0)
			number = strtol(line + strlen(word), NULL, 10);
	fclose(f);
	return number;
}

/* The first line of one of /proc's files; NULL if there is none. */
static char *
proc_line(long pid, const char *file, char *line, int size)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%ld/%s", pid, file);
	if ((f = fopen(path, "r")) == NULL)
		return NULL;
	line = fgets(line, size, f);
	fclose(f);
	return line;
}

/*
 * Processor time of a process in seconds, or -1: schedstat begins with
 * nanoseconds; without it stat has clock ticks, user and kernel, as the 12th
 * and 13th field after the name in brackets.
 */
static double
proc_cpu(long pid)
{
	char line[1024], *field;
	double user;
	int i;

	if (proc_line(pid, "schedstat", line, sizeof line) != NULL)
		return strtod(line, NULL) / 1e9;
	if (proc_line(pid, "stat", line, sizeof line) == NULL ||
	    (field = strrchr(line, ')')) == NULL)
		return -1;
	for (i = 0; i < 12 && field != NULL; i++)
		field = strchr(field + 1, ' ');
	if (field == NULL)
		return -1;
	user = strtod(field, &field);
	return (user + strtod(field, NULL)) / (double)sysconf(_SC_CLK_TCK);
}

/*
 * Newer Linux kernels keep Vm* only roughly, to within a few dozen pages a
 * processor, which is more than a small program has; smaps_rollup is exact.
 */
static struct usage
usage_now(void)
{
	struct usage u = { 0, 0, 0, 0, 0 };
	long peak, resident;
	double cpu;
	int i;

	for (i = 0; i < npairs; i++) {
		if (pairs[i].pid == 0 || (cpu = proc_cpu(pairs[i].pid)) < 0)
			continue;
		peak = proc_number(pairs[i].pid, "status", "VmHWM:");
		resident = proc_number(pairs[i].pid, "smaps_rollup", "Rss:");
		if (resident == -1)
			resident = proc_number(pairs[i].pid, "status",
			    "VmRSS:");
		u.known = 1;
		u.cpu += cpu;
		u.resident += resident;
		u.peak += peak > resident ? peak : resident;
		u.switches += proc_number(pairs[i].pid, "status",
		    "voluntary_ctxt_switches:");
	}
	return u;
}

/* The last keys of every result line: what the relays used since then. */
static void
print_usage(const struct usage *since)
{
	struct usage u = usage_now();

	if (u.known)
		printf(" cpu=%.6f peak=%ld resident=%ld switches=%ld",
		    u.cpu - since->cpu, u.peak, u.resident,
		    u.switches - since->switches);
	putchar('\n');
}

/* Exactly that many bytes, for what the two ends tell each other. */
static void
exchange_write(int fd, const void *data, size_t n)
{
	if (write(fd, data, n) != (ssize_t)n)
		fail("write to the other end");
}

static void
exchange_read(int fd, void *data, size_t n)
{
	char *p = data;
	ssize_t got;

	for (; n > 0; n -= (size_t)got, p += got)
		if ((got = read(fd, p, n)) <= 0)
			fail("read from the other end");
}

/* Take what has come for one end of a pair; a connection that ended is -1. */
static void
pair_receive(int index, int me, struct report *report)
{
	struct pair *p = &pairs[index];
	ssize_t n;

	n = recv(p->fd[me], scratch, sizeof scratch, 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		p->fd[me] = -1;
		report->ended++;
		return;
	}
	if (memcmp(scratch, stream(index, !me, p->received[me]),
	    (size_t)n) != 0)
		report->corrupt = 1;
	p->received[me] += (uint64_t)n;
	report->last = now();
}

/* Send up to count times size bytes, or what the socket takes of it. */
static void
pair_send(int index, int me, size_t size, int count)
{
	struct pair *p = &pairs[index];
	ssize_t n;

	for (; count > 0; count--) {
		n = send(p->fd[me], stream(index, me, p->sent[me]), size, 0);
		if (n == -1)
			return;
		p->sent[me] += (uint64_t)n;
		if ((size_t)n < size)
			return;
	}
}

/*
 * Drive one end of all pairs: send until the time given, if this end sends at
 * all; tell the other process how much that was; receive until all that the
 * other one sent has come, or nothing has for PATIENCE.
 */
static void
transfer(int me, int other, size_t size, int sends, double stop,
    struct report *report)
{
	struct pollfd pfds[PAIRS_MAX + 1];
	uint64_t mine[PAIRS_MAX] = { 0 }, theirs[PAIRS_MAX] = { 0 };
	int i, told = 0, heard = 0, missing;

	report->last = now();
	for (;;) {
		sends = sends && now() < stop;
		if (!sends && !told) {
			for (i = 0; i < npairs; i++)
				mine[i] = pairs[i].sent[me];
			exchange_write(other, mine, sizeof mine);
			told = 1;
		}
		for (i = 0; i < npairs; i++) {
			pfds[i].fd = pairs[i].fd[me];
			pfds[i].events = sends ? POLLIN | POLLOUT : POLLIN;
			pfds[i].revents = 0;
		}
		pfds[i].fd = heard ? -1 : other;
		pfds[i].events = POLLIN;
		pfds[i].revents = 0;
		if (poll(pfds, (nfds_t)npairs + 1, 100) == -1)
			fail("poll");
		if (pfds[npairs].revents != 0) {
			exchange_read(other, theirs, sizeof theirs);
			heard = 1;
		}
		for (i = 0, missing = 0; i < npairs; i++) {
			if (pfds[i].revents & ~POLLOUT)
				pair_receive(i, me, report);
			if (pfds[i].revents & POLLOUT && pairs[i].fd[me] != -1)
				pair_send(i, me, size,
				    size == MESSAGE ? BURST : 1);
			missing += pairs[i].received[me] < theirs[i];
		}
		if (told && heard && missing == 0)
			break;
		if (now() > stop && now() - report->last > PATIENCE)
			break;
	}
	for (i = 0; i < npairs; i++) {
		report->received += pairs[i].received[me];
		if (heard && pairs[i].received[me] < theirs[i])
			report->lost += theirs[i] - pairs[i].received[me];
	}
}

/*
 * Two processes with a line between them; returns this one's end of it.  The
 * clock starts when both are there: on a busy machine a new process can be
 * late, and what it misses would look like a receiver that is stuck.
 */
static int
split(int *me, double *start)
{
	int line[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, line) == -1)
		fail("socketpair");
	if ((child = fork()) == -1)
		fail("fork");
	*me = child == 0 ? END_B : END_A;
	alarm(RUN_MAX);
	close(line[!*me]);
	*start = now();
	if (*me == END_B)
		exchange_write(line[*me], start, sizeof *start);
	exchange_read(line[*me], start, sizeof *start);
	if (*me == END_A) {
		*start = now();
		exchange_write(line[*me], start, sizeof *start);
	}
	return line[*me];
}

/* Bulk and message rate: the child is all B ends, the parent all A ends. */
static void
run_transfer(double seconds, size_t size, int both)
{
	struct report mine = { 0, 0, 0, 0, 0 }, theirs;
	struct usage before = usage_now();
	double start;
	int i, me, other;

	for (i = 0; i < npairs; i++) {
		fcntl(pairs[i].fd[END_A], F_SETFL, O_NONBLOCK);
		fcntl(pairs[i].fd[END_B], F_SETFL, O_NONBLOCK);
	}
	other = split(&me, &start);
	transfer(me, other, size, me == END_A || both, start + seconds, &mine);
	if (me == END_B) {
		exchange_write(other, &mine, sizeof mine);
		_exit(0);
	}
	exchange_read(other, &theirs, sizeof theirs);
	waitpid(child, NULL, 0);
	if (!both || theirs.last > mine.last)
		mine.last = theirs.last;
	printf("pairs=%d bytes=%" PRIu64 " lost=%" PRIu64 " corrupt=%d "
	    "ended=%d seconds=%.6f", npairs, mine.received + theirs.received,
	    mine.lost + theirs.lost,
	    mine.corrupt || theirs.corrupt, mine.ended + theirs.ended,
	    mine.last - start);
	print_usage(&before);
}

/* Exactly n bytes out, or in, on a blocking socket.  0, or -1 if it ended. */
static int
send_all(int fd, const unsigned char *data, size_t n)
{
	ssize_t sent;

	for (; n > 0; n -= (size_t)sent, data += sent)
		if ((sent = send(fd, data, n, 0)) == -1)
			return -1;
	return 0;
}

static int
receive_all(int fd, unsigned char *data, size_t n)
{
	ssize_t got;

	for (; n > 0; n -= (size_t)got, data += got)
		if ((got = recv(fd, data, n, 0)) <= 0)
			return -1;
	return 0;
}

static int
compare_samples(const void *left, const void *right)
{
	double l = *(const double *)left, r = *(const double *)right;

	return (l > r) - (l < r);
}

/* Percentiles of the samples, in microseconds. */
static void
print_samples(size_t n)
{
	qsort(samples, n, sizeof samples[0], compare_samples);
	printf("samples=%lu", (unsigned long)n);
	if (n > 0)
		printf(" p50=%.2f p99=%.2f p999=%.2f max=%.2f",
		    samples[n / 2] * 1e6, samples[n * 99 / 100] * 1e6,
		    samples[n * 999 / 1000] * 1e6, samples[n - 1] * 1e6);
}

/* Round trips: the child echoes on B what the parent sends on A. */
static void
run_rtt(double seconds, size_t size)
{
	struct timeval patience = { (time_t)PATIENCE, 0 };
	struct usage before = usage_now();
	double start, sent_at;
	uint64_t position = 0;
	size_t n = 0;
	int me, fd[ENDS] = { pairs[0].fd[END_A], pairs[0].fd[END_B] };

	split(&me, &start);
	while (me == END_B)
		if (receive_all(fd[END_B], scratch, size) == -1 ||
		    send_all(fd[END_B], scratch, size) == -1)
			_exit(0);
	setsockopt(fd[END_A], SOL_SOCKET, SO_RCVTIMEO, &patience,
	    sizeof patience);
	while ((sent_at = now()) < start + seconds && n < SAMPLES_MAX) {
		position += size;
		if (send_all(fd[END_A], stream(0, END_A, position),
		    size) == -1 || receive_all(fd[END_A], scratch, size) == -1)
			break;
		samples[n++] = now() - sent_at;
		if (memcmp(scratch, stream(0, END_A, position), size) != 0)
			break;
	}
	/* Of what was sent, all came back, or all but the last. */
	printf("bytes=%" PRIu64 " lost=%" PRIu64 " messages=%lu ", position,
	    position - n * size, 2 * (unsigned long)n);
	print_samples(n);
	print_usage(&before);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* 1 if the socket has something to read within that time. */
static int
readable(int fd, int milliseconds)
{
	struct pollfd pfd = { 0, POLLIN, 0 };

	pfd.fd = fd;
	return poll(&pfd, 1, milliseconds) == 1;
}

/* B comes back; between two directly connected ends, A accepts it. */
static int
redial(struct pair *p, int listener, double *connected)
{
	p->fd[END_B] = dial(p->port[END_B], 0.3);
	*connected = now();
	if (p->fd[END_B] == -1)
		return -1;
	if (listener != -1) {
		close(p->fd[END_A]);
		p->fd[END_A] = with_nodelay(accept(listener, NULL, NULL));
	}
	return 0;
}

/*
 * One message while B is away, and one more as soon as it is back, so that
 * there is something to come also through a relay that holds nothing.
 * The time runs from the moment when B's connect() returned.
 */
static void
run_reconnect(void)
{
	struct pair *p = &pairs[0];
	struct usage before = usage_now();
	unsigned char message[MESSAGE];
	double connected;
	unsigned long lost = 0;
	size_t cycles = 0, got;
	ssize_t n;
	int ended = 0, listener = -1;

	memset(message, 'm', sizeof message);
	if (p->port[END_A] == 0)
		listener = listen_any(&p->port[END_B]);
	while (cycles < CYCLES_MAX) {
		close(p->fd[END_B]);
		pause_ms(5);
		if (listener == -1)
			send_all(p->fd[END_A], message, MESSAGE);
		pause_ms(5);
		if ((ended = redial(p, listener, &connected)) != 0)
			break;
		if (listener != -1)
			send_all(p->fd[END_A], message, MESSAGE);
		send_all(p->fd[END_A], message, MESSAGE);
		for (got = 0; got < TWO_MESSAGES; got += (size_t)n) {
			if (!readable(p->fd[END_B], 50))
				break;
			if (got == 0)
				samples[cycles] = now() - connected;
			n = recv(p->fd[END_B], scratch, sizeof scratch, 0);
			if (n <= 0)
				break;
		}
		if (got == 0 && (ended = 1))
			break;
		lost += TWO_MESSAGES - got;
		cycles++;
	}
	printf("lost=%lu ended=%d ", lost, ended != 0);
	print_samples(cycles);
	print_usage(&before);
}

/* Send n bytes, or what the socket takes before it is stuck for a while. */
static void
send_until_stuck(int fd, uint64_t n)
{
	struct pollfd pfd = { 0, POLLOUT, 0 };
	ssize_t sent;

	pfd.fd = fd;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (n > 0 && poll(&pfd, 1, (int)(PATIENCE * 1000)) == 1) {
		sent = send(fd, pattern, n < CHUNK ? (size_t)n : CHUNK, 0);
		if (sent == -1)
			break;
		n -= (uint64_t)sent;
	}
	pause_ms(300);
}

static void
run_fill(void)
{
	struct usage before = usage_now();
	int end, fd;

	for (end = END_A; end < ENDS; end++) {
		if ((fd = dial(pairs[0].port[end], PATIENCE)) == -1)
			fail("connect");
		send_until_stuck(fd, FILL_BYTES);
		close(fd);
		pause_ms(100);
	}
	printf("bytes=%d", ENDS * FILL_BYTES);
	print_usage(&before);
}

static void
run_idle(double seconds, int orphan)
{
	struct usage before;

	if (orphan)
		close(pairs[0].fd[END_B]);
	pause_ms(500);
	before = usage_now();
	pause_ms((long)(seconds * 1000));
	printf("seconds=%.3f", seconds);
	print_usage(&before);
}

/* All ports are held until the last one is known, so they all differ. */
static void
print_ports(long count)
{
	int port;

	while (count-- > 0) {
		listen_any(&port);
		printf("%d\n", port);
	}
}

/*
 * What any relay has to do for its bytes, and nothing else: a process for each
 * direction that receives and sends, and waits in these calls.  It takes one
 * client on each port, 0 if they came and went.  No relay that copies bytes in
 * and out of the kernel is faster by much.
 */
static int
run_bare(const char *const ports[ENDS])
{
	static unsigned char buffer[BARE_BUFFER];
	struct sockaddr_in sin;
	int listener[ENDS], fd[ENDS], end, on = 1, from;
	ssize_t n;

	for (end = END_A; end < ENDS; end++) {
		address(&sin, (int)strtol(ports[end], NULL, 10));
		if ((listener[end] = socket(AF_INET, SOCK_STREAM, 0)) == -1 ||
		    setsockopt(listener[end], SOL_SOCKET, SO_REUSEADDR, &on,
		    sizeof on) == -1 ||
		    bind(listener[end], (struct sockaddr *)&sin,
		    sizeof sin) == -1 || listen(listener[end], 1) == -1)
			fail("listen");
	}
	for (end = END_A; end < ENDS; end++)
		if ((fd[end] = with_nodelay(accept(listener[end], NULL,
		    NULL))) == -1)
			fail("accept");
	if ((child = fork()) == -1)
		fail("fork");
	from = child == 0 ? END_B : END_A;
	alarm(RUN_MAX);
	while ((n = recv(fd[from], buffer, sizeof buffer, 0)) > 0)
		if (send_all(fd[!from], buffer, (size_t)n) == -1)
			break;
	shutdown(fd[!from], SHUT_WR);
	if (child > 0)
		waitpid(child, NULL, 0);
	return 0;
}

static void
pair_parse(struct pair *p, const char *target)
{
	char *end;

	p->fd[END_A] = p->fd[END_B] = -1;
	if (strcmp(target, "direct") == 0)
		return;
	p->pid = strtol(target, &end, 10);
	if (*end == ':')
		p->port[END_A] = (int)strtol(end + 1, &end, 10);
	if (*end == ':')
		p->port[END_B] = (int)strtol(end + 1, &end, 10);
	if (*end != '\0' || p->port[END_A] <= 0 || p->port[END_B] <= 0) {
		fprintf(stderr, "load: not a target: %s\n", target);
		exit(2);
	}
}

/* 0, or -1 if there is no such mode. */
static int
run(const char *mode, double seconds)
{
	if (strcmp(mode, "one") == 0)
		run_transfer(seconds, CHUNK, 0);
	else if (strcmp(mode, "both") == 0)
		run_transfer(seconds, CHUNK, 1);
	else if (strcmp(mode, "rate") == 0)
		run_transfer(seconds, MESSAGE, 0);
	else if (strcmp(mode, "rtt1") == 0)
		run_rtt(seconds, 1);
	else if (strcmp(mode, "rtt64") == 0)
		run_rtt(seconds, 64);
	else if (strcmp(mode, "rtt1024") == 0)
		run_rtt(seconds, 1024);
	else if (strcmp(mode, "reconnect") == 0)
		run_reconnect();
	else if (strcmp(mode, "idle") == 0)
		run_idle(seconds, 0);
	else if (strcmp(mode, "orphan") == 0)
		run_idle(seconds, 1);
	else if (strcmp(mode, "fill") == 0)
		run_fill();
	else
		return -1;
	return 0;
}

int
main(int argc, char *argv[])
{
	struct sigaction action;
	int i;

	failure_ends = child_end;
	memset(&action, 0, sizeof action);
	action.sa_handler = on_signal;
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
	if (argc == 3 && strcmp(argv[1], "ports") == 0) {
		print_ports(strtol(argv[2], NULL, 10));
		return 0;
	}
	if (argc == 4 && strcmp(argv[1], "bare") == 0)
		return run_bare((const char *const *)&argv[2]);
	if (argc < 4 || argc - 3 > PAIRS_MAX) {
		fprintf(stderr, "usage: load mode seconds target...\n"
		    "       load ports count\n       load bare portA portB\n");
		return 2;
	}
	alarm(RUN_MAX);
	pattern_init();
	for (i = 3; i < argc; i++)
		pair_parse(&pairs[npairs++], argv[i]);
	/* A relay must know both clients before it is of any use. */
	for (i = 0; i < npairs && strcmp(argv[1], "fill") != 0; i++)
		pair_connect(&pairs[i]);
	pause_ms(30 + npairs);
	if (run(argv[1], strtod(argv[2], NULL)) == -1) {
		fprintf(stderr, "load: no such mode: %s\n", argv[1]);
		return 2;
	}
	return 0;
}
