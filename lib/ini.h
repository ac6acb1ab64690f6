/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads an INI file as Python's configparser does with interpolation=None,
 * allow_no_value=True and its other defaults.
 *
 * Source: docs.python.org/3/library/configparser.html#supported-ini-file-structure
 */
#ifndef INI_H
#define INI_H

#include "buf.h"

/*
 * What the file holds: a section that begins, an entry of it, or a line that
 * is neither.  Text is borrowed from the file's and stays valid as long as
 * that.
 */
struct ini_item {
	const char *fault; /* what is wrong with the line; NULL for nothing */
	char *section;     /* NULL with a fault */
	char *key;         /* NULL where the section begins */
	char *value;       /* NULL where the key stands alone */
	unsigned int line;
};

typedef void ini_fn(void *context, const struct ini_item *item);

/*
 * Hands what text holds to take, with context, cutting it up in place.  Goes
 * on after a fault, but not behind a NUL.  A byte order mark is skipped.
 */
void ini_parse(struct buf *text, ini_fn *take, void *context);

/* Takes off text, which is in UTF-8, what blanks a value would lose; in place. */
char *ini_trim(char *text);

#endif
