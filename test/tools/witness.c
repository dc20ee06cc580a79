/*
 * witness: looks at the logs, files and processes of a test suite, which would
 * take the shell two processes a look.  The suite starts it once and asks it
 * through a pipe (see look in lib.sh).
 *
 * A question is one line on standard input; its words end with the character 037.
 * The answer is one line on standard output: a status as of a command, 0 for yes,
 * then a blank and a value where there is one.
 *
 *	nap hundredths		0 after that time
 *	count file pattern	how many lines match
 *	value file key pattern	the value of that key, without quotes, in the
 *				last line that matches; 1 if there is none
 *	wait file count pattern hundredths
 *				0 as soon as so many lines match
 *	totals file pid hundredths
 *				sends SIGUSR1 to that process; 0 as soon as the
 *				file has four more lines of totals
 *	dead parent pid hundredths
 *				0 as soon as no child of that parent runs with
 *				that number, as Linux's /proc tells
 *	same file other hundredths
 *				0 as soon as the other file has the same bytes;
 *				1 if it has not, and did not grow for that time
 *
 * Patterns are basic regular expressions.  Times are hundredths of a second,
 * counted in naps and not by the clock, as in wait_until of lib.sh; 1 when they
 * are over.  What can't be looked at is told on standard error, with status 2.
 */
#define _POSIX_C_SOURCE 200809L

#include <sys/stat.h>
#include <regex.h>
#include <signal.h>

#define HELPER "witness"
#include "tcp.h"

enum { WORDS = 8, BLOCK = 65536, SEPARATOR = 037, UNKNOWN = 2 };

static char *line;		/* the last one that was read from a file */
static size_t line_size;

/* Naps a little longer each time; returns 0 when the time is over. */
static int
nap(long *left, long *hundredths)
{
	if (*left <= 0)
		return 0;
	pause_ms(10 * *hundredths);
	*left -= *hundredths;
	if (*hundredths < 8)
		*hundredths *= 2;
	return 1;
}

/* Reads the next whole line, without its end; 0 if there is none.  One that is
 * still being written is read again the next time. */
static int
line_next(FILE *file)
{
	long at = ftell(file);
	ssize_t n;

	clearerr(file);
	n = getline(&line, &line_size, file);
	if (n > 0 && line[n - 1] == '\n') {
		line[n - 1] = '\0';
		return 1;
	}
	if (fseek(file, at, SEEK_SET) == -1)
		fail("fseek");
	return 0;
}

/* How many more lines match. */
static long
matches(FILE *file, const regex_t *pattern)
{
	long count = 0;

	while (line_next(file))
		count += regexec(pattern, line, 0, NULL, 0) == 0;
	return count;
}

/* Opens both for a look at lines; 0 if that can't be. */
static int
lines_open(const char *name, const char *text, FILE **file, regex_t *pattern)
{
	*file = fopen(name, "r");
	if (*file == NULL) {
		fprintf(stderr, HELPER ": %s: %s\n", name, strerror(errno));
		return 0;
	}
	if (regcomp(pattern, text, REG_NOSUB) == 0)
		return 1;
	fprintf(stderr, HELPER ": not a pattern: '%s'\n", text);
	fclose(*file);
	return 0;
}

static void
lines_close(FILE *file, regex_t *pattern)
{
	fclose(file);
	regfree(pattern);
}

static int
answer(int status)
{
	printf("%d\n", status);
	return 0;
}

static int
nap_once(char **word)
{
	pause_ms(10 * number(word[0]));
	return answer(0);
}

static int
lines_count(char **word)
{
	regex_t pattern;
	FILE *file;

	if (!lines_open(word[0], word[1], &file, &pattern))
		return answer(UNKNOWN);
	printf("0 %ld\n", matches(file, &pattern));
	lines_close(file, &pattern);
	return 0;
}

/* The last " key=" counts; names have no quotes in them. */
static char *
value_find(char *text, const char *key)
{
	size_t length = strlen(key);
	char *at, *value = NULL;

	for (at = strchr(text, ' '); at != NULL; at = strchr(at + 1, ' '))
		if (strncmp(at + 1, key, length) == 0 && at[1 + length] == '=')
			value = at + 1 + length + 1;
	if (value != NULL && *value == '"')
		strtok(++value, "\"");
	else if (value != NULL)
		value[strcspn(value, " ")] = '\0';
	return value;
}

