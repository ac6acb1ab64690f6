/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The queue, as conf/postfix-files of Postfix lists it, but for maildrop/
 * (there is no sendmail(1) here), public/ and private/: these are of root's
 * group, since root, who may not pass over permissions here, wakes up the
 * queue manager by a socket in the one, and servers that have not yet changed
 * their user ask tlsmgr(8) by one in the other.
 */
#include <sys/stat.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "environment.h"
#include "postconf.h"
#include "spool.h"

#include "banned.h"

enum owner {
	OWNER_ROOT,
	OWNER_POSTFIX,
	OWNER_FILTER
};

static const struct {
	const char *name;
	enum owner owner;
	mode_t mode;
} folders[] = {
	{ "active", OWNER_POSTFIX, 0700 },
	{ "bounce", OWNER_POSTFIX, 0700 },
	{ "corrupt", OWNER_POSTFIX, 0700 },
	{ "data", OWNER_POSTFIX, 0700 },
	{ "defer", OWNER_POSTFIX, 0700 },
	{ "deferred", OWNER_POSTFIX, 0700 },
	{ "hold", OWNER_POSTFIX, 0700 },
	{ "incoming", OWNER_POSTFIX, 0700 },
	{ "pid", OWNER_ROOT, 0755 },
	{ "private", OWNER_POSTFIX, 0710 },
	{ "public", OWNER_POSTFIX, 0710 },
	/* Large messages of swiftdrop; root runs "swiftdrop check". */
	{ "swiftdrop", OWNER_FILTER, 0770 },
	{ "trace", OWNER_POSTFIX, 0700 },
};

static int prepare_root(struct buf *faults);

void
spool_prepare(const struct owners *o, struct buf *faults)
{
	uid_t user;
	size_t i;

	if (prepare_root(faults) == -1)
		return;
	for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		user = folders[i].owner == OWNER_ROOT      ? 0
		       : folders[i].owner == OWNER_POSTFIX ? o->postfix
							   : o->filter;
		if (files_mkdir(QUEUE_DIR, folders[i].name, folders[i].mode,
			user,
			folders[i].mode == 0700 ? o->postfix_group : 0) == 0)
			continue;
		environment_fault(faults, QUEUE_DIR, "%s/: %s", folders[i].name,
		    errno == EPERM ? "belongs to another user"
				   : strerror(errno));
	}
	/* A Postfix that was killed leaves its sockets behind. */
	if (files_be(o->postfix, o->postfix_group) == -1 ||
	    (unlink(PASS_SOCKET) == -1 && errno != ENOENT && errno != EACCES) ||
	    files_be_root() == -1)
		environment_fault(faults, QUEUE_DIR, "private/: %s",
		    strerror(errno));
}

static int
prepare_root(struct buf *faults)
{
	struct stat st;

	if (stat(QUEUE_DIR, &st) == -1) {
		environment_fault(faults, QUEUE_DIR, "%s", strerror(errno));
		return -1;
	}
	if (st.st_uid != 0) {
		environment_fault(faults, QUEUE_DIR,
		    "belongs to user %u, must belong to root",
		    (unsigned int)st.st_uid);
		return -1;
	}
	if (chmod(QUEUE_DIR, 0755) == -1 || access(QUEUE_DIR, W_OK) == -1) {
		environment_fault(faults, QUEUE_DIR,
		    "%s; mount a volume or a tmpfs there", strerror(errno));
		return -1;
	}
	return 0;
}
