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
	uint64_t random = 0;

	/* Below 256 octets it comes whole or not at all, getrandom(2). */
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		buf_fail(name, errno);
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
	struct digest *digest;
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
	size_t size = strlen(name) + strlen(value);

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

	if (text == NULL || *text == '\0')
		return;
	buf_encode(&value, text, strlen(text), "%", '%');
	buf_fail(m->lines, value.error);
	add_header(m, name, buf_text(&value));
}

/*
 * Adds a value that goes on in NAME-2, NAME-3 and so on, its items whole: lines
 * of text, with commas between them, or its octets.  The numbers have no gap,
 * as a reader stops at one: what does not fit ends it.
 */
static void
add_series(struct metadata *m, const char *name, const char *text, bool lines)
{
	BUF(item, 3 * SMTP_LINE_MAX);
	BUF(value, OBJECT_VALUE_MAX);
	char header[32];
	unsigned int number = 1;
	size_t comma = lines ? 1 : 0, len, n;

	(void)snprintf(header, sizeof(header), "%s", name);
	for (; *text != '\0'; text += n + comma) {
		n = lines ? strcspn(text, "\n") : 1;
		buf_reset(&item);
		buf_encode(&item, text, n, lines ? "%," : "%", '%');
		buf_fail(m->lines, item.error);
		len = value.len + comma + item.len;
		if (value.len > 0 && item.len <= OBJECT_VALUE_MAX &&
		    len > OBJECT_VALUE_MAX) {
			add_header(m, header, buf_text(&value));
			(void)snprintf(header, sizeof(header), "%s-%u", name,
			    ++number);
			buf_reset(&value);
		}
		if (value.len == 0)
			len = item.len;
		if (len > OBJECT_VALUE_MAX || strlen(header) + len > m->left) {
			m->truncated = true;
			continue;
		}
		if (value.len > 0 && lines)
			buf_addc(&value, ',');
		buf_add(&value, buf_text(&item), item.len);
		buf_fail(m->lines, value.error);
	}
	if (value.len > 0 || !lines)
		add_header(m, header, buf_text(&value));
}

void
object_metadata(struct buf *lines, const struct envelope *e, const char *sha256,
    const char *fingerprint, const struct buf facts[FACTS])
{
	static const char *const names[FACTS] = { "Message-Id", "Verdict",
		"Verdict-Score", "Verdict-Spf", "Verdict-Dkim", "Verdict-Dmarc",
		"Verdict-Arc", "Verdict-Virus" };
	BUF(recipients, ((size_t)SMTP_LINE_MAX + 1) * e->n);
	char *const *xforward = e->transaction->xforward;
	/* Kept free for readers, and to say that a recipient was left out. */
	struct metadata m = { .lines = lines,
		.left = OBJECT_METADATA_MAX - OBJECT_METADATA_FREE -
			sizeof(TRUNCATED "yes") + 1 };
	char number[32];
	size_t i;

	(void)snprintf(number, sizeof(number), "%zu", e->n);
	add_header(&m, "Envelope-Count", number);
	add_header(&m, "Sha256", sha256);
	add_header(&m, "Fingerprint", fingerprint);
	/* There is room for any sender that SMTP_PATH_MAX lets pass. */
	add_series(&m, "Envelope-From", e->transaction->reverse_path, false);
	for (i = 0; i < FACTS; i++) {
		buf_fail(lines, facts[i].error);
		add_text(&m, names[i], buf_text(&facts[i]));
	}
	for (i = 0; i < e->n; i++)
		buf_addf(&recipients, "%s\n", e->recipients[i]->path);
	buf_fail(lines, recipients.error);
	add_series(&m, "Envelope-To", buf_text(&recipients), true);
	add_text(&m, "Client-Addr", object_client_addr(e->transaction));
	add_text(&m, "Client-Name", xforward[XFORWARD_NAME]);
	add_text(&m, "Client-Helo", xforward[XFORWARD_HELO]);
	add_text(&m, "Queue-Id", xforward[XFORWARD_IDENT]);
	if (m.truncated)
		buf_adds(lines, PREFIX TRUNCATED ": yes\n");
}

const char *
object_client_addr(const struct transaction *t)
{
	const char *addr = t->xforward[XFORWARD_ADDR];

	if (addr == NULL)
		return "";
	return text_begins(addr, "IPv6:") ? addr + 5 : addr;
}
