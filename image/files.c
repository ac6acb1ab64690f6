/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files and folders with an owner.  The effective ids are switched for a
 * moment; with a user's id in place the kernel takes the capabilities from
 * the effective set, and gives them back with root's.
 */
#include <sys/stat.h>
#include <sys/vfs.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "files.h"

#include "banned.h"

static int look_up(const char *name, uid_t *user, gid_t *group,
    struct buf *reason);
static int write_all(int fd, const char *data, size_t len);
static int make_as(const char *path, mode_t mode, uid_t user, gid_t group);

int
files_owners(struct owners *o, struct buf *reason)
{
	if (look_up("postfix", &o->postfix, &o->postfix_group, reason) == -1)
		return -1;
	return look_up("swiftdrop", &o->filter, &o->filter_group, reason);
}

static int
look_up(const char *name, uid_t *user, gid_t *group, struct buf *reason)
{
	const struct passwd *entry;

	errno = 0;
	entry = getpwnam(name);
	if (entry == NULL) {
		(void)buf_addf(reason, "user %s: %s", name,
		    errno == 0 ? "does not exist" : strerror(errno));
		return -1;
	}
	*user = entry->pw_uid;
	*group = entry->pw_gid;
	return 0;
}

int
files_be(uid_t user, gid_t group)
{
	if (setegid(group) == -1)
		return -1;
	return seteuid(user);
}

int
files_be_root(void)
{
	if (seteuid(0) == -1)
		return -1;
	return setegid(0);
}

int
files_write(const char *path, mode_t mode, gid_t group, const struct buf *text)
{
	char temporary[PATH_MAX];
	struct timespec times[2];
	int fd, result;

	if (snprintf(temporary, sizeof(temporary), "%s.new", path) >=
	    (int)sizeof(temporary)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	(void)unlink(temporary);
	if (setegid(group) == -1)
		return -1;
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	result = setegid(0);
	if (fd == -1)
		return -1;
	(void)clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= 60;
	times[1] = times[0];
	if (result == -1 || write_all(fd, buf_text(text), text->len) == -1 ||
	    fchmod(fd, mode) == -1 || futimens(fd, times) == -1)
		result = -1;
	if (close(fd) == -1 || result == -1)
		return -1;
	return rename(temporary, path);
}

static int
write_all(int fd, const char *data, size_t len)
{
	ssize_t n;

	while (len > 0) {
		n = write(fd, data, len);
		if (n == -1)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int
files_mkdir(const char *parent, const char *name, mode_t mode, uid_t user,
    gid_t group)
{
	char path[PATH_MAX];
	struct stat st;
	int result, saved;

	if (snprintf(path, sizeof(path), "%s/%s", parent, name) >=
	    (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (lstat(path, &st) == 0) {
		errno = !S_ISDIR(st.st_mode) ? ENOTDIR : EPERM;
		return S_ISDIR(st.st_mode) && st.st_uid == user ? 0 : -1;
	}
	if (errno != ENOENT)
		return -1;
	/* Its owner may write in the parent for as long as it takes. */
	if (files_be(0, group) == -1 || chown(parent, (uid_t)-1, group) == -1 ||
	    chmod(parent, 0775) == -1)
		return -1;
	result = make_as(path, mode, user, group);
	saved = errno;
	if (files_be_root() == -1 || chown(parent, (uid_t)-1, 0) == -1 ||
	    chmod(parent, 0755) == -1)
		return -1;
	errno = saved;
	return result;
}

static int
make_as(const char *path, mode_t mode, uid_t user, gid_t group)
{
	if (files_be(user, group) == -1 || mkdir(path, mode) == -1)
		return -1;
	/* Whatever the umask is, and a group inherited from the parent. */
	return chmod(path, mode);
}

bool
files_is_memory(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 &&
	       (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}
