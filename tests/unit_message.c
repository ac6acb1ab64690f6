/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One message: where it waits, what it adds up to, and that a failure on the
 * way is kept.
 */
#include <sys/resource.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#include "message.h"

#include "banned.h"

#define LIMIT (1024 * 1024)

static char *content; /* LIMIT octets, no two lines the same */

static int
setup(void **state)
{
	size_t i;

	(void)state;
	content = malloc(LIMIT);
	for (i = 0; content != NULL && i < LIMIT; i++)
		content[i] = (char)(i * 31 + i / 251);
	return content == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	free(content);
	return 0;
}

static void
assert_reads_back(const struct message *m, size_t len)
{
	char chunk[1000];
	ssize_t n;
	size_t at;

	for (at = 0; at < len; at += (size_t)n) {
		n = message_read(m, (int64_t)at, chunk, sizeof(chunk));
		assert_true(n > 0);
		assert_memory_equal(chunk, content + at, (size_t)n);
	}
	assert_int_equal(at, len);
	assert_int_equal(message_read(m, (int64_t)len, chunk, 1), 0);
	errno = 0;
	assert_int_equal(message_read(m, -1, chunk, 1), -1);
	assert_int_equal(errno, EINVAL);
}

/* Known values: RFC 1321 and FIPS 180, "abc" and nothing. */
static void
digests_are_the_known_ones(void **state)
{
	static const struct {
		const char *name, *in, *md5, *sha256;
	} rows[] = {
		{ "abc", "abc", "900150983cd24fb0d6963f7d28e17f72",
		    "ba7816bf8f01cfea414140de5dae2223"
		    "b00361a396177a9cb410ff61f20015ad" },
		{ "nothing", "", "d41d8cd98f00b204e9800998ecf8427e",
		    "e3b0c44298fc1c149afbf4c8996fb924"
		    "27ae41e4649b934ca495991b7852b855" },
	};
	struct message m;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		message_open(&m, "/tmp", LIMIT);
		if (*rows[i].in != '\0')
			message_add(&m, rows[i].in, strlen(rows[i].in));
		assert_int_equal(message_finish(&m), 0);
		unit_text(rows[i].name, m.md5_hex, rows[i].md5);
		unit_text(rows[i].name, m.sha256_hex, rows[i].sha256);
		unit_number(rows[i].name, m.size,
		    (long long)strlen(rows[i].in));
		message_close(&m);
	}
}

static void
above_256_kib_a_file_takes_over(void **state)
{
	static const struct {
		const char *name;
		size_t len, step;
		int file;
	} rows[] = {
		{ "one octet", 1, 1, 0 },
		{ "at the boundary", MESSAGE_MEMORY, 1000, 0 },
		{ "at the boundary at once", MESSAGE_MEMORY, MESSAGE_MEMORY,
		    0 },
		{ "one octet more", MESSAGE_MEMORY + 1, 1000, 1 },
		{ "one octet more at once", MESSAGE_MEMORY + 1,
		    MESSAGE_MEMORY + 1, 1 },
		{ "at the limit", LIMIT, 65536, 1 },
	};
	struct message m, whole;
	size_t at, i, n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		message_open(&m, "/tmp", LIMIT);
		message_open(&whole, "/tmp", LIMIT);
		for (at = 0; at < rows[i].len; at += n) {
			n = rows[i].len - at;
			if (n > rows[i].step)
				n = rows[i].step;
			message_add(&m, content + at, n);
		}
		message_add(&whole, content, rows[i].len);
		assert_int_equal(message_finish(&m), 0);
		assert_int_equal(message_finish(&whole), 0);
		unit_number(rows[i].name, m.fd != -1, rows[i].file);
		unit_number(rows[i].name, m.memory.data == NULL, rows[i].file);
		unit_text(rows[i].name, m.sha256_hex, whole.sha256_hex);
		unit_text(rows[i].name, m.md5_hex, whole.md5_hex);
		assert_reads_back(&m, rows[i].len);
		message_close(&m);
		message_close(&whole);
	}
}

static void
above_the_limit_it_counts_and_keeps_nothing(void **state)
{
	struct message m;
	char octet;

	(void)state;
	message_open(&m, "/tmp", 10);
	message_add(&m, content, 10);
	assert_false(m.too_big);
	message_add(&m, content, 1);
	assert_true(m.too_big);
	message_add(&m, content, 5);
	assert_int_equal(m.size, 16);
	assert_null(m.memory.data);
	assert_int_equal(message_finish(&m), -1);
	assert_int_equal(message_read(&m, 0, &octet, 1), -1);
	message_close(&m);
}

