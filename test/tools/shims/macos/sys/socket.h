/* SO_NWRITE tells what is not acknowledged; accept() may hand over a client
 * that has reset, without an address (xnu, uipc_syscalls.c). */
#ifndef SHIM_SOCKET_H
#define SHIM_SOCKET_H
#include_next <sys/socket.h>
#include <sys/ioctl.h>
#include "../../unacked.h"
#define SO_NWRITE 0x1024

static inline int
shim_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	if (level != SOL_SOCKET || name != SO_NWRITE)
		return getsockopt(fd, level, name, value, length);
	*(int *)value = shim_unacked(fd, 0);
	return 0;
}
#define getsockopt(fd, level, name, value, length) \
    shim_getsockopt(fd, level, name, value, length)

static inline int
shim_accept(int fd, struct sockaddr *address, socklen_t *length)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof peer;
	int client = accept(fd, address, length);

	if (client >= 0 &&
	    getpeername(client, (struct sockaddr *)&peer, &size) < 0)
		*length = 0;
	return client;
}
#define accept(fd, address, length) shim_accept(fd, address, length)
#endif
