/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Each allocation fails once: what comes of it is the whole or a fault, and
 * never a part of the whole.  And what held a secret is wiped before it is
 * freed.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#include "failing.h"

#include "clock.h"
#include "config.h"
#include "message.h"
#include "object.h"
#include "smtp.h"
#include "swift.h"

#include "banned.h"

#define SECRET "swordfish"

void __real_free(void *memory);
void __wrap_free(void *memory);

static unsigned int leaks; /* secrets that were freed as they are */

void
__wrap_free(void *memory)
{
	if (memory != NULL && memmem(memory, malloc_usable_size(memory), SECRET,
				  strlen(SECRET)) != NULL)
		leaks++;
	__real_free(memory);
}

static char folder[] = "/tmp/unit_memory.XXXXXX";
static char path[64];

static int
setup(void **state)
{
	static const char text[] =
	    "[SMTP]\nhostname = h\norigin = o\n[DEFAULT]\nauth_version = 1\n"
	    "authurl = http://h/v1\nuser = u\ncontainer = c\n"
	    "[A]\nrecipients = a@b, \"c\"@d, @e\n  *\nkey = " SECRET "\n"
	    "[B]\nrecipients = f@g\nkey_file = secret\nos_options_x = 1\n"
	    "[C]\nrecipients = h@i\nauth_version = tempurl\n"
	    "storage_url = http://h/v1/C\n";
	FILE *file;

	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/secret", folder);
	file = fopen(path, "w");
	if (file == NULL || fputs(SECRET "\n", file) == EOF ||
	    fclose(file) != 0)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/ini", folder);
	file = fopen(path, "w");
	return file == NULL || fputs(text, file) == EOF || fclose(file) != 0
		   ? -1
		   : 0;
}

static int
teardown(void **state)
{
	BUF(secret, 64);

	(void)state;
	buf_addf(&secret, "%s/secret", folder);
	(void)unlink(path);
	(void)unlink(buf_text(&secret));
	return rmdir(folder);
}

/* Loads it; the environment is as strict as the file. */
static int
load(struct config *c, struct buf *faults)
{
	char credentials[] = "SWIFTDROP_C_TEMP_URL_QUERY=" SECRET;
	char metadata[] = "SWIFTDROP_A_METADATA=no";
	char *environment[] = { metadata, credentials, NULL };

	return config_load(c, path, environment, faults);
}

static void
a_configuration_is_read_whole_or_refused(void **state)
{
	struct config c;
	BUF(faults, 4096);
	BUF(want, 16384);
	unsigned int n, refused;

	(void)state;
	assert_int_equal(load(&c, &faults), 0);
	config_print(&c, false, &want);
	buf_adds(&want, buf_text(&c.warnings));
	config_free(&c);
	refused = 0;
	for (n = 1;; n++) {
		BUF(got, 16384);
		int result;

		buf_reset(&faults);
		left = n;
		result = load(&c, &faults);
		if (left != 0)
			break;
		if (result == 0) {
			config_print(&c, false, &got);
			buf_adds(&got, buf_text(&c.warnings));
			unit_text("taken", buf_text(&got), buf_text(&want));
		} else {
			refused++;
			assert_true(faults.len > 0 || faults.error != 0);
		}
		config_free(&c);
	}
	left = 0;
	config_free(&c);
	assert_true(refused > 50);
}

static void
no_secret_is_left_behind(void **state)
{
	BUF(faults, 4096);
	BUF(text, 16384);
	struct config c;

	(void)state;
	leaks = 0;
	assert_int_equal(load(&c, &faults), 0);
	assert_string_equal(c.accounts[0].key, SECRET);
	assert_string_equal(c.accounts[1].key, SECRET);
	assert_string_equal(c.accounts[2].temp_url_query, SECRET);
	config_print(&c, false, &text);
	config_free(&c);
	buf_free(&text);
	assert_int_equal(leaks, 0);
}

static const struct reply *
settle(void *context, struct recipient *recipient)
{
	(void)context;
	recipient->account = 0;
	return &reply_rcpt_ok;
}

/* Says it; false when it was answered 4yz. */
static bool
command(struct smtp *s, const char *line, int want)
{
	int code;

	code = smtp_command(s, line, strlen(line))->code;
	if (code != want && code / 100 != 4)
		fail_msg("%s: got %d, want %d or 4yz", line, code, want);
	return code == want;
}