static int
line_value(char **word)
{
	char *last = NULL, *value;
	regex_t pattern;
	FILE *file;

	if (!lines_open(word[0], word[2], &file, &pattern))
		return answer(UNKNOWN);
	while (line_next(file))
		if (regexec(&pattern, line, 0, NULL, 0) == 0) {
			free(last);
			last = strdup(line);
		}
	value = last == NULL ? NULL : value_find(last, word[1]);
	if (value == NULL)
		answer(1);
	else
		printf("0 %s\n", value);
	free(last);
	lines_close(file, &pattern);
	return 0;
}

static int
lines_wait(char **word)
{
	long missing = number(word[1]), left = number(word[3]), hundredths = 1;
	regex_t pattern;
	FILE *file;

	if (!lines_open(word[0], word[2], &file, &pattern))
		return answer(UNKNOWN);
	do
		missing -= matches(file, &pattern);
	while (missing > 0 && nap(&left, &hundredths));
	lines_close(file, &pattern);
	return answer(missing > 0);
}

static int
totals(char **word)
{
	long left = number(word[2]), hundredths = 1, missing = 4;
	regex_t pattern;
	FILE *file;

	if (!lines_open(word[0], "event=stats", &file, &pattern))
		return answer(UNKNOWN);
	matches(file, &pattern);
	if (kill((pid_t)number(word[1]), SIGUSR1) == 0)
		do
			missing -= matches(file, &pattern);
		while (missing > 0 && nap(&left, &hundredths));
	lines_close(file, &pattern);
	return answer(missing > 0);
}

/* Whether it runs: a child of that parent, and no zombie. */
static int
is_child(const char *pid, long parent)
{
	char name[64], text[512] = "", *end;
	FILE *file;

	snprintf(name, sizeof(name), "/proc/%ld/stat", number(pid));
	file = fopen(name, "r");
	if (file == NULL)
		return 0;
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	end = strrchr(text, ')');
	/* It goes on with " S 123": state and parent. */
	return end != NULL && strlen(end) > 4 && end[2] != 'Z' &&
	    strtol(end + 3, NULL, 10) == parent;
}

static int
dead(char **word)
{
	long parent = number(word[0]), left = number(word[2]), hundredths = 1;

	while (is_child(word[1], parent))
		if (!nap(&left, &hundredths))
			return answer(1);
	return answer(0);
}

static off_t
file_size(const char *name)
{
	struct stat file;

	return stat(name, &file) == -1 ? -1 : file.st_size;
}

static int
is_same(const char *name, const char *other)
{
	static char left[BLOCK], right[BLOCK];
	FILE *one = fopen(name, "r"), *two = fopen(other, "r");
	size_t n, m;
	int same = one != NULL && two != NULL;

	while (same) {
		n = fread(left, 1, sizeof(left), one);
		m = fread(right, 1, sizeof(right), two);
		same = n == m && memcmp(left, right, n) == 0;
		if (n == 0)
			break;
	}
	if (one != NULL)
		fclose(one);
	if (two != NULL)
		fclose(two);
	return same;
}

static int
same(char **word)
{
	long time = number(word[2]), left = time, hundredths = 1;
	off_t size = file_size(word[0]), before = -1, now;

	for (;;) {
		now = file_size(word[1]);
		if (now == size && is_same(word[0], word[1]))
			return answer(0);
		if (now > before && now < size)
			left = time;
		before = now;
		if (!nap(&left, &hundredths))
			return answer(1);
	}
}

static const struct task tasks[] = {
	{ "nap", 1, nap_once },
	{ "count", 2, lines_count },
	{ "value", 3, line_value },
	{ "wait", 4, lines_wait },
	{ "totals", 3, totals },
	{ "dead", 3, dead },
	{ "same", 3, same },
};

/* Splits a question into words; a file, a key or a pattern may have blanks. */
static int
words_find(char *text, char **word)
{
	int count = 0;
	char *end;

	while (count < WORDS && (end = strchr(text, SEPARATOR)) != NULL) {
		*end = '\0';
		word[count++] = text;
		text = end + 1;
	}
	return count;
}

int
main(void)
{
	char *question = NULL, *word[WORDS];
	const struct task *task;
	size_t size = 0;
	int count;

	while (getline(&question, &size, stdin) > 0) {
		count = words_find(question, word);
		task = task_find(tasks, sizeof(tasks) / sizeof(tasks[0]),
		    count > 0 ? word[0] : "");
		if (task == NULL || count != 1 + task->least)
			refuse("not a question", question);
		task->run(word + 1);
		if (fflush(stdout) == EOF)
			fail("answer");
	}
	return 0;
}
