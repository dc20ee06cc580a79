/*
 * peer: what the test suites need of a TCP client, or of a parent process,
 * that nc, socat and the shell can't do, or can't do fast enough.
 *
 * Clients dial 127.0.0.1, or the address in PEER_HOST:
 *
 *	burst port count size	dial, send a numbered line of size bytes and
 *				close, count times; the lines go to standard
 *				output as well
 *	lines port from count	the same with lines of 64 bytes that tell their
 *				number five times, and nothing on output
 *	slam port text		send text, then reset
 *	oob port		send "ab", "c" as urgent data, and "de"; then
 *				hold the connection until the peer ends it
 *	sip port bytes ms [rcvbuf]
 *				read that many bytes every ms to standard
 *				output, until the peer ends the connection
 *	pingpong portA portB count
 *				count messages of 64 bytes each way, one at a
 *				time
 *	first portA portB rounds
 *				A sends, then B dials: the median time from
 *				there to B's first byte, in microseconds
 *	slave port ms	answer each question with the same bytes after ms,
 *				as Modbus RTU does, without a number that says
 *				which question is meant; dial again when the
 *				connection ends, until nobody listens
 *	master port count ms	ask count questions, each another one, and wait
 *				up to ms for the answer; after each third
 *				question restart: close, dial again and ask the
 *				next.  Tells how many answers were right, how
 *				many wrong and how many did not come
 *
 * Parents replace themselves with a command:
 *
 *	plain command ...	no signal ignored or blocked
 *	inherit last command ...
 *				every descriptor up to last is in use
 */
#define _POSIX_C_SOURCE 200809L

#include <sys/select.h>
#include <fcntl.h>
#include <signal.h>

#define HELPER "peer"
#include "tcp.h"

enum { MESSAGE = 64, ROUNDS_MAX = 1000, BLOCK = 65536, FRAME = 8 };

/* A client that a broken bridge keeps waiting gives up after a minute. */
static int
dial(const char *port, int rcvbuf)
{
	int fd;

	alarm(60);
	fd = dial_address(host_given(), port, rcvbuf);
	if (fd == -1)
		fail("connect");
	return fd;
}

/* Reads exactly that much, for an answer whose length is known. */
static void
receive_all(int fd, char *bytes, size_t length)
{
	ssize_t n;

	while (length > 0) {
		n = recv(fd, bytes, length, 0);
		if (n == -1)
			fail("recv");
		if (n == 0) {
			fprintf(stderr, "peer: connection ended early\n");
			exit(1);
		}
		bytes += n;
		length -= (size_t)n;
	}
}

/* Reads and forgets until the other end closes or resets. */
static void
hold(int fd)
{
	char block[256];

	while (recv(fd, block, sizeof(block), 0) > 0)
		continue;
}

