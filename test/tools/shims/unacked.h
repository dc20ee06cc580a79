/*
 * What was sent and is not acknowledged, as other systems count it.
 *
 * Linux counts the FIN as a byte; the others don't.  Where a connection broke,
 * FreeBSD empties its send buffer (uipc_socket.c, soisdisconnected).
 * outq.h has put Linux's TIOCOUTQ into SHIM_OUTQ before.
 */
#ifndef SHIM_UNACKED_H
#define SHIM_UNACKED_H

#include <netinet/in.h>
#include <sys/socket.h>

static inline int
shim_unacked(int fd, int emptied_when_broken)
{
	/* The first byte of Linux's struct tcp_info, which is option 11. */
	enum { TCP_INFO_NUMBER = 11, FIN_WAIT1 = 4, CLOSE = 7, LAST_ACK = 9,
	    CLOSING = 11 };
	unsigned char state = 0;
	socklen_t length = sizeof state;
	int bytes = 0;

	getsockopt(fd, IPPROTO_TCP, TCP_INFO_NUMBER, &state, &length);
	if (ioctl(fd, SHIM_OUTQ, &bytes) < 0 || (state == CLOSE &&
	    emptied_when_broken))
		return 0;
	if (state == FIN_WAIT1 || state == LAST_ACK || state == CLOSING)
		bytes--;
	return bytes;
}

#endif
