/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The entry point of the image, as far as it runs nothing: from environment
 * to settings, and from settings to the texts of Postfix and swiftdrop.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "failing.h"

#include "image/agree.h"
#include "image/errormail.h"
#include "image/health.h"
#include "image/logs.h"
#include "image/paths.h"
#include "image/postconf.h"
#include "image/sessions.h"
#include "image/settings.h"
#include "text.h"

#include "banned.h"

/* An environment without a fault; later words of a test replace these. */
static const char *const good[] = {
	"MYHOSTNAME=mx.example.org",
	"RECIPIENTS=[\"a@example.org\", \"b@example.org\"]",
	/* clang-format off */
	("FORWARDS={\"f@example.org\": \"x@example.net\","
	 " \"g@example.org\": [\"a@example.org\", \"y@example.net\"]}"),
	/* clang-format on */
	"POSTMASTER=f@example.org",
	"SWIFTDROP_A_RECIPIENTS=a@example.org, b@example.org",
	"SWIFTDROP_A_CONTAINER=box",
	"SWIFTDROP_A_AUTH_VERSION=1",
	"SWIFTDROP_A_AUTHURL=http://127.0.0.1/auth/v1.0",
	"SWIFTDROP_A_USER=u",
	"SWIFTDROP_A_KEY=secret",
};

static const char parameters[] =
    "\nqueue_directory\nrecipient_delimiter\nrelayhost\nsmtp_tls_CAfile\n";

struct loaded {
	struct settings settings;
	struct buf faults;
	struct buf warnings;
};

/* The folder that the tests work in, with files to read. */
static char folder[] = "/tmp/unit_entry.XXXXXX";

static const struct {
	const char *name, *content;
} files[] = {
	{ "host", "mail.example.org\n" },
	{ "key", "the key\n" },
	{ "blank", " secret\n" },
	{ "crlf", "secret\r\n" },
	{ "relay", "[relay]\n" },
	{ "list", "a@example.org,\nb@example.org\n\n" },
};

