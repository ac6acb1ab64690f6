/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads an INI file as Python's configparser does with interpolation=None,
 * allow_no_value=True and its other defaults.
 *
 * Source: docs.python.org/3/library/configparser.html#supported-ini-file-structure
 */
#ifndef INI_H
#define INI_H

#include <stddef.h>

#include "buf.h"

struct ini_section {
	char *name; /* owned */
	unsigned int line;
};

struct ini_entry {
	size_t section; /* index of its section */
	char *key;      /* owned; in lower case (US-ASCII) */
	char *value;    /* owned; NULL when the key stands alone */
	unsigned int line;
};

struct ini {
	struct ini_section *sections; /* owned; in the file's order */
	size_t nsections;
	struct ini_entry *entries; /* owned; in the file's order */
	size_t nentries;
	unsigned int error_line; /* of the fault that ini_parse() reports */
};

/*
 * Parses len octets of text (borrowed) into *ini.  Returns 0, or -1 with the
 * reason appended to *error and its line number, from 1, in ini->error_line
 * (0 when it has none).  Faults: not UTF-8, a NUL, text before the first
 * section, a duplicate section or key, no key before the delimiter.  Stricter
 * than configparser in one thing: [DEFAULT] too may stand there only once.
 * ini_free() is needed in every case.
 */
int ini_parse(struct ini *ini, const char *text, size_t len, struct buf *error);

/* Wipes the values and frees everything. */
void ini_free(struct ini *ini);

#endif
