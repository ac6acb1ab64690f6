/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The object: its name, its metadata within Swift's limits, its fingerprint.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <regex.h>
#include <stdlib.h>

#include "unit.h"

#include "object.h"
#include "smtp.h"

#include "banned.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct buf no_facts[FACTS];
static char hostname[] = "h";
static const struct smtp_config smtp_config = {
	.hostname = hostname,
	.message_size_limit = 1000,
	.recipient_limit = 1000,
};

static const struct reply *
settle(void *context, struct recipient *recipient)
{
	(void)context;
	recipient->account = 0;
	return &reply_rcpt_ok;
}

static void
command(struct smtp *s, const char *line)
{
	unit_number(line, smtp_command(s, line, strlen(line))->code, 250);
}

static void
names_are_those_of_a_maildir(void **state)
{
	static const struct timespec when = { 1567067375, 633717999 };
	BUF(name, OBJECT_NAME_MAX);
	regex_t pattern;

	(void)state;
	object_name(&name, &when, 241);
	assert_int_equal(name.error, 0);
	assert_int_equal(regcomp(&pattern,
			     "^1567067375\\.M633717P[0-9]+R[0-9a-f]{16}\\."
			     "[A-Za-z0-9._\\\\-]+,S=241$",
			     REG_EXTENDED | REG_NOSUB),
	    0);
	assert_int_equal(regexec(&pattern, name.data, 0, NULL, 0), 0);
	regfree(&pattern);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(buf_text(a), buf_text(b));
}

/* Also when all else is the same: process, time, size. */
static void
each_call_makes_another_name(void **state)
{
	static const struct timespec when = { 1567067375, 633717999 };
	struct buf names[100];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(names); i++) {
		names[i] = (struct buf){ .max = OBJECT_NAME_MAX };
		object_name(&names[i], &when, 241);
		assert_int_equal(names[i].error, 0);
	}
	qsort(names, COUNT(names), sizeof(names[0]), compare_names);
	for (i = 1; i < COUNT(names); i++)
		assert_string_not_equal(names[i - 1].data, names[i].data);
	for (i = 0; i < COUNT(names); i++)
		buf_free(&names[i]);
}

/* A reader sorts by name, so the microseconds have six digits. */
static void
microseconds_have_six_digits(void **state)
{
	static const struct timespec when = { 5, 7000 };
	BUF(name, OBJECT_NAME_MAX);

	(void)state;
	object_name(&name, &when, 0);
	assert_int_equal(name.error, 0);
	assert_memory_equal(name.data, "5.M000007P", 10);
	assert_string_equal(name.data + name.len - 4, ",S=0");
}

/* The envelope of a transaction's recipients, by their numbers. */
static void
choose(struct envelope *e, const struct smtp *s, const size_t *numbers,
    size_t n)
{
	size_t i;

	e->transaction = &s->transaction;
	e->recipients = calloc(n, sizeof(*e->recipients));
	assert_non_null(e->recipients);
	for (i = 0; i < n; i++)
		e->recipients[i] = s->transaction.recipients[numbers[i]];
	e->n = n;
}

static void
metadata_says_the_envelope_in_order(void **state)
{
	static const size_t recipients[] = { 0, 2 };
	static const char want[] =
	    "X-Object-Meta-Envelope-Count: 2\n"
	    "X-Object-Meta-Sha256: " HEX "\n"
	    "X-Object-Meta-Fingerprint: " HEX "\n"
	    "X-Object-Meta-Envelope-From: \"s,100%25\"@x\n"
	    "X-Object-Meta-Envelope-To: \"a%2Cb%20c\"@x,%C3%BC@x\n"
	    "X-Object-Meta-Client-Addr: 2001:db8::1\n"
	    "X-Object-Meta-Client-Name: client.example\n"
	    "X-Object-Meta-Client-Helo: a%20b\n"
	    "X-Object-Meta-Queue-Id: 4ZQ\n";
	BUF(lines, 10000);
	struct envelope envelope;
	struct smtp s;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c");
	command(&s, "XFORWARD NAME=client.example ADDR=IPv6:2001:db8::1");
	command(&s, "XFORWARD HELO=a+20b IDENT=4ZQ");
	command(&s, "MAIL FROM:<\"s,100%\"@x> SMTPUTF8");
	command(&s, "RCPT TO:<\"a,b c\"@x>");
	command(&s, "RCPT TO:<another.account@x>");
	command(&s, "RCPT TO:<\xc3\xbc@x>");
	choose(&envelope, &s, recipients, 2);
	object_metadata(&lines, &envelope, HEX, HEX, no_facts);
	assert_int_equal(lines.error, 0);
	unit_text("metadata", buf_text(&lines), want);
	free(envelope.recipients);
	smtp_free(&s);
}

