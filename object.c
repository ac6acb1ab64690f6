/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The object that a message becomes: a name in Maildir fashion, and the
 * envelope as metadata within the limits of swift/common/constraints.py.
 */
#include <sys/random.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "address.h"
#include "object.h"

#include "banned.h"

#define PREFIX    "X-Object-Meta-"
#define TRUNCATED "Envelope-Truncated"

enum {
	/* Kept free for the word that something was left out. */
	TRUNCATED_LEN = sizeof(TRUNCATED) - 1 + 3
};

struct metadata {
	struct buf *lines; /* borrowed */
	size_t used;       /* octets of names and values */
	bool truncated;
};

static int add_host(struct buf *name);
static int compare_lower(const void *a, const void *b);
static int add_header(struct metadata *m, const char *name, const char *value,
    size_t len);
static int add_text_header(struct metadata *m, const char *name,
    const char *text, size_t len);
static int add_recipients(struct metadata *m,
    const struct object_envelope *envelope);
static int flush_recipients(struct metadata *m, struct buf *list,
    unsigned int *number);
static int encode(struct buf *out, const char *text, size_t len, bool in_list);

int
object_name(struct buf *name, const struct timespec *when, int64_t size)
{
	uint64_t random;

	/* Below 256 octets it comes whole or not at all, getrandom(2). */
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -1;
	if (buf_addf(name, "%lld.M%06ldP%ldR%016" PRIx64 ".",
		(long long)when->tv_sec, when->tv_nsec / 1000, (long)getpid(),
		random) == -1 ||
	    add_host(name) == -1)
		return -1;
	return buf_addf(name, ",S=%lld", (long long)size);
}

