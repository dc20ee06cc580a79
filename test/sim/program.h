/*
 * program.h - what the simulation sees of the program (program.c)
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The public counters of one direction, and of the side it comes from. */
struct counts {
	uint64_t received, sent, dropped, held, away, unacked;
	uint64_t connects;	/* clients that came to this side */
};

extern const size_t program_buffer_max; /* BUFFER_MAX, bytes */
extern const int program_listeners; /* LISTENERS */
extern const int program_clients; /* most clients of a side at a time */
extern const bool program_is_1; /* version 1.0: a byte counts as sent when
				 * the kernel took it */

/* A copy of the program, with a state of its own. */
struct copy {
	struct counts (*counts)(int);
	bool	 (*wraps)(int, size_t);	/* a read of so many bytes goes across
					 * the end of the ring */
	int	 (*main)(int, char **);
};

extern const struct copy program_first, program_again, program_bsd;
extern const struct copy *program; /* the one that runs (world.c) */

#endif
