/* A pipe that is ready takes PIPE_BUF bytes (POSIX, write), which is more there
 * than the 4096 of Linux.  Linux's pipe has 16 buffers of 4096 bytes; at worst
 * they are half full. */
#ifndef SHIM_SELECT_H
#define SHIM_SELECT_H
#include_next <sys/select.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <stddef.h>

static inline int
shim_select(int count, fd_set *readable, fd_set *writable, fd_set *failed,
    struct timeval *timeout)
{
	int ready = select(count, readable, writable, failed, timeout);
	struct stat status;
	int used;

	if (ready == 1 && writable != NULL && fstat(count - 1, &status) == 0 &&
	    S_ISFIFO(status.st_mode) &&
	    ioctl(count - 1, FIONREAD, &used) == 0 && used > 16 * 4096 / 2 - 8192)
		return 0;
	return ready;
}
#define select(count, readable, writable, failed, timeout) \
    shim_select(count, readable, writable, failed, timeout)
#endif
