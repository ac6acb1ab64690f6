/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which account a recipient belongs to: a sorted table of all claims.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "route.h"

#include "banned.h"

static size_t entry_length(const char *text);
static int claim_entry(struct config *c, size_t account, const char *entry,
    size_t len, struct buf *reason);
static int entry_key(const struct config *c, const char *entry, size_t len,
    struct buf *key);
static int insert(struct config *c, size_t account, const char *key,
    struct buf *reason);
static bool find(const struct config *c, const char *key, size_t *at);

int
route_claim(struct config *c, size_t account, struct buf *reason)
{
	const char *entry;
	size_t len, next;

	entry = c->accounts[account].recipients;
	while (*entry != '\0') {
		next = entry_length(entry);
		len = next;
		while (len > 0 && entry[len - 1] == ' ')
			len--;
		if (len > 0 &&
		    claim_entry(c, account, entry, len, reason) == -1)
			return -1;
		entry += next;
		entry += strspn(entry, ",\n ");
	}
	return 0;
}

/* The octets up to a separator that is not inside a quoted local part. */
static size_t
entry_length(const char *text)
{
	size_t i;
	bool quoted;

	quoted = false;
	for (i = 0; text[i] != '\0'; i++) {
		if (quoted && text[i] == '\\' && text[i + 1] != '\0')
			i++;
		else if (text[i] == '"')
			quoted = !quoted;
		else if (text[i] == '\n' || (text[i] == ',' && !quoted))
			break;
	}
	return i;
}

static int
claim_entry(struct config *c, size_t account, const char *entry, size_t len,
    struct buf *reason)
{
	struct buf key;
	int result;

	while (len > 0 && *entry == ' ') {
		entry++;
		len--;
	}
	buf_init(&key, 2 * ADDRESS_MAX);
	result = entry_key(c, entry, len, &key);
	if (result == -1)
		(void)buf_addf(reason,
		    "\"%.*s\" is not user@domain, @domain or *",
		    (int)(len > 256 ? 256 : len), entry);
	else
		result = insert(c, account, buf_text(&key), reason);
	buf_free(&key);
	return result;
}

/* The form for comparison of an entry: "*", "@domain" or an address. */
static int
entry_key(const struct config *c, const char *entry, size_t len,
    struct buf *key)
{
	struct address a;
	int result;

	if (len == 1 && *entry == '*')
		return buf_add_text(key, "*");
	if (len > 0 && *entry == '@') {
		if (!utf8_is_valid(entry, len) || buf_add_octet(key, '@') == -1)
			return -1;
		return address_domain(key, entry + 1, len - 1);
	}
	address_init(&a);
	result = address_parse(&a, entry, len);
	if (result == 0 && (!a.has_domain || a.local.len == 0)) {
		errno = EINVAL;
		result = -1;
	}
	if (result == 0)
		result = address_key(&a, c->smtp.origin, 0, key);
	address_free(&a);
	return result;
}

/* Keeps the table sorted; an account may name an address twice. */
static int
insert(struct config *c, size_t account, const char *key, struct buf *reason)
{
	struct claim *claims;
	size_t at;

	if (find(c, key, &at)) {
		if (c->claims[at].account == account)
			return 0;
		(void)buf_addf(reason, "\"%s\" is claimed by [%s] already", key,
		    c->accounts[c->claims[at].account].name);
		return -1;
	}
	claims = reallocarray(c->claims, c->nclaims + 1, sizeof(c->claims[0]));
	if (claims != NULL) {
		c->claims = claims;
		memmove(&claims[at + 1], &claims[at],
		    (c->nclaims - at) * sizeof(claims[0]));
		claims[at] = (struct claim){ strdup(key), account };
		if (claims[at].key != NULL) {
			c->nclaims++;
			return 0;
		}
		memmove(&claims[at], &claims[at + 1],
		    (c->nclaims - at) * sizeof(claims[0]));
	}
	(void)buf_add_text(reason, strerror(ENOMEM));
	return -1;
}

/* Binary search; *at is where the key is or belongs. */
static bool
find(const struct config *c, const char *key, size_t *at)
{
	size_t low, high, middle;
	int order;

	low = 0;
	high = c->nclaims;
	while (low < high) {
		middle = low + (high - low) / 2;
		order = strcmp(key, c->claims[middle].key);
		if (order == 0) {
			*at = middle;
			return true;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	*at = low;
	return false;
}

ptrdiff_t
route_find(const struct config *c, const struct address *a)
{
	struct buf key;
	size_t at, extension, i;
	ptrdiff_t account;

	buf_init(&key, 8 * ADDRESS_MAX);
	extension = address_extension(a, c->smtp.recipient_delimiter);
	account = ROUTE_NONE;
	for (i = 0; i < 4 && account == ROUTE_NONE; i++) {
		/* The address, without its extension, its domain, anything. */
		buf_reset(&key);
		if ((i == 3 ? buf_add_octet(&key, '*')
			    : address_key(a, c->smtp.origin,
				  i == 0   ? 0
				  : i == 1 ? extension
					   : a->local.len,
				  &key)) == -1)
			account = ROUTE_FAULT;
		else if (find(c, buf_text(&key), &at))
			account = (ptrdiff_t)c->claims[at].account;
	}
	buf_free(&key);
	return account;
}