static void
write_file(const char *name, const char *content)
{
	FILE *file = fopen(name, "w");

	assert_non_null(file);
	assert_true(fputs(content, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int
setup(void **state)
{
	size_t i;

	(void)state;
	if (mkdtemp(folder) == NULL || chdir(folder) == -1)
		return -1;
	for (i = 0; i < COUNT(files); i++)
		write_file(files[i].name, files[i].content);
	return 0;
}

static int
teardown(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(files); i++)
		(void)unlink(files[i].name);
	(void)unlink("swiftdrop.ini");
	return chdir("/") == 0 ? rmdir(folder) : -1;
}

/*
 * Does with the good environment and its changes (NULL-terminated; "NAME"
 * alone takes a variable away) what the entry point does.
 */
static void
load(struct loaded *l, const char *const *changes)
{
	const char *environment[64];
	BUF(ini, 1024 * 1024);
	size_t i, j, n, len;

	n = 0;
	for (i = 0; i < COUNT(good); i++) {
		len = strcspn(good[i], "=");
		for (j = 0; changes[j] != NULL; j++)
			if (strcspn(changes[j], "=") == len &&
			    strncmp(changes[j], good[i], len) == 0)
				break;
		if (changes[j] == NULL)
			environment[n++] = good[i];
	}
	for (j = 0; changes[j] != NULL; j++)
		if (strchr(changes[j], '=') != NULL)
			environment[n++] = changes[j];
	environment[n] = NULL;
	l->faults = l->warnings = (struct buf){ .max = 65536 };
	settings_load(&l->settings, (char *const *)(uintptr_t)environment,
	    parameters, &l->faults, &l->warnings);
	agree(&l->settings, &l->faults, &l->warnings);
	if (l->faults.len != 0)
		return;
	postconf_ini(&l->settings, "", &ini);
	write_file("swiftdrop.ini", buf_text(&ini));
	agree_read_back(&l->settings, "swiftdrop.ini", &l->faults);
}

static void
unload(struct loaded *l)
{
	settings_free(&l->settings);
	buf_free(&l->faults);
	buf_free(&l->warnings);
}

static const struct {
	const char *changes[9];
	const char *want; /* the whole list of faults */
} faults[] = {
	{ { NULL }, "" },
	{ { "MYHOSTNAME" },
	    "MYHOSTNAME: is required: the name of this mail server, as "
	    "mail.example.org\n" },
	{ { "MYHOSTNAME=" },
	    "MYHOSTNAME: is required: the name of this mail server, as "
	    "mail.example.org\n" },
	{ { "MYHOSTNAME=mx_1.example.org" },
	    "MYHOSTNAME: \"mx_1.example.org\" is not a host name\n" },
	{ { "MYHOSTNAME=192.0.2.1" },
	    "MYHOSTNAME: \"192.0.2.1\" is not a host name\n" },
	{ { "MYHOSTNAME=mx.example.org." },
	    "MYHOSTNAME: \"mx.example.org.\" must not end with a dot\n" },
	{ { "MYDOMAIN=-x.org" }, "MYDOMAIN: \"-x.org\" is not a host name\n" },
	/* One line, whatever the value. */
	{ { "MYDOMAIN=x\n\ny.org" },
	    "MYDOMAIN: \"x??y.org\" is not a host name\n" },
	{ { "MYHOSTNAME_FILE=host" },
	    "MYHOSTNAME: is given twice, with and without _FILE; keep one of "
	    "them\n" },
	{ { "DEBUG_FILE=/nowhere" },
	    "DEBUG_FILE: /nowhere: No such file or directory\n" },
	{ { "DEBUG=\x01" }, "DEBUG: holds a control character\n" },
	{ { "DEBUG=\xff" }, "DEBUG: is not text in UTF-8\n" },
	{ { "DEBUG=true" }, "DEBUG: \"true\" is not yes or no\n" },
	{ { "UPSTREAM_PROXY_PROTOCOL=v2" },
	    "UPSTREAM_PROXY_PROTOCOL: \"v2\" is not haproxy or empty\n" },
	{ { "STARTUP_CHECK=no" },
	    "STARTUP_CHECK: \"no\" is not warn or fatal\n" },
	{ { "MESSAGE_SIZE_LIMIT=1023" },
	    "MESSAGE_SIZE_LIMIT: \"1023\" is not a number from 1024 to "
	    "5368643586\n" },
	{ { "MESSAGE_SIZE_LIMIT=50M" },
	    "MESSAGE_SIZE_LIMIT: \"50M\" is not a number from 1024 to "
	    "5368643586\n" },
	{ { "MAX_PROCESSES=0" },
	    "MAX_PROCESSES: \"0\" is not a number from 1 to 10000\n" },
	{ { "DRAIN_TIMEOUT=3601" },
	    "DRAIN_TIMEOUT: \"3601\" is not a number from 0 to 3600\n" },
	{ { "LOGIN_INTERVAL=3601" },
	    "LOGIN_INTERVAL: \"3601\" is not a number from 0 to 3600\n" },
	{ { "TLS_CERT_FILE=/c" },
	    "TLS_KEY_FILE: is missing: certificate and key come together\n" },
	{ { "TLS_KEY_FILE=/k" },
	    "TLS_CERT_FILE: is missing: certificate and key come together\n" },
	{ { "POSTFIX_relay_host=x" },
	    "POSTFIX_relay_host: is not a parameter of this Postfix; nearly "
	    "all are in lower case\n" },
	{ { "POSTFIX_queue_directory=/x" },
	    "POSTFIX_queue_directory: is set by the image\n" },
	{ { "POSTFIX_mydomain=x" },
	    "POSTFIX_mydomain: has its own variable, MYDOMAIN\n" },
	{ { "POSTFIX_relayhost=a\nb" },
	    "POSTFIX_relayhost: must be a single line\n" },
	{ { "POSTFIX_relay-host=x" },
	    "POSTFIX_relay-host: is not a parameter of this Postfix; nearly "
	    "all are in lower case\n" },
	{ { "POSTMASTER=nobody" },
	    "POSTMASTER: \"nobody\" is not an address, as "
	    "user@example.org\n" },
	{ { "POSTMASTER=z@example.org" },
	    "POSTMASTER: \"z@example.org\" is in a domain of ours, but "
	    "neither in RECIPIENTS nor in FORWARDS\n" },
	{ { "ERRORMAIL=z@example.org" },
	    "ERRORMAIL: \"z@example.org\" is in a domain of ours, but "
	    "neither in RECIPIENTS nor in FORWARDS\n" },
	{ { "ERRORMAIL=x" },
	    "ERRORMAIL: \"x\" is not an address, as user@example.org\n" },
	{ { "RECIPIENTS=[\"a@example.org\"" },
	    "RECIPIENTS: is not JSON: ']' expected near end of file (line 1, "
	    "column 16)\n" },
	{ { "RECIPIENTS=[\"a@example.org\", \"A@EXAMPLE.org\", "
	    "\"b@example.org\"]" },
	    "RECIPIENTS: \"A@EXAMPLE.org\" is there twice\n" },
	{ { "RECIPIENTS=[\"a@example.org\", \"b@example.org\", 1]" },
	    "RECIPIENTS: element 3 is not a text\n" },
	{ { "RECIPIENTS=[\"a@example.org\", \"b@example.org\", \"*\"]" },
	    "RECIPIENTS: \"*\" is not an address, as user@example.org\n" },
	{ { "RECIPIENTS=[\"a@example.org\", \"b@example.org\", "
	    "\"x@[192.0.2.1]\"]" },
	    "RECIPIENTS: \"x@[192.0.2.1]\" has an address literal for a "
	    "domain\n" },
	{ { "RECIPIENTS=[\"a@example.org\", \"b@example.org\", "
	    "\"x%y@example.org\"]" },
	    "RECIPIENTS: \"x%y@example.org\" has a local part with special "
	    "characters\n" },
	{ { "RECIPIENTS=[\"a@example.org\", \"b@example.org\", "
	    "\"c@example.org\"]" },
	    "RECIPIENTS: no account claims \"c@example.org\"\n" },
	{ { "RECIPIENTS=[\"a@example.org\", \"b@example.org\", "
	    "\"@example.com\"]" },
	    "RECIPIENTS: no account claims \"@example.com\"\n" },
	{ { "RECIPIENTS=[\"a@example.org\", \"b@example.org\", "
	    "\"M\xc3\x9cLLER@example.org\"]",
	      "SWIFTDROP_A_RECIPIENTS=a@example.org, b@example.org, "
	      "m\xc3\xbcller@example.org" },
	    "" },
	{ { "RECIPIENTS=[\"a@example.org\"]" },
	    "RECIPIENTS: \"b@example.org\" of account A is missing\n" },
	{ { "FORWARDS=[]" },
	    "FORWARDS: is not a JSON object, as {\"a@example.org\": "
	    "\"b@example.net\"}\n"
	    "POSTMASTER: \"f@example.org\" is in a domain of ours, but "
	    "neither in RECIPIENTS nor in FORWARDS\n" },
	{ { "FORWARDS={\"f@example.org\": []}" },
	    "FORWARDS: \"f@example.org\" is forwarded to nobody\n" },
	{ { "FORWARDS={\"f@example.org\": 1}" },
	    "FORWARDS: \"f@example.org\" is forwarded to something that is "
	    "not a text\n" },
	{ { "FORWARDS={\"f@example.org\": \"x\"}" },
	    "FORWARDS: \"f@example.org\" is forwarded to \"x\", which is not "
	    "an address, as user@example.org\n" },
	{ { "FORWARDS={\"f@example.org\": \"x@y.org\", "
	    "\"@example.org\": \"x@y.org\"}" },
	    "FORWARDS: \"@example.org\" is not an address, as "
	    "user@example.org\n" },
	{ { "FORWARDS={\"f@example.org\": \"x@y.org\", "
	    "\"a@example.org\": \"x@y.org\"}" },
	    "FORWARDS: \"a@example.org\" is in RECIPIENTS too\n" },
	{ { "FORWARDS={\"f@example.org\": \"x@y.org\", "
	    "\"a+b@example.org\": \"x@y.org\"}" },
	    "FORWARDS: \"a+b@example.org\" is claimed by account A\n" },
	{ { "FORWARDS={\"f@example.org\": \"h@example.org\", "
	    "\"h@example.org\": \"F@example.org\"}" },
	    "FORWARDS: \"f@example.org\" is forwarded to itself\n"
	    "FORWARDS: \"h@example.org\" is forwarded to itself\n" },
	{ { "FORWARDS={\"f@example.org\": \"z@example.org\"}" },
	    "FORWARDS: \"f@example.org\" is forwarded to \"z@example.org\", "
	    "which is in a domain of ours, but neither in RECIPIENTS nor in "
	    "FORWARDS\n" },
	{ { "SWIFTDROP_SMTP_HOSTNAME=x" },
	    "SWIFTDROP_SMTP_HOSTNAME: has its own variable, MYHOSTNAME\n" },
	{ { "SWIFTDROP_SMTP_REINJECT=127.0.0.1:1" },
	    "SWIFTDROP_SMTP_REINJECT: is set by the image\n" },
	{ { "SWIFTDROP_A=x" }, "SWIFTDROP_A: names no option, write "
			       "SWIFTDROP_<SECTION>_<OPTION>\n" },
	{ { "SWIFTDROP_A_KEY_FILE=key" },
	    "SWIFTDROP_A_KEY_FILE: is given twice in the environment; keep "
	    "one of them\n" },
	{ { "SWIFTDROP_a_USER=u" },
	    "SWIFTDROP_a_USER: is given twice in the environment; keep one of "
	    "them\n" },
	{ { "SWIFTDROP_A_RECIPIENTS_FILE=list" },
	    "SWIFTDROP_A_RECIPIENTS: is given twice, with and without _FILE; "
	    "keep one of them\n" },
	{ { "SWIFTDROP_A_USER", "SWIFTDROP_A_USER_FILE=/nowhere" },
	    "SWIFTDROP_A_USER_FILE: /nowhere: No such file or directory\n"
	    "SWIFTDROP_A_USER: is missing\n" },
	{ { "SWIFTDROP_A_KEY", "SWIFTDROP_A_KEY_FILE=/nowhere" },
	    "SWIFTDROP_A_KEY_FILE: cannot read /nowhere: No such file or "
	    "directory\n" },
	{ { "SWIFTDROP_A_KEY", "SWIFTDROP_A_KEY_FILE=crlf" },
	    "SWIFTDROP_A_KEY_FILE: crlf: ends its line with CR LF; save it "
	    "with LF\n" },
	{ { "SWIFTDROP_A_COLOUR=red" },
	    "SWIFTDROP_A_COLOUR: is read as \"colour\" of [A]: unknown "
	    "key\n" },
	{ { "SWIFTDROP_A_COLOUR_FILE=/nowhere" },
	    "SWIFTDROP_A_COLOUR_FILE: is read as \"colour_file\" of [A]: "
	    "unknown key\n" },
	{ { "SWIFTDROP_FILE=/nowhere" },
	    "SWIFTDROP_FILE: names no option, write "
	    "SWIFTDROP_<SECTION>_<OPTION>\n" },
	{ { "POSTFIX_smtp_tls_cafile=/x" },
	    "POSTFIX_smtp_tls_cafile: is not a parameter of this Postfix; "
	    "nearly all are in lower case\n" },
	{ { "POSTFIX_smtp_tls_CAfile=/x" }, "" },
	{ { "POSTFIX_RELAYHOST=[relay]" },
	    "POSTFIX_RELAYHOST: is not a parameter of this Postfix; nearly "
	    "all are in lower case\n" },
	{ { "POSTFIX_relayhost=\"[relay]\"" },
	    "POSTFIX_relayhost: has quotation marks around it, which Postfix "
	    "takes for a part of the value\n" },
	{ { "POSTFIX_relayhost='[relay]'" },
	    "POSTFIX_relayhost: has quotation marks around it, which Postfix "
	    "takes for a part of the value\n" },
	{ { "SWIFTDROP_PRODUKTION_CONTAINER=box",
	      "SWIFTDROP_DEFAULT_AUTH_VERSION=1",
	      "SWIFTDROP_DEFAULT_AUTHURL=http://127.0.0.1/auth/v1.0",
	      "SWIFTDROP_DEFAULT_USER=u", "SWIFTDROP_DEFAULT_KEY=k" },
	    "SWIFTDROP_PRODUKTION_RECIPIENTS: is missing: account PRODUKTION "
	    "gets no mail; is its name misspelt?\n" },
	{ { "RECIPIENTS=[\"a@example.org\", \"b@example.org\", "
	    "\"#c@example.org\"]" },
	    "RECIPIENTS: \"#c@example.org\" has a local part with special "
	    "characters\n" },
	{ { "RECIPIENTS=[]" },
	    "RECIPIENTS: \"a@example.org\" of account A is missing\n"
	    "RECIPIENTS: \"b@example.org\" of account A is missing\n" },
	{ { "RECIPIENTS", "SWIFTDROP_A_RECIPIENTS", "SWIFTDROP_A_CONTAINER",
	      "SWIFTDROP_A_AUTH_VERSION", "SWIFTDROP_A_AUTHURL",
	      "SWIFTDROP_A_USER", "SWIFTDROP_A_KEY",
	      "FORWARDS={\"f@example.org\": \"x@example.net\"}" },
	    "environment: no account: no section has recipients\n" },
	{ { "RECIPIENTS=", "SWIFTDROP_A_RECIPIENTS=",
	      "FORWARDS={\"f@example.org\": \"x@example.net\"}" },
	    "SWIFTDROP_A_RECIPIENTS: is missing: account A gets no mail; is "
	    "its name misspelt?\n" },
	{ { "SWIFTDROP_IMAGE_TAG=0.2.0" },
	    "SWIFTDROP_IMAGE_TAG: is read as \"tag\" of [IMAGE]: unknown "
	    "key\n"
	    "SWIFTDROP_IMAGE_CONTAINER: is missing\n"
	    "SWIFTDROP_IMAGE_AUTHURL: is missing\n"
	    "SWIFTDROP_IMAGE_USER: is missing, or "
	    "os_options_application_credential_id\n"
	    "SWIFTDROP_IMAGE_KEY: is missing\n"
	    "SWIFTDROP_IMAGE_RECIPIENTS: is missing: account IMAGE gets no "
	    "mail; is its name misspelt?\n" },
	{ { "POSTFIX__FILE=/nowhere" },
	    "POSTFIX__FILE: is not a parameter of this Postfix; nearly all are "
	    "in lower case\n" },
	{ { "POSTFIX_recipient_delimiter=- +" },
	    "POSTFIX_recipient_delimiter: holds a blank, which is no "
	    "delimiter\n" },
};

static void
each_fault_is_named(void **state)
{
	struct loaded l;
	size_t i;
	bool good_so_far;

	(void)state;
	good_so_far = true;
	for (i = 0; i < COUNT(faults); i++) {
		load(&l, faults[i].changes);
		if (strcmp(buf_text(&l.faults), faults[i].want) != 0) {
			print_error("row %zu: got\n%swant\n%s", i,
			    buf_text(&l.faults), faults[i].want);
			good_so_far = false;
		}
		unload(&l);
	}
	assert_true(good_so_far);
}

#define READ_BACK                                                              \
	": this, or the DEFAULT that it inherits, is another value in a file;" \
	" take away what is blank around it\n"

/* What a variable can say and a line of a file cannot. */
static const struct {
	const char *changes[4];
	const char *want; /* the whole list of faults */
} read_back[] = {
	{ { "SWIFTDROP_A_KEY= secret" }, "SWIFTDROP_A_KEY" READ_BACK },
	{ { "SWIFTDROP_A_KEY=secret\t" },
	    "SWIFTDROP_A_KEY: control character in the value\n" },
	{ { "SWIFTDROP_A_KEY=\xc2\xa0secret" }, "SWIFTDROP_A_KEY" READ_BACK },
	{ { "SWIFTDROP_A_KEY", "SWIFTDROP_A_KEY_FILE=blank" },
	    "SWIFTDROP_A_KEY" READ_BACK },
	{ { "SWIFTDROP_A_KEY", "SWIFTDROP_DEFAULT_KEY=k " },
	    "SWIFTDROP_A_KEY" READ_BACK },
	{ { "SWIFTDROP_A_KEY=k ", "SWIFTDROP_A_TEMP_URL_KEY= k" },
	    "SWIFTDROP_A_KEY" READ_BACK "SWIFTDROP_A_TEMP_URL_KEY" READ_BACK },
	{ { "SWIFTDROP_A_USER=u\rkey = x" },
	    "SWIFTDROP_A_USER: control character in the value\n" },
	{ { "SWIFTDROP_A_USER=u\n[B]" },
	    "SWIFTDROP_A_USER: must be a single line\n" },
	/* These are the same in a file. */
	{ { "SWIFTDROP_A_USER= u\t" }, "" },
	{ { "SWIFTDROP_A_PREFIX= " }, "" },
	{ { "SWIFTDROP_A_PROXY= " }, "" },
	{ { "SWIFTDROP_A_USER=\xc2\xa0u\xc2\x85v\xe2\x80\xa8" }, "" },
	{ { "SWIFTDROP_A_USER=u = v ; # [x]" }, "" },
	{ { "SWIFTDROP_A_RECIPIENTS=\na@example.org,\n\n b@example.org \n" },
	    "" },
	{ { "SWIFTDROP_A_RECIPIENTS", "SWIFTDROP_A_RECIPIENTS_FILE=list" },
	    "" },
	{ { "SWIFTDROP_A_PREFIX=" }, "" },
	{ { "SWIFTDROP_DEFAULT_DELETE_AFTER=9", "SWIFTDROP_A_DELETE_AFTER=" },
	    "" },
	{ { "SWIFTDROP_A_AUTHURL=http://user@[::1]:8080/auth/v1.0" }, "" },
	{ { "SWIFTDROP_SMTP_TIMEOUT=7", "SWIFTDROP_A_INSECURE=ON" }, "" },
};

static void
file_means_what_the_variables_meant(void **state)
{
	struct loaded l;
	size_t i;
	bool good_so_far;

	(void)state;
	good_so_far = true;
	for (i = 0; i < COUNT(read_back); i++) {
		load(&l, read_back[i].changes);
		if (strcmp(buf_text(&l.faults), read_back[i].want) != 0) {
			print_error("row %zu: got\n%swant\n%s", i,
			    buf_text(&l.faults), read_back[i].want);
			good_so_far = false;
		}
		unload(&l);
	}
	assert_true(good_so_far);
}

/* Whatever was written: a file that holds another configuration is seen. */
static void
file_that_says_more_is_a_fault(void **state)
{
	static const struct {
		const char *from, *to;
		const char *want; /* among the faults */
	} rows[] = {
		{ "\n[A]\n", "\n[B]\n", "SWIFTDROP_A_RECIPIENTS" READ_BACK },
		{ "log = postlog:/run/swiftdrop/log/socket", "log = none",
		    "SWIFTDROP_SMTP_LOG" READ_BACK },
		{ "metadata = yes", "metadata = no",
		    "SWIFTDROP_A_METADATA" READ_BACK },
		{ "retries = 2", "retries = 3\ndelete_after = 1",
		    "SWIFTDROP_A_RETRIES" READ_BACK
		    "SWIFTDROP_A_DELETE_AFTER" READ_BACK },
		{ "key = secret", "key = ***", "SWIFTDROP_A_KEY" READ_BACK },
		{ "user = u", "user = u\n  v",
		    ": [A] user: must be a single line\n" },
	};
	static const char *const changes[] = { NULL };
	const char *at;
	struct loaded l;
	size_t i;

	(void)state;
	load(&l, changes);
	assert_string_equal(buf_text(&l.faults), "");
	for (i = 0; i < COUNT(rows); i++) {
		BUF(ini, 65536);
		BUF(other, 65536);

		buf_reset(&l.faults);
		postconf_ini(&l.settings, "", &ini);
		at = strstr(buf_text(&ini), rows[i].from);
		assert_non_null(at);
		buf_add(&other, ini.data, (size_t)(at - ini.data));
		buf_adds(&other, rows[i].to);
		buf_adds(&other, at + strlen(rows[i].from));
		write_file("swiftdrop.ini", buf_text(&other));
		agree_read_back(&l.settings, "swiftdrop.ini", &l.faults);
		if (strstr(buf_text(&l.faults), rows[i].want) == NULL)
			fail_msg("row %zu: got\n%swant\n%s", i,
			    buf_text(&l.faults), rows[i].want);
	}
	unload(&l);
}

static void
faults_of_all_accounts_are_named_at_once(void **state)
{
	static const char *const changes[] = { "SWIFTDROP_A_CONTAINER=a/b",
		"SWIFTDROP_B_RECIPIENTS=c@example.org",
		"SWIFTDROP_B_RETRIES=many", NULL };
	struct loaded l;

	(void)state;
	load(&l, changes);
	assert_non_null(strstr(buf_text(&l.faults), "SWIFTDROP_A_CONTAINER: "));
	assert_non_null(strstr(buf_text(&l.faults), "SWIFTDROP_B_RETRIES: "));
	unload(&l);
}

static void
kubernetes_own_variables_do_no_harm(void **state)
{
	static const char *const changes[] = {
		"SWIFTDROP_SERVICE_HOST=10.0.0.1", "SWIFTDROP_PORT=tcp://x",
		"SWIFTDROP_PORT_25_TCP=tcp://x",
		"SWIFTDROP_REST_SERVICE_PORT_HTTP=1",
		"SWIFTDROP_REST_PORT_1_TCP_ADDR=x", "SWIFTDROP_NAME=/x/y",
		"SWIFTDROP_ENV_KEY_FILE=/nowhere", "POSTFIX_SERVICE_HOST=x",
		"POSTFIX_PORT_25_TCP_ADDR=x", "POSTFIX_NAME=/x/y",
		"POSTFIX_ENV_KEY_FILE=/nowhere",
		"POSTFIX_MX_SERVICE_PORT_SMTP=25", NULL
	};
	struct loaded l;

	(void)state;
	load(&l, changes);
	assert_string_equal(buf_text(&l.faults), "");
	assert_int_equal(l.settings.environment.variables.n, COUNT(good) + 8);
	unload(&l);
}

/* What looks like theirs and has an option behind it is ours. */
static void
sections_may_be_called_port_or_service(void **state)
{
	static const char *const names[] = { "PORT", "PORTAL", "SERVICE",
		"SERVICES", "PORT25" };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(names); i++) {
		const char *const options[] = { "RECIPIENTS=p@example.org",
			"CONTAINER=p", "AUTH_VERSION=1",
			"AUTHURL=http://127.0.0.1/auth/v1.0", "USER=u",
			"KEY=k" };
		char variables[COUNT(options)][64];
		const char *changes[COUNT(options) + 2];
		struct loaded l;
		size_t j;

		for (j = 0; j < COUNT(options); j++) {
			(void)snprintf(variables[j], sizeof(variables[j]),
			    "SWIFTDROP_%s_%s", names[i], options[j]);
			changes[j] = variables[j];
		}
		changes[j++] = "RECIPIENTS=[\"a@example.org\", "
			       "\"b@example.org\", \"p@example.org\"]";
		changes[j] = NULL;
		load(&l, changes);
		assert_string_equal(buf_text(&l.faults), "");
		assert_int_equal(l.settings.config.naccounts, 2);
		assert_string_equal(l.settings.config.accounts[1].name,
		    names[i]);
		unload(&l);
	}
}

static void
names_that_are_nearly_ours_are_warned_of(void **state)
{
	static const char *const changes[] = { "FORWARD={}", "RECIPIENT=[]",
		"mydomain=x", "POSTMASTERS_FILE=/nowhere", "HOSTNAME=x",
		"DOMAIN=x", "TLS_KEY=x", "PATH=/", "D=x", NULL };
	static const char want[] =
	    "FORWARD: is not read; should it be FORWARDS?\n"
	    "RECIPIENT: is not read; should it be RECIPIENTS?\n"
	    "mydomain: is not read; should it be MYDOMAIN?\n"
	    "POSTMASTERS_FILE: is not read; should it be POSTMASTER?\n";
	struct loaded l;

	(void)state;
	load(&l, changes);
	assert_string_equal(buf_text(&l.faults), "");
	assert_ptr_equal(strstr(buf_text(&l.warnings), want),
	    buf_text(&l.warnings));
	assert_string_equal(buf_text(&l.warnings), want);
	unload(&l);
}

/* A section's name of 256 octets and a key's. */
static void
long_names_are_what_they_say(void **state)
{
	char variable[600] = "SWIFTDROP_", *end;
	const char *const changes[] = { variable, NULL };
	struct loaded l;

	(void)state;
	end = variable + strlen(variable);
	memset(end, 'A', 256);
	memcpy(end + 256, "_KEY=k", 7);
	load(&l, changes);
	assert_non_null(strstr(buf_text(&l.faults), "_RECIPIENTS: is missing"));
	unload(&l);
	memcpy(end, "A_", 2);
	load(&l, changes);
	assert_non_null(strstr(buf_text(&l.faults), ": unknown key\n"));
	unload(&l);
}

/* Whatever there is no memory for, nobody is taken to claim nothing. */
static void
each_allocation_that_fails_is_a_fault(void **state)
{
	static const char *const changes[] = { NULL };
	struct loaded l;
	BUF(want, 65536);
	unsigned int n;
	bool over;

	(void)state;
	load(&l, changes);
	assert_string_equal(buf_text(&l.faults), "");
	postconf_forwards(&l.settings, "", &want);
	postconf_ini(&l.settings, "", &want);
	unload(&l);
	for (n = 1, over = false; !over; n++) {
		BUF(text, 65536);

		left = n;
		load(&l, changes);
		over = left != 0;
		left = 0;
		if (l.faults.len == 0 && l.faults.error == 0) {
			postconf_forwards(&l.settings, "", &text);
			postconf_ini(&l.settings, "", &text);
			if (strcmp(text.data, want.data) != 0)
				fail_msg("allocation %u: got\n%s", n,
				    text.data);
		}
		unload(&l);
	}
	assert_true(n > 100);
}

/* In whichever of the two forms each was written. */
static void
domain_counts_as_u_label_and_as_a_label(void **state)
{
	static const char *const rows[][4] = {
		{ "RECIPIENTS=[\"a@b\xc3\xbc"
		  "cher.example\"]",
		    "SWIFTDROP_A_RECIPIENTS=a@b\xc3\xbc"
		    "cher.example",
		    "FORWARDS={\"f@example.org\": \"x@example.net\"}" },
		{ "RECIPIENTS=[\"a@xn--bcher-kva.example\"]",
		    "SWIFTDROP_A_RECIPIENTS=a@XN--bcher-kva.example",
		    "FORWARDS={\"f@example.org\": \"x@example.net\"}" },
		{ "RECIPIENTS=[\"a@b\xc3\xbc"
		  "cher.example\", "
		  "\"a@xn--bcher-kva.example\"]",
		    "SWIFTDROP_A_RECIPIENTS= a@xn--bcher-kva.example ,\n"
		    "a@B\xc3\x9c"
		    "CHER.example",
		    "FORWARDS={\"f@example.org\": \"x@example.net\"}" },
	};
	static const char *const lines[] = { "a@b\xc3\xbc"
					     "cher.example stored\n",
		"a@xn--bcher-kva.example stored\n" };
	struct loaded l;
	size_t i, j;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(recipients, 4096);
		BUF(forwards, 4096);

		load(&l, rows[i]);
		assert_string_equal(buf_text(&l.faults), "");
		assert_int_equal(l.settings.recipients.n, 2);
		postconf_recipients(&l.settings, "", &recipients);
		postconf_forwards(&l.settings, "", &forwards);
		for (j = 0; j < COUNT(lines); j++)
			assert_non_null(strstr(recipients.data, lines[j]));
		assert_non_null(
		    strstr(forwards.data, "postmaster@xn--bcher-kva.example "));
		assert_non_null(strstr(forwards.data, "postmaster@b\xc3\xbc"
						      "cher.example "));
		unload(&l);
	}
}

