/* FIONWRITE is for sockets, TIOCOUTQ for terminals.  The numbers are those of
 * FreeBSD, which Linux doesn't know. */
#ifndef SHIM_IOCTL_H
#define SHIM_IOCTL_H
#include_next <sys/ioctl.h>
enum { SHIM_OUTQ = TIOCOUTQ };
#include "../../unacked.h"
#undef TIOCOUTQ
#define TIOCOUTQ _IOR('t', 115, int)
#define FIONWRITE _IOR('f', 119, int)

static inline int
shim_ioctl(int fd, unsigned long request, void *value)
{
	if (request != FIONWRITE)
		return ioctl(fd, request, value);
	*(int *)value = shim_unacked(fd, 1);
	return 0;
}
#define ioctl(fd, request, value) shim_ioctl(fd, request, value)
#endif
