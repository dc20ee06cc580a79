/*
 * calls.c - the system calls that the program makes
 *
 * Each takes a little time, and the process may be stopped in it.  Faults are
 * injected here: calls that fail, do less than was asked for, or say that
 * something is ready that is not.
 */
#include "sim.h"

#include <sys/ioctl.h>
#include <sys/time.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"

/* How a metrics client is bound. */
#define SCRAPE_SPAN	(2 * SEC)
#define SCRAPES_MAX	4

static int
fail(int err)
{
	errno = err;
	return -1;
}

/* The program can't go on after this. */
static int
must_end(int err)
{
	W.failed = true;
	return fail(err);
}

/* Whether this call is to be what ends the start. */
static bool
fails_now(int failure)
{
	return C.failure == failure && one_in(&world_dice, 2);
}

static struct vfile *
file_of(int fd, const char *call)
{
	if (fd < 0 || fd >= SIM_FDS || W.files[fd].kind == VF_NONE)
		violate("%s() on descriptor %d, which is not open", call, fd);
	return &W.files[fd];
}

static struct tconn *
conn_of(int fd, const char *call)
{
	struct vfile *f = file_of(fd, call);

	if (f->kind != VF_CONN)
		violate("%s() on descriptor %d, not a connection", call, fd);
	return f->conn;
}

int
fd_new(int kind)
{
	int fd;

	if (C.fds_lowest) {
		for (fd = 3; W.files[fd].kind != VF_NONE; fd++)
			continue;
	} else {
		/* A number comes back late, so its use after close() shows. */
		do {
			fd = W.fd_next++;
			if (W.fd_next == FD_SETSIZE)
				W.fd_next = 3;
		} while (W.files[fd].kind != VF_NONE);
	}
	W.files[fd].kind = kind;
	return fd;
}

int
sim_clock_gettime(clockid_t clock, struct timespec *ts)
{
	int64_t t = clock == CLOCK_MONOTONIC ? C.clock + W.now :
	    C.wall + W.now + W.wall_jump;

	if (clock != CLOCK_MONOTONIC)
		W.wall_read = t;
	ts->tv_sec = (time_t)(t / SEC);
	ts->tv_nsec = (long)(t % SEC);
	errno = ENOENT;	/* as what succeeds may do, gmtime_r() among it */
	return 0;
}

int
sim_isatty(int fd)
{
	(void)fd;
	return C.tty;
}

char *
sim_ttyname(int fd)
{
	static char name[] = "/dev/pts/7";

	return fd == STDERR_FILENO ? name : NULL;
}

/* At start, before there are others: the lowest that is free. */
int
sim_open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode = 0;

	if (strncmp(path, "/disk/", 6) == 0) {
		va_start(ap, flags);
		if (flags & O_CREAT)
			mode = (mode_t)va_arg(ap, unsigned);
		va_end(ap);
		return disk_open(path, flags, mode);
	}
	if (strcmp(path, "/dev/null") != 0) {
		if (!(flags & O_NONBLOCK))
			violate("a terminal is opened that may block");
		return fd_new(VF_STD);
	}
	if (C.failure == NO_NULL)
		return must_end(ENOENT);
	COUNT(n_closed);
	W.files[STDIN_FILENO].kind = VF_STD;
	return STDIN_FILENO;
}

int
sim_dup2(int from, int to)
{
	file_of(from, "dup2");
	file_of(to, "dup2");
	return to;
}

int
sim_socket(int family, int type, int protocol)
{
	(void)type;
	(void)protocol;
	if ((family == AF_INET && !C.v4) || (family == AF_INET6 && !C.v6)) {
		COUNT(n_skipped);
		return fail(EAFNOSUPPORT);
	}
	if (fails_now(NO_SOCKET))
		return must_end(EMFILE);
	return fd_new(VF_SOCKET);
}

/* Another listener has that port, or somebody else where any would do. */
static bool
port_in_use(const struct vfile *f)
{
	int i;

	for (i = 0; i < W.ndoors; i++)
		if (W.doors[i].family == f->family &&
		    W.doors[i].host == f->host && W.doors[i].port == f->port)
			return true;
	if (!C.any_port || W.in_use >= 3 || !one_in(&world_dice, 4))
		return false;
	W.in_use++;
	COUNT(n_again);
	return true;
}

