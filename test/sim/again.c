/*
 * again.c - tcpbridge.c once more, for the start after a stop (-f)
 */
#define COPY		program_again
#define COPY_MAIN	again_main
#define IS_COPY
#include "program.c"
