/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A list of texts, and one of names with values.
 */
#ifndef LIST_H
#define LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	char **items; /* owned, each of them too; NULL while empty */
	size_t n;
};

/* Appends a copy of len octets of text.  Returns 0, or -1 with ENOMEM. */
int list_add(struct list *l, const char *text, size_t len);

/* The same, but only when no equal text is there yet. */
int list_add_once(struct list *l, const char *text, size_t len);

/* Puts a copy of text in place i (i < l->n).  Returns 0, or -1 with ENOMEM. */
int list_replace(struct list *l, size_t i, const char *text);

/* Whether a text equal to the given one is there. */
bool list_has(const struct list *l, const char *text);

/* Wipes and frees all; the list is empty and may be used again. */
void list_free(struct list *l);

struct pair {
	char *name;  /* owned */
	char *value; /* owned */
};

struct pairs {
	struct pair *items; /* owned; NULL while empty */
	size_t n;
};

/* Appends a copy of both.  Returns 0, or -1 with errno ENOMEM. */
int pairs_add(struct pairs *p, const char *name, const char *value);

/* Whether a name is there, in upper or lower case. */
bool pairs_have(const struct pairs *p, const char *name);

/* Wipes and frees all; the list is empty and may be used again. */
void pairs_free(struct pairs *p);

#endif