/* In the order of their importance, behind the sender. */
static void
facts_stand_between_sender_and_recipients(void **state)
{
	static const size_t recipients[] = { 0 };
	static const char want[] = "X-Object-Meta-Envelope-From: s@x\n"
				   "X-Object-Meta-Message-Id: <a%20%25b@x>\n"
				   "X-Object-Meta-Verdict: add-header\n"
				   "X-Object-Meta-Verdict-Score: 4.20/15.00\n"
				   "X-Object-Meta-Verdict-Spf: pass\n"
				   "X-Object-Meta-Verdict-Dkim: fail\n"
				   "X-Object-Meta-Verdict-Dmarc: none\n"
				   "X-Object-Meta-Verdict-Arc: temperror\n"
				   "X-Object-Meta-Verdict-Virus: W%C3%BCrm\n"
				   "X-Object-Meta-Envelope-To: a@x\n";
	static const struct {
		const char *text;
		size_t len;
	} texts[FACTS] = { { "<a %b@x>", 8 }, { "add-header", 10 },
		{ "4.20/15.00", 10 }, { "pass", 4 }, { "fail", 4 },
		{ "none", 4 }, { "temperror", 9 }, { "W\xc3\xbcrm", 5 } };
	struct buf facts[FACTS] = { 0 };
	struct envelope envelope;
	BUF(lines, 10000);
	struct smtp s;
	size_t i;

	(void)state;
	for (i = 0; i < FACTS; i++) {
		facts[i].max = FACT_MAX;
		buf_add(&facts[i], texts[i].text, texts[i].len);
	}
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c");
	command(&s, "MAIL FROM:<s@x>");
	command(&s, "RCPT TO:<a@x>");
	choose(&envelope, &s, recipients, 1);
	object_metadata(&lines, &envelope, HEX, HEX, facts);
	assert_int_equal(lines.error, 0);
	assert_non_null(strstr(lines.data, want));
	/* One that does not fit is left out, one without memory is a fault. */
	while (facts[FACT_MESSAGE_ID].len <= OBJECT_VALUE_MAX)
		buf_addc(&facts[FACT_MESSAGE_ID], 'x');
	buf_reset(&lines);
	object_metadata(&lines, &envelope, HEX, HEX, facts);
	assert_int_equal(lines.error, 0);
	assert_null(strstr(lines.data, "Message-Id"));
	assert_non_null(strstr(lines.data, "Verdict"));
	facts[FACT_SPF].error = ENOMEM;
	buf_reset(&lines);
	object_metadata(&lines, &envelope, HEX, HEX, facts);
	assert_int_equal(lines.error, ENOMEM);
	for (i = 0; i < FACTS; i++)
		buf_free(&facts[i]);
	free(envelope.recipients);
	smtp_free(&s);
}

static void
what_is_not_known_is_left_out(void **state)
{
	static const size_t recipients[] = { 0 };
	BUF(lines, 10000);
	struct envelope envelope;
	struct smtp s;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c");
	command(&s, "MAIL FROM:<>");
	command(&s, "RCPT TO:<a@x>");
	choose(&envelope, &s, recipients, 1);
	object_metadata(&lines, &envelope, HEX, HEX, no_facts);
	assert_int_equal(lines.error, 0);
	unit_text("metadata", buf_text(&lines),
	    "X-Object-Meta-Envelope-Count: 1\n"
	    "X-Object-Meta-Sha256: " HEX "\n"
	    "X-Object-Meta-Fingerprint: " HEX "\n"
	    "X-Object-Meta-Envelope-From: \n"
	    "X-Object-Meta-Envelope-To: a@x\n");
	free(envelope.recipients);
	smtp_free(&s);
}

/*
 * Checks each value against 256 octets, names and values against the 4096 of
 * which 256 are left to readers.
 */
static size_t
assert_in_limits(const char *lines)
{
	const char *value;
	size_t len, sum, to;

	sum = to = 0;
	for (; *lines != '\0'; lines += len + 1) {
		len = strcspn(lines, "\n");
		assert_memory_equal(lines, "X-Object-Meta-", 14);
		value = strstr(lines, ": ") + 2;
		assert_true(len - (size_t)(value - lines) <= 256);
		sum += len - 14 - 2;
		if (strncmp(lines + 14, "Envelope-To", 11) == 0) {
			to++;
			assert_int_not_equal(lines[len - 1], ',');
			assert_int_not_equal(*value, ',');
		}
	}
	assert_true(sum <= 4096 - 256);
	return to;
}