int
sim_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct vfile *f = file_of(fd, "bind");
	const void *p = sa;
	const struct sockaddr_in *in = p;
	const struct sockaddr_in6 *in6 = p;

	(void)len;
	f->family = sa->sa_family;
	f->host = f->family == AF_INET6 ? in6->sin6_addr.s6_addr[15] :
	    ntohl(in->sin_addr.s_addr) & 255;
	f->port = ntohs(f->family == AF_INET6 ? in6->sin6_port : in->sin_port);
	if (fails_now(NO_BIND))
		return must_end(C.any_port ? EACCES : EADDRINUSE);
	if (f->port == 0)
		f->port = (uint16_t)(20000 + W.named * 1000 +
		    (int)roll(&world_dice, 1000));
	else if (port_in_use(f))
		return fail(EADDRINUSE);
	return 0;
}

int
sim_listen(int fd, int backlog)
{
	struct vfile *f = file_of(fd, "listen");
	struct vlisten *l = &W.doors[W.ndoors];

	if (backlog < BACKLOG_MAX)
		violate("a backlog of %d", backlog);
	if (fails_now(NO_LISTEN))
		return must_end(C.any_port ? ENOBUFS : EADDRINUSE);
	if (W.ndoors++ == program_listeners)
		violate("more than %d listeners",
		    program_listeners);
	l->fd = fd;
	l->family = f->family;
	l->host = f->host;
	l->port = f->port;
	l->closed = false;
	l->queued = 0;
	l->w_accept.since = NEVER;
	l->side = W.named - 1;
	l->t_rest = NEVER;
	/* A short one in the simulation, so that it overflows at times. */
	l->backlog = one_in(&world_dice, 3) ? 2 : BACKLOG_MAX;
	f->kind = VF_LISTEN;
	f->door = l;
	return 0;
}

/* A connection that waits is taken off a listener's queue. */
static struct tconn *
dequeue(struct vlisten *l)
{
	struct tconn *c = l->queue[0];

	l->queued--;
	memmove(&l->queue[0], &l->queue[1],
	    (size_t)l->queued * sizeof (struct tconn *));
	return c;
}

/* A port that is in use for one address gives those before it up, too. */
static void
listener_closed(struct vlisten *l)
{
	if (W.in_start) {
		if (l != &W.doors[W.ndoors - 1])
			violate("a listener is closed");
		W.ndoors--;
		return;
	}
	if (W.stops == 0)
		violate("a listener is closed");
	l->closed = true;
	l->fd = -1;
	while (l->queued > 0)
		conn_free(dequeue(l));
}

/* Where it listens, once it runs: everywhere, on one port for a side. */
void
check_doors(void)
{
	int i, families = C.v4 + C.v6;

	if (disk_has(SAVE_NAME))
		violate("it listens, and the file is still there");
	for (i = 1; i < W.ndoors; i++)
		if (W.doors[i].side == W.doors[i - 1].side &&
		    W.doors[i].port != W.doors[i - 1].port)
			violate("side %s has ports %d and %d",
			    side_text(W.doors[i].side), W.doors[i - 1].port,
			    W.doors[i].port);
	if (W.ndoors != W.named * families * (int)C.hosts)
		violate("%d listeners for %d services, %d families, %d "
		    "addresses", W.ndoors, W.named, families, (int)C.hosts);
}

static socklen_t
address_make(struct sockaddr_storage *ss, int family, uint32_t host,
    uint16_t port)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(&in, 0, sizeof in);
	memset(&in6, 0, sizeof in6);
	in.sin_family = AF_INET;
	in.sin_port = htons(port);
	in.sin_addr.s_addr = htonl(0x0a000000 | host);
	in6.sin6_family = AF_INET6;
	in6.sin6_port = htons(port);
	in6.sin6_addr.s6_addr[0] = 0xfd;
	in6.sin6_addr.s6_addr[15] = (unsigned char)host;
	memset(ss, 0, sizeof *ss);
	if (family == AF_INET6)
		memcpy(ss, &in6, sizeof in6);
	else
		memcpy(ss, &in, sizeof in);
	return family == AF_INET6 ? sizeof in6 : sizeof in;
}

