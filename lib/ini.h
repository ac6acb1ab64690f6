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
 * Who is told what the file holds.  Text is borrowed from the file's and
 * stays valid as long as that; value is NULL where the key stands alone.
 */
struct ini_reader {
	void (*section)(void *context, const char *section, unsigned int line);
	void (*entry)(void *context, const char *section, const char *key,
	    const char *value, unsigned int line);
	void (*fault)(void *context, const char *reason, unsigned int line);
	void *context;
};

/*
 * Hands what text holds to reader, cutting it up in place.  Goes on after a
 * fault, but not behind a NUL.  A byte order mark is skipped.
 */
void ini_parse(struct buf *text, const struct ini_reader *reader);

/* Takes off text, which is in UTF-8, what blanks a value would lose; in place. */
char *ini_trim(char *text);

#endif