static void
domain_is_the_rest_of_the_name(void **state)
{
	static const struct {
		const char *hostname, *want;
	} rows[] = {
		{ "MYHOSTNAME=mx.example.org", "example.org" },
		{ "MYHOSTNAME=a.b.example.org", "b.example.org" },
		{ "MYHOSTNAME=example.org", "example.org" },
		{ "MYHOSTNAME=mx", "mx" },
	};
	struct loaded l;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		const char *const changes[] = { rows[i].hostname, NULL };

		load(&l, changes);
		assert_string_equal(l.settings.mydomain, rows[i].want);
		unload(&l);
	}
}

/* An empty variable beside it is no second form. */
static void
file_gives_a_value_less_one_newline(void **state)
{
	static const char *const changes[] = { "SWIFTDROP_A_KEY=",
		"SWIFTDROP_A_KEY_FILE=key", "SWIFTDROP_A_PREFIX_FILE=",
		"DEBUG_FILE=", "POSTFIX_smtp_tls_CAfile_FILE=",
		"SWIFTDROP_A_USER=", "SWIFTDROP_A_USER_FILE=key",
		"MYHOSTNAME=", "MYHOSTNAME_FILE=host",
		"POSTFIX_relayhost_FILE=relay", "POSTFIX_relayhost=", NULL };
	struct loaded l;

	(void)state;
	load(&l, changes);
	assert_string_equal(buf_text(&l.faults), "");
	assert_string_equal(l.settings.config.accounts[0].key, "the key");
	assert_string_equal(l.settings.config.accounts[0].user, "the key");
	assert_string_equal(l.settings.myhostname, "mail.example.org");
	assert_string_equal(environment_get(&l.settings.environment,
				"POSTFIX_relayhost"),
	    "[relay]");
	unload(&l);
}