static void
address_give(int family, uint32_t host, uint16_t port, struct sockaddr *sa,
    socklen_t *len)
{
	struct sockaddr_storage ss;
	socklen_t n = address_make(&ss, family, host, port);

	memcpy(sa, &ss, (size_t)least(n, *len));
	*len = n;
}

int
sim_getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
	const struct vfile *f = file_of(fd, "getsockname");

	if (f->kind != VF_LISTEN)
		violate("getsockname() on descriptor %d", fd);
	if (fails_now(NO_PORT))
		return must_end(ENOBUFS);
	address_give(f->door->family, f->door->host, f->door->port, sa, len);
	return 0;
}

/* BSD: soisdisconnected() is called at a reset, and in TIME_WAIT. */
static bool
disconnected(const struct tconn *c)
{
	return c->dead || (c->shut && c->fin_arr && conn_unacked(c) == 0 &&
	    W.now >= c->t_fin_acked);
}

/* BSD: ENOTCONN once a connection is disconnected. */
int
sim_getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
	struct tconn *c = conn_of(fd, "getpeername");

	enter();
	settle();
	if (disconnected(c)) {
		if (!c->dead)
			COUNT(b_finished);
		return fail(ENOTCONN);
	}
	address_give(c->family, c->host, c->port, sa, len);
	return 0;
}

int
sim_getaddrinfo(const char *name, const char *serv,
    const struct addrinfo *hints, struct addrinfo **res)
{
	static struct addrinfo list[4 * DOORS_MAX];
	static struct sockaddr_storage addrs[4 * DOORS_MAX];
	uint32_t host, rounds = C.twice ? 2 : 1;
	int family, n = 0;

	(void)name;
	W.named++;
	if (fails_now(NO_NAME)) {
		must_end(EIO);
		return one_in(&world_dice, 2) ? EAI_NONAME : EAI_SYSTEM;
	}
	for (host = 0; host < C.hosts * rounds; host++)
		for (family = AF_INET6; family != 0;
		    family = family == AF_INET6 ? AF_INET : 0) {
			if (hints->ai_family != AF_UNSPEC &&
			    hints->ai_family != family)
				continue;
			memset(&list[n], 0, sizeof list[n]);
			list[n].ai_family = family;
			list[n].ai_socktype = SOCK_STREAM;
			list[n].ai_addrlen = address_make(&addrs[n], family,
			    host % C.hosts, (uint16_t)strtol(serv, NULL, 10));
			list[n].ai_addr = (struct sockaddr *)&addrs[n];
			if (n > 0)
				list[n - 1].ai_next = &list[n];
			n++;
		}
	if (C.twice)
		COUNT(n_twice);
	if (C.failure == TOO_MANY || C.failure == NO_FAMILY)
		W.failed = true;
	*res = &list[0];
	return n > 0 ? 0 : EAI_FAMILY;
}

void
sim_freeaddrinfo(struct addrinfo *res)
{
	(void)res;
}

int
sim_getnameinfo(const struct sockaddr *sa, socklen_t len, char *host,
    socklen_t hostlen, char *serv, socklen_t servlen, int flags)
{
	const void *p = sa;
	const struct sockaddr_in *in = p;
	const struct sockaddr_in6 *in6 = p;

	(void)flags;
	if (len == 0)
		return EAI_FAMILY;
	if (sa->sa_family == AF_INET6)
		snprintf(host, hostlen, "fd00::%x",
		    in6->sin6_addr.s6_addr[15]);
	else
		snprintf(host, hostlen, "10.0.0.%d",
		    (int)(ntohl(in->sin_addr.s_addr) & 255));
	snprintf(serv, servlen, "%d", ntohs(sa->sa_family == AF_INET6 ?
	    in6->sin6_port : in->sin_port));
	return 0;
}

int
sim_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	if (old != NULL)
		*old = W.handlers[sig];
	if (act != NULL)
		W.handlers[sig] = *act;
	return 0;
}

