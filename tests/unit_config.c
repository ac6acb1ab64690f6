/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The configuration and the routes: what is taken, what is refused and with
 * which words.
 */
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#include "config.h"
#include "route.h"

#include "banned.h"

#define ACCOUNT                                                                \
	"auth_version = 1\nauthurl = http://h/v1\nuser = u\nkey = k\n"         \
	"container = c\n"

/* Loads text from a file of its own; the error names it as FILE. */
static int
load(struct config *c, const char *text, struct buf *error)
{
	char path[] = "/tmp/unit_config.XXXXXX";
	struct buf raw;
	const char *p;
	int fd, result;

	fd = mkstemp(path);
	assert_int_not_equal(fd, -1);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(close(fd), 0);
	buf_init(&raw, 4096);
	result = config_load(c, path, &raw);
	p = buf_text(&raw);
	if (strncmp(p, path, strlen(path)) == 0) {
		(void)buf_add_text(error, "FILE");
		p += strlen(path);
	}
	(void)buf_add_text(error, p);
	buf_free(&raw);
	assert_int_equal(unlink(path), 0);
	return result;
}

/* want begins the error, or is "" where the file is taken. */
static void
faults_name_line_section_and_key(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "good", "[a]\nrecipients = a@b\n" ACCOUNT, "" },
		{ "unknown key", "[a]\nfoo = 1\n",
		    "FILE:2: [a] foo: unknown key" },
		{ "SMTP key in an account", "[a]\ndeadline = 1\n",
		    "FILE:2: [a] deadline: unknown key" },
		{ "account key in SMTP", "[SMTP]\nuser = u\n",
		    "FILE:2: [SMTP] user: unknown key" },
		{ "os_options in SMTP", "[SMTP]\nos_options_x = u\n",
		    "FILE:2: [SMTP] os_options_x: unknown key" },
		{ "duplicate", "[a]\nuser = u\nUser = v\n",
		    "FILE:3: duplicate" },
		{ "no account", "[SMTP]\n", "FILE: no account" },
		{ "missing key", "[a]\nrecipients = a@b\n",
		    "FILE: [a] container: is missing" },
		{ "not a number",
		    "[a]\nrecipients = a@b\nretries = x\n" ACCOUNT,
		    "FILE:3: [a] retries: must be a whole number" },
		{ "out of range",
		    "[a]\nrecipients = a@b\nretries = 101\n" ACCOUNT,
		    "FILE:3: [a] retries: is out of range" },
		{ "number of a fault in size",
		    "[SMTP]\ntimeout = 99999999999999999999\n",
		    "FILE:2: [SMTP] timeout: " },
		{ "zero", "[SMTP]\ntimeout = 0\n",
		    "FILE:2: [SMTP] timeout: is out of range" },
		{ "450 or 550", "[SMTP]\nunknown_recipient_code = 500\n",
		    "FILE:2: [SMTP] unknown_recipient_code: must be 450" },
		{ "not a bool", "[SMTP]\nallow_remote = maybe\n",
		    "FILE:2: [SMTP] allow_remote: must be yes or no" },
		{ "not a URL", "[a]\nauthurl = ftp://h\n",
		    "FILE:2: [a] authurl: must begin with http" },
		{ "URL without host", "[a]\nauthurl = http:///v3\n",
		    "FILE:2: [a] authurl: names no host" },
		{ "two lines", "[a]\nuser = u\n  v\n",
		    "FILE:2: [a] user: must be a single line" },
		{ "control character", "[a]\nuser = u\x01v\n",
		    "FILE:2: [a] user: control character" },
		{ "slash in container",
		    "[a]\nrecipients = a@b\ncontainer = a/b\nauth_version = 1\n"
		    "authurl = http://h\nuser = u\nkey = k\n",
		    "FILE:3: [a] container: " },
		{ "auth_version", "[a]\nauth_version = 2\n",
		    "FILE:2: [a] auth_version: " },
		{ "reinject by name", "[SMTP]\nreinject = mx.example:25\n",
		    "FILE:2: [SMTP] reinject: must be IP:port" },
		{ "log", "[SMTP]\nlog = file\n",
		    "FILE:2: [SMTP] log: must be" },
		{ "both forms of a secret", "[a]\nkey = k\nkey_file = f\n",
		    "FILE:3: [a] key_file: stands beside" },
		{ "no such secret",
		    "[a]\nrecipients = a@b\nauth_version = 1\nuser = u\n"
		    "authurl = http://h\ncontainer = c\n"
		    "key_file = /nonexistent/key\n",
		    "FILE:7: [a] key_file: cannot read /nonexistent/key" },
		{ "claimed twice",
		    "[DEFAULT]\n" ACCOUNT "[a]\nrecipients = x@y\n[b]\n"
		    "recipients = z@y, X@Y.\n",
		    "FILE:10: [b] recipients: \"x@y\" is claimed by [a]" },
		{ "no such recipient", "[a]\nrecipients = x y@z\n" ACCOUNT,
		    "FILE:2: [a] recipients: " },
		{ "recipient without domain", "[a]\nrecipients = x\n" ACCOUNT,
		    "FILE:2: [a] recipients: " },
	};
	struct config c;
	struct buf error;
	size_t i;
	int result;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		buf_init(&error, 4096);
		result = load(&c, rows[i].in, &error);
		unit_number(rows[i].name, result,
		    *rows[i].want == '\0' ? 0 : -1);
		if (error.len > strlen(rows[i].want))
			buf_cut(&error, *rows[i].want == '\0'
					    ? error.len
					    : strlen(rows[i].want));
		unit_text(rows[i].name, buf_text(&error), rows[i].want);
		buf_free(&error);
		config_free(&c);
	}
}

