/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any octets as a message's content: what is kept of it, in memory or in a
 * file, is what came, and so are its digests; what the header says is taken
 * from the header; of what cannot be kept nothing is read.
 *
 * The first octet's bits say how: enum below.
 */
#include <openssl/evp.h>
#include <string.h>

#include "fuzz.h"

#include "message.h"
#include "text.h"

#include "banned.h"

enum {
	IN_FILE = 1 << 0,  /* so often that the memory is full */
	IN_PARTS = 1 << 1, /* an octet, two octets, three ... */
	TOO_BIG = 1 << 2,  /* for the limit, with its last octet */
	NO_PLACE = 1 << 3, /* there is no spool directory */
	NO_FILES = 1 << 4, /* there is one in which no file can be */
	LONG_NAME = 1 << 5 /* there is none of such a name */
};

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void
hex_of(const char *name, const char *text, size_t len, char *hex)
{
	unsigned char digest[32];
	size_t i, n;

	require(EVP_Q_digest(NULL, name, NULL, text, len, digest, &n) == 1,
	    "a digest");
	for (i = 0; i < n; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* Where a header field ends that begins at text: no blank begins a line. */
static size_t
field_length(const char *text, size_t len)
{
	const char *lf = text;

	while ((lf = memchr(lf, '\n', len - (size_t)(lf - text))) != NULL) {
		lf++;
		if (lf == text + len || (*lf != ' ' && *lf != '\t'))
			return (size_t)(lf - text);
	}
	return len;
}

static void
check_digests(const struct message *m, const struct buf *text)
{
	char want[65], hex[DIGEST_SHA256_HEX];
	size_t skipped;

	hex_of("MD5", text->data, text->len, want);
	require(strcmp(m->md5_hex, want) == 0, "its MD5");
	hex_of("SHA256", text->data, text->len, want);
	require(strcmp(m->sha256_hex, want) == 0, "its SHA-256");
	skipped = text->len >= 9 && text_is(text->data, 9, "Received:")
		      ? field_length(text->data, text->len)
		      : 0;
	hex_of("SHA256", text->data + skipped, text->len - skipped, want);
	require(message_content_hex(m, hex) == 0 && strcmp(hex, want) == 0,
	    "the SHA-256 without Received");
}

static void
check_octets(const struct message *m, const struct buf *text)
{
	char part[4099];
	size_t at;
	ssize_t n;

	for (at = 0; at < text->len; at += (size_t)n) {
		n = message_read(m, (int64_t)at, part, sizeof(part));
		require(n > 0 && (size_t)n <= text->len - at &&
			    memcmp(part, text->data + at, (size_t)n) == 0,
		    "the octets that came");
	}
	require(message_read(m, (int64_t)at, part, 1) == 0, "its end");
	require(message_read(m, -1, part, 1) == -1, "no octet before it");
}

/* Up to the line that begins with CR; RFC 5322 section 2.1. */
static size_t
header_length(const struct buf *text)
{
	const char *end;

	if (text->data[0] == '\r')
		return 0;
	end = memmem(text->data, text->len, "\n\r", 2);
	return end == NULL ? text->len : (size_t)(end - text->data) + 1;
}

/* It is in the header, in this order, if not in one piece. */
static void
check_id(const struct message *m, const struct buf *text)
{
	BUF(id, 300);
	size_t at, i, len = header_length(text);

	message_id(m, &id);
	require(id.error == 0, "a Message-ID, or none");
	at = 0;
	for (i = 0; i < id.len; i++, at++) {
		require(strchr(" \t\r\n", id.data[i]) == NULL ||
			    id.data[i] == '\0',
		    "a Message-ID without blanks");
		while (at < len && text->data[at] != id.data[i])
			at++;
		require(at < len, "the header's own Message-ID");
	}
}

static void
check_lost(const struct message *m)
{
	char hex[DIGEST_SHA256_HEX], octet;
	BUF(id, 300);

	require(message_read(m, 0, &octet, 1) == -1, "no octet");
	require(message_content_hex(m, hex) == -1, "no digest");
	message_id(m, &id);
	require(id.len == 0 && id.error != 0, "no Message-ID");
}

static const char *
spool_of(unsigned int how)
{
	static char name[5000];

	memset(name, 'n', sizeof(name) - 1);
	return how & NO_PLACE    ? "/nonexistent"
	       : how & NO_FILES  ? "/proc"
	       : how & LONG_NAME ? name
				 : "/tmp";
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned int how = size > 0 ? *data : 0;
	bool in_file, spoolable;
	struct message m;
	size_t at, n, times;
	BUF(text, 16 * MESSAGE_MEMORY);

	if (size < 2)
		return 0;
	times = how & IN_FILE ? 2 * MESSAGE_MEMORY / (size - 1) + 1 : 1;
	while (times-- > 0)
		buf_add(&text, data + 1, size - 1);
	require(text.error == 0, "room for the content");
	message_open(&m, spool_of(how),
	    (int64_t)text.len - (how & TOO_BIG ? 1 : 0));
	for (at = 0, n = text.len; at < text.len; at += n) {
		n = how & IN_PARTS ? at / 7 + 1 : text.len;
		n = n < text.len - at ? n : text.len - at;
		message_add(&m, text.data + at, n);
	}
	in_file = text.len > MESSAGE_MEMORY;
	spoolable = (how & (NO_PLACE | NO_FILES | LONG_NAME)) == 0;
	require((message_try_spool(spool_of(how)) == 0) == spoolable,
	    "what the spool directory can do");
	require(m.size == (int64_t)text.len, "its size");
	require(m.too_big == ((how & TOO_BIG) != 0), "what is too big");
	require((message_finish(&m) == 0) ==
		    (!m.too_big && (spoolable || !in_file)),
	    "what can be kept");
	if (m.fault == 0) {
		check_digests(&m, &text);
		check_octets(&m, &text);
		check_id(&m, &text);
	} else {
		check_lost(&m);
	}
	message_close(&m);
	return 0;
}
