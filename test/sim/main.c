/*
 * main.c - tcpbridge in a simulated world
 *
 *	sim SEED		replay one run; -v traces it
 *	sim -n COUNT [-s FIRST]	that many seeds, from FIRST
 *	sim -t SECS [-s FIRST]	seeds for that many seconds
 *	sim -a ...		go on after a failure, and tell each
 *	sim -y YEARS [-s SEED]	years of field traffic: a poll every second,
 *				a drop every hour
 *
 * tcpbridge.c is compiled into program.c with its system calls replaced by a
 * kernel of our own: virtual time, listeners with a bounded backlog, TCP
 * connections with finite buffers, latency and rates, lines that are cut and
 * mended, resets, peers that vanish, a log reader that stalls, signals, and
 * injected faults.  Two clients act at random.  Everything comes from one
 * seed, so a run can be repeated exactly.
 *
 *	program.c	the program, and its public counters; again.c and bsd.c
 *			are copies of it: a second start, and a BSD's
 *	dice.c		chance
 *	stream.c	the content of streams
 *	world.c		the state of the world, its clocks, the trace
 *	network.c	connections, both kernels and the way between
 *	clients.c	who dials, and what they do
 *	calls.c		the system calls that the program makes
 *	disk.c		the file of -f
 *	wait.c		pselect() and signals: how time passes
 *	promise.c	what is promised, as rules: the oracle
 *	log.c		what the log says, against these
 *	run.c		the settings, start and end of a run
 *	main.c		many runs
 *
 * Each run has a process of its own.
 */
#include "sim.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What has to happen at least once in many runs. */
static const char *const cov_text[] = {
#define X(name, text) text,
	COVERAGE(X)
#undef X
};

static double
wall_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* One seed in a process of its own; 0 if all was well. */
static int
fork_run(uint64_t seed, bool silent)
{
	struct rlimit cpu = { 10, 11 };
	int status, null;
	pid_t pid;

	pid = fork();
	if (pid < 0) {
		perror("sim: fork");
		exit(2);
	}
	if (pid == 0) {
		if (silent && (null = open("/dev/null", O_RDWR)) >= 0)
			dup2(null, STDERR_FILENO);
		setrlimit(RLIMIT_CPU, &cpu);
		run_seeded(seed);
	}
	if (waitpid(pid, &status, 0) < 0) {
		perror("sim: waitpid");
		exit(2);
	}
	if (WIFSIGNALED(status) && !silent)
		fprintf(stderr, "FAIL seed %" PRIu64 ": signal %d%s\n", seed,
		    WTERMSIG(status), WTERMSIG(status) == SIGXCPU ||
		    WTERMSIG(status) == SIGKILL ? " (it hangs)" : "");
	return status;
}

/* What happened, how often; false if something that must did not. */
static bool
report(double secs, bool strict)
{
	bool all = true;
	double turns = (double)totals->cov[COV_turns];
	int i;

	for (i = 0; i < COV_COUNT; i++) {
		printf("%12" PRIu64 "  %s\n", totals->cov[i], cov_text[i]);
		if (totals->cov[i] == 0 && strict)
			all = false;
	}
	printf("%" PRIu64 " runs, %.0f turns, %" PRIu64 " connections, %"
	    PRIu64 " bytes, %.3g simulated days in %.1f s: %.0f turns/s\n",
	    totals->seeds, turns, totals->conns, totals->bytes,
	    totals->simulated / 86400, secs, turns / secs);
	for (i = 0; i < COV_COUNT && strict; i++)
		if (totals->cov[i] == 0)
			printf("FAIL never happened: %s\n", cov_text[i]);
	return all;
}

/* Runs seeds; after a failure it goes on only if all is set. */
static int
many(const char *self, uint64_t first, uint64_t count, double secs, bool all)
{
	double start = wall_seconds();
	uint64_t seed = first, failed = 0;

	printf("seed %" PRIu64 " and those after it\n", first);
	fflush(stdout);
	for (; seed - first < count && (secs <= 0 ||
	    wall_seconds() - start < secs); seed++) {
		if (fork_run(seed, !all) == 0)
			continue;
		failed++;
		if (all)
			continue;
		verbose = 1;
		if (fork_run(seed, false) == 0)
			fprintf(stderr, "FAIL seed %" PRIu64
			    " does not repeat\n", seed);
		printf("repeat it: %s %" PRIu64 " (with -v all that happens)\n",
		    self, seed);
		return 1;
	}
	if (!report(wall_seconds() - start, seed - first >= 1000))
		failed++;
	printf("repeat them: %s -n %" PRIu64 " -s %" PRIu64 "\n", self,
	    seed - first, first);
	return failed == 0 ? 0 : 1;
}

static int
years(double n, uint64_t seed)
{
	double start = wall_seconds(), secs;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		verbose = 0;
		run_years(n, seed);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
		fprintf(stderr, "FAIL %g years, seed %" PRIu64 "\n", n, seed);
		return 1;
	}
	secs = wall_seconds() - start;
	printf("%g years: %" PRIu64 " turns, %" PRIu64 " connections, %" PRIu64
	    " bytes in %.0f s; %.2f years a minute\n", n,
	    totals->cov[COV_turns], totals->conns, totals->bytes, secs,
	    n * 60 / secs);
	return 0;
}

static int
usage(void)
{
	fprintf(stderr, "usage: sim [-v] SEED | sim [-a] -n COUNT [-s FIRST] |\n"
	    "       sim [-a] -t SECS [-s FIRST] | sim -y YEARS [-s SEED]\n");
	return 2;
}

int
main(int argc, char **argv)
{
	uint64_t first = 1, count = 0;
	double secs = 0, span = 0;
	const char *self = argv[0];
	bool all = false;
	int c;

	totals = mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (totals == MAP_FAILED) {
		perror("sim: mmap");
		return 2;
	}
	while ((c = getopt(argc, argv, "an:s:t:vy:")) != -1) {
		switch (c) {
		case 'a': all = true; break;
		case 'n': count = strtoull(optarg, NULL, 10); break;
		case 's': first = strtoull(optarg, NULL, 10); break;
		case 't': secs = strtod(optarg, NULL); break;
		case 'v': verbose = 2; break;
		case 'y': span = strtod(optarg, NULL); break;
		default: return usage();
		}
	}
	argc -= optind;
	argv += optind;
	optind = 1;
	if (span > 0)
		return years(span, first);
	if (count > 0 || secs > 0)
		return many(self, first, count > 0 ? count : UINT64_MAX, secs,
		    all);
	if (argc != 1 || argv[0][strspn(argv[0], "0123456789")] != '\0')
		return usage();
	if (verbose == 0)
		verbose = 1;
	first = strtoull(argv[0], NULL, 10);
	if (fork_run(first, false) != 0)
		return 1;
	return report(1, false) ? 0 : 1;
}
