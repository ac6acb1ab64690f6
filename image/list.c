/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A list of texts; short ones, so that it is searched from end to end.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "list.h"

#include "banned.h"

int
list_add(struct list *l, const char *text, size_t len)
{
	char **items;

	items = reallocarray(l->items, l->n + 1, sizeof(*items));
	if (items == NULL)
		return -1;
	l->items = items;
	items[l->n] = strndup(text, len);
	if (items[l->n] == NULL)
		return -1;
	l->n++;
	return 0;
}

int
list_add_once(struct list *l, const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (strlen(l->items[i]) == len &&
		    memcmp(l->items[i], text, len) == 0)
			return 0;
	return list_add(l, text, len);
}

int
list_replace(struct list *l, size_t i, const char *text)
{
	char *copy;

	copy = strdup(text);
	if (copy == NULL)
		return -1;
	free(l->items[i]);
	l->items[i] = copy;
	return 0;
}

bool
list_has(const struct list *l, const char *text)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (strcmp(l->items[i], text) == 0)
			return true;
	return false;
}

void
list_free(struct list *l)
{
	size_t i;

	/* Some of them are secrets. */
	for (i = 0; i < l->n; i++) {
		explicit_bzero(l->items[i], strlen(l->items[i]));
		free(l->items[i]);
	}
	free(l->items);
	*l = (struct list){ .items = NULL };
}

int
pairs_add(struct pairs *p, const char *name, const char *value)
{
	struct pair pair = { strdup(name), strdup(value) };
	struct pair *items;

	items = reallocarray(p->items, p->n + 1, sizeof(*items));
	if (items != NULL)
		p->items = items;
	if (items == NULL || pair.name == NULL || pair.value == NULL) {
		free(pair.name);
		free(pair.value);
		return -1;
	}
	items[p->n++] = pair;
	return 0;
}

bool
pairs_have(const struct pairs *p, const char *name)
{
	size_t i;

	for (i = 0; i < p->n; i++)
		if (strcasecmp(p->items[i].name, name) == 0)
			return true;
	return false;
}

void
pairs_free(struct pairs *p)
{
	size_t i;

	for (i = 0; i < p->n; i++) {
		free(p->items[i].name);
		explicit_bzero(p->items[i].value, strlen(p->items[i].value));
		free(p->items[i].value);
	}
	free(p->items);
	*p = (struct pairs){ .items = NULL };
}