/* The file a message waits in has no name from its birth on. */
static void
the_file_has_no_name(void **state)
{
	char folder[] = "/tmp/unit_message.XXXXXX";
	struct message m;

	(void)state;
	assert_non_null(mkdtemp(folder));
	message_open(&m, folder, LIMIT);
	message_add(&m, content, LIMIT);
	assert_int_equal(m.fault, 0);
	assert_int_not_equal(m.fd, -1);
	/* It works only on an empty folder. */
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(message_finish(&m), 0);
	assert_reads_back(&m, LIMIT);
	message_close(&m);
}

static void
a_missing_folder_matters_only_above_256_kib(void **state)
{
	struct message m;

	(void)state;
	message_open(&m, "/nonexistent", LIMIT);
	message_add(&m, content, MESSAGE_MEMORY);
	assert_int_equal(m.fault, 0);
	message_add(&m, content, 1);
	assert_int_equal(m.fault, ENOENT);
	message_add(&m, content, 1);
	assert_int_equal(m.size, MESSAGE_MEMORY + 2);
	assert_int_equal(message_finish(&m), -1);
	message_close(&m);
	assert_int_equal(message_try_spool("/nonexistent"), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(message_try_spool("/tmp"), 0);
}

static void
a_full_spool_is_a_fault(void **state)
{
	struct rlimit saved, tiny;
	struct message m;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &saved), 0);
	tiny = saved;
	tiny.rlim_cur = MESSAGE_MEMORY;
	(void)signal(SIGXFSZ, SIG_IGN);
	message_open(&m, "/tmp", LIMIT);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
	message_add(&m, content, MESSAGE_MEMORY);
	message_add(&m, content, 1000);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &saved), 0);
	assert_int_equal(m.fault, EFBIG);
	assert_false(m.too_big);
	assert_int_equal(m.fd, -1);
	assert_int_equal(message_finish(&m), -1);
	message_close(&m);
}

static void
sha256_of(const char *text, size_t len, char hex[DIGEST_SHA256_HEX])
{
	struct digest *digest;

	digest = digest_open("SHA256");
	assert_non_null(digest);
	digest_add(digest, text, len);
	digest_hex(digest, hex);
}

/* want: what the hash covers of the content. */
static void
content_is_hashed_without_a_leading_received(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "one line", "Received: x\r\nA: b\r\n", "A: b\r\n" },
		{ "folded", "Received: x\r\n\ty\r\n z\r\nA: b\r\n",
		    "A: b\r\n" },
		{ "a folded line of blanks", "Received: x\r\n \r\nA: b\r\n",
		    "A: b\r\n" },
		{ "any case", "rECEIVED:x\r\nA: b\r\n", "A: b\r\n" },
		{ "only the first", "Received: x\r\nReceived: y\r\n",
		    "Received: y\r\n" },
		{ "not first", "A: b\r\nReceived: x\r\n",
		    "A: b\r\nReceived: x\r\n" },
		{ "a blank before the colon", "Received : x\r\n",
		    "Received : x\r\n" },
		{ "longer name", "Received-SPF: x\r\n", "Received-SPF: x\r\n" },
		{ "shorter name", "Receive: x\r\n", "Receive: x\r\n" },
		{ "in the body", "\r\nReceived: x\r\n", "\r\nReceived: x\r\n" },
		{ "nothing but it", "Received: x\r\n", "" },
		{ "nothing but it, folded", "Received: x\r\n\ty\r\n", "" },
		{ "an empty line behind", "Received: x\r\n\r\nb\r\n",
		    "\r\nb\r\n" },
		{ "cut in the name", "Recei", "Recei" },
		{ "nothing", "", "" },
	};
	char got[DIGEST_SHA256_HEX], want[DIGEST_SHA256_HEX];
	struct message m;
	size_t at, i, len;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		len = strlen(rows[i].in);
		for (at = 0; at <= len; at++) {
			message_open(&m, "/tmp", LIMIT);
			if (at > 0)
				message_add(&m, rows[i].in, at);
			if (at < len)
				message_add(&m, rows[i].in + at, len - at);
			assert_int_equal(message_finish(&m), 0);
			assert_int_equal(message_content_hex(&m, got), 0);
			sha256_of(rows[i].want, strlen(rows[i].want), want);
			unit_text(rows[i].name, got, want);
			sha256_of(rows[i].in, len, want);
			unit_text(rows[i].name, m.sha256_hex, want);
			message_close(&m);
		}
	}
}