static void
metadata_stays_in_swifts_limits(void **state)
{
	static const struct {
		const char *name;
		int count, len; /* of the recipients, and of each */
		size_t want;    /* Envelope-To headers */
		bool truncated;
	} rows[] = {
		{ "one", 1, 20, 1, false },
		{ "a value's worth", 2, 126, 1, false },
		{ "one octet more", 2, 128, 2, false },
		{ "at 256", 1, 256, 1, false },
		{ "above 256", 1, 257, 0, true },
		{ "as many as fit", 13, 250, 13, false },
		{ "more than fit", 300, 250, 13, true },
		{ "more than fit of short ones", 300, 40, 14, true },
	};
	size_t i, numbers[300];
	struct envelope envelope;
	struct smtp s;
	int k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(lines, 20000);

		smtp_init(&s, &smtp_config, true, settle, NULL);
		command(&s, "EHLO c");
		command(&s, "MAIL FROM:<>");
		for (k = 0; k < rows[i].count; k++) {
			BUF(line, 1000);

			buf_addf(&line, "RCPT TO:<%0*d@x>", rows[i].len - 2, k);
			command(&s, buf_text(&line));
			numbers[k] = (size_t)k;
		}
		choose(&envelope, &s, numbers, (size_t)rows[i].count);
		object_metadata(&lines, &envelope, HEX, HEX, no_facts);
		assert_int_equal(lines.error, 0);
		unit_number(rows[i].name,
		    (long long)assert_in_limits(buf_text(&lines)),
		    (long long)rows[i].want);
		unit_number(rows[i].name,
		    strstr(buf_text(&lines),
			"X-Object-Meta-Envelope-Truncated: yes\n") != NULL,
		    rows[i].truncated);
		free(envelope.recipients);
		smtp_free(&s);
	}
}

/* The sender, put together again: "" where a number is missing. */
static void
join_sender(const char *lines, struct buf *sender)
{
	const char *value;
	char name[64];
	unsigned int number;

	value = strstr(lines, "-Meta-Envelope-From: ");
	for (number = 2; value != NULL; number++) {
		value = strstr(value, ": ") + 2;
		buf_add(sender, value, strcspn(value, "\n"));
		(void)snprintf(name, sizeof(name),
		    "-Meta-Envelope-From-%u: ", number);
		value = strstr(lines, name);
	}
}

static void
a_long_sender_is_continued(void **state)
{
	static const struct {
		const char *name, *letter, *encoded;
		int count;
		size_t pieces; /* of 256 octets, or 255 where "%" is code */
	} rows[] = {
		{ "one value", "s", "s", 254, 1 },
		{ "one octet more", "s", "s", 255, 2 },
		{ "29 Thai letters", "\xe0\xb8\x81", "%E0%B8%81", 29, 2 },
		{ "percent signs", "%", "%25", 86, 2 },
		{ "the longest", "\xe0\xb8\x81", "%E0%B8%81", 340, 13 },
	};
	static const size_t numbers[] = { 0 };
	struct envelope envelope;
	struct smtp s;
	const char *p;
	size_t i, pieces;
	int k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(lines, 20000);
		BUF(line, 2000);
		BUF(got, 5000);
		BUF(want, 5000);

		buf_adds(&line, "MAIL FROM:<");
		for (k = 0; k < rows[i].count; k++) {
			buf_adds(&line, rows[i].letter);
			buf_adds(&want, rows[i].encoded);
		}
		buf_adds(&line, "@x> SMTPUTF8");
		buf_adds(&want, "@x");
		smtp_init(&s, &smtp_config, true, settle, NULL);
		command(&s, "EHLO c");
		command(&s, buf_text(&line));
		command(&s, "RCPT TO:<a@x>");
		choose(&envelope, &s, numbers, 1);
		object_metadata(&lines, &envelope, HEX, HEX, no_facts);
		assert_int_equal(lines.error, 0);
		unit_number(rows[i].name,
		    (long long)assert_in_limits(buf_text(&lines)), 1);
		join_sender(buf_text(&lines), &got);
		unit_text(rows[i].name, buf_text(&got), buf_text(&want));
		for (pieces = 0, p = buf_text(&lines);
		     (p = strstr(p, "-Envelope-From")) != NULL; p++)
			pieces++;
		unit_number(rows[i].name, (long long)pieces,
		    (long long)rows[i].pieces);
		assert_null(strstr(buf_text(&lines), "Truncated"));
		free(envelope.recipients);
		smtp_free(&s);
	}
}

/* SHA-256 of text, by libcrypto and none of our own code. */
static void
sha256_of(const char *text, char hex[DIGEST_SHA256_HEX])
{
	unsigned char octets[EVP_MAX_MD_SIZE];
	unsigned int i, len;

	assert_int_equal(EVP_Digest(text, strlen(text), octets, &len,
			     EVP_sha256(), NULL),
	    1);
	for (i = 0; i < len; i++)
		(void)snprintf(hex + (size_t)2 * i, 3, "%02x", octets[i]);
}

