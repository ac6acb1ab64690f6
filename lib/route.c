/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which account a recipient belongs to.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "route.h"
#include "text.h"

#include "banned.h"

/* Appends the form for comparison of an entry; NULL, or what is wrong. */
static const char *
entry_key(const struct routes *r, const char *entry, size_t len,
    struct buf *key)
{
	ADDRESS(a);

	if (len == 1 && *entry == '*') {
		buf_addc(key, '*');
		return NULL;
	}
	if (memchr(entry, '*', len) != NULL)
		return "is no pattern: write @domain for all of a domain, * for "
		       "everything";
	if (*entry == '"' && entry[len - 1] == '"' &&
	    memchr(entry, ',', len) != NULL)
		return "is one address to its quotation marks: take them away";
	a.has_domain = *entry == '@';
	if (a.has_domain ? !address_domain(&a.domain, entry + 1, len - 1)
			 : !address_parse(&a, entry, len))
		return "is not user@domain, user, @domain or *";
	return address_key(&a, r->origin, 0, key)
		   ? NULL
		   : "needs the locale C.UTF-8, which is missing here";
}

static bool
add_claim(struct routes *r, int account, const struct buf *key)
{
	struct claim *claims;

	claims = reallocarray(r->claims, r->n + 1, sizeof(*claims));
	if (claims == NULL)
		return false;
	r->claims = claims;
	claims[r->n] = (struct claim){
		.key = key->error == 0 ? strdup(buf_text(key)) : NULL,
		.account = account,
	};
	if (claims[r->n].key == NULL)
		return false;
	r->n++;
	return true;
}

bool
route_add(struct routes *r, int account, const char *list, struct buf *reason)
{
	size_t before = reason->len, len, next;
	const char *wrong;

	if (r->locale == (locale_t)0 && !text_is_ascii(list, strlen(list)))
		r->locale = address_locale();
	for (; *list != '\0'; list += next) {
		BUF(key, 2 * ADDRESS_MAX);

		list += strspn(list, ",\n ");
		len = next = address_span(list, ",\n");
		while (len > 0 && list[len - 1] == ' ')
			len--;
		if (len == 0)
			continue;
		wrong = entry_key(r, list, len, &key);
		if (wrong == NULL && !add_claim(r, account, &key))
			wrong = strerror(ENOMEM);
		if (wrong != NULL)
			buf_addf(reason, "%s\"%.*s\" %s",
			    reason->len == before ? "" : "; ",
			    (int)(len > 256 ? 256 : len), list, wrong);
	}
	return reason->len == before && reason->error == 0;
}

static int
compare(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int order = strcmp(x->key, y->key);

	return order != 0 ? order : x->account - y->account;
}

static int
compare_key(const void *key, const void *claim)
{
	return strcmp(key, ((const struct claim *)claim)->key);
}

void
route_sort(struct routes *r)
{
	if (r->n > 0)
		qsort(r->claims, r->n, sizeof(r->claims[0]), compare);
}

int
route_find(const struct routes *r, const struct address *a)
{
	size_t cut[] = { 0, address_extension(a, r->delimiters), a->local.len };
	const struct claim *found;
	size_t i;

	/* The address, without its extension, its domain, anything. */
	for (i = 0; i <= COUNT(cut); i++) {
		BUF(key, 2 * ADDRESS_MAX);

		if (i < COUNT(cut))
			(void)address_key(a, r->origin, cut[i], &key);
		else
			buf_addc(&key, '*');
		if (key.error != 0)
			return ROUTE_FAULT;
		found = r->n == 0 ? NULL
				  : bsearch(buf_text(&key), r->claims, r->n,
					sizeof(r->claims[0]), compare_key);
		if (found != NULL)
			return found->account;
	}
	return ROUTE_NONE;
}

void
route_free(struct routes *r)
{
	size_t i;

	for (i = 0; i < r->n; i++)
		free(r->claims[i].key);
	free(r->claims);
	if (r->locale != (locale_t)0)
		freelocale(r->locale);
}
