/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Names with values, kept in the order in which they came and found by name.
 */
#ifndef TABLE_H
#define TABLE_H

#include <stdbool.h>
#include <stddef.h>

struct pair {
	const char *name; /* borrowed from text */
	char *value;      /* owned */
	char text[];
};

struct table {
	struct pair **entries; /* owned, each of them too; NULL while empty */
	size_t n;
	void *index; /* owned; of tsearch(3), by name */
	int error;   /* ENOMEM once an entry was lost for it, else 0 */
};

/* A local table; its block frees it. */
#define TABLE(name)                                                            \
	struct table name __attribute__((cleanup(table_free))) = { .n = 0 }

/* The value of a name, borrowed, or NULL. */
const char *table_get(const struct table *t, const char *name);

/* Appends a copy of both, unless the name is there: then returns false. */
bool table_add(struct table *t, const char *name, const char *value);

/* Appends a copy of both, or replaces the value of the name. */
void table_set(struct table *t, const char *name, const char *value);

/* Wipes and frees all; the table is empty and may be used again. */
void table_free(struct table *t);

#endif
