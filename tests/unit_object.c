/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The object: its name, its metadata within Swift's limits, and what its
 * fingerprint begins with.
 */
#include <regex.h>
#include <stdlib.h>

#include "unit.h"

#include "object.h"
#include "smtp.h"

#include "banned.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

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
	return smtp_reply(REPLY_RCPT_OK);
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
	struct buf one, two;
	regex_t pattern;

	(void)state;
	buf_init(&one, OBJECT_NAME_MAX);
	buf_init(&two, OBJECT_NAME_MAX);
	assert_int_equal(object_name(&one, &when, 241), 0);
	assert_int_equal(object_name(&two, &when, 241), 0);
	assert_int_equal(regcomp(&pattern,
			     "^1567067375\\.M633717P[0-9]+R[0-9a-f]{16}\\."
			     "[A-Za-z0-9._\\\\-]+,S=241$",
			     REG_EXTENDED | REG_NOSUB),
	    0);
	assert_int_equal(regexec(&pattern, one.data, 0, NULL, 0), 0);
	assert_int_equal(regexec(&pattern, two.data, 0, NULL, 0), 0);
	assert_string_not_equal(one.data, two.data);
	regfree(&pattern);
	buf_free(&one);
	buf_free(&two);
}

/* A reader sorts by name, so the microseconds have six digits. */
static void
microseconds_have_six_digits(void **state)
{
	static const struct timespec when = { 5, 7000 };
	struct buf name;

	(void)state;
	buf_init(&name, OBJECT_NAME_MAX);
	assert_int_equal(object_name(&name, &when, 0), 0);
	assert_memory_equal(name.data, "5.M000007P", 10);
	assert_string_equal(name.data + name.len - 4, ",S=0");
	buf_free(&name);
}

static void
metadata_says_the_envelope_in_order(void **state)
{
	static const size_t recipients[] = { 0, 2 };
	static const char want[] =
	    "X-Object-Meta-Envelope-Count: 2\n"
	    "X-Object-Meta-Sha256: " HEX "\n"
	    "X-Object-Meta-Fingerprint: " HEX "\n"
	    "X-Object-Meta-Envelope-From: s,100%25@x\n"
	    "X-Object-Meta-Envelope-To: \"a%2Cb%20c\"@x,%C3%BC@x\n"
	    "X-Object-Meta-Client-Addr: 2001:db8::1\n"
	    "X-Object-Meta-Client-Name: client.example\n"
	    "X-Object-Meta-Client-Helo: a%20b\n"
	    "X-Object-Meta-Queue-Id: 4ZQ\n";
	struct object_envelope envelope;
	struct smtp s;
	struct buf lines;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	buf_init(&lines, 10000);
	command(&s, "EHLO c");
	command(&s, "XFORWARD NAME=client.example ADDR=IPv6:2001:db8::1");
	command(&s, "XFORWARD HELO=a+20b IDENT=4ZQ");
	command(&s, "MAIL FROM:<\"s,100%\"@x> SMTPUTF8");
	buf_reset(&s.transaction.reverse_path);
	(void)buf_add_text(&s.transaction.reverse_path, "s,100%@x");
	command(&s, "RCPT TO:<\"a,b c\"@x>");
	command(&s, "RCPT TO:<another.account@x>");
	command(&s, "RCPT TO:<\xc3\xbc@x>");
	envelope = (struct object_envelope){ &s.transaction, recipients, 2 };
	assert_int_equal(object_metadata(&lines, &envelope, HEX, HEX), 0);
	unit_text("metadata", buf_text(&lines), want);
	buf_free(&lines);
	smtp_free(&s);
}

static void
what_is_not_known_is_left_out(void **state)
{
	static const size_t recipients[] = { 0 };
	struct object_envelope envelope;
	struct smtp s;
	struct buf lines;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	buf_init(&lines, 10000);
	command(&s, "EHLO c");
	command(&s, "MAIL FROM:<>");
	command(&s, "RCPT TO:<a@x>");
	envelope = (struct object_envelope){ &s.transaction, recipients, 1 };
	assert_int_equal(object_metadata(&lines, &envelope, HEX, HEX), 0);
	unit_text("metadata", buf_text(&lines),
	    "X-Object-Meta-Envelope-Count: 1\n"
	    "X-Object-Meta-Sha256: " HEX "\n"
	    "X-Object-Meta-Fingerprint: " HEX "\n"
	    "X-Object-Meta-Envelope-From: \n"
	    "X-Object-Meta-Envelope-To: a@x\n");
	buf_free(&lines);
	smtp_free(&s);
}

/* Checks each value against 256 octets, names and values against 4096. */
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
	assert_true(sum <= 4096);
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
		{ "more than fit", 300, 250, 14, true },
	};
	struct object_envelope envelope;
	struct smtp s;
	struct buf lines, line;
	size_t i, recipients[300];
	int k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		smtp_init(&s, &smtp_config, true, settle, NULL);
		buf_init(&lines, 20000);
		command(&s, "EHLO c");
		command(&s, "MAIL FROM:<>");
		for (k = 0; k < rows[i].count; k++) {
			buf_init(&line, 1000);
			(void)buf_addf(&line, "RCPT TO:<%0*d@x>",
			    rows[i].len - 2, k);
			command(&s, buf_text(&line));
			buf_free(&line);
			recipients[k] = (size_t)k;
		}
		envelope = (struct object_envelope){ &s.transaction, recipients,
			(size_t)rows[i].count };
		assert_int_equal(object_metadata(&lines, &envelope, HEX, HEX),
		    0);
		unit_number(rows[i].name,
		    (long long)assert_in_limits(buf_text(&lines)),
		    (long long)rows[i].want);
		unit_number(rows[i].name,
		    strstr(buf_text(&lines),
			"X-Object-Meta-Envelope-Truncated: yes\n") != NULL,
		    rows[i].truncated);
		buf_free(&lines);
		smtp_free(&s);
	}
}

static void
fingerprints_begin_with_the_sorted_envelope(void **state)
{
	static const size_t all[] = { 0, 1, 2, 3 }, one[] = { 2 };
	struct object_envelope envelope;
	struct smtp s;
	struct buf head;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	buf_init(&head, 1000);
	command(&s, "EHLO c");
	command(&s, "MAIL FROM:<Sender@X>");
	command(&s, "RCPT TO:<b@x>");
	command(&s, "RCPT TO:<C@x>");
	command(&s, "RCPT TO:<A@X>");
	command(&s, "RCPT TO:<a@x.y>");
	envelope = (struct object_envelope){ &s.transaction, all, 4 };
	assert_int_equal(object_fingerprint_head(&head, &envelope), 0);
	unit_text("all", buf_text(&head), "Sender@X\na@x\na@x.y\nb@x\nc@x\n\n");
	buf_reset(&head);
	envelope = (struct object_envelope){ &s.transaction, one, 1 };
	assert_int_equal(object_fingerprint_head(&head, &envelope), 0);
	unit_text("one", buf_text(&head), "Sender@X\na@x\n\n");
	buf_free(&head);
	smtp_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_those_of_a_maildir),
		cmocka_unit_test(microseconds_have_six_digits),
		cmocka_unit_test(metadata_says_the_envelope_in_order),
		cmocka_unit_test(what_is_not_known_is_left_out),
		cmocka_unit_test(metadata_stays_in_swifts_limits),
		cmocka_unit_test(fingerprints_begin_with_the_sorted_envelope),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
