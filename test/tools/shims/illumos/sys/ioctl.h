/* The window's size is in <termios.h>, FIONREAD in <sys/filio.h>, and TIOCOUTQ
 * is for terminals. */
#include_next <sys/ioctl.h>
#undef TIOCGWINSZ
#undef FIONREAD
#undef TIOCOUTQ
