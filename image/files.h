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

/*
 * Whether we may be the users of the image in turn; what is missing for that
 * is a line in *faults.
 */
bool files_may_switch(struct buf *faults);

/* Becomes a user and its group for good.  Returns 0, or -1 with errno. */
int files_become(unsigned int id);

/*
 * Writes text to the file at path in one step (a reader sees the old file or
 * the new one), with that mode and group, owned by root and dated a minute
 * back: Postfix waits before it trusts a file of this very second.  Returns
 * 0, or -1 with errno, text->error where that is set.
 */
int files_write(const char *path, mode_t mode, gid_t group,
    const struct buf *text);

/*
 * Makes a folder of root's and the filter's group with that mode, unless it is
 * there.  Returns 0, or -1 with errno.
 */
int files_make_shared(const char *path, mode_t mode);

/* Whether path lies in memory: a tmpfs(5) or a ramfs. */
bool files_is_memory(const char *path);

/*
 * Makes the folders that are missing under QUEUE_DIR, a volume that may be
 * empty, and removes the socket that tells of a running Postfix.  Each fault
 * is a line in *faults.
 */
void files_prepare_queue(struct buf *faults);

#endif
