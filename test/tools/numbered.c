/*
 * numbered: says, hears and checks numbered lines, for test/tools/outages.
 *
 *	say host port count rate [again]
 *			dial and send that many lines, rate of them a second;
 *			print "said" after the last one, and stay connected;
 *			again: dial until somebody answers, and dial again when
 *			the connection ends, with the line that is due then
 *	hear how host port file
 *			dial until somebody answers, and write to the file
 *			what comes, until it ends or a signal does
 *	check count file ...
 *			compare what connections heard, one file for each, in
 *			the order in which they were made, with count lines
 *
 * How a hearer ends:
 *
 *	plain		SIGTERM and SIGKILL close the connection
 *	forget		they abort it; where the packets of the system are
 *			dropped at that time, it has forgotten the connection,
 *			as after a power cut
 *	hang		it has a small buffer; from SIGUSR1 on it reads nothing;
 *			SIGTERM closes with bytes unread, and so resets; those
 *			had reached its system, so they go to the file, too
 *
 * check prints one line: lines lost, bytes lost, lines heard twice, bytes
 * heard twice, faults.  A fault is a byte that was not said there, or a line
 * out of order in a connection.
 */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#define HELPER "numbered"
#include "tcp.h"

enum {
	LINE = 80,		/* bytes of a line, its end included */
	DIGITS = 10,		/* of a number */
	LINES_MAX = 100000,
	SMALL_BUFFER = 2048,
	BLOCK = 65536
};

enum { PLAIN, FORGET, HANG };

static volatile sig_atomic_t hung, ended;

/* A number from 1 on. */
static long
number_to(const char *text, long most)
{
	long value = number(text);

	if (value < 1 || value > most)
		refuse("out of range", text);
	return value;
}

/* Each part of a line tells its number. */
static void
make_line(char line[LINE + 1], long count)
{
	unsigned n = (unsigned)count % LINES_MAX;

	snprintf(line, LINE + 1,
	    "%010u %010u %010u %010u %010u %010u %010u ..\n",
	    n, n, n, n, n, n, n);
}

/* Returns a connected socket, or -1 if nobody answers. */
static int
dial(const char *host, const char *port, int how)
{
	int fd = dial_address(host, port, how == HANG ? SMALL_BUFFER : 0);

	if (fd != -1 && how == FORGET)
		reset_at_close(fd);
	return fd;
}

/* Waits that long at most, and forgets what comes; 0 once nobody is there. */
static int
forget_input(int fd, long ms)
{
	char block[256];
	struct pollfd ready;

	ready.fd = fd;
	ready.events = POLLIN;
	if (poll(&ready, 1, ms < 0 ? -1 : (int)ms) < 1)
		return 1;
	return recv(fd, block, sizeof(block), 0) > 0;
}

/* Waits for a time, while the connection lasts; 0 once it has ended. */
static int
wait_until_ms(int fd, long time)
{
	long left;

	while ((left = time - now_ms()) > 0)
		if (!forget_input(fd, left))
			return 0;
	return 1;
}

static int
say(char **arg)
{
	char line[LINE + 1];
	long count = number_to(arg[2], LINES_MAX), rate = number_to(arg[3], 1000);
	long began = now_ms(), n = 0;
	int again = arg[4] != NULL, fd = dial(arg[0], arg[1], PLAIN);

	signal(SIGPIPE, SIG_IGN);
	if (fd == -1 && !again)
		fail("connect");
	while (n < count) {
		if (fd == -1) {
			pause_ms(100);
			fd = dial(arg[0], arg[1], PLAIN);
			continue;
		}
		make_line(line, n);
		if (wait_until_ms(fd, began + n * 1000 / rate) &&
		    write(fd, line, LINE) == LINE) {
			n++;
			continue;
		}
		if (!again)
			fail("the bridge closed");
		close(fd);
		fd = -1;
	}
	puts("said");
	fflush(stdout);
	while (forget_input(fd, -1))
		continue;
	return 0;
}

static void
on_hang(int signo)
{
	(void)signo;
	hung = 1;
}

static void
on_end(int signo)
{
	(void)signo;
	ended = 1;
}

static void
handle(int signo, void (*handler)(int))
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	sigemptyset(&action.sa_mask);
	sigaction(signo, &action, NULL);
}

static int
how_named(const char *name)
{
	static const char *const names[] = { "plain", "forget", "hang" };
	int how;

	for (how = PLAIN; how <= HANG; how++)
		if (strcmp(name, names[how]) == 0)
			return how;
	fprintf(stderr, "numbered: no way to end: '%s'\n", name);
	exit(2);
}

