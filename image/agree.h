/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whether the settings fit each other: what Postfix accepts, swiftdrop must
 * store or Postfix must forward, and the reverse.
 */
#ifndef AGREE_H
#define AGREE_H

#include "settings.h"

/*
 * Loads the accounts of s->environment into s->config as swiftdrop will, and
 * holds RECIPIENTS, FORWARDS and POSTMASTER against them.  Fills s->domains,
 * s->postmasters and s->smtp.  Faults, warnings and the result are those of
 * settings_load().
 */
int agree(struct settings *s, struct buf *faults, struct buf *warnings);

#endif
