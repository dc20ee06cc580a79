/*
 * tcp.h: what the helpers share that dial a bridge and send to it: peer.c,
 * numbered.c, restarts.c and load.c; witness.c has its messages from here.
 *
 * Each defines HELPER, its name in messages, before it includes this.  A call
 * that fails ends the helper with status 1, what was typed wrong with 2.
 */
#ifndef TCP_H
#define TCP_H

#include <sys/types.h>
#include <sys/socket.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One thing that a helper does, named by its first argument. */
struct task {
	const char *name;
	int least;		/* how many arguments it needs */
	int (*run)(char **);
};

/* What else has to end when a helper fails; NULL is nothing. */
static void (*failure_ends)(void);

static inline void
fail(const char *what)
{
	fprintf(stderr, HELPER ": %s: %s\n", what, strerror(errno));
	if (failure_ends != NULL)
		failure_ends();
	exit(1);
}

static inline void
refuse(const char *what, const char *text)
{
	fprintf(stderr, HELPER ": %s: '%s'\n", what, text);
	exit(2);
}

static inline long
number(const char *text)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < 0)
		refuse("not a number", text);
	return value;
}

static inline void
pause_ms(long ms)
{
	struct timespec wait;

	wait.tv_sec = ms / 1000;
	wait.tv_nsec = ms % 1000 * 1000000L;
	nanosleep(&wait, NULL);
}

/* Microseconds of a clock that nobody sets; where long has 32 bits it goes
 * round after 2000 seconds. */
static inline long
now_us(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) == -1)
		fail("clock_gettime");
	return (long)(now.tv_sec % 2000) * 1000000 + now.tv_nsec / 1000;
}

static inline long
now_ms(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) == -1)
		fail("clock_gettime");
	return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void
set_option(int fd, int level, int name, const void *value, socklen_t length)
{
	if (setsockopt(fd, level, name, value, length) == -1)
		fail("setsockopt");
}

/* From now on close() resets the connection. */
static inline void
reset_at_close(int fd)
{
	struct linger none;

	none.l_onoff = 1;
	none.l_linger = 0;
	set_option(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

/* Dials an IPv4 address; rcvbuf, where not 0, must be set before the handshake.
 * Returns the socket, or -1 and errno if nobody answers. */
static inline int
dial_address(const char *host, const char *port, int rcvbuf)
{
	struct sockaddr_in to;
	int fd, on = 1;

	memset(&to, 0, sizeof(to));
	to.sin_family = AF_INET;
	to.sin_port = htons((uint16_t)number(port));
	if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
		refuse("not an address", host);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd == -1)
		fail("socket");
	if (rcvbuf > 0)
		set_option(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == -1) {
		on = errno;
		close(fd);
		errno = on;
		return -1;
	}
	return fd;
}

/* Where the bridge is, for helpers that are not told. */
static inline const char *
host_given(void)
{
	const char *host = getenv("PEER_HOST");

	return host != NULL ? host : "127.0.0.1";
}

/* To a socket or a file. */
static inline void
write_all(int fd, const char *bytes, size_t length)
{
	ssize_t n;

	while (length > 0) {
		n = write(fd, bytes, length);
		if (n == -1)
			fail("write");
		bytes += n;
		length -= (size_t)n;
	}
}

/* The task of that name; NULL if there is none. */
static inline const struct task *
task_find(const struct task *task, size_t count, const char *name)
{
	for (; count > 0; task++, count--)
		if (strcmp(name, task->name) == 0)
			return task;
	return NULL;
}

/* Does what the first argument names; returns the status of the helper. */
static inline int
task_run(const struct task *task, size_t count, int argc, char **argv)
{
	if (argc > 1)
		task = task_find(task, count, argv[1]);
	if (argc > 1 && task != NULL && argc - 2 >= task->least)
		return task->run(argv + 2);
	fprintf(stderr, HELPER ": the head of " HELPER ".c tells its usage\n");
	return 2;
}

#endif
