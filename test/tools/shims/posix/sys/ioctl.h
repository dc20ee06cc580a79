/* Nothing beyond POSIX: a window has no size, sockets tell no numbers. */
#include_next <sys/ioctl.h>
#undef TIOCGWINSZ
#undef TIOCOUTQ
#undef FIONREAD
