/* A client that reset before accept() is not handed over (uipc_socket.c,
 * soaccept). */
#ifndef SHIM_SOCKET_H
#define SHIM_SOCKET_H
#include_next <sys/socket.h>
#include <errno.h>
#include <unistd.h>

static inline int
shim_accept(int fd, struct sockaddr *address, socklen_t *length)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof peer;
	int client = accept(fd, address, length);

	if (client < 0 ||
	    getpeername(client, (struct sockaddr *)&peer, &size) == 0)
		return client;
	close(client);
	errno = ECONNABORTED;
	return -1;
}
#define accept(fd, address, length) shim_accept(fd, address, length)
#endif
