/*
 * disk.c - the directory in which a stop saves what is held (-f)
 *
 * It has two names, and files whose last bytes are on the disk only after
 * fsync().  Writing may fail, and may take a part.
 */
#include "sim.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

#define NAMES		2
#define FILES		8

static const char *const names[NAMES] = { SAVE_NAME, SAVE_NAME ".new" };

static struct inode {
	unsigned char *bytes;
	size_t	 size, safe;		/* bytes; so many survive a crash */
	bool	 used;
} inodes[FILES];

static struct inode *named[NAMES];

static int
name_of(const char *path)
{
	int i;

	for (i = 0; i < NAMES; i++)
		if (strcmp(path, names[i]) == 0)
			return i;
	return -1;
}

static struct vfile *
disk_file(int fd, const char *call)
{
	if (fd < 0 || fd >= SIM_FDS || W.files[fd].kind != VF_DISK)
		violate("%s() on descriptor %d, not a file", call, fd);
	return &W.files[fd];
}

static int
failed(int err)
{
	errno = err;
	return -1;
}

bool
disk_has(const char *path)
{
	int i = name_of(path);

	return i >= 0 && named[i] != NULL;
}

/* Returns a descriptor, or -1 for a name of another place. */
int
disk_open(const char *path, int flags, mode_t mode)
{
	int i = name_of(path), k, fd;

	if (i >= 0 && (!(flags & O_NOFOLLOW) || !(flags & O_NONBLOCK)))
		violate("%s: a link may be followed, or a FIFO waited for",
		    path);
	if (i >= 0 && named[i] == NULL) {
		if (!(flags & O_CREAT))
			return failed(ENOENT);
		if (mode != (S_IRUSR | S_IWUSR))
			violate("%s is made with mode %o", path,
			    (unsigned)mode);
		for (k = 0; k < FILES && inodes[k].used; k++)
			continue;
		if (k == FILES)
			violate("%d files at a time", FILES);
		memset(&inodes[k], 0, sizeof inodes[k]);
		inodes[k].used = true;
		named[i] = &inodes[k];
	}
	fd = fd_new(VF_DISK);
	W.files[fd].inode = i < 0 ? NULL : named[i];
	W.files[fd].offset = 0;
	return fd;
}

static void
stat_make(const struct inode *node, struct stat *st)
{
	int i;

	memset(st, 0, sizeof *st);
	st->st_mode = node == NULL ? S_IFDIR | S_IRWXU :
	    S_IFREG | S_IRUSR | S_IWUSR;
	st->st_ino = node == NULL ? 1 : (ino_t)(node - inodes + 2);
	for (i = 0; i < NAMES; i++)
		st->st_nlink += node != NULL && named[i] == node;
}

int
sim_stat(const char *path, struct stat *st)
{
	if (!disk_has(path))
		return failed(ENOENT);
	stat_make(named[name_of(path)], st);
	return 0;
}

int
sim_fstat(int fd, struct stat *st)
{
	stat_make(disk_file(fd, "fstat")->inode, st);
	return 0;
}

uid_t
sim_geteuid(void)
{
	return 0;
}

int
sim_access(const char *path, int mode)
{
	(void)path;
	(void)mode;
	return 0;
}

int
sim_fchmod(int fd, mode_t mode)
{
	disk_file(fd, "fchmod");
	if (mode != (S_IRUSR | S_IWUSR))
		violate("the file has mode %o", (unsigned)mode);
	return 0;
}

int
sim_nanosleep(const struct timespec *span, struct timespec *left)
{
	(void)span;
	(void)left;
	violate("the start waits for another bridge");
}

ssize_t
sim_read(int fd, void *bytes, size_t size)
{
	struct vfile *f = disk_file(fd, "read");
	size_t n = (size_t)least(size, f->inode->size - f->offset);

	if (n > 1 && one_in(&world_dice, 4))
		n = 1 + (size_t)roll(&world_dice, n);
	memcpy(bytes, f->inode->bytes + f->offset, n);
	f->offset += n;
	return (ssize_t)n;
}

off_t
sim_lseek(int fd, off_t offset, int whence)
{
	if (offset != 0 || whence != SEEK_SET)
		violate("lseek() to %ld", (long)offset);
	disk_file(fd, "lseek")->offset = 0;
	return 0;
}

int
sim_ftruncate(int fd, off_t size)
{
	struct vfile *f = disk_file(fd, "ftruncate");

	if (size != 0)
		violate("ftruncate() to %ld", (long)size);
	f->inode->size = f->inode->safe = 0;
	return 0;
}

/* "A stop writes it, and nothing else does." */
ssize_t
disk_write(int fd, const void *bytes, size_t size)
{
	struct vfile *f = disk_file(fd, "write");
	struct inode *node = f->inode;

	if (W.stops == 0)
		violate("the file is written, and there is no stop");
	if (C.disk_full && one_in(&world_dice, 3)) {
		COUNT(d_full);
		return failed(ENOSPC);
	}
	if (one_in(&world_dice, 8))
		return failed(EINTR);
	if (size > 1 && one_in(&world_dice, 4))
		size = 1 + (size_t)roll(&world_dice, size);
	node->bytes = realloc(node->bytes, f->offset + size);
	if (node->bytes == NULL)
		abort();
	memcpy(node->bytes + f->offset, bytes, size);
	f->offset += size;
	node->size = f->offset;
	return (ssize_t)size;
}

int
sim_fsync(int fd)
{
	struct vfile *f = disk_file(fd, "fsync");

	if (f->inode == NULL)
		return 0;
	if (C.disk_full && one_in(&world_dice, 3)) {
		COUNT(d_full);
		return failed(EIO);
	}
	f->inode->safe = f->inode->size;
	return 0;
}

/* "Brings it to the disk and gives it the name file." */
int
sim_rename(const char *from, const char *to)
{
	int i = name_of(from), k = name_of(to);

	if (i != 1 || k != 0 || named[i] == NULL)
		violate("%s is renamed to %s", from, to);
	if (named[i]->safe != named[i]->size || named[i]->size == 0)
		violate("%s has %zu bytes on the disk, of %zu, and gets its "
		    "name", from, named[i]->safe, named[i]->size);
	if (named[k] != NULL)
		named[k]->used = false;
	named[k] = named[i];
	named[i] = NULL;
	return 0;
}

/* "Takes it up, listens, and removes it." */
int
sim_unlink(const char *path)
{
	int i = name_of(path);

	if (i < 0 || named[i] == NULL)
		violate("%s is removed, which is not there", path);
	if (i == 0 && (!W.in_start || W.ndoors == 0))
		violate("the file is removed too early, or too late");
	named[i] = NULL;
	return 0;
}
