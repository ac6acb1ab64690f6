/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Postfix's queue and the folders beside it, on a volume that may be empty.
 */
#ifndef SPOOL_H
#define SPOOL_H

#include "buf.h"
#include "files.h"

/*
 * Makes the folders that are missing under QUEUE_DIR and removes the socket
 * that tells of a running Postfix.  Each fault is a line in *faults.
 */
void spool_prepare(const struct owners *o, struct buf *faults);

#endif