/* RFC 3463: what may pass is never 5yz, and what is kept is as it was said. */
static void
a_command_is_taken_whole_or_deferred(void **state)
{
	static char hostname[] = "h";
	const struct smtp_config config = { .hostname = hostname,
		.message_size_limit = 1000,
		.recipient_limit = 10 };
	const struct transaction *t;
	unsigned int deferred, n;
	struct smtp s;

	(void)state;
	t = &s.transaction;
	deferred = 0;
	for (n = 1;; n++) {
		smtp_init(&s, &config, true, settle, NULL);
		left = n;
		if (command(&s, "EHLO c", 250) &&
		    command(&s, "XFORWARD NAME=a+20b HELO=c", 250) &&
		    command(&s, "MAIL FROM:<s@x> SIZE=10 BODY=8BITMIME", 250) &&
		    command(&s, "RCPT TO:<\"r r\"@y> NOTIFY=NEVER", 250) &&
		    command(&s, "RCPT TO:<q@z>", 250) &&
		    command(&s, "DATA", 354)) {
			assert_string_equal(t->xforward[XFORWARD_NAME], "a b");
			assert_string_equal(t->reverse_path, "s@x");
			assert_string_equal(t->parameters[PARAMETER_BODY],
			    "8BITMIME");
			assert_int_equal(t->nrecipients, 2);
			assert_string_equal(t->recipients[0]->path,
			    "\"r r\"@y");
			assert_string_equal(
			    buf_text(&t->recipients[0]->address.local), "r r");
			assert_string_equal(
			    buf_text(&t->recipients[0]->address.domain), "y");
		} else {
			deferred++;
		}
		smtp_free(&s);
		if (left != 0)
			break;
	}
	left = 0;
	assert_true(deferred > 20);
}

/* A name that is cut, or an envelope with half an address, would be a lie. */
static void
an_object_is_described_whole_or_not_at_all(void **state)
{
	static const char content[] = "Received: x\r\nMessage-ID: <1@x>\r\n";
	static const struct timespec when = { 1, 2000 };
	static char hostname[] = "h";
	const struct smtp_config config = { .hostname = hostname,
		.message_size_limit = 1000,
		.recipient_limit = 10 };
	char got_hex[DIGEST_SHA256_HEX], hex[DIGEST_SHA256_HEX],
	    want_hex[DIGEST_SHA256_HEX];
	struct message m;
	struct smtp s;
	struct envelope e;
	struct buf facts[FACTS] = { { .max = FACT_MAX } };
	BUF(want, 8192);
	unsigned int n;
	size_t len;

	(void)state;
	smtp_init(&s, &config, true, settle, NULL);
	assert_true(command(&s, "EHLO c", 250));
	assert_true(command(&s, "XFORWARD NAME=n ADDR=192.0.2.1 HELO=x", 250));
	assert_true(command(&s, "MAIL FROM:<sender@example.org>", 250));
	assert_true(command(&s, "RCPT TO:<\"r r\"@example.net>", 250));
	assert_true(command(&s, "RCPT TO:<q@example.net>", 250));
	e.transaction = &s.transaction;
	e.n = 2;
	e.recipients = (struct recipient *[]){ s.transaction.recipients[0],
		s.transaction.recipients[1] };
	message_open(&m, "/tmp", 1000);
	message_add(&m, content, strlen(content));
	assert_int_equal(message_finish(&m), 0);
	assert_int_equal(message_content_hex(&m, hex), 0);
	assert_int_equal(object_fingerprint(&e, hex, want_hex), 0);
	message_id(&m, &facts[FACT_MESSAGE_ID]);
	unit_text("id", buf_text(&facts[FACT_MESSAGE_ID]), "<1@x>");
	object_metadata(&want, &e, m.sha256_hex, want_hex, facts);
	assert_int_equal(want.error, 0);
	for (n = 1;; n++) {
		BUF(name, OBJECT_NAME_MAX);
		BUF(got, 8192);

		left = n;
		object_name(&name, &when, 241);
		if (name.error == 0) {
			len = name.len;
			assert_memory_equal(name.data, "1.M000002P", 10);
			assert_string_equal(name.data + len - 6, ",S=241");
		}
		if (object_fingerprint(&e, hex, got_hex) == 0)
			assert_string_equal(got_hex, want_hex);
		object_metadata(&got, &e, m.sha256_hex, want_hex, facts);
		if (got.error == 0)
			unit_text("metadata", buf_text(&got), buf_text(&want));
		if (message_content_hex(&m, got_hex) == 0)
			assert_string_equal(got_hex, hex);
		buf_free(&facts[FACT_MESSAGE_ID]);
		facts[FACT_MESSAGE_ID].error = 0;
		message_id(&m, &facts[FACT_MESSAGE_ID]);
		if (facts[FACT_MESSAGE_ID].error == 0)
			unit_text("id", facts[FACT_MESSAGE_ID].data, "<1@x>");
		if (left != 0)
			break;
	}
	left = 0;
	buf_free(&facts[FACT_MESSAGE_ID]);
	message_close(&m);
	smtp_free(&s);
	assert_true(n > 10);
}