static void
recipients_go_to_the_most_specific_claim(void **state)
{
	static const char text[] =
	    "[SMTP]\norigin = origin.example\n[DEFAULT]\n" ACCOUNT
	    "[zero]\nrecipients = user@example.org, \"q,r\"@example.org\n"
	    "[one]\nrecipients = @example.org\n  postmaster@origin.example\n"
	    "[two]\nrecipients = user+x@example.org\n"
	    "[three]\nrecipients = *\n";
	static const struct {
		const char *name, *in;
		ptrdiff_t want;
	} rows[] = {
		{ "address", "user@example.org", 0 },
		{ "any case", "USER@Example.Org.", 0 },
		{ "quoted", "\"user\"@example.org", 0 },
		{ "comma", "\"q,r\"@example.org", 0 },
		{ "extension", "user+y@example.org", 0 },
		{ "extension with a claim of its own", "user+x@example.org",
		    2 },
		{ "domain", "other@example.org", 1 },
		{ "bare local part", "Postmaster", 1 },
		{ "other domain", "user@example.net", 3 },
		{ "subdomain", "user@sub.example.org", 3 },
	};
	struct config c;
	struct address a;
	struct buf error;
	size_t i;

	(void)state;
	buf_init(&error, 1000);
	assert_int_equal(load(&c, text, &error), 0);
	address_init(&a);
	for (i = 0; i < COUNT(rows); i++) {
		assert_int_equal(address_parse(&a, rows[i].in,
				     strlen(rows[i].in)),
		    0);
		unit_number(rows[i].name, route_find(&c, &a), rows[i].want);
	}
	/* The last account is the one that takes all the others. */
	free(c.claims[0].key);
	memmove(c.claims, c.claims + 1, --c.nclaims * sizeof(c.claims[0]));
	assert_int_equal(address_parse(&a, "user@example.net", 16), 0);
	assert_int_equal(route_find(&c, &a), ROUTE_NONE);
	address_free(&a);
	buf_free(&error);
	config_free(&c);
}

