/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files and folders with an owner, made without the right to give files away
 * (CAP_CHOWN) or to pass over permissions (CAP_DAC_OVERRIDE): what belongs to
 * somebody is made under that name.  Postfix's queue is made of them.
 */
#ifndef FILES_H
#define FILES_H

#include <sys/types.h>

#include <stdbool.h>

#include "buf.h"

/* Who owns what in the container. */
struct owners {
	uid_t postfix;
	gid_t postfix_group;
	uid_t filter;
	gid_t filter_group;
};

/*
 * Looks the users up.  Returns 0, or -1 with the reason appended to *reason.
 */
int files_owners(struct owners *o, struct buf *reason);

/*
 * Whether we may be the users of the image in turn; what is missing for that
 * is a line in *faults.
 */
bool files_may_switch(const struct owners *o, struct buf *faults);

/*
 * Writes text to the file at path in one step (a reader sees the old file or
 * the new one), with that mode and group, owned by root and dated a minute
 * back: Postfix waits before it trusts a file of this very second.  Returns
 * 0, or -1 with errno, text->error where that is set.
 */
int files_write(const char *path, mode_t mode, gid_t group,
    const struct buf *text);

/* Whether path lies in memory: a tmpfs(5) or a ramfs. */
bool files_is_memory(const char *path);

/*
 * Makes the folders that are missing under QUEUE_DIR, a volume that may be
 * empty, and removes the socket that tells of a running Postfix.  Each fault
 * is a line in *faults.
 */
void files_prepare_queue(const struct owners *o, struct buf *faults);

#endif
