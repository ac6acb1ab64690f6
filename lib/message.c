/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One message.  What is on disk has no name from birth on, so that nothing
 * needs cleaning up after a crash.  Leaves it to its callers what a failure
 * means.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"
#include "text.h"

#include "banned.h"

enum {
	CHUNK = 4 * 1024,     /* octets read at a time */
	HEAD_MAX = 128 * 1024 /* octets; Postfix header_size_limit is 100 KiB */
};

void
message_open(struct message *m, const char *spool_directory, int64_t limit)
{
	*m = (struct message){
		.spool_directory = spool_directory,
		.limit = limit,
		.memory = { .max = MESSAGE_MEMORY },
		.fd = -1,
		.md5 = digest_open("MD5"),
		.sha256 = digest_open("SHA256"),
	};
	if (m->md5 == NULL || m->sha256 == NULL)
		m->fault = ENOMEM;
}

/* Nothing is kept from the first failure on; the reply is settled. */
static void
fail(struct message *m, int error)
{
	if (m->fault == 0)
		m->fault = error;
	buf_free(&m->memory);
	if (m->fd != -1)
		(void)close(m->fd);
	m->fd = -1;
}

/* A file without a name; O_TMPFILE is not known to every file system. */
static int
open_file(const char *spool_directory)
{
	BUF(path, 4096);
	int fd;

	fd = open(spool_directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd != -1 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	buf_addf(&path, "%s/swiftdrop.XXXXXX", spool_directory);
	if (path.error != 0) {
		errno = path.error;
		return -1;
	}
	fd = mkostemp(path.data, O_CLOEXEC);
	if (fd != -1)
		(void)unlink(path.data);
	return fd;
}

static void
write_file(struct message *m, const char *text, size_t len)
{
	ssize_t n;

	while (len > 0 && m->fault == 0) {
		n = write(m->fd, text, len);
		if (n == -1 && errno != EINTR)
			fail(m, errno);
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
}

void
message_add(void *context, const char *text, size_t len)
{
	struct message *m = context;

	m->size += (int64_t)len;
	if (m->size > m->limit && !m->too_big) {
		m->too_big = true;
		fail(m, EFBIG);
	}
	if (m->fault != 0)
		return;
	digest_add(m->md5, text, len);
	digest_add(m->sha256, text, len);
	if (m->fd == -1 && len <= MESSAGE_MEMORY - m->memory.len) {
		buf_add(&m->memory, text, len);
		if (m->memory.error != 0)
			fail(m, m->memory.error);
		return;
	}
	/* What was kept in memory goes first. */
	if (m->fd == -1) {
		m->fd = open_file(m->spool_directory);
		if (m->fd == -1)
			fail(m, errno);
		write_file(m, buf_text(&m->memory), m->memory.len);
		buf_free(&m->memory);
	}
	write_file(m, text, len);
}

int
message_finish(struct message *m)
{
	digest_hex(m->md5, m->md5_hex);
	digest_hex(m->sha256, m->sha256_hex);
	m->md5 = m->sha256 = NULL;
	return m->fault == 0 ? 0 : -1;
}

ssize_t
message_read(const void *context, int64_t offset, void *data, size_t len)
{
	const struct message *m = context;
	ssize_t n;

	if (offset < 0 || m->fault != 0) {
		errno = EINVAL;
		return -1;
	}
	if (offset >= m->size)
		return 0;
	if (len > (uint64_t)(m->size - offset))
		len = (size_t)(m->size - offset);
	if (m->fd == -1) {
		memcpy(data, m->memory.data + offset, len);
		return (ssize_t)len;
	}
	do
		n = pread(m->fd, data, len, offset);
	while (n == -1 && errno == EINTR);
	return n;
}

/*
 * The octets of the first header field when that is Received: the peer in
 * front wrote it, with a new time and queue id at each delivery.  Folded lines
 * belong to it (RFC 5322 section 2.2.3).  -1 with errno where it cannot be read.
 */
static int64_t
received_length(const struct message *m)
{
	char data[CHUNK], last = '\0';
	int64_t offset;
	ssize_t i, n;

	for (offset = 0; (n = message_read(m, offset, data, sizeof(data))) > 0;
	     offset += n) {
		if (offset == 0 && (n < 9 || !text_is(data, 9, "Received:")))
			return 0;
		for (i = 0; i < n; i++) {
			if (last == '\n' && data[i] != ' ' && data[i] != '\t')
				return offset + i;
			last = data[i];
		}
	}
	return n == 0 ? offset : -1;
}

int
message_content_hex(const struct message *m, char hex[DIGEST_SHA256_HEX])
{
	char data[CHUNK];
	struct digest *digest;
	int64_t offset = received_length(m);
	ssize_t n;

	if (offset == -1)
		return -1;
	if (offset == 0) {
		memcpy(hex, m->sha256_hex, DIGEST_SHA256_HEX);
		return 0;
	}
	errno = ENOMEM;
	digest = digest_open("SHA256");
	if (digest == NULL)
		return -1;
	for (; (n = message_read(m, offset, data, sizeof(data))) > 0;
	     offset += n)
		digest_add(digest, data, (size_t)n);
	digest_hex(digest, hex);
	return n == 0 ? 0 : -1;
}

/* Appends a field's body, which begins at text, without what is blank. */
static void
take_field(const char *text, const char *end, struct buf *id)
{
	/* A line that begins with a blank goes on with the one before. */
	for (; text < end; text++) {
		if (text[-1] == '\n' && *text != ' ' && *text != '\t')
			break;
		if (strchr(" \t\r\n", *text) == NULL)
			buf_addc(id, *text);
	}
	if (id->error == EMSGSIZE)
		buf_reset(id);
}

void
message_id(const struct message *m, struct buf *id)
{
	static const char name[] = "Message-ID:";
	char *head = malloc(HEAD_MAX);
	const char *end, *lf, *line;
	ssize_t n;

	n = head == NULL ? -1 : message_read(m, 0, head, HEAD_MAX);
	buf_fail(id, n == -1 ? errno : 0);
	end = n == -1 ? head : head + n;
	/* The header ends with an empty line. */
	for (line = head; line < end && *line != '\r';
	     line = lf == NULL ? end : lf + 1) {
		lf = memchr(line, '\n', (size_t)(end - line));
		if (end - line > (ssize_t)strlen(name) &&
		    text_is(line, strlen(name), name)) {
			take_field(line + strlen(name), end, id);
			break;
		}
	}
	free(head);
}

void
message_close(struct message *m)
{
	digest_hex(m->md5, NULL);
	digest_hex(m->sha256, NULL);
	buf_free(&m->memory);
	if (m->fd != -1)
		(void)close(m->fd);
	*m = (struct message){ .fd = -1 };
}

int
message_try_spool(const char *spool_directory)
{
	struct message m = { .fd = open_file(spool_directory) };

	if (m.fd == -1)
		return -1;
	write_file(&m, "", 1); /* which closes it where it cannot */
	if (m.fault == 0)
		return close(m.fd);
	errno = m.fault;
	return -1;
}