/* The contract's words: sender, recipients in lower case and sorted, hash. */
static void
fingerprints_are_those_of_the_manual(void **state)
{
	static const struct {
		const char *name;
		size_t numbers[4], n;
		const char *want; /* before the hash of the content */
	} rows[] = {
		{ "all", { 0, 1, 2, 3 }, 4,
		    "Sender@X\na@x\na@x.y\nb@x\nc@x\n\n" },
		{ "in another order", { 3, 1, 0, 2 }, 4,
		    "Sender@X\na@x\na@x.y\nb@x\nc@x\n\n" },
		{ "one", { 2 }, 1, "Sender@X\na@x\n\n" },
	};
	char content[DIGEST_SHA256_HEX], got[DIGEST_SHA256_HEX],
	    want[DIGEST_SHA256_HEX];
	struct envelope envelope;
	struct smtp s;
	size_t i;

	(void)state;
	sha256_of("A: b\r\n", content);
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c");
	command(&s, "MAIL FROM:<Sender@X>");
	command(&s, "RCPT TO:<b@x>");
	command(&s, "RCPT TO:<C@x>");
	command(&s, "RCPT TO:<A@X>");
	command(&s, "RCPT TO:<a@x.y>");
	for (i = 0; i < COUNT(rows); i++) {
		BUF(text, 1000);

		choose(&envelope, &s, rows[i].numbers, rows[i].n);
		assert_int_equal(object_fingerprint(&envelope, content, got),
		    0);
		buf_addf(&text, "%s%s", rows[i].want, content);
		sha256_of(buf_text(&text), want);
		unit_text(rows[i].name, got, want);
		/* Those in the envelope keep their order. */
		assert_ptr_equal(envelope.recipients[0],
		    s.transaction.recipients[rows[i].numbers[0]]);
		free(envelope.recipients);
	}
	smtp_free(&s);
}

/*
 * A value that never changes, or what was delivered before an upgrade is no
 * longer known again.  By Python's hashlib:
 * content = sha256(b"A: b\r\n").hexdigest()
 * sha256(b"Sender@X\na@x\nb@x\n\n" + content.encode()).hexdigest()
 */
static void
a_fingerprint_is_the_same_for_ever(void **state)
{
	static const size_t numbers[] = { 0, 1 };
	char content[DIGEST_SHA256_HEX], got[DIGEST_SHA256_HEX];
	struct envelope envelope;
	struct smtp s;

	(void)state;
	sha256_of("A: b\r\n", content);
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c");
	command(&s, "MAIL FROM:<Sender@X>");
	command(&s, "RCPT TO:<B@x>");
	command(&s, "RCPT TO:<a@X>");
	choose(&envelope, &s, numbers, 2);
	assert_int_equal(object_fingerprint(&envelope, content, got), 0);
	assert_string_equal(got, "505de6196b09715775f59c5fd9d961b2"
				 "8a2b2f297229104653f0096f5f970cae");
	free(envelope.recipients);
	smtp_free(&s);
}

/* The longest paths that SMTP takes, and the null one. */
static void
fingerprints_cover_paths_of_any_length(void **state)
{
	char content[DIGEST_SHA256_HEX], got[DIGEST_SHA256_HEX],
	    want[DIGEST_SHA256_HEX];
	static const size_t numbers[] = { 0 };
	BUF(text, 10000);
	BUF(line, SMTP_LINE_MAX);
	struct envelope envelope;
	struct smtp s;

	(void)state;
	sha256_of("", content);
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c");
	command(&s, "MAIL FROM:<>");
	buf_addf(&line, "RCPT TO:<%0*d@x>", SMTP_LINE_MAX - 12, 0);
	assert_int_equal(line.error, 0);
	assert_int_equal(line.len, SMTP_LINE_MAX);
	command(&s, buf_text(&line));
	choose(&envelope, &s, numbers, 1);
	assert_int_equal(object_fingerprint(&envelope, content, got), 0);
	buf_addf(&text, "\n%s\n\n%s", s.transaction.recipients[0]->path,
	    content);
	sha256_of(buf_text(&text), want);
	assert_string_equal(got, want);
	free(envelope.recipients);
	smtp_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_those_of_a_maildir),
		cmocka_unit_test(each_call_makes_another_name),
		cmocka_unit_test(microseconds_have_six_digits),
		cmocka_unit_test(metadata_says_the_envelope_in_order),
		cmocka_unit_test(facts_stand_between_sender_and_recipients),
		cmocka_unit_test(what_is_not_known_is_left_out),
		cmocka_unit_test(metadata_stays_in_swifts_limits),
		cmocka_unit_test(a_long_sender_is_continued),
		cmocka_unit_test(fingerprints_are_those_of_the_manual),
		cmocka_unit_test(a_fingerprint_is_the_same_for_ever),
		cmocka_unit_test(fingerprints_cover_paths_of_any_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