static void
wildcards_agree_when_they_overlap(void **state)
{
	static const char *const changes[] = {
		"RECIPIENTS=[\"@example.org\", \"q@example.com\"]", "FORWARDS",
		"POSTMASTER=x@example.net",
		"SWIFTDROP_A_RECIPIENTS=@example.org",
		"SWIFTDROP_B_RECIPIENTS=*", "SWIFTDROP_B_CONTAINER=b",
		"SWIFTDROP_B_AUTH_VERSION=1",
		"SWIFTDROP_B_AUTHURL=http://127.0.0.1/auth/v1.0", NULL
	};
	static const char *const user[] = { "SWIFTDROP_B_USER=u",
		"SWIFTDROP_B_KEY=k" };
	const char *all[16];
	struct loaded l;
	size_t n;

	(void)state;
	for (n = 0; changes[n] != NULL; n++)
		all[n] = changes[n];
	all[n++] = user[0];
	all[n++] = user[1];
	all[n] = NULL;
	load(&l, all);
	assert_string_equal(buf_text(&l.faults), "");
	assert_non_null(strstr(buf_text(&l.warnings),
	    "mail to postmaster@example.org is stored by account A"));
	unload(&l);
}

static void
texts_follow_the_settings(void **state)
{
	static const char *const changes[] = { "MAX_PROCESSES=7", "DEBUG=yes",
		"MESSAGE_SIZE_LIMIT=2000000", "UPSTREAM_PROXY_PROTOCOL=haproxy",
		"POSTFIX_recipient_delimiter=-", "POSTFIX_relayhost=[relay]",
		"SWIFTDROP_SMTP_DEADLINE=50",
		"SWIFTDROP_A_RECIPIENTS=a@example.org\nb@example.org", NULL };
	static const char main_cf[] =
	    "relayhost = [other]\nmydestination =\na = b = c\na = d\n";
	static const char master_cf[] =
	    "smtp inet n - n - - smtpd -o a=b\n"
	    "swiftdrop unix - n n - - spawn user=x argv=/y\n"
	    "127.0.0.1:10026 inet n - n - - smtpd -o c=d\n";
	struct loaded l;
	BUF(text, 65536);

	(void)state;
	load(&l, changes);
	assert_string_equal(buf_text(&l.faults), "");
	postconf_main(&l.settings, main_cf, &text);
	assert_int_equal(text.error, 0);
	assert_ptr_equal(strstr(text.data, "relayhost = [relay]\n"), text.data);
	assert_null(strstr(text.data, "[other]"));
	assert_non_null(strstr(text.data, "\nmydestination = \na = d\n"));
	assert_non_null(
	    strstr(text.data, "\nsmtpd_upstream_proxy_protocol = haproxy\n"));
	assert_non_null(strstr(text.data, "\nswiftdrop_timeout = 60s\n"));
	assert_non_null(strstr(text.data, "\nmessage_size_limit = 3048576\n"));

	buf_reset(&text);
	postconf_master(&l.settings, master_cf, &text);
	assert_int_equal(text.error, 0);
	assert_string_equal(text.data,
	    "smtpd pass - - n - - smtpd -o a=b -o message_size_limit=2000000 "
	    "-o smtpd_proxy_timeout=$swiftdrop_timeout -v\n"
	    "swiftdrop unix - n n - 7 spawn user=x argv=/y\n"
	    "127.0.0.1:10026 inet n - n - - smtpd -o c=d\n");

	buf_reset(&text);
	postconf_ini(&l.settings, "", &text);
	assert_non_null(strstr(text.data, "recipient_delimiter = -\n"));
	assert_non_null(strstr(text.data, "message_size_limit = 2065536\n"));
	assert_non_null(
	    strstr(text.data, "recipients = a@example.org,b@example.org\n"));

	buf_reset(&text);
	postconf_domains(&l.settings, "", &text);
	assert_string_equal(text.data,
	    "example.org swiftdrop-client:[127.0.0.1]:10025\n"
	    "mx.example.org swiftdrop-client:[127.0.0.1]:10025\n");

	buf_reset(&text);
	postconf_recipients(&l.settings, "", &text);
	assert_string_equal(text.data,
	    "a@example.org stored\nb@example.org stored\n");

	buf_reset(&text);
	postconf_forwards(&l.settings, "", &text);
	assert_string_equal(text.data,
	    "f@example.org x@example.net\n"
	    "g@example.org a@example.org, y@example.net\n"
	    "postmaster@example.org f@example.org\n"
	    "postmaster@mx.example.org f@example.org\n");

	buf_reset(&text);
	health_describe(&l.settings, "", &text);
	assert_string_equal(text.data,
	    "haproxy\n100\nEHLO mx.example.org\nMAIL FROM:<>\n"
	    "RCPT TO:<a@example.org>\n");
	unload(&l);
}