static int
burst(char **arg)
{
	char line[BLOCK];
	long count = number(arg[1]), i;
	size_t size = (size_t)number(arg[2]);
	int fd;

	if (size < 8 || size > sizeof(line)) {
		fprintf(stderr, "peer: burst: size is 8 to %d\n", BLOCK);
		return 2;
	}
	for (i = 0; i < count; i++) {
		memset(line, '.', size);
		snprintf(line, size, "%06ld", i);
		line[6] = '.';
		line[size - 1] = '\n';
		fd = dial(arg[0], 0);
		write_all(fd, line, size);
		close(fd);
		fwrite(line, 1, size, stdout);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}

static int
lines(char **arg)
{
	char line[MESSAGE + 1];
	unsigned i = (unsigned)number(arg[1]);
	unsigned last = i + (unsigned)number(arg[2]);
	int fd;

	for (; i < last; i++) {
		snprintf(line, sizeof(line),
		    "%010u %010u %010u %010u %010u ........\n",
		    i, i, i, i, i);
		fd = dial(arg[0], 0);
		write_all(fd, line, strlen(line));
		close(fd);
	}
	return 0;
}

static int
slam(char **arg)
{
	int fd = dial(arg[0], 0);

	write_all(fd, arg[1], strlen(arg[1]));
	reset_at_close(fd);
	return close(fd) == 0 ? 0 : 1;
}

static int
oob(char **arg)
{
	int fd = dial(arg[0], 0);

	write_all(fd, "ab", 2);
	if (send(fd, "c", 1, MSG_OOB) != 1)
		fail("send urgent");
	write_all(fd, "de", 2);
	hold(fd);
	return 0;
}

static int
sip(char **arg)
{
	char block[BLOCK];
	size_t size = (size_t)number(arg[1]);
	long ms = number(arg[2]);
	int fd = dial(arg[0], arg[3] != NULL ? (int)number(arg[3]) : 0);
	ssize_t n;

	if (size > sizeof(block))
		size = sizeof(block);
	while ((n = recv(fd, block, size, 0)) > 0) {
		fwrite(block, 1, (size_t)n, stdout);
		fflush(stdout);
		pause_ms(ms);
	}
	return n == 0 ? 0 : 1;
}

static int
pingpong(char **arg)
{
	char message[MESSAGE], answer[MESSAGE];
	int a = dial(arg[0], 0), b = dial(arg[1], 0);
	long count = number(arg[2]), i;

	for (i = 0; i < count; i++) {
		memset(message, (int)('a' + i % 26), sizeof(message));
		write_all(a, message, sizeof(message));
		receive_all(b, answer, sizeof(answer));
		write_all(b, answer, sizeof(answer));
		receive_all(a, answer, sizeof(answer));
		if (memcmp(message, answer, sizeof(message)) != 0) {
			fprintf(stderr, "peer: pingpong: altered\n");
			return 1;
		}
	}
	return 0;
}

static int
compare(const void *left, const void *right)
{
	long l = *(const long *)left, r = *(const long *)right;

	return (l > r) - (l < r);
}

static int
first(char **arg)
{
	static long times[ROUNDS_MAX];
	long rounds = number(arg[2]), i;
	char byte = 'x';
	int a, b;

	if (rounds < 1 || rounds > ROUNDS_MAX)
		return 2;
	for (i = 0; i < rounds; i++) {
		a = dial(arg[0], 0);
		write_all(a, &byte, 1);
		pause_ms(20);
		times[i] = now_us();
		b = dial(arg[1], 0);
		receive_all(b, &byte, 1);
		times[i] = now_us() - times[i];
		close(b);
		close(a);
	}
	qsort(times, (size_t)rounds, sizeof(times[0]), compare);
	printf("%ld\n", times[rounds / 2]);
	return 0;
}

/* Reads one frame, as receive_all(), or returns 0 if the connection ends. */
static int
receive_frame(int fd, char *frame)
{
	size_t got = 0;
	ssize_t n;

	while (got < FRAME) {
		n = recv(fd, frame + got, FRAME - got, 0);
		if (n <= 0)
			return 0;
		got += (size_t)n;
	}
	return 1;
}

static int
slave(char **arg)
{
	char frame[FRAME];
	int fd;

	signal(SIGPIPE, SIG_IGN);
	for (fd = dial(arg[0], 0); fd != -1; fd = dial(arg[0], 0)) {
		while (receive_frame(fd, frame)) {
			pause_ms(number(arg[1]));
			if (send(fd, frame, FRAME, 0) != FRAME)
				break;
		}
		close(fd);
		pause_ms(10);
	}
	return 0;
}

/* Whether bytes, or the end, come within so many milliseconds. */
static int
comes(int fd, long ms)
{
	struct timeval wait = { ms / 1000, ms % 1000 * 1000 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	return select(fd + 1, &set, NULL, NULL, &wait) > 0;
}

/* Questions in a row do not begin alike, so bytes that are one frame late show. */
static int
master(char **arg)
{
	long count = number(arg[1]), i, right = 0, wrong = 0, none = 0;
	char question[FRAME + 1], answer[FRAME];
	int fd = dial(arg[0], 0);

	signal(SIGPIPE, SIG_IGN);
	for (i = 1; i <= count; i++) {
		snprintf(question, sizeof(question), "%04ld%04ld", i % 10000,
		    i % 10000);
		if (send(fd, question, FRAME, 0) == FRAME && i % 3 != 0 &&
		    comes(fd, number(arg[2])) && receive_frame(fd, answer)) {
			if (memcmp(question, answer, FRAME) == 0)
				right++;
			else
				wrong++;
			continue;
		}
		if (i % 3 == 0)		/* the slave gets the question */
			pause_ms(10);
		else
			none++;
		close(fd);
		fd = dial(arg[0], 0);
	}
	printf("right=%ld wrong=%ld none=%ld\n", right, wrong, none);
	return 0;
}

static int
replace_by(char **command)
{
	execvp(command[0], command);
	fail(command[0]);
	return 1;
}

static int
plain(char **arg)
{
	static const int signals[] = {
		SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2
	};
	sigset_t none;
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return replace_by(arg);
}

static int
inherit(char **arg)
{
	long last = number(arg[0]);
	int fd;

	do {
		fd = open("/dev/null", O_RDONLY);
		if (fd == -1)
			fail("open");
	} while (fd < last);
	if (fd > last)
		close(fd);
	return replace_by(arg + 1);
}

static const struct task tasks[] = {
	{ "burst", 3, burst },
	{ "lines", 3, lines },
	{ "slam", 2, slam },
	{ "oob", 1, oob },
	{ "sip", 3, sip },
	{ "pingpong", 3, pingpong },
	{ "first", 3, first },
	{ "slave", 2, slave },
	{ "master", 3, master },
	{ "plain", 1, plain },
	{ "inherit", 2, inherit },
};

int
main(int argc, char *argv[])
{
	return task_run(tasks, sizeof(tasks) / sizeof(tasks[0]), argc, argv);
}
