/* FIONWRITE is for sockets.  The number is that of FreeBSD. */
#ifndef SHIM_IOCTL_H
#define SHIM_IOCTL_H
#include_next <sys/ioctl.h>
#include "../../outq.h"
#include "../../unacked.h"
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