/* One for each login, unless the user chose one or wants none. */
static void
logins_have_token_files(void **state)
{
	static const struct {
		const char *changes[3];
		const char *want[4]; /* token files of A, B, C and D */
	} rows[] = {
		{ { NULL },
		    { TOKEN_DIR "/0", TOKEN_DIR "/0", TOKEN_DIR "/2", NULL } },
		{ { "SWIFTDROP_B_USER=v" },
		    { TOKEN_DIR "/0", TOKEN_DIR "/1", TOKEN_DIR "/2", NULL } },
		{ { "SWIFTDROP_A_TOKEN_FILE=/x/y" },
		    { "/x/y", TOKEN_DIR "/0", TOKEN_DIR "/2", NULL } },
		{ { "LOGIN_INTERVAL=0", "SWIFTDROP_A_TOKEN_FILE=/x/y" },
		    { "/x/y", NULL, NULL, NULL } },
	};
	static const char *const others[] = {
		"SWIFTDROP_DEFAULT_AUTH_VERSION=1",
		"SWIFTDROP_DEFAULT_AUTHURL=http://127.0.0.1/auth/v1.0",
		"SWIFTDROP_DEFAULT_KEY=secret",
		"SWIFTDROP_A_RECIPIENTS=a@x.org",
		"SWIFTDROP_B_RECIPIENTS=b@x.org", "SWIFTDROP_B_CONTAINER=b",
		"SWIFTDROP_C_RECIPIENTS=c@x.org", "SWIFTDROP_C_CONTAINER=c",
		"SWIFTDROP_C_USER=other", "SWIFTDROP_D_RECIPIENTS=d@x.org",
		"SWIFTDROP_D_CONTAINER=d", "SWIFTDROP_D_AUTH_VERSION=tempurl",
		"SWIFTDROP_D_STORAGE_URL=http://127.0.0.1/v1/AUTH_x",
		"SWIFTDROP_D_TEMP_URL_KEY=k", "POSTMASTER=p@x.net", "FORWARDS",
		"RECIPIENTS=[\"a@x.org\", \"b@x.org\", \"c@x.org\", \"d@x.org\"]"
	};
	const char *changes[COUNT(others) + 4];
	const char *text;
	struct loaded l;
	size_t i, j, n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		memcpy(changes, others, sizeof(others));
		n = COUNT(others);
		if (i != 1)
			changes[n++] = "SWIFTDROP_B_USER=u";
		for (j = 0; rows[i].changes[j] != NULL; j++)
			changes[n++] = rows[i].changes[j];
		changes[n] = NULL;
		load(&l, changes);
		assert_string_equal(buf_text(&l.faults), "");
		assert_int_equal(l.settings.config.naccounts, 4);
		for (j = 0; j < 4; j++) {
			text = l.settings.config.accounts[j].token_file;
			assert_string_equal(text == NULL ? "none" : text,
			    rows[i].want[j] == NULL ? "none" : rows[i].want[j]);
		}
		unload(&l);
	}
}

