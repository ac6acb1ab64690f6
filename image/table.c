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

/* An entry without a value; NULL without memory. */
static struct pair *
append(struct table *t, const char *name)
{
	size_t size = strlen(name) + 1;
	struct pair **entries, *e;

	entries = reallocarray(t->entries, t->n + 1, sizeof(struct pair *));
	if (entries == NULL)
		return NULL;
	t->entries = entries;
	e = calloc(1, sizeof(*e) + size);
	if (e == NULL)
		return NULL;
	e->name = memcpy(e->text, name, size);
	if (tsearch(e, &t->index, compare) == NULL) {
		free(e);
		return NULL;
	}
	entries[t->n++] = e;
	return e;
}

void
table_set(struct table *t, const char *name, const char *value)
{
	struct pair *e = find(t, name);
	char *copy = strdup(value);

	if (e == NULL && copy != NULL)
		e = append(t, name);
	if (e == NULL || copy == NULL) {
		wipe(copy);
		t->error = ENOMEM;
		return;
	}
	wipe(e->value);
	e->value = copy;
}

bool
table_add(struct table *t, const char *name, const char *value)
{
	if (find(t, name) != NULL)
		return false;
	table_set(t, name, value);
	return true;
}

void
table_free(struct table *t)
{
	tdestroy(t->index, free_pair);
	free(t->entries);
	*t = (struct table){ .n = 0 };
}
