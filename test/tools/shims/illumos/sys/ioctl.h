/* The window's size is in <termios.h>, and TIOCOUTQ is for terminals. */
#include_next <sys/ioctl.h>
#undef TIOCGWINSZ
#undef TIOCOUTQ