/* The field is read in pieces: none of its lengths may end it early. */
static void
a_long_received_is_left_out_whole(void **state)
{
	static const char begin[] = "Received: x", end[] = "A: b\r\n";
	char got[DIGEST_SHA256_HEX], want[DIGEST_SHA256_HEX];
	struct message m;
	size_t len;

	(void)state;
	sha256_of(end, strlen(end), want);
	for (len = 900; len < 2200; len++) {
		BUF(text, 4096);

		buf_adds(&text, begin);
		while (text.len < len)
			buf_addf(&text, "\r\n %0*zu",
			    (int)(len - text.len > 70 ? 70 : 1), text.len);
		buf_addf(&text, "\r\n%s", end);
		message_open(&m, "/tmp", LIMIT);
		message_add(&m, text.data, text.len);
		assert_int_equal(message_finish(&m), 0);
		assert_int_equal(message_content_hex(&m, got), 0);
		unit_text("content", got, want);
		message_close(&m);
	}
}

/* What waits in the file is hashed from there. */
static void
content_of_any_size_is_hashed(void **state)
{
	static const char received[] = "Received: x\r\n\ty\r\nA: b\r\n";
	static const struct {
		const char *name;
		size_t len;
		int file;
	} rows[] = {
		{ "in memory", 1000, 0 },
		{ "in a file", MESSAGE_MEMORY + 4097, 1 },
	};
	char got[DIGEST_SHA256_HEX], want[DIGEST_SHA256_HEX];
	struct message m;
	struct digest *digest;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		message_open(&m, "/tmp", LIMIT);
		message_add(&m, received, strlen(received));
		message_add(&m, content, rows[i].len);
		assert_int_equal(message_finish(&m), 0);
		unit_number(rows[i].name, m.fd != -1, rows[i].file);
		digest = digest_open("SHA256");
		digest_add(digest, "A: b\r\n", 6);
		digest_add(digest, content, rows[i].len);
		digest_hex(digest, want);
		assert_int_equal(message_content_hex(&m, got), 0);
		unit_text(rows[i].name, got, want);
		message_close(&m);
		message_open(&m, "/tmp", LIMIT);
		message_add(&m, content, rows[i].len);
		assert_int_equal(message_finish(&m), 0);
		assert_int_equal(message_content_hex(&m, got), 0);
		unit_text(rows[i].name, got, m.sha256_hex);
		message_close(&m);
	}
}

/* A hash of what could be read of it would be one of something else. */
static void
content_that_cannot_be_read_has_no_hash(void **state)
{
	char hex[DIGEST_SHA256_HEX];
	struct message m;
	int fd;

	(void)state;
	message_open(&m, "/tmp", LIMIT);
	message_add(&m, content, MESSAGE_MEMORY + 1);
	assert_int_equal(message_finish(&m), 0);
	fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_int_not_equal(fd, -1);
	assert_int_equal(dup2(fd, m.fd), m.fd);
	assert_int_equal(close(fd), 0);
	errno = 0;
	assert_int_equal(message_content_hex(&m, hex), -1);
	assert_int_equal(errno, EBADF);
	message_close(&m);
}

static void
the_first_message_id_of_the_header_counts(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "plain", "Message-ID: <1@x>\r\n\r\n", "<1@x>" },
		{ "no body", "Message-ID: <1@x>", "<1@x>" },
		{ "any case", "A: b\r\nMESSAGE-id:<1@x>\r\n\r\n", "<1@x>" },
		{ "blanks and folding",
		    "Message-ID: \r\n\t < 1 @\r\n x > \r\nA: b\r\n\r\n",
		    "<1@x>" },
		{ "two", "Message-ID: <1@x>\r\nMessage-ID: <2@x>\r\n\r\n",
		    "<1@x>" },
		{ "no brackets", "Message-ID: one\r\n\r\n", "one" },
		{ "empty", "Message-ID: \r\nMessage-ID: <2@x>\r\n\r\n", "" },
		{ "none", "A: b\r\n\r\n", "" },
		{ "nothing", "", "" },
		{ "only a part", "Message-ID", "" },
		{ "another field", "X-Message-ID: <1@x>\r\n\r\n", "" },
		{ "in a value", "A: b\r\n Message-ID: <1@x>\r\n\r\n", "" },
		{ "in the body", "A: b\r\n\r\nMessage-ID: <1@x>\r\n", "" },
		{ "no header", "\r\nMessage-ID: <1@x>\r\n", "" },
	};
	struct message m;
	BUF(id, 20);
	size_t i, large;

	(void)state;
	for (i = 0; i < 2 * COUNT(rows); i++) {
		large = i / COUNT(rows);
		message_open(&m, "/tmp", LIMIT);
		message_add(&m, rows[i % COUNT(rows)].in,
		    strlen(rows[i % COUNT(rows)].in));
		if (large == 1 && strstr(rows[i % COUNT(rows)].in, "\r\n\r"))
			message_add(&m, content, MESSAGE_MEMORY + 1);
		assert_int_equal(message_finish(&m), 0);
		buf_reset(&id);
		message_id(&m, &id);
		unit_text(rows[i % COUNT(rows)].name, buf_text(&id),
		    rows[i % COUNT(rows)].want);
		assert_int_equal(id.error, 0);
		message_close(&m);
	}
}

