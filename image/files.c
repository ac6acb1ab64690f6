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
#include <grp.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "environment.h"
#include "files.h"
#include "paths.h"
#include "text.h"

#include "banned.h"

/*
 * The queue, as conf/postfix-files of Postfix lists it, but for maildrop/
 * (there is no sendmail(1) here), public/ and private/: these are of root's
 * group, since root, who may not pass over permissions here, wakes up the
 * queue manager by a socket in the one, and servers that have not yet changed
 * their user ask tlsmgr(8) by one in the other.
 */
static const struct {
	const char *name;
	uid_t owner;
	mode_t mode;
} folders[] = {
	{ "active", POSTFIX_ID, 0700 },
	{ "bounce", POSTFIX_ID, 0700 },
	{ "corrupt", POSTFIX_ID, 0700 },
	{ "data", POSTFIX_ID, 0700 },
	{ "defer", POSTFIX_ID, 0700 },
	{ "deferred", POSTFIX_ID, 0700 },
	{ "hold", POSTFIX_ID, 0700 },
	{ "incoming", POSTFIX_ID, 0700 },
	{ "pid", 0, 0755 },
	{ "private", POSTFIX_ID, 0710 },
	{ "public", POSTFIX_ID, 0710 },
	/* Large messages of swiftdrop; root runs "swiftdrop check". */
	{ "swiftdrop", FILTER_ID, 0770 },
	{ "trace", POSTFIX_ID, 0700 },
};

/* Runs with the effective ids given, until be_root().  0 or -1. */
static int
be(uid_t user, gid_t group)
{
	return setegid(group) == -1 ? -1 : seteuid(user);
}

static int
be_root(void)
{
	return seteuid(0) == -1 ? -1 : setegid(0);
}

int
files_become(unsigned int id)
{
	return setgroups(0, NULL) == -1 || setgid(id) == -1 ? -1 : setuid(id);
}

bool
files_may_switch(struct buf *faults)
{
	const char *missing;

	if (geteuid() != 0) {
		environment_fault(faults, "user",
		    "is %u: Postfix must start as root, as the image does "
		    "without --user or runAsUser; its servers and swiftdrop "
		    "run as users of their own",
		    (unsigned int)geteuid());
		return false;
	}
	missing = setegid(POSTFIX_ID) == -1   ? "SETGID"
		  : seteuid(POSTFIX_ID) == -1 ? "SETUID"
					      : NULL;
	if (missing != NULL)
		environment_fault(faults, "capabilities", "%s is missing",
		    missing);
	return be_root() == 0 && missing == NULL;
}

int
files_write(const char *path, mode_t mode, gid_t group, const struct buf *text)
{
	struct timespec times[2];
	BUF(temporary, PATH_MAX);
	int fd, result;

	buf_addf(&temporary, "%s.new", path);
	errno = text->error != 0 ? text->error : temporary.error;
	if (errno != 0)
		return -1;
	(void)unlink(buf_text(&temporary));
	if (setegid(group) == -1)
		return -1;
	fd = open(buf_text(&temporary), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
	    0600);
	result = setegid(0);
	if (fd == -1)
		return -1;
	(void)clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= 60;
	times[1] = times[0];
	errno = ENOSPC; /* a write that is short tells no reason */
	if (result == -1 ||
	    write(fd, buf_text(text), text->len) != (ssize_t)text->len ||
	    fchmod(fd, mode) == -1 || futimens(fd, times) == -1)
		result = -1;
	if (close(fd) == -1 || result == -1)
		return -1;
	return rename(buf_text(&temporary), path);
}

/* Makes a folder of the queue unless it is there, and is the user's. */
static int
make_folder(const char *name, mode_t mode, uid_t user, gid_t group)
{
	BUF(path, PATH_MAX);
	struct stat st;
	int result, saved;

	buf_addf(&path, QUEUE_DIR "/%s", name);
	if (lstat(buf_text(&path), &st) == 0) {
		errno = !S_ISDIR(st.st_mode) ? ENOTDIR : EPERM;
		return S_ISDIR(st.st_mode) && st.st_uid == user ? 0 : -1;
	}
	if (errno != ENOENT)
		return -1;
	/* Its owner may write in the queue's for as long as it takes. */
	if (be(0, group) == -1 || chown(QUEUE_DIR, (uid_t)-1, group) == -1 ||
	    chmod(QUEUE_DIR, 0775) == -1)
		return -1;
	/* Whatever the umask is, and a group inherited from there. */
	result = be(user, group) == -1 || mkdir(buf_text(&path), mode) == -1 ||
			 chmod(buf_text(&path), mode) == -1
		     ? -1
		     : 0;
	saved = errno;
	if (be_root() == -1 || chown(QUEUE_DIR, (uid_t)-1, 0) == -1 ||
	    chmod(QUEUE_DIR, 0755) == -1)
		return -1;
	errno = saved;
	return result;
}

int
files_make_shared(const char *path, mode_t mode)
{
	bool is_there;

	if (setegid(FILTER_ID) == -1)
		return -1;
	is_there = mkdir(path, mode) == 0 || errno == EEXIST;
	if (setegid(0) == -1 || !is_there)
		return -1;
	/* Whatever the umask is. */
	return chmod(path, mode);
}

bool
files_is_memory(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 &&
	       (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

/* What is wrong with the queue's own folder, appended to *reason. */
static void
check_queue(struct buf *reason)
{
	struct stat st;

	if (stat(QUEUE_DIR, &st) == -1)
		buf_adds(reason, strerror(errno));
	else if (st.st_uid != 0)
		buf_addf(reason, "belongs to user %u, must belong to root",
		    (unsigned int)st.st_uid);
	else if (chmod(QUEUE_DIR, 0755) == -1 || access(QUEUE_DIR, W_OK) == -1)
		buf_addf(reason, "%s; mount a volume or a tmpfs there",
		    strerror(errno));
}

void
files_prepare_queue(struct buf *faults)
{
	BUF(reason, 1024);
	size_t i;

	check_queue(&reason);
	if (reason.len > 0) {
		environment_fault(faults, QUEUE_DIR, "%s", buf_text(&reason));
		return;
	}
	for (i = 0; i < COUNT(folders); i++)
		if (make_folder(folders[i].name, folders[i].mode,
			folders[i].owner,
			folders[i].mode == 0700 ? POSTFIX_ID : 0) == -1)
			environment_fault(faults, QUEUE_DIR, "%s/: %s",
			    folders[i].name,
			    errno == EPERM ? "belongs to another user"
					   : strerror(errno));
	/* A Postfix that was killed leaves its sockets behind. */
	if (be(POSTFIX_ID, POSTFIX_ID) == -1 ||
	    (unlink(PASS_SOCKET) == -1 && errno != ENOENT && errno != EACCES) ||
	    be_root() == -1)
		environment_fault(faults, QUEUE_DIR, "private/: %s",
		    strerror(errno));
}