static void
account_that_stores_the_mail_of_errormail(void **state)
{
	static const struct {
		const char *changes[3];
		const char *want; /* NULL for none */
	} rows[] = {
		{ { "ERRORMAIL=admin@example.net" }, NULL },
		{ { "ERRORMAIL=a@example.org" }, "A" },
		{ { "ERRORMAIL=G@example.org" }, "A" },
		{ { "ERRORMAIL=f@example.org" }, NULL },
		{ { "ERRORMAIL=postmaster@mx.example.org",
		      "POSTMASTER=b@example.org" },
		    "A" },
		{ { NULL }, NULL },
	};
	const char *account;
	struct loaded l;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		load(&l, rows[i].changes);
		assert_string_equal(buf_text(&l.faults), "");
		account = l.settings.errormail_account;
		assert_string_equal(account == NULL ? "none" : account,
		    rows[i].want == NULL ? "none" : rows[i].want);
		unload(&l);
	}
}

static void
base_without_a_public_server_is_refused(void **state)
{
	static const char *const changes[] = { NULL };
	struct loaded l;
	BUF(text, 65536);

	(void)state;
	load(&l, changes);
	postconf_master(&l.settings, "x unix - n n - 50 smtpd\n", &text);
	assert_int_equal(text.error, EINVAL);
	buf_reset(&text);
	postconf_main(&l.settings, "a = b\nno parameter\n", &text);
	assert_int_equal(text.error, EINVAL);
	unload(&l);
}