static void
a_message_is_kept_whole_or_at_fault(void **state)
{
	static const char text[] = "abc";
	struct message m;
	unsigned int n;
	char got[4];

	(void)state;
	for (n = 1;; n++) {
		left = n;
		message_open(&m, "/tmp", 1000);
		message_add(&m, text, 2);
		message_add(&m, text + 2, 1);
		if (message_finish(&m) == 0) {
			assert_int_equal(message_read(&m, 0, got, 4), 3);
			assert_memory_equal(got, text, 3);
			assert_string_equal(m.md5_hex,
			    "900150983cd24fb0d6963f7d28e17f72");
		} else {
			assert_int_equal(m.fault, ENOMEM);
		}
		message_close(&m);
		if (left != 0)
			break;
	}
	left = 0;
	assert_true(n > 1);
}

/* Port 1 answers nobody, so that every way ends in a failure that may pass. */
static void
a_store_without_memory_is_a_failure_that_may_pass(void **state)
{
	char variables[][64] = { "SWIFTDROP_A_AUTHURL=http://127.0.0.1:1/v3",
		"SWIFTDROP_A_AUTH_VERSION=3",
		"SWIFTDROP_A_OS_OPTIONS_PROJECT_NAME=p",
		"SWIFTDROP_B_AUTHURL=http://127.0.0.1:1/v1",
		"SWIFTDROP_C_STORAGE_URL=http://127.0.0.1:1/v1/C",
		"SWIFTDROP_C_TEMP_URL_KEY=k", "SWIFTDROP_DEFAULT_RETRIES=0" };
	char *environment[COUNT(variables) + 1] = { NULL };
	BUF(faults, 4096);
	struct swift_put p;
	struct config c;
	struct message m;
	struct swift *s;
	unsigned int n;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(variables); i++)
		environment[i] = variables[i];
	(void)config_load(&c, path, environment, &faults);
	unit_text("faults", buf_text(&faults), "");
	message_open(&m, "/tmp", 1000);
	message_add(&m, "a", 1);
	assert_int_equal(message_finish(&m), 0);
	for (i = 0; i < 3; i++) {
		for (n = 1;; n++) {
			left = n;
			s = swift_open(&c);
			swift_put_init(&p, &c.accounts[i]);
			p.message = &m;
			buf_adds(&p.metadata,
			    "X-Object-Meta-Envelope-Count: 1\n");
			p.deadline_ms = clock_ms() + 5000;
			buf_adds(&p.name, "name");
			if (s != NULL)
				assert_int_equal(swift_store(s, &p),
				    SWIFT_TEMPORARY);
			swift_put_free(&p);
			swift_close(s);
			if (left != 0)
				break;
		}
		left = 0;
		assert_true(n > 5);
	}
	message_close(&m);
	config_free(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_configuration_is_read_whole_or_refused),
		cmocka_unit_test(no_secret_is_left_behind),
		cmocka_unit_test(a_command_is_taken_whole_or_deferred),
		cmocka_unit_test(an_object_is_described_whole_or_not_at_all),
		cmocka_unit_test(a_message_is_kept_whole_or_at_fault),
		cmocka_unit_test(
		    a_store_without_memory_is_a_failure_that_may_pass),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