int
sim_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	int sig;

	if (old != NULL)
		*old = W.blocked;
	if (set == NULL)
		return 0;
	/* Costs two calls more, so only where no wait has let signals in. */
	if (how == SIG_SETMASK && old != NULL) {
		if (W.now - W.t_let_in < 45 * MS)
			violate("signals are let in twice in 45 ms");
		W.t_let_in = W.now;
		COUNT(s_let_in);
	}
	for (sig = 1; sig < NSIG && how == SIG_BLOCK; sig++)
		if (sigismember(set, sig) == 1)
			sigaddset(&W.blocked, sig);
	for (sig = 1; sig < NSIG && how == SIG_UNBLOCK; sig++)
		if (sigismember(set, sig) == 1)
			sigdelset(&W.blocked, sig);
	if (how == SIG_SETMASK)
		W.blocked = *set;
	signals_unblocked();
	return 0;
}

int
sim_fcntl(int fd, int cmd, ...)
{
	struct vfile *f;
	va_list ap;
	int arg;

	enter();
	if (cmd == F_GETFD && fd <= STDERR_FILENO &&
	    W.files[fd].kind == VF_NONE)
		return fail(EBADF);
	f = file_of(fd, "fcntl");
	va_start(ap, cmd);
	arg = cmd == F_SETFL || cmd == F_SETFD ? va_arg(ap, int) : 0;
	va_end(ap);
	if (f->kind == VF_STD && fd <= 2 && cmd == F_SETFL) {
		if (!C.tty)
			violate("the flags of descriptor %d are changed", fd);
		W.std_flags[fd] = arg & O_NONBLOCK;
	}
	if (f->kind == VF_STD && fd <= 2 && cmd == F_GETFL)
		return O_RDWR | W.std_flags[fd];
	if (f->kind != VF_CONN) {
		if (cmd == F_SETFL)
			f->nonblock = (arg & O_NONBLOCK) != 0;
		return cmd == F_GETFL ? O_RDWR : 0;
	}
	if (!f->conn->kept && fault(4)) {
		COUNT(f_fcntl);
		f->conn->faulty = true;
		return fail(ENOMEM);
	}
	if (cmd == F_SETFL)
		f->conn->nonblock = (arg & O_NONBLOCK) != 0;
	if (cmd == F_SETFD)
		f->conn->cloexec = (arg & FD_CLOEXEC) != 0;
	return cmd == F_GETFL ? O_RDWR : 0;
}

static void
option_tcp(struct tconn *c, int name, int value)
{
	switch (name) {
	case TCP_NODELAY: c->nodelay = value != 0; break;
	case TCP_KEEPIDLE: c->keepidle = value; break;
	case TCP_KEEPINTVL: c->keepintvl = value; break;
	case TCP_KEEPCNT: c->keepcnt = value; break;
	case TCP_USER_TIMEOUT: c->user_timeout = value; break;
#ifdef TCP_NOTSENT_LOWAT
	case TCP_NOTSENT_LOWAT: c->lowat = value; break;
#endif
	}
}

int
sim_setsockopt(int fd, int level, int name, const void *p, socklen_t len)
{
	struct vfile *f = file_of(fd, "setsockopt");
	struct linger linger;
	int value = 0;

	enter();
	memcpy(&value, p, (size_t)least(len, sizeof value));
	if (f->kind != VF_CONN) {
		if (level == SOL_SOCKET && name == SO_REUSEPORT && value)
			violate("SO_REUSEPORT on a listener");
		if (level == SOL_SOCKET && name == SO_OOBINLINE)
			f->oobinline = value != 0;
		return 0;
	}
	if (level == IPPROTO_TCP)
		option_tcp(f->conn, name, value);
	else if (level == SOL_SOCKET && name == SO_KEEPALIVE)
		f->conn->keepalive = value != 0;
	else if (level == SOL_SOCKET && name == SO_OOBINLINE)
		f->conn->oobinline = value != 0;
	else if (level == SOL_SOCKET && name == SO_LINGER) {
		memcpy(&linger, p, sizeof linger);
		if (linger.l_onoff != 0 && linger.l_linger > 0)
			violate("close() may wait for %d s", linger.l_linger);
		f->conn->abort = linger.l_onoff != 0;
	}
	arm_lost(f->conn);
	return 0;
}

/* A fatal error is told by a call. */
static int
tell(struct tconn *c, int err)
{
	if (c->told == 0)
		c->told = err;
	W.progress = W.acted = true;
	NOTE("%s: %s", conn_text(c), strerror(err));
	return fail(err);
}