static void
log_lines_get_a_host_and_lose_control_characters(void **state)
{
	static const struct {
		const char *in, *want;
	} rows[] = {
		{ "<22>Nov  1 10:00:00 postfix/master[7]: text\n",
		    "Nov  1 10:00:00 mx postfix/master[7]: text" },
		{ "Nov  1 10:00:00 mx swiftdrop[7]: text",
		    "Nov  1 10:00:00 mx swiftdrop[7]: text" },
		{ "a\nb\033[1mc\x7f", "a?b?[1mc?" },
		{ "m\xc3\xbc\xff", "m\xc3\xbc?" },
		{ "<not a priority> text", "<not a priority> text" },
		{ "", "" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(line, 1024);

		logs_line(rows[i].in, strlen(rows[i].in), "mx", &line);
		assert_string_equal(buf_text(&line), rows[i].want);
	}
}

/* A mail at once and an hour later, one when it is over, none for the same. */
static void
trouble_is_told_once_an_hour(void **state)
{
	static const char deferred[] =
	    "Nov  1 10:00:00 mx swiftdrop[7]: deferred: client=x, account=A, "
	    "dsn=4.3.5, reason=\"y\"";
	static const char stored[] =
	    "Nov  1 10:00:00 mx swiftdrop[7]: stored: client=x, account=A, "
	    "object=z";
	struct errormail e = { .address = "me@example.org" };
	struct trouble *t = &e.troubles[0];
	BUF(text, 65536);
	size_t i;

	(void)state;
	for (i = 0; i < 1000; i++) {
		errormail_see(&e, LOGS_FILTER, deferred);
		errormail_report(&e, &text);
	}
	assert_string_equal(buf_text(&text),
	    "failing: mail is deferred for account A, 1 times\n"
	    "    Nov  1 10:00:00 mx swiftdrop[7]: deferred: client=x, "
	    "account=A, dsn=4.3.5, reason=\"y\"\n");
	buf_reset(&text);
	t->told_ms -= 3600 * 1000;
	errormail_report(&e, &text);
	assert_non_null(strstr(buf_text(&text), "A, 1000 times\n"));
	buf_reset(&text);
	/* Another account's mail says nothing of this one. */
	errormail_see(&e, LOGS_FILTER, "stored: client=x, account=B, object=z");
	errormail_report(&e, &text);
	assert_int_equal(text.len, 0);
	errormail_see(&e, LOGS_FILTER, stored);
	errormail_report(&e, &text);
	assert_int_equal(strncmp(buf_text(&text),
			     "over: mail is deferred for account A, 1000", 42),
	    0);
	buf_reset(&text);
	/* Neither again within the hour, nor that this is over. */
	errormail_see(&e, LOGS_FILTER, deferred);
	errormail_report(&e, &text);
	errormail_see(&e, LOGS_FILTER, stored);
	errormail_report(&e, &text);
	assert_int_equal(text.len, 0);
	t->told_ms -= 3600 * 1000;
	errormail_see(&e, LOGS_FILTER, deferred);
	errormail_report(&e, &text);
	assert_non_null(strstr(buf_text(&text), "A, 1 times\n"));
	table_free(&e.lines);
}

static const struct {
	enum logs_source source;
	const char *begins, *ends, *want;
} troubles[] = {
	{ LOGS_FILTER, "stored: nrcpt=1, account=A, verdict=none",
	    "stored: nrcpt=1, account=A, verdict=no-action",
	    "rspamd is silent, 1 times" },
	{ LOGS_OWN, "warning: login: A: failed, status=401",
	    "all accounts log in again", "login, 1 times" },
	{ LOGS_OWN, "warning: TLS_CERT_FILE: /c expires in 3 days",
	    "TLS_CERT_FILE: the renewed certificate is in use",
	    "certificate, 1 times" },
	/* These are over when they are not seen for an hour. */
	{ LOGS_OWN, "warning: an account fails the check", NULL,
	    "check at the start, 1 times" },
	{ LOGS_POSTFIX, "smtp[1]: A: to=<x@y.org>, status=bounced (no)", NULL,
	    "forwards bounce, 1 times" },
};

static void
each_kind_of_trouble_begins_and_ends(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(troubles); i++) {
		struct errormail e = { .address = "me@example.org" };
		BUF(text, 65536);
		BUF(want, 65536);

		/* From elsewhere the same words mean nothing. */
		errormail_see(&e, (troubles[i].source + 1) % (LOGS_OWN + 1),
		    troubles[i].begins);
		errormail_see(&e, troubles[i].source, troubles[i].begins);
		errormail_report(&e, &text);
		if (troubles[i].ends != NULL)
			errormail_see(&e, troubles[i].source, troubles[i].ends);
		else
			e.troubles[0].last_ms -= 3600 * 1000;
		errormail_report(&e, &text);
		buf_addf(&want, "failing: %s\n    %s\nover: %s\n    %s\n",
		    troubles[i].want, troubles[i].begins, troubles[i].want,
		    troubles[i].begins);
		assert_string_equal(buf_text(&text), buf_text(&want));
		table_free(&e.lines);
	}
}

