/* TIOCOUTQ is for terminals.  The number is that of macOS. */
#ifndef SHIM_IOCTL_H
#define SHIM_IOCTL_H
#include_next <sys/ioctl.h>
enum { SHIM_OUTQ = TIOCOUTQ };
#undef TIOCOUTQ
#define TIOCOUTQ _IOR('t', 115, int)
#endif