/* What Linux tells of a connection, as far as the program may ask. */
static void
info_make(const struct tconn *c, struct tcp_info *info)
{
	uint64_t flight = conn_flight(c);
	int64_t wait;

	memset(info, 0, sizeof *info);
	info->tcpi_state = c->dead ? 7 : c->fin_arr ? 8 : 1;
	if (c->shut && !c->dead)
		info->tcpi_state = c->fin_arr ? 9 : 4;
	info->tcpi_unacked = c->dead ? 0 : (uint32_t)((flight + 1447) / 1448);
	if (c->shut && !c->dead && W.now < c->t_fin_acked)
		info->tcpi_unacked++;
	/* Window probes are sent after 0.2 s, 0.4 s and so on. */
	for (wait = 200 * MS; c->t_unreached != 0 && flight == 0 &&
	    conn_unacked(c) > 0 && info->tcpi_probes < 15 &&
	    W.now - c->t_unreached > wait; wait *= 2)
		info->tcpi_probes++;
}

int
sim_getsockopt(int fd, int level, int name, void *p, socklen_t *len)
{
	struct vfile *f = file_of(fd, "getsockopt");
	struct tconn *c = f->conn;
	struct tcp_info info;
	int err;

	enter();
	settle();
	if (f->kind != VF_CONN)
		return fail(ENOPROTOOPT);
	if (level == SOL_SOCKET && name == SO_ERROR) {
		err = c->error;
		c->error = 0;
		if (err != 0)
			tell(c, err);
		memcpy(p, &err, (size_t)least(*len, sizeof err));
		return 0;
	}
	if (level == IPPROTO_TCP && name == TCP_INFO && C.bsd)
		violate("TCP_INFO is asked for, as of Linux");
	if (level == IPPROTO_TCP && name == TCP_INFO && !C.no_outq) {
		info_make(c, &info);
		*len = (socklen_t)least(*len, sizeof info);
		memcpy(p, &info, *len);
		return 0;
	}
	return fail(ENOPROTOOPT);
}

static int
count_unacked(struct tconn *c)
{
	int n = (int)conn_unacked(c);

	/* Linux counts an unacknowledged FIN as a byte. */
	if (!C.bsd && c->shut && (n > 0 || W.now < c->t_fin_acked))
		n++;
	/* BSD empties the send buffer (soisdisconnected). */
	if (C.bsd && c->dead) {
		if (n > 0)
			COUNT(b_emptied);
		n = 0;
	}
	NOTE("%s: %d bytes unacknowledged", conn_text(c), n);
	if (n != c->told_unacked)
		W.progress = W.acted = true;
	c->told_unacked = n;
	return n;
}

int
sim_ioctl(int fd, unsigned long request, ...)
{
	struct tconn *c;
	va_list ap;
	int *p;

	enter();
	settle();
	if (request != FIONREAD && request != (C.bsd ? BSD_FIONWRITE :
	    TIOCOUTQ))
		return fail(ENOTTY);
	c = conn_of(fd, "ioctl");
	va_start(ap, request);
	p = va_arg(ap, int *);
	va_end(ap);
	if (request == FIONREAD) {
		*p = (int)conn_unread(c);
		c->told_arrived = c->in_arr;
		return 0;
	}
	if (C.no_outq) {
		COUNT(f_no_outq);
		return fail(EINVAL);
	}
	*p = count_unacked(c);
	return 0;
}

/* accept() fails: the connection is gone, or stays in the queue. */
static int
accept_fault(struct vlisten *l)
{
	static const int full[] = { EMFILE, ENFILE, ENOBUFS, ENOMEM };
	static const int again[] = { EAGAIN, EINTR };
	static const int net[] = { EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN,
	    EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH };

	W.progress = W.acted = true;
	switch (roll(&world_dice, program_is_1 ? 4 : 5)) {
	case 0:
		COUNT(f_accept_aborted);
		if (l->queued > 0)
			conn_free(dequeue(l));
		return fail(ECONNABORTED);
	case 1:
		COUNT(f_accept_again);
		return fail(again[roll(&world_dice, 2)]);
	case 4:
		COUNT(f_accept_net);
		if (l->queued > 0)
			conn_free(dequeue(l));
		return fail(net[roll(&world_dice, 7)]);
	default:
		COUNT(f_accept_full);
		l->t_rest = W.turn_paused ? W.turn_began : W.now;
		W.lack = full[roll(&world_dice, 4)];
		return fail(W.lack);
	}
}

