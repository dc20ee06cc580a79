/*
 * calls.h - what the program sees instead of the system
 */
struct stat;

#define BSD_FIONWRITE	0x40046677UL	/* of FreeBSD and NetBSD */

int	 sim_pselect(int, fd_set *, fd_set *, fd_set *,
	    const struct timespec *, const sigset_t *);
int	 sim_select(int, fd_set *, fd_set *, fd_set *, struct timeval *);
int	 sim_socket(int, int, int);
int	 sim_bind(int, const struct sockaddr *, socklen_t);
int	 sim_listen(int, int);
int	 sim_accept(int, struct sockaddr *, socklen_t *);
ssize_t	 sim_recv(int, void *, size_t, int);
ssize_t	 sim_send(int, const void *, size_t, int);
ssize_t	 sim_write(int, const void *, size_t);
int	 sim_close(int);
int	 sim_shutdown(int, int);
int	 sim_fcntl(int, int, ...);
int	 sim_ioctl(int, unsigned long, ...);
int	 sim_setsockopt(int, int, int, const void *, socklen_t);
int	 sim_getsockopt(int, int, int, void *, socklen_t *);
int	 sim_getsockname(int, struct sockaddr *, socklen_t *);
int	 sim_getaddrinfo(const char *, const char *, const struct addrinfo *,
	    struct addrinfo **);
void	 sim_freeaddrinfo(struct addrinfo *);
int	 sim_getnameinfo(const struct sockaddr *, socklen_t, char *, socklen_t,
	    char *, socklen_t, int);
int	 sim_clock_gettime(clockid_t, struct timespec *);
int	 sim_sigaction(int, const struct sigaction *, struct sigaction *);
int	 sim_sigprocmask(int, const sigset_t *, sigset_t *);
int	 sim_isatty(int);
int	 sim_open(const char *, int, ...);
char	*sim_ttyname(int);
int	 sim_dup2(int, int);
void	 sim_exit(int) __attribute__((noreturn));
int	 sim_stat(const char *, struct stat *);
int	 sim_fstat(int, struct stat *);
uid_t	 sim_geteuid(void);
int	 sim_access(const char *, int);
int	 sim_fchmod(int, mode_t);
int	 sim_nanosleep(const struct timespec *, struct timespec *);
ssize_t	 sim_read(int, void *, size_t);
off_t	 sim_lseek(int, off_t, int);
int	 sim_ftruncate(int, off_t);
int	 sim_fsync(int);
int	 sim_rename(const char *, const char *);
int	 sim_unlink(const char *);
int	 sim_getpeername(int, struct sockaddr *, socklen_t *);
