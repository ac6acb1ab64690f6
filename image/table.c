/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Names with values.
 */
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

#include "banned.h"

static int
compare(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static struct pair *
find(const struct table *t, const char *name)
{
	const struct pair wanted = { .name = name };
	struct pair *const *found;

	found = tfind(&wanted, &t->index, compare);
	return found == NULL ? NULL : *found;
}

/* Some of the values are secrets. */
static void
wipe(char *value)
{
	if (value != NULL)
		explicit_bzero(value, strlen(value));
	free(value);
}

static void
free_pair(void *entry)
{
	struct pair *e = entry;

	wipe(e->value);
	free(e);
}

const char *
table_get(const struct table *t, const char *name)
{
	const struct pair *e = find(t, name);

	return e == NULL ? NULL : e->value;
}

bool
table_add(struct table *t, const char *name, const char *value)
{
	size_t size = strlen(name) + 1;
	struct pair **entries, *e;

	if (find(t, name) != NULL)
		return false;
	entries = reallocarray(t->entries, t->n + 1, sizeof(struct pair *));
	if (entries != NULL)
		t->entries = entries;
	e = malloc(sizeof(*e) + size);
	if (e != NULL) {
		e->name = memcpy(e->text, name, size);
		e->value = strdup(value);
	}
	if (entries != NULL && e != NULL && e->value != NULL &&
	    tsearch(e, &t->index, compare) != NULL) {
		entries[t->n++] = e;
		return true;
	}
	t->error = ENOMEM;
	if (e != NULL)
		free_pair(e);
	return true;
}

void
table_set(struct table *t, const char *name, const char *value)
{
	struct pair *e;
	char *copy;

	e = find(t, name);
	if (e == NULL) {
		(void)table_add(t, name, value);
		return;
	}
	copy = strdup(value);
	if (copy == NULL) {
		t->error = ENOMEM;
		return;
	}
	wipe(e->value);
	e->value = copy;
}

void
table_free(struct table *t)
{
	tdestroy(t->index, free_pair);
	free(t->entries);
	*t = (struct table){ .n = 0 };
}
