/* Nothing tells what is not acknowledged. */
#include_next <sys/ioctl.h>
#undef TIOCOUTQ