int
sim_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	struct vfile *f = file_of(fd, "accept");
	struct vlisten *l = f->door;
	struct tconn *c;

	enter();
	settle();
	if (f->kind != VF_LISTEN)
		violate("accept() on descriptor %d", fd);
	if (W.stops > 0 && W.turn > W.turn_stop)
		violate("accept() on %s during a stop", side_text(l->side));
	l->t_rest = NEVER;
	if (fault(2))
		return accept_fault(l);
	if (l->queued == 0)
		return fail(EAGAIN);
	c = dequeue(l);
	if (c->dead)
		COUNT(f_accept_dead);
	c->state = TC_OPEN;
	c->fd = fd_new(VF_CONN);
	if (fault(4)) {
		COUNT(f_high_fd);
		W.files[c->fd].kind = VF_NONE;
		for (c->fd = FD_SETSIZE; W.files[c->fd].kind != VF_NONE; )
			c->fd++;
		W.files[c->fd].kind = VF_CONN;
	}
	W.files[c->fd].conn = c;
	c->serial = ++W.serials;
	c->t_accept = W.turn_paused ? W.turn_began : W.now;
	c->oobinline = f->oobinline;
	c->nonblock = C.bsd && f->nonblock;
	l->w_accept.since = NEVER;
	W.progress = W.acted = true;
	NOTE("accept %s as %d", conn_text(c), c->fd);
	arm_lost(c);
	/* BSD and macOS may know none of a peer that is gone already. */
	if (C.bsd && c->dead && !one_in(&world_dice, 4)) {
		COUNT(f_no_address);
		c->family = AF_UNSPEC;
		*len = 0;
	} else
		address_give(c->family, c->host, c->port, sa, len);
	promise_accepted(c);
	return c->fd;
}

/* An error from nowhere, as after a route is lost. */
static int
odd_error(struct tconn *c)
{
	static const int odd[] = { EHOSTUNREACH, ENETDOWN, ECONNABORTED,
	    ENOBUFS, EIO, ECONNRESET, ETIMEDOUT };

	conn_kill(c, odd[roll(&world_dice, 7)], one_in(&world_dice, 2));
	return c->error;
}

static ssize_t
recv_error(struct tconn *c)
{
	int err = c->error;

	c->error = 0;
	if (err != 0)
		return tell(c, err);
	if (!c->fin_arr && !c->dead)
		return fail(EAGAIN);
	if (!c->eof_told) {
		W.progress = W.acted = true;
		c->eof = stamp_now();
		NOTE("%s: EOF", conn_text(c));
	}
	c->eof_told = true;
	return 0;
}

static ssize_t
recv_fault(struct tconn *c)
{
	W.progress = W.acted = true;
	c->turn_again = W.turn;
	if (one_in(&world_dice, 2)) {
		COUNT(f_eintr_recv);
		return fail(EINTR);
	}
	if (c->dead)
		return fail(EAGAIN);
	COUNT(f_recv_error);
	odd_error(c);
	return conn_unread(c) > 0 ? fail(EAGAIN) : recv_error(c);
}

/* On BSD an error stays when it was only looked at. */
static ssize_t
recv_peek(const struct tconn *c)
{
	if (conn_unread(c) > 0)
		return 1;
	if (c->error != 0)
		return fail(c->error);
	return c->fin_arr || c->dead ? 0 : fail(EAGAIN);
}

/* As fast as c is read, more comes. */
static void
flood(struct tconn *c, size_t n)
{
	if (c->in_flood == 0)
		COUNT(p_flood);
	c->in_flood += n;
	c->in_goal += n;
	c->in_arr += n;
}