static void
a_message_id_is_left_out_where_it_does_not_fit(void **state)
{
	struct message m;
	BUF(id, 20);
	int fd;

	(void)state;
	message_open(&m, "/tmp", LIMIT);
	message_add(&m, "Message-ID: <0123456789012345678901234567890>\r\n",
	    47);
	assert_int_equal(message_finish(&m), 0);
	message_id(&m, &id);
	unit_text("too long", buf_text(&id), "");
	assert_int_equal(id.error, 0);
	message_close(&m);
	/* A file that cannot be read is a fault and no missing field. */
	message_open(&m, "/tmp", LIMIT);
	message_add(&m, content, MESSAGE_MEMORY + 1);
	assert_int_equal(message_finish(&m), 0);
	fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_int_equal(dup2(fd, m.fd), m.fd);
	assert_int_equal(close(fd), 0);
	message_id(&m, &id);
	assert_int_equal(id.error, EBADF);
	message_close(&m);
}

/*
 * Known values of RFC 4231, test cases 2 and 6; SHA-1's of RFC 2202, and for
 * the long key Python's.
 */
static void
signatures_are_the_known_ones(void **state)
{
	static const struct {
		const char *name, *want, *long_key;
	} rows[] = {
		{ "sha1", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
		    "90d0dace1c1bdc957339307803160335bde6df2b" },
		{ "sha256",
		    "5bdcc146bf60754e6a042426089575c7"
		    "5a003f089d2739839dec58b964ec3843",
		    "60e431591ee0b67f0d8a26aacbf5b77f"
		    "8e0bc6213728c5140546040f0ee37f54" },
		{ "sha512",
		    "164b7a7bfcf819e2e395fbe73b56e0a3"
		    "87bd64222e831fd610270cd7ea250554"
		    "9758bf75c05a994a6d034f65f8f0e6fd"
		    "caeab1a34d4a6b4b636e070a38bce737",
		    "80b24263c7c1a3ebb71493c1dd7be8b4"
		    "9b46d1f41b4aeec1121b013783f8f352"
		    "6b56d037e05f2598bd0fd2215d6a1e52"
		    "95e64f73f63f0aec8b915a985d786598" },
	};
	char key[132] = "";
	BUF(text, 100);
	BUF(other, 100);
	size_t i;

	(void)state;
	memset(key, 0xaa, sizeof(key) - 1);
	buf_adds(&text, "what do ya want for nothing?");
	buf_adds(&other,
	    "Test Using Larger Than Block-Size Key - Hash Key First");
	for (i = 0; i < COUNT(rows); i++) {
		BUF(hex, 200);

		digest_hmac(rows[i].name, "Jefe", &text, &hex);
		unit_text(rows[i].name, buf_text(&hex), rows[i].want);
		buf_reset(&hex);
		digest_hmac(rows[i].name, key, &other, &hex);
		unit_text(rows[i].name, buf_text(&hex), rows[i].long_key);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digests_are_the_known_ones),
		cmocka_unit_test(above_256_kib_a_file_takes_over),
		cmocka_unit_test(above_the_limit_it_counts_and_keeps_nothing),
		cmocka_unit_test(the_file_has_no_name),
		cmocka_unit_test(a_missing_folder_matters_only_above_256_kib),
		cmocka_unit_test(a_full_spool_is_a_fault),
		cmocka_unit_test(content_is_hashed_without_a_leading_received),
		cmocka_unit_test(a_long_received_is_left_out_whole),
		cmocka_unit_test(content_of_any_size_is_hashed),
		cmocka_unit_test(content_that_cannot_be_read_has_no_hash),
		cmocka_unit_test(the_first_message_id_of_the_header_counts),
		cmocka_unit_test(
		    a_message_id_is_left_out_where_it_does_not_fit),
		cmocka_unit_test(signatures_are_the_known_ones),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
