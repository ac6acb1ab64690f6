/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whether the settings fit each other: what Postfix accepts, what the accounts
 * claim and what is forwarded.
 */
#ifndef AGREE_H
#define AGREE_H

#include "buf.h"
#include "settings.h"

/*
 * Loads the accounts, with the keys of [SMTP] that follow from other settings,
 * and completes the settings: our domains, and where postmaster@ each of them
 * goes.  Each fault is a line in *faults, each thing worth a look but no fault
 * a line in *warnings.
 */
void agree(struct settings *s, struct buf *faults, struct buf *warnings);

/*
 * Whether the file at path, which postconf_ini() made, means what was
 * checked: some values are others when they stand in a file.  Each that is
 * becomes a line in *faults.
 */
void agree_read_back(const struct settings *s, const char *path,
    struct buf *faults);

#endif