ssize_t
sim_recv(int fd, void *buf, size_t len, int flags)
{
	struct tconn *c = conn_of(fd, "recv");
	size_t n;

	enter();
	settle();
	if (flags == MSG_PEEK && C.bsd)
		return recv_peek(c);
	if (flags != 0)
		violate("recv() with flags %d", flags);
	if (len == 0)
		violate("recv() of no bytes");
	if (!c->nonblock)
		violate("recv() on a blocking socket");
	promise_recv(c, len);
	if (fault(3))
		return recv_fault(c);
	n = (size_t)least(len, conn_unread(c));
	if (n == 0)
		return recv_error(c);
	NOTE("recv %s %zu of %" PRIu64, conn_text(c), n, conn_unread(c));
	if (c->side == METRICS)
		memcpy(buf, c->request + c->in_read, n);
	else
		stream_fill(buf, c->serial, c->in_read, n);
	c->in_read += n;
	W.progress = W.acted = true;
	arm_in(c, c->latency);
	if (c->side != METRICS)
		promise_read(c, n);
	if (c->floods && !c->fin && !c->dead && !program_is_1 &&
	    c->side != METRICS && c->in_flood < 1 << 26 &&
	    (c->door->queued > 0 || !FD_ISSET(c->fd, &W.ready_r)))
		flood(c, n);
	return (ssize_t)n;
}

static ssize_t
send_error(struct tconn *c)
{
	int err = c->error;

	c->error = 0;
	return tell(c, err != 0 ? err : EPIPE);
}

static ssize_t
send_fault(struct tconn *c)
{
	W.progress = true;
	switch (roll(&world_dice, 4)) {
	case 0:
		COUNT(f_eintr_send);
		return fail(EINTR);
	case 1:
		COUNT(f_eagain_send);
		return fail(EAGAIN);
	case 2:
		COUNT(f_send_epipe);
		conn_kill(c, EPIPE, true);
		return send_error(c);
	default:
		COUNT(f_send_error);
		odd_error(c);
		return send_error(c);
	}
}

/* The bytes that send() takes now. */
static size_t
send_size(struct tconn *c, size_t len)
{
	uint64_t free_space = c->out_buf - least(c->out_buf, conn_unacked(c));
	size_t n = (size_t)least(len, free_space);

	if (!conn_takes(c) && one_in(&world_dice, 2))
		return 0;
	if (n > 1 && fault(1)) {
		COUNT(f_short_send);
		n = 1 + (size_t)roll(&world_dice, n);
	}
	return n;
}

ssize_t
sim_send(int fd, const void *buf, size_t len, int flags)
{
	struct tconn *c = conn_of(fd, "send");
	bool was_idle = conn_unacked(c) == 0;
	size_t n;

	(void)flags;
	enter();
	settle();
	if (!c->nonblock)
		violate("send() on a blocking socket");
	if (len == 0 || c->shut)
		violate("send() of %zu bytes, half-closed %d", len, c->shut);
	promise_send(c, len);
	if (c->dead || c->error != 0)
		return send_error(c);
	if (fault(3) && c->side != METRICS)
		return send_fault(c);
	n = send_size(c, len);
	if (n == 0)
		return fail(EAGAIN);
	NOTE("send %s %zu of %zu", conn_text(c), n, len);
	W.progress = W.acted = true;
	c->out_sent += n;
	c->told_unacked = -1;
	if (c->side != METRICS)
		promise_sent(c, buf, n, len);
	arm_out(c, c->latency / 2);
	if (was_idle)
		arm_lost(c);
	return (ssize_t)n;
}

int
sim_shutdown(int fd, int how)
{
	struct tconn *c = conn_of(fd, "shutdown");

	enter();
	settle();
	W.progress = W.acted = true;
	if (how != SHUT_WR)
		violate("shutdown() other than of the sending half");
	promise_shutdown(c);
	c->shut = true;
	if (c->dead)
		return fail(ENOTCONN);
	c->t_fin_acked = W.now + 2 * c->latency;
	if (conn_unacked(c) == 0 && !c->vanished)
		control(c, CTL_CLIENT_EOF, W.now + c->latency);
	return 0;
}

/* A metrics client is closed: served, gone, late, or one too many. */
static void
check_scrape_close(const struct tconn *c)
{
	int i, newer = 0;

	for (i = 0; i < W.nlive; i++)
		if (W.live[i]->side == METRICS && W.live[i]->fd >= 0 &&
		    W.live[i] != c &&
		    W.live[i]->t_accept >= c->t_accept - TOLERANCE)
			newer++;
	if (c->shut)
		COUNT(m_request);
	else
		COUNT(m_broken);
	if (!c->eof_told && c->told == 0 && newer < SCRAPES_MAX &&
	    !c->faulty && c->fd < FD_SETSIZE &&
	    W.now < c->t_accept + SCRAPE_SPAN - TOLERANCE)
		violate("a metrics client is closed too early");
}