static int
hear(char **arg)
{
	static char block[BLOCK];
	struct pollfd ready;
	int how = how_named(arg[0]), fd, out;
	ssize_t n;

	handle(SIGUSR1, on_hang);
	handle(SIGTERM, on_end);
	out = open(arg[3], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666);
	if (out == -1)
		fail(arg[3]);
	while ((fd = dial(arg[1], arg[2], how)) == -1 && !ended)
		pause_ms(100);
	ready.fd = fd;
	while (!ended) {
		/* A signal in between is noticed after a tenth of a second. */
		ready.events = hung ? 0 : POLLIN;
		if (poll(&ready, 1, 100) < 1 || ended)
			continue;
		n = recv(fd, block, sizeof(block), 0);
		if (n <= 0)
			break;
		write_all(out, block, (size_t)n);
	}
	if (hung) {
		n = recv(fd, block, sizeof(block), MSG_PEEK | MSG_DONTWAIT);
		if (n > 0)
			write_all(out, block, (size_t)n);
	}
	close(fd);
	return 0;
}

/*
 * Reads the number of the line that starts at the text.  Returns -1 if there
 * is none.
 */
static long
number_at(const char *text, size_t length)
{
	long n = 0;
	size_t i;

	if (length < DIGITS)
		return -1;
	for (i = 0; i < DIGITS; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		n = n * 10 + (text[i] - '0');
	}
	return n;
}

/*
 * Tells where in all that was said the text begins.  It may begin inside of a
 * line; then the end of that line tells the number.  Returns -1 if the text
 * has neither a beginning nor an end of a line.
 */
static long
place_of(const char *text, size_t length)
{
	const char *end = memchr(text, '\n', length);
	size_t head;
	long n;

	if (end == NULL) {
		n = number_at(text, length);
		return n == -1 ? -1 : n * LINE;
	}
	head = (size_t)(end - text) + 1;
	if (head >= DIGITS + 4) {
		n = number_at(end - DIGITS - 3, DIGITS);
		return n == -1 ? -1 : (n + 1) * LINE - (long)head;
	}
	n = number_at(end + 1, length - head);
	return n == -1 ? -1 : n * LINE - (long)head;
}

/*
 * Marks in heard[] each byte of one connection.  A place goes on from the one
 * before, but for lines that were dropped.  Returns the number of faults.
 */
static long
mark(const char *text, size_t length, unsigned char *heard, long all)
{
	char line[LINE + 1];
	long place = place_of(text, length), faults = 0, next;
	size_t i;

	if (length > 0 && (place < 0 || place >= all))
		return 1;
	for (i = 0; i < length; i++, place++) {
		if (place % LINE == 0) {
			next = number_at(text + i, length - i);
			if (next != -1 && next * LINE < place)
				faults++;
			if (next != -1)
				place = next * LINE;
		}
		if (place >= all)
			return faults + 1;
		make_line(line, place / LINE);
		if (text[i] != line[place % LINE])
			faults++;
		if (heard[place] < 2)
			heard[place]++;
	}
	return faults;
}

static size_t
slurp(const char *name, char *text, size_t most)
{
	FILE *file = fopen(name, "r");
	size_t length;

	if (file == NULL)
		fail(name);
	length = fread(text, 1, most, file);
	fclose(file);
	return length;
}

static int
check(char **arg)
{
	static char text[LINES_MAX * LINE];
	static unsigned char heard[LINES_MAX * LINE];
	long count = number_to(arg[0], LINES_MAX), faults = 0, n, i;
	long lost = 0, lost_lines = 0, twice = 0, twice_lines = 0;
	long missing, again;

	for (arg++; *arg != NULL; arg++)
		faults += mark(text, slurp(*arg, text, sizeof(text)), heard,
		    count * LINE);
	for (n = 0; n < count; n++) {
		missing = again = 0;
		for (i = n * LINE; i < (n + 1) * LINE; i++) {
			missing += heard[i] == 0;
			again += heard[i] > 1;
		}
		lost += missing;
		twice += again;
		lost_lines += missing > 0;
		twice_lines += again > 0;
	}
	printf("%ld %ld %ld %ld %ld\n", lost_lines, lost, twice_lines, twice,
	    faults);
	return 0;
}

static const struct task tasks[] = {
	{ "say", 4, say },
	{ "hear", 4, hear },
	{ "check", 2, check },
};

int
main(int argc, char *argv[])
{
	return task_run(tasks, sizeof(tasks) / sizeof(tasks[0]), argc, argv);
}
