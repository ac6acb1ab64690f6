/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files and folders with an owner, made without the right to give files away
 * (CAP_CHOWN) or to pass over permissions (CAP_DAC_OVERRIDE): what belongs to
 * somebody is made under that name.
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
 * Writes text to the file at path in one step (a reader sees the old file or
 * the new one), with that mode and group, owned by root and dated a minute
 * back: Postfix waits before it trusts a file of this very second.  Returns
 * 0, or -1 with errno.
 */
int files_write(const char *path, mode_t mode, gid_t group,
    const struct buf *text);

/*
 * Makes the folder name inside parent, which is root's, unless it is there.
 * Returns 0, or -1 with errno, EPERM when it belongs to somebody else.
 */
int files_mkdir(const char *parent, const char *name, mode_t mode, uid_t user,
    gid_t group);

/* Whether path lies in memory: a tmpfs(5) or a ramfs. */
bool files_is_memory(const char *path);

/* Runs with the effective ids given, until files_be_root().  0 or -1. */
int files_be(uid_t user, gid_t group);
int files_be_root(void);

#endif