int
sim_close(int fd)
{
	struct vfile *f = file_of(fd, "close");
	struct tconn *c = f->conn;
	int kind = f->kind;

	enter();
	f->kind = VF_NONE;
	if (kind == VF_DISK || kind == VF_STD)
		return 0;
	settle();
	if (fd < FD_SETSIZE)
		FD_CLR(fd, &W.ready_r);
	if (kind == VF_LISTEN)
		listener_closed(f->door);
	if (kind != VF_CONN)
		return 0;
	W.progress = W.acted = true;
	NOTE("close %s%s", conn_text(c), c->abort ? ", abort" : "");
	if (c->side == METRICS)
		check_scrape_close(c);
	else
		promise_closed(c);
	conn_close(c);
	if (fault(4)) {
		COUNT(f_close_eintr);
		return fail(EINTR);
	}
	return 0;
}

static bool
log_open(void)
{
	return W.now >= W.log_stalled;
}

int
sim_select(int nfds, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv)
{
	enter();
	if (r != NULL || e != NULL || w == NULL || tv == NULL ||
	    tv->tv_sec != 0 || tv->tv_usec != 0)
		violate("a select() that may block");
	if (nfds <= STDERR_FILENO || !FD_ISSET(STDERR_FILENO, w)) {
		W.asked_out = true;
		return 1;
	}
	W.asked_log = log_open();
	if (!W.asked_log) {
		NOTE("the log is stalled");
		W.acted = true;
		W.log_skipped++;
		W.log_faults++;
		W.log_cut = W.log_used > 0;
		FD_ZERO(w);
	}
	return W.asked_log;
}

/* A write to the log is complete up to here: looks at each whole line. */
static void
log_grows(const char *bytes, size_t n)
{
	char *line = W.log_line, *end;

	if (W.log_used + n >= sizeof W.log_line)
		violate("a log line of %zu bytes", W.log_used + n);
	memcpy(line + W.log_used, bytes, n);
	W.log_used += n;
	line[W.log_used] = '\0';
	while ((end = strchr(line, '\n')) != NULL) {
		*end = '\0';
		if (strncmp(line, "\r\033[K", 4) == 0)
			memmove(line, line + 4, strlen(line + 4) + 1);
		if (!W.log_cut && strncmp(line, "time=", 5) == 0) {
			NOTE("log: %s", line);
			log_check(line, end[1] == '\0');
		} else if (!W.log_cut && !C.tty)
			violate("not a log line: %s", line);
		W.log_cut = false;
		W.log_used -= (size_t)(end + 1 - line);
		memmove(line, end + 1, W.log_used + 1);
	}
}

ssize_t
sim_write(int fd, const void *buf, size_t len)
{
	enter();
	if (fd > STDERR_FILENO)
		return disk_write(fd, buf, len);
	if (fd == STDOUT_FILENO) {
		if (!W.asked_out || len > PIPE_BUF)
			violate("%zu bytes to standard output", len);
		W.asked_out = false;
		return (ssize_t)len;
	}
	if (fd != STDERR_FILENO)
		violate("write() to descriptor %d", fd);
	if (!W.asked_log || !log_open())
		violate("a log line is written without asking");
	W.asked_log = program_is_1 && W.log_cut;
	if (W.log_cut && (len != 1 || *(const char *)buf != '\n'))
		violate("the last line has no end");
	W.acted = true;
	if (!fault(4)) {
		log_grows(buf, len);
		if (strncmp(W.log_line, "\r\033[K", 4) == 0)
			W.log_used = 0;	/* the live line has no end */
		return (ssize_t)len;
	}
	COUNT(f_log_error);
	W.log_faults++;
	if (len > 1 && one_in(&world_dice, 3)) {
		COUNT(f_log_cut);
		NOTE("the log takes a part");
		len = 1 + (size_t)roll(&world_dice, len - 1);
		log_grows(buf, len);
		if (program_is_1) {
			W.log_skipped++;
			W.log_cut = true;
		}
		return (ssize_t)len;
	}
	NOTE("the log takes nothing");
	W.log_skipped++;
	W.log_cut = W.log_used > 0;
	return fail(one_in(&world_dice, 2) ? EPIPE : ENOSPC);
}