static void
values_are_inherited_overridden_and_unset(void **state)
{
	static const char text[] =
	    "[DEFAULT]\n" ACCOUNT "prefix = new/\ntimeout = 7\n"
	    "[a]\nrecipients = a@b\n"
	    "[b]\nrecipients = b@b\nprefix =\ntimeout\ncontainer = d\n";
	struct config c;
	struct buf error;

	(void)state;
	buf_init(&error, 1000);
	assert_int_equal(load(&c, text, &error), 0);
	assert_int_equal(c.naccounts, 2);
	assert_string_equal(c.accounts[0].prefix, "new/");
	assert_int_equal(c.accounts[0].timeout_s, 7);
	assert_string_equal(c.accounts[0].container, "c");
	assert_string_equal(c.accounts[1].prefix, "");
	assert_int_equal(c.accounts[1].timeout_s, 60);
	assert_string_equal(c.accounts[1].container, "d");
	assert_false(config_same_place(&c.accounts[0], &c.accounts[1]));
	assert_true(config_same_place(&c.accounts[0], &c.accounts[0]));
	assert_int_equal(c.smtp.deadline_s, 90);
	assert_int_equal(c.smtp.message_size_limit, 52494336);
	buf_free(&error);
	config_free(&c);
}

static void
the_environment_beats_the_file(void **state)
{
	struct config c;
	struct buf error;

	(void)state;
	buf_init(&error, 1000);
	assert_int_equal(setenv("SWIFTDROP_SMTP_DEADLINE", "12", 1), 0);
	assert_int_equal(setenv("SWIFTDROP_A_USER", "v", 1), 0);
	assert_int_equal(setenv("SWIFTDROP_PORT_25_TCP", "x", 1), 0);
	assert_int_equal(load(&c, "[A]\nrecipients = a@b\n" ACCOUNT, &error),
	    0);
	assert_int_equal(c.smtp.deadline_s, 12);
	assert_string_equal(c.accounts[0].user, "v");
	config_free(&c);
	assert_int_equal(setenv("SWIFTDROP_A_FOO", "swordfish", 1), 0);
	assert_int_equal(load(&c, "[A]\nrecipients = a@b\n" ACCOUNT, &error),
	    -1);
	unit_text("error", buf_text(&error),
	    "environment: SWIFTDROP_A_FOO: [A] foo: unknown key");
	config_free(&c);
	buf_free(&error);
	assert_int_equal(unsetenv("SWIFTDROP_A_FOO"), 0);
	assert_int_equal(unsetenv("SWIFTDROP_A_USER"), 0);
	assert_int_equal(unsetenv("SWIFTDROP_PORT_25_TCP"), 0);
	assert_int_equal(unsetenv("SWIFTDROP_SMTP_DEADLINE"), 0);
}

static void
no_secret_is_printed(void **state)
{
	static const char text[] =
	    "[a]\nrecipients = a@b\nproxy = http://me:swordfish@p\n"
	    "auth_version = 1\nauthurl = http://h\nuser = u\n"
	    "key = swordfish\ncontainer = c\n"
	    "[b]\nrecipients = b@b\nauth_version = tempurl\n"
	    "storage_url = http://h/v1/A\ntemp_url_query = swordfish\n"
	    "container = c\n";
	struct config c;
	struct buf error, printed;

	(void)state;
	buf_init(&error, 1000);
	buf_init(&printed, 10000);
	assert_int_equal(load(&c, text, &error), 0);
	assert_int_equal(config_print(&c, &printed), 0);
	assert_null(strstr(buf_text(&printed), "swordfish"));
	assert_non_null(strstr(buf_text(&printed), "\nkey = ***\n"));
	assert_non_null(strstr(buf_text(&printed), "\nuser = u\n"));
	assert_non_null(strstr(buf_text(&printed), "\nproxy = http://***@p\n"));
	buf_free(&printed);
	buf_free(&error);
	config_free(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(faults_name_line_section_and_key),
		cmocka_unit_test(recipients_go_to_the_most_specific_claim),
		cmocka_unit_test(values_are_inherited_overridden_and_unset),
		cmocka_unit_test(the_environment_beats_the_file),
		cmocka_unit_test(no_secret_is_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
