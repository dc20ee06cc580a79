/*
 * bsd.c - tcpbridge.c as FreeBSD compiles it
 */
#define COPY		program_bsd
#define COPY_MAIN	bsd_main
#define IS_COPY
#define PLAYS_BSD
#include "program.c"
