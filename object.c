/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The object that a message becomes: a name in Maildir fashion, and the
 * envelope as metadata within the limits of swift/common/constraints.py.
 */
#include <sys/random.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "object.h"
#include "text.h"

#include "banned.h"

#define PREFIX    "X-Object-Meta-"
#define TRUNCATED "Envelope-Truncated"

struct metadata {
	struct buf *lines; /* borrowed */
	size_t left;       /* octets of names and values that fit yet */
	bool truncated;    /* a recipient was left out */
};

void
object_name(struct buf *name, const struct timespec *when, int64_t size)
{
	char host[HOST_NAME_MAX + 1] = "";
	uint64_t random;

	/* Below 256 octets it comes whole or not at all, getrandom(2). */
	if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
		buf_fail(name, errno);
		return;
	}
	(void)gethostname(host, sizeof(host) - 1);
	if (*host == '\0')
		memcpy(host, "localhost", sizeof("localhost"));
	buf_addf(name, "%lld.M%06ldP%ldR%016" PRIx64 ".",
	    (long long)when->tv_sec, when->tv_nsec / 1000, (long)getpid(),
	    random);
	/* '/' and ':' as the Maildir page asks, what else is awkward likewise. */
	buf_encode(name, host, strlen(host), "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~",
	    '\\');
	buf_addf(name, ",S=%lld", (long long)size);
}

static int
compare_paths(const void *a, const void *b)
{
	struct recipient *const *x = a, *const *y = b;

	return strcasecmp((*x)->path, (*y)->path);
}

int
object_fingerprint(const struct envelope *e, const char *content,
    char hex[DIGEST_SHA256_HEX])
{
	BUF(text, ((size_t)SMTP_LINE_MAX + 1) * (e->n + 2));
	struct recipient **sorted;
	const char *p;
	void *digest;
	size_t i;

	sorted = calloc(e->n, sizeof(*sorted));
	if (sorted == NULL)
		return -1;
	memcpy(sorted, e->recipients, e->n * sizeof(*sorted));
	qsort(sorted, e->n, sizeof(*sorted), compare_paths);
	buf_addf(&text, "%s\n", e->transaction->reverse_path);
	for (i = 0; i < e->n; i++) {
		for (p = sorted[i]->path; *p != '\0'; p++)
			buf_addc(&text, ascii_lower(*p));
		buf_addc(&text, '\n');
	}
	free(sorted);
	buf_addf(&text, "\n%s", content);
	digest = digest_open("SHA256");
	if (digest == NULL || text.error != 0) {
		digest_hex(digest, NULL);
		return -1;
	}
	digest_add(digest, text.data, text.len);
	digest_hex(digest, hex);
	return 0;
}

/* Adds a header if it fits. */
static void
add_header(struct metadata *m, const char *name, const char *value)
{
	size_t size;

	size = strlen(name) + strlen(value);
	if (strlen(value) > OBJECT_VALUE_MAX || size > m->left)
		return;
	m->left -= size;
	buf_addf(m->lines, PREFIX "%s: %s\n", name, value);
}

/* The same for text of a peer's, percent-encoded (RFC 3986 section 2.1). */
static void
add_text(struct metadata *m, const char *name, const char *text)
{
	BUF(value, 3 * SMTP_LINE_MAX);

	buf_encode(&value, text, strlen(text), "%", '%');
	buf_fail(m->lines, value.error);
	add_header(m, name, buf_text(&value));
}

/* A value that goes on in NAME-2, NAME-3 and so on, its items whole. */
struct series {
	struct metadata *m; /* borrowed, as is the rest */
	const char *name;
	char header[32];     /* the name of the one that is being filled */
	unsigned int number; /* of it */
	struct buf *value;   /* of it, at most OBJECT_VALUE_MAX */
};

/*
 * Appends an item, separated from one before it; whether there is room.  The
 * numbers have no gap, as a reader stops at one: what does not fit ends it.
 */
static bool
series_add(struct series *s, const char *separator, const struct buf *item)
{
	size_t len;

	buf_fail(s->m->lines, item->error);
	if (item->len > OBJECT_VALUE_MAX)
		return false;
	len = s->value->len + strlen(separator) + item->len;
	if (s->value->len > 0 && len > OBJECT_VALUE_MAX) {
		add_header(s->m, s->header, buf_text(s->value));
		(void)snprintf(s->header, sizeof(s->header), "%s-%u", s->name,
		    ++s->number);
		buf_reset(s->value);
	}
	if (s->value->len == 0) {
		separator = "";
		len = item->len;
	}
	if (strlen(s->header) + len > s->m->left)
		return false;
	buf_adds(s->value, separator);
	buf_add(s->value, buf_text(item), item->len);
	buf_fail(s->m->lines, s->value->error);
	return true;
}

/* Envelope-From; there is room for any that SMTP_PATH_MAX lets pass. */
static void
add_sender(struct metadata *m, const char *path)
{
	BUF(value, OBJECT_VALUE_MAX);
	BUF(octet, 4);
	struct series s = { m, "Envelope-From", "Envelope-From", 1, &value };

	for (; *path != '\0'; path++) {
		buf_reset(&octet);
		buf_encode(&octet, path, 1, "%", '%');
		(void)series_add(&s, "", &octet);
	}
	add_header(m, s.header, buf_text(&value));
}

/* Envelope-To: whole addresses, as many as fit. */
static void
add_recipients(struct metadata *m, const struct envelope *e)
{
	BUF(value, OBJECT_VALUE_MAX);
	BUF(item, 3 * SMTP_LINE_MAX);
	struct series s = { m, "Envelope-To", "Envelope-To", 1, &value };
	size_t i;

	for (i = 0; i < e->n; i++) {
		buf_reset(&item);
		buf_encode(&item, e->recipients[i]->path,
		    strlen(e->recipients[i]->path), "%,", '%');
		m->truncated |= !series_add(&s, ",", &item);
	}
	if (value.len > 0)
		add_header(m, s.header, buf_text(&value));
}

void
object_metadata(struct buf *lines, const struct envelope *e, const char *sha256,
    const char *fingerprint)
{
	static const struct {
		const char *name;
		int attribute;
	} others[] = { { "Client-Name", XFORWARD_NAME },
		{ "Client-Helo", XFORWARD_HELO },
		{ "Queue-Id", XFORWARD_IDENT } };
	/* Kept free for readers, and to say that a recipient was left out. */
	struct metadata m = { .lines = lines,
		.left = OBJECT_METADATA_MAX - OBJECT_METADATA_FREE -
			sizeof(TRUNCATED "yes") + 1 };
	const char *text;
	char number[32];
	size_t i;

	(void)snprintf(number, sizeof(number), "%zu", e->n);
	add_header(&m, "Envelope-Count", number);
	add_header(&m, "Sha256", sha256);
	add_header(&m, "Fingerprint", fingerprint);
	add_sender(&m, e->transaction->reverse_path);
	add_recipients(&m, e);
	text = object_client_addr(e->transaction);
	if (*text != '\0')
		add_text(&m, "Client-Addr", text);
	for (i = 0; i < COUNT(others); i++) {
		text = e->transaction->xforward[others[i].attribute];
		if (text != NULL)
			add_text(&m, others[i].name, text);
	}
	if (m.truncated)
		buf_adds(lines, PREFIX TRUNCATED ": yes\n");
}

const char *
object_client_addr(const struct transaction *t)
{
	const char *addr;

	addr = t->xforward[XFORWARD_ADDR];
	if (addr == NULL)
		return "";
	return text_begins(addr, "IPv6:") ? addr + 5 : addr;
}