/* '/' and ':' as the Maildir page asks, what else is awkward likewise. */
static int
add_host(struct buf *name)
{
	static const char plain[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	    ".-_";
	char host[HOST_NAME_MAX + 1] = "";
	const char *p;

	(void)gethostname(host, sizeof(host) - 1);
	for (p = *host == '\0' ? "localhost" : host; *p != '\0'; p++)
		if ((strchr(plain, *p) != NULL
			    ? buf_add_octet(name, *p)
			    : buf_addf(name, "\\%03o",
				  (unsigned int)(unsigned char)*p)) == -1)
			return -1;
	return 0;
}

int
object_fingerprint_head(struct buf *head,
    const struct object_envelope *envelope)
{
	const struct transaction *t;
	const struct buf **paths;
	size_t i, k;
	int result;

	t = envelope->transaction;
	paths = calloc(envelope->nrecipients + 1, sizeof(*paths));
	if (paths == NULL)
		return -1;
	for (i = 0; i < envelope->nrecipients; i++)
		paths[i] = &t->recipients[envelope->recipients[i]]->path;
	qsort(paths, envelope->nrecipients, sizeof(*paths), compare_lower);
	result = buf_add(head, buf_text(&t->reverse_path), t->reverse_path.len);
	if (result == 0)
		result = buf_add_octet(head, '\n');
	for (i = 0; result == 0 && i < envelope->nrecipients; i++) {
		for (k = 0; result == 0 && k < paths[i]->len; k++)
			result =
			    buf_add_octet(head, ascii_lower(paths[i]->data[k]));
		if (result == 0)
			result = buf_add_octet(head, '\n');
	}
	if (result == 0)
		result = buf_add_octet(head, '\n');
	free(paths);
	return result;
}

/* The order of the lower-case forms, octet by octet. */
static int
compare_lower(const void *a, const void *b)
{
	const struct buf *x, *y;
	unsigned char c, d;
	size_t i;

	x = *(const struct buf *const *)a;
	y = *(const struct buf *const *)b;
	for (i = 0; i < x->len && i < y->len; i++) {
		c = (unsigned char)ascii_lower(x->data[i]);
		d = (unsigned char)ascii_lower(y->data[i]);
		if (c != d)
			return c < d ? -1 : 1;
	}
	return x->len == y->len ? 0 : x->len < y->len ? -1 : 1;
}

int
object_metadata(struct buf *lines, const struct object_envelope *envelope,
    const char *sha256, const char *fingerprint)
{
	struct metadata m = { .lines = lines };
	const struct transaction *t;
	const struct buf *x;
	const char *addr;
	struct buf number;
	int result;

	t = envelope->transaction;
	x = t->xforward;
	addr = object_client_addr(t);
	buf_init(&number, 32);
	result = buf_addf(&number, "%zu", envelope->nrecipients);
	if (result == 0)
		result =
		    add_header(&m, "Envelope-Count", number.data, number.len);
	if (result == 0)
		result = add_header(&m, "Sha256", sha256, strlen(sha256));
	if (result == 0)
		result = add_header(&m, "Fingerprint", fingerprint,
		    strlen(fingerprint));
	if (result == 0)
		result = add_text_header(&m, "Envelope-From",
		    buf_text(&t->reverse_path), t->reverse_path.len);
	if (result == 0)
		result = add_recipients(&m, envelope);
	if (result == 0 && *addr != '\0')
		result = add_text_header(&m, "Client-Addr", addr, strlen(addr));
	if (result == 0 && x[XFORWARD_NAME].len > 0)
		result = add_text_header(&m, "Client-Name",
		    x[XFORWARD_NAME].data, x[XFORWARD_NAME].len);
	if (result == 0 && x[XFORWARD_HELO].len > 0)
		result = add_text_header(&m, "Client-Helo",
		    x[XFORWARD_HELO].data, x[XFORWARD_HELO].len);
	if (result == 0 && x[XFORWARD_IDENT].len > 0)
		result = add_text_header(&m, "Queue-Id", x[XFORWARD_IDENT].data,
		    x[XFORWARD_IDENT].len);
	if (result == 0 && m.truncated)
		result = buf_add_text(lines, PREFIX TRUNCATED ": yes\n");
	buf_free(&number);
	return result;
}

const char *
object_client_addr(const struct transaction *t)
{
	const char *addr;

	addr = buf_text(&t->xforward[XFORWARD_ADDR]);
	return strncasecmp(addr, "IPv6:", 5) == 0 ? addr + 5 : addr;
}

/* Adds a header if it fits, or notes that it did not. */
static int
add_header(struct metadata *m, const char *name, const char *value, size_t len)
{
	size_t size;

	size = strlen(name) + len;
	if (len > OBJECT_VALUE_MAX ||
	    m->used + size > OBJECT_METADATA_MAX - TRUNCATED_LEN) {
		m->truncated = true;
		return 0;
	}
	m->used += size;
	return buf_addf(m->lines, PREFIX "%s: %.*s\n", name, (int)len, value);
}

static int
add_text_header(struct metadata *m, const char *name, const char *text,
    size_t len)
{
	struct buf value;
	int result;

	buf_init(&value, 3 * SMTP_LINE_MAX);
	result = encode(&value, text, len, false);
	if (result == 0)
		result = add_header(m, name, buf_text(&value), value.len);
	buf_free(&value);
	return result;
}

/* Envelope-To, -2, -3 and so on: whole addresses, as many as fit into each. */
static int
add_recipients(struct metadata *m, const struct object_envelope *envelope)
{
	const struct buf *path;
	struct buf list, item;
	unsigned int number;
	size_t i;
	int result;

	buf_init(&list, OBJECT_VALUE_MAX);
	buf_init(&item, 3 * SMTP_LINE_MAX);
	number = 1;
	result = 0;
	for (i = 0; i < envelope->nrecipients && result == 0; i++) {
		path =
		    &envelope->transaction->recipients[envelope->recipients[i]]
			 ->path;
		buf_reset(&item);
		result = encode(&item, path->data, path->len, true);
		if (result == -1)
			break;
		if (item.len > OBJECT_VALUE_MAX) {
			m->truncated = true;
			continue;
		}
		if (list.len > 0 && list.len + 1 + item.len > OBJECT_VALUE_MAX)
			result = flush_recipients(m, &list, &number);
		if (result == 0 && list.len > 0)
			result = buf_add_octet(&list, ',');
		if (result == 0)
			result = buf_add(&list, item.data, item.len);
	}
	if (result == 0 && list.len > 0)
		result = flush_recipients(m, &list, &number);
	buf_free(&item);
	buf_free(&list);
	return result;
}

static int
flush_recipients(struct metadata *m, struct buf *list, unsigned int *number)
{
	struct buf name;
	int result;

	buf_init(&name, 64);
	result = buf_add_text(&name, "Envelope-To");
	if (result == 0 && *number > 1)
		result = buf_addf(&name, "-%u", *number);
	if (result == 0)
		result =
		    add_header(m, buf_text(&name), buf_text(list), list->len);
	buf_free(&name);
	buf_reset(list);
	++*number;
	return result;
}

/* Percent-encoding (RFC 3986 section 2.1) of all but 0x21 to 0x7E. */
static int
encode(struct buf *out, const char *text, size_t len, bool in_list)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (text[i] > ' ' && text[i] <= '~' && text[i] != '%' &&
		    !(in_list && text[i] == ',')) {
			if (buf_add_octet(out, text[i]) == -1)
				return -1;
		} else if (buf_addf(out, "%%%02X",
			       (unsigned int)(unsigned char)text[i]) == -1) {
			return -1;
		}
	}
	return 0;
}