static void
mail_that_passes_by_itself_is_not_told(void **state)
{
	static const char deferred[] = "deferred: x=y, to=<me@example.org>, "
				       "account=A, dsn=4.3.0, reason=\"x\"";
	struct errormail e = { .address = "me@example.org" };
	BUF(text, 65536);

	(void)state;
	errormail_see(&e, LOGS_FILTER, deferred);
	errormail_see(&e, LOGS_FILTER, deferred);
	/* Nor what becomes of our own mail. */
	errormail_see(&e, LOGS_POSTFIX,
	    "A: to=<me@example.org>, status=bounced (");
	errormail_see(&e, LOGS_OWN,
	    "error: ERRORMAIL: warning: login: A: failed");
	errormail_report(&e, &text);
	assert_int_equal(text.len, 0);
	e.troubles[0].since_ms -= 5 * 60 * 1000;
	errormail_see(&e, LOGS_FILTER, deferred);
	errormail_report(&e, &text);
	assert_non_null(strstr(buf_text(&text), "account A, 3 times\n"));
	table_free(&e.lines);
}

/* Of all accounts that there may be, some are in the log alone. */
static void
more_troubles_than_there_is_room_for(void **state)
{
	struct errormail e = { .address = "me@example.org" };
	char line[64];
	BUF(text, 65536);
	int i;

	(void)state;
	for (i = 0; i < 64; i++) {
		(void)snprintf(line, sizeof(line),
		    "deferred: x=y, account=A%d, dsn=4.3.5", i);
		errormail_see(&e, LOGS_FILTER, line);
	}
	errormail_report(&e, &text);
	assert_non_null(strstr(buf_text(&text), "account A31,"));
	assert_null(strstr(buf_text(&text), "account A32,"));
	table_free(&e.lines);
}

static void
sessions_are_open_connections_to_our_port(void **state)
{
	static const char table[] =
	    "  sl  local_address rem_address   st tx_queue\n"
	    "   0: 00000000:0019 00000000:0000 0A 00000000:00000000 00\n"
	    "   1: 0100007F:0019 0100007F:C350 01 00000000:00000000 00\n"
	    "   2: 0100007F:0019 0100007F:C351 08 00000000:00000000 00\n"
	    "   3: 0100007F:0019 0100007F:C352 06 00000000:00000000 00\n"
	    "   4: 0100007F:C350 0100007F:0019 01 00000000:00000000 00\n"
	    "   5: 0100007F:2729 0100007F:C350 01 00000000:00000000 00\n";

	(void)state;
	assert_int_equal(sessions_in_table(table), 2);
	assert_int_equal(sessions_in_table("heading only\n"), 0);
	assert_int_equal(sessions_in_table(""), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_fault_is_named),
		cmocka_unit_test(file_means_what_the_variables_meant),
		cmocka_unit_test(file_that_says_more_is_a_fault),
		cmocka_unit_test(faults_of_all_accounts_are_named_at_once),
		cmocka_unit_test(kubernetes_own_variables_do_no_harm),
		cmocka_unit_test(sections_may_be_called_port_or_service),
		cmocka_unit_test(names_that_are_nearly_ours_are_warned_of),
		cmocka_unit_test(long_names_are_what_they_say),
		cmocka_unit_test(each_allocation_that_fails_is_a_fault),
		cmocka_unit_test(domain_counts_as_u_label_and_as_a_label),
		cmocka_unit_test(domain_is_the_rest_of_the_name),
		cmocka_unit_test(file_gives_a_value_less_one_newline),
		cmocka_unit_test(wildcards_agree_when_they_overlap),
		cmocka_unit_test(texts_follow_the_settings),
		cmocka_unit_test(logins_have_token_files),
		cmocka_unit_test(account_that_stores_the_mail_of_errormail),
		cmocka_unit_test(base_without_a_public_server_is_refused),
		cmocka_unit_test(
		    log_lines_get_a_host_and_lose_control_characters),
		cmocka_unit_test(trouble_is_told_once_an_hour),
		cmocka_unit_test(each_kind_of_trouble_begins_and_ends),
		cmocka_unit_test(mail_that_passes_by_itself_is_not_told),
		cmocka_unit_test(more_troubles_than_there_is_room_for),
		cmocka_unit_test(sessions_are_open_connections_to_our_port),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
