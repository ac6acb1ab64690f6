/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One message.  What is on disk has no name from birth on, so that nothing
 * needs cleaning up after a crash.  Leaves it to its callers what a failure
 * means.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "message.h"

#include "banned.h"

struct fingerprint {
	EVP_MD_CTX *sha256; /* owned */
	char hex[MESSAGE_SHA256_HEX];
};

static void *digest_new(struct message *m, const EVP_MD *type);
static void digest_add(struct message *m, EVP_MD_CTX *context, const char *text,
    size_t len);
static void digest_hex(struct message *m, EVP_MD_CTX *context, char *hex);
static void fail(struct message *m, int error);
static int open_file(const char *spool_directory);
static void to_file(struct message *m, const char *text, size_t len);
static void write_file(struct message *m, const char *text, size_t len);
static void add_fingerprinted(struct message *m, const char *text, size_t len);
static void skip_field(struct message *m, const char *text, size_t len);
static void match_field(struct message *m, char octet);

void
message_open(struct message *m, const char *spool_directory, int64_t limit,
    bool skip_received)
{
	*m = (struct message){
		.spool_directory = spool_directory,
		.limit = limit,
		.fd = -1,
		.received = skip_received ? RECEIVED_MATCHING : RECEIVED_PASSED,
	};
	buf_init(&m->memory, MESSAGE_MEMORY);
	m->md5 = digest_new(m, EVP_md5());
	m->sha256 = digest_new(m, EVP_sha256());
}

static void *
digest_new(struct message *m, const EVP_MD *type)
{
	EVP_MD_CTX *context;

	context = EVP_MD_CTX_new();
	if (context == NULL || EVP_DigestInit_ex(context, type, NULL) != 1)
		fail(m, ENOMEM);
	return context;
}

void
message_add_fingerprint(struct message *m, const char *head, size_t len)
{
	struct fingerprint *fingerprints;

	fingerprints = reallocarray(m->fingerprints, m->nfingerprints + 1,
	    sizeof(m->fingerprints[0]));
	if (fingerprints == NULL) {
		fail(m, ENOMEM);
		return;
	}
	m->fingerprints = fingerprints;
	fingerprints[m->nfingerprints] =
	    (struct fingerprint){ .sha256 = digest_new(m, EVP_sha256()) };
	m->nfingerprints++;
	digest_add(m, fingerprints[m->nfingerprints - 1].sha256, head, len);
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
	digest_add(m, m->md5, text, len);
	digest_add(m, m->sha256, text, len);
	skip_field(m, text, len);
	if (m->fd != -1 || len > MESSAGE_MEMORY - m->memory.len)
		to_file(m, text, len);
	else if (buf_add(&m->memory, text, len) == -1)
		fail(m, errno);
}

static void
digest_add(struct message *m, EVP_MD_CTX *context, const char *text, size_t len)
{
	if (m->fault == 0 && EVP_DigestUpdate(context, text, len) != 1)
		fail(m, EIO);
}

/* What was kept in memory goes first. */
static void
to_file(struct message *m, const char *text, size_t len)
{
	if (m->fd == -1) {
		m->fd = open_file(m->spool_directory);
		if (m->fd == -1) {
			fail(m, errno);
			return;
		}
		write_file(m, buf_text(&m->memory), m->memory.len);
		buf_free(&m->memory);
	}
	write_file(m, text, len);
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

/* A file without a name; O_TMPFILE is not known to every file system. */
static int
open_file(const char *spool_directory)
{
	struct buf path;
	int fd;

	fd = open(spool_directory, O_TMPFILE | O_RDWR | O_CLOEXEC,
	    S_IRUSR | S_IWUSR);
	if (fd != -1 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	buf_init(&path, 4096);
	if (buf_addf(&path, "%s/swiftdrop.XXXXXX", spool_directory) == 0) {
		fd = mkostemp(path.data, O_CLOEXEC);
		if (fd != -1)
			(void)unlink(path.data);
	}
	buf_free(&path);
	return fd;
}

int
message_try_spool(const char *spool_directory)
{
	int fd, result, saved;

	fd = open_file(spool_directory);
	if (fd == -1)
		return -1;
	result = write(fd, "", 1) == 1 ? 0 : -1;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return result;
}

static void
add_fingerprinted(struct message *m, const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < m->nfingerprints; i++)
		digest_add(m, m->fingerprints[i].sha256, text, len);
}

/*
 * Leaves out the first header field when it is Received: the peer in front
 * wrote it, with a new time and queue id at each delivery.  Folded lines
 * belong to the field (RFC 5322 section 2.2.3).
 */
static void
skip_field(struct message *m, const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len && m->received != RECEIVED_PASSED; i++) {
		switch (m->received) {
		case RECEIVED_MATCHING:
			match_field(m, text[i]);
			break;
		case RECEIVED_INSIDE:
			if (text[i] == '\n')
				m->received = RECEIVED_LF;
			break;
		case RECEIVED_LF:
			m->received = RECEIVED_INSIDE;
			if (text[i] == ' ' || text[i] == '\t')
				break;
			m->received = RECEIVED_PASSED;
			add_fingerprinted(m, text + i, 1);
			break;
		case RECEIVED_PASSED:
			break;
		}
	}
	if (i < len)
		add_fingerprinted(m, text + i, len - i);
}

/* Compares octet by octet; what turns out to be another field counts. */
static void
match_field(struct message *m, char octet)
{
	static const char name[sizeof(m->matched)] = "received:";

	m->matched[m->nmatched++] = octet;
	if (ascii_lower(octet) != name[m->nmatched - 1]) {
		m->received = RECEIVED_PASSED;
		add_fingerprinted(m, m->matched, m->nmatched);
	} else if (m->nmatched == strlen(name)) {
		m->received = RECEIVED_INSIDE;
	}
}

int
message_finish(struct message *m)
{
	size_t i;

	if (m->received == RECEIVED_MATCHING)
		add_fingerprinted(m, m->matched, m->nmatched);
	digest_hex(m, m->md5, m->md5_hex);
	digest_hex(m, m->sha256, m->sha256_hex);
	for (i = 0; i < m->nfingerprints; i++)
		digest_hex(m, m->fingerprints[i].sha256,
		    m->fingerprints[i].hex);
	return m->fault == 0 ? 0 : -1;
}

static void
digest_hex(struct message *m, EVP_MD_CTX *context, char *hex)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int i, len;

	if (m->fault != 0)
		return;
	if (EVP_DigestFinal_ex(context, digest, &len) != 1) {
		fail(m, EIO);
		return;
	}
	for (i = 0; i < len; i++) {
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 15];
	}
	hex[2 * len] = '\0';
}

void
message_fingerprint(const struct message *m, size_t i,
    char hex[MESSAGE_SHA256_HEX])
{
	memcpy(hex, m->fingerprints[i].hex, MESSAGE_SHA256_HEX);
}

ssize_t
message_read(const struct message *m, int64_t offset, void *data, size_t len)
{
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

void
message_close(struct message *m)
{
	size_t i;

	/* Nothing was ever made that libcrypto would have to free. */
	if (m->md5 != NULL)
		EVP_MD_CTX_free(m->md5);
	if (m->sha256 != NULL)
		EVP_MD_CTX_free(m->sha256);
	for (i = 0; i < m->nfingerprints; i++)
		if (m->fingerprints[i].sha256 != NULL)
			EVP_MD_CTX_free(m->fingerprints[i].sha256);
	free(m->fingerprints);
	buf_free(&m->memory);
	if (m->fd != -1)
		(void)close(m->fd);
	*m = (struct message){ .fd = -1 };
}
