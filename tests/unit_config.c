/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The configuration and the routes: what is taken, what is refused and with
 * which words.
 */
#include <sys/stat.h>

#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#include "config.h"
#include "route.h"

#include "banned.h"

/* All that an account needs but its recipients. */
#define ACCOUNT_IN(container)                                                  \
	"auth_version = 1\nauthurl = http://h/v1\nuser = u\nkey = k\n"         \
	"container = " container "\n"
#define ACCOUNT ACCOUNT_IN("c")
/* 256 octets. */
#define LONG4  "long"
#define LONG32 LONG4 LONG4 LONG4 LONG4 LONG4 LONG4 LONG4 LONG4
#define LONG   LONG32 LONG32 LONG32 LONG32 LONG32 LONG32 LONG32 LONG32
#define GOOD   "[good]\nrecipients = good@x\n" ACCOUNT

static char folder[] = "/tmp/unit_config.XXXXXX";

static int
setup(void **state)
{
	(void)state;
	return mkdtemp(folder) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	return rmdir(folder);
}

/* Makes a file in the folder; its path is appended. */
static void
write_file(const char *name, const char *text, size_t len, struct buf *path)
{
	FILE *file;

	buf_addf(path, "%s/%s", folder, name);
	file = fopen(buf_text(path), "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fchmod(fileno(file), 0600), 0);
	assert_int_equal(fclose(file), 0);
}

/* Appends text with the folder left out. */
static void
add_without_folder(struct buf *out, const char *text)
{
	const char *p;

	for (; (p = strstr(text, folder)) != NULL;
	     text = p + strlen(folder) + 1)
		buf_add(out, text, (size_t)(p - text));
	buf_adds(out, text);
}

/*
 * Loads text from a file of its own, which the faults name as FILE; without a
 * text there is no file.  variables are the environment, '|' between them.
 */
static int
load(struct config *c, const char *text, const char *variables,
    struct buf *faults)
{
	char *copy, *environment[16], *rest;
	BUF(path, 200);
	BUF(raw, 16384);
	int result;
	size_t n;

	rest = copy = strdup(variables);
	assert_non_null(copy);
	for (n = 0; (environment[n] = strsep(&rest, "|")) != NULL; n++)
		assert_true(n + 1 < COUNT(environment));
	if (text == NULL) {
		result = config_load(c, NULL, environment, &raw);
	} else {
		write_file("FILE", text, strlen(text), &path);
		result = config_load(c, buf_text(&path), environment, &raw);
		assert_int_equal(unlink(buf_text(&path)), 0);
	}
	/* All that is kept is a copy. */
	memset(copy, 'x', strlen(variables));
	free(copy);
	assert_int_equal(raw.error, 0);
	assert_int_equal(result, raw.len == 0 ? 0 : -1);
	assert_true(raw.len == 0 || raw.data[raw.len - 1] == '\n');
	add_without_folder(faults, buf_text(&raw));
	return result;
}

/* Fails the test unless the faults are those, all of them, in this order. */
static void
assert_faults(const char *name, const char *text, const char *variables,
    const char *want)
{
	BUF(faults, 16384);
	struct config c;

	(void)load(&c, text, variables, &faults);
	unit_text(name, buf_text(&faults), want);
	config_free(&c);
}

static void
faults_name_line_section_and_key(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "good", "[a]\nrecipients = a@b\n" ACCOUNT, "" },
		{ "unknown key", GOOD "foo = 1\n",
		    "FILE:8: [good] foo: unknown key\n" },
		{ "SMTP key in an account", GOOD "deadline = 1\n",
		    "FILE:8: [good] deadline: unknown key\n" },
		{ "account key in SMTP", GOOD "[SMTP]\nuser = u\n",
		    "FILE:9: [SMTP] user: unknown key\n" },
		{ "os_options in SMTP", GOOD "[SMTP]\nos_options_x = u\n",
		    "FILE:9: [SMTP] os_options_x: unknown key\n" },
		{ "_file of what is no secret", GOOD "user_file = u\n",
		    "FILE:8: [good] user_file: unknown key\n" },
		{ "duplicate key", GOOD "prefix = u\nPrefix = v\n",
		    "FILE:9: [good] prefix: duplicate key\n" },
		{ "duplicate section", GOOD "[SMTP]\n[SMTP]\n",
		    "FILE:9: [SMTP] duplicate section\n" },
		{ "duplicate DEFAULT", GOOD "[DEFAULT]\n\n[DEFAULT]\n",
		    "FILE:10: [DEFAULT] duplicate section\n" },
		{ "no account", "[SMTP]\n",
		    "FILE: no account: no section has recipients\n" },
		{ "missing key",
		    "[a]\nrecipients = a@b\nauth_version = 1\nuser = u\n"
		    "authurl = http://h\nkey = k\n",
		    "FILE: [a] container: is missing\n" },
		{ "not a number", GOOD "retries = x\n",
		    "FILE:8: [good] retries: must be a whole number\n" },
		{ "out of range", GOOD "retries = 101\n",
		    "FILE:8: [good] retries: is out of range, see "
		    "swiftdrop.ini(5)\n" },
		{ "number of a fault in size",
		    GOOD "[SMTP]\ntimeout = 99999999999999999999\n",
		    "FILE:9: [SMTP] timeout: must be a whole number\n" },
		{ "zero", GOOD "[SMTP]\ntimeout = 0\n",
		    "FILE:9: [SMTP] timeout: is out of range, see "
		    "swiftdrop.ini(5)\n" },
		{ "450 or 550", GOOD "[SMTP]\nunknown_recipient_code = 500\n",
		    "FILE:9: [SMTP] unknown_recipient_code: must be 450 or "
		    "550\n" },
		{ "not a bool", GOOD "[SMTP]\nallow_remote = maybe\n",
		    "FILE:9: [SMTP] allow_remote: must be yes or no\n" },
		{ "not a URL", GOOD "storage_url = ftp://h\n",
		    "FILE:8: [good] storage_url: must begin with http:// or "
		    "https://\n" },
		{ "URL without host", GOOD "storage_url = http:///v3\n",
		    "FILE:8: [good] storage_url: names no host\n" },
		{ "URL with a query", GOOD "storage_url = http://h/v1?a\n",
		    "FILE:8: [good] storage_url: must not have a blank, a "
		    "query or a fragment\n" },
		{ "Keystone v2",
		    "[a]\nrecipients = a@b\nuser = u\nkey = k\n"
		    "container = c\nauthurl = http://h/v2.0\n",
		    "FILE:6: [a] authurl: is of Keystone v2, which no longer "
		    "exists; write .../v3\n" },
		{ "two lines", GOOD "content_type = u\n  v\n",
		    "FILE:8: [good] content_type: must be a single line\n" },
		{ "control character", GOOD "content_type = u\x01v\n",
		    "FILE:8: [good] content_type: control character in the "
		    "value\n" },
		{ "control character in a section's name", GOOD "[a\x01]\n",
		    "FILE:8: control character in a section's name\n" },
		{ "not text", GOOD "\xff\ndelete_after = \xff\nfoo = 1\n",
		    "FILE:8: the line is not in UTF-8\n"
		    "FILE:9: the line is not in UTF-8\n"
		    "FILE:10: [good] foo: unknown key\n" },
		{ "no section", "key = v\n" GOOD,
		    "FILE:1: no section comes before this line\n" },
		{ "slash in container",
		    "[a]\nrecipients = a@b\ncontainer = a/b\nauth_version = 1\n"
		    "authurl = http://h\nuser = u\nkey = k\n",
		    "FILE:3: [a] container: must be a container's name, "
		    "without / and of at most 256 octets\n" },
		{ "a container of 257 octets",
		    GOOD "[b]\n" ACCOUNT_IN(LONG "x"),
		    "FILE:13: [b] container: must be a container's name, "
		    "without / and of at most 256 octets\n" },
		{ "a container of 256 octets", GOOD "[b]\n" ACCOUNT_IN(LONG),
		    "" },
		{ "a prefix of 513 octets", GOOD "prefix = " LONG LONG "/\n",
		    "FILE:8: [good] prefix: must have at most 512 octets\n" },
		{ "endpoint_type", GOOD "os_options_endpoint_type = Public\n",
		    "FILE:8: [good] os_options_endpoint_type: must be one of: "
		    "public publicURL internal internalURL admin adminURL\n" },
		{ "temp_url_digest", GOOD "temp_url_digest = md5\n",
		    "FILE:8: [good] temp_url_digest: must be one of: sha1 "
		    "sha256 sha512\n" },
		{ "proxy", GOOD "proxy = socks5://p\n",
		    "FILE:8: [good] proxy: must be http://host:port or "
		    "http://user:password@host:port, with / ? # @ in user and "
		    "password as %2F %3F %23 %40\n" },
		{ "a credential without its secret",
		    "[a]\nrecipients = a@b\nauthurl = http://h/v3\n"
		    "container = c\nos_options_application_credential_id = i\n",
		    "FILE: [a] os_options_application_credential_secret: is "
		    "missing\n" },
		{ "a credential's name without its secret or user",
		    "[a]\nrecipients = a@b\nauthurl = http://h/v3\n"
		    "container = c\n"
		    "os_options_application_credential_name = n\n",
		    "FILE: [a] user: is missing, or "
		    "os_options_application_credential_id\n"
		    "FILE: [a] os_options_application_credential_secret: is "
		    "missing\n" },
		{ "a credential's name, of a user by id",
		    "[a]\nrecipients = a@b\nauthurl = http://h/v3\n"
		    "container = c\nos_options_user_id = i\n"
		    "os_options_application_credential_name = n\n"
		    "os_options_application_credential_secret = s\n",
		    "" },
		{ "dots as container",
		    "[a]\nrecipients = a@b\ncontainer = ..\nauth_version = 1\n"
		    "authurl = http://h\nuser = u\nkey = k\n",
		    "FILE:3: [a] container: must be a container's name, "
		    "without / and of at most 256 octets\n" },
		{ "auth_version",
		    "[a]\nrecipients = a@b\ncontainer = c\nauth_version = 2\n",
		    "FILE:4: [a] auth_version: must be one of: 3 3.0 1 1.0 "
		    "tempurl\n" },
		{ "reinject by name", GOOD "[SMTP]\nreinject = mx.example:25\n",
		    "FILE:9: [SMTP] reinject: must be IP:port, [v6]:port, "
		    "localhost:port or unix:path\n" },
		{ "statsd by name", GOOD "[SMTP]\nstatsd = mx.example:8125\n",
		    "FILE:9: [SMTP] statsd: must be IP:port, [v6]:port, "
		    "localhost:port or unix:path\n" },
		{ "rspamd without a scheme", GOOD "[SMTP]\nrspamd = h:11333\n",
		    "FILE:9: [SMTP] rspamd: must begin with http:// or "
		    "https://\n" },
		{ "rspamd with a query", GOOD "[SMTP]\nrspamd = http://h/?a\n",
		    "FILE:9: [SMTP] rspamd: must not have a blank, a query or "
		    "a fragment\n" },
		{ "rspamd_timeout", GOOD "[SMTP]\nrspamd_timeout = 0\n",
		    "FILE:9: [SMTP] rspamd_timeout: is out of range, see "
		    "swiftdrop.ini(5)\n" },
		{ "rspamd_required", GOOD "[SMTP]\nrspamd_required = 2\n",
		    "FILE:9: [SMTP] rspamd_required: must be yes or no\n" },
		{ "rspamd_reject", GOOD "[SMTP]\nrspamd_reject = maybe\n",
		    "FILE:9: [SMTP] rspamd_reject: must be yes or no\n" },
		{ "hostname", GOOD "[SMTP]\nhostname = a b\n",
		    "FILE:9: [SMTP] hostname: is not a host name\n" },
		{ "log", GOOD "[SMTP]\nlog = file\n",
		    "FILE:9: [SMTP] log: must be auto, journal, syslog, "
		    "[json:]stderr, [json:]postlog:PATH or none\n" },
		{ "both forms of a secret", GOOD "key_file = f\n",
		    "FILE:8: [good] key_file: stands beside its other form, "
		    "with and without _file; keep one of them\n" },
		{ "both kinds of a TempURL",
		    "[a]\nrecipients = a@b\nauth_version = tempurl\n"
		    "storage_url = http://h\ncontainer = c\n"
		    "temp_url_key = k\ntemp_url_query = q\n",
		    "FILE:7: [a] temp_url_query: stands beside temp_url_key; "
		    "keep one of them\n" },
		{ "no such secret",
		    "[a]\nrecipients = a@b\nauth_version = 1\nuser = u\n"
		    "authurl = http://h\ncontainer = c\n"
		    "key_file = /nonexistent/key\n",
		    "FILE:7: [a] key_file: cannot read /nonexistent/key: No "
		    "such file or directory\n" },
		{ "claimed twice",
		    "[DEFAULT]\n" ACCOUNT "[a]\nrecipients = x@y\n[b]\n"
		    "recipients = z@y, X@Y.\n",
		    "FILE:10: [b] recipients: \"x@y\" is claimed by [a] "
		    "already\n" },
		{ "token_file by a relative path", GOOD "token_file = t\n",
		    "FILE:8: [good] token_file: must be an absolute path\n" },
		{ "token_file where nobody logs in",
		    "[a]\nrecipients = a@b\nauth_version = tempurl\n"
		    "storage_url = http://h\ncontainer = c\n"
		    "temp_url_key = k\ntoken_file = /t\n",
		    "FILE:7: [a] token_file: has no use with auth_version "
		    "tempurl\n" },
		{ "no such recipient", "[a]\nrecipients = x y@z\n" ACCOUNT,
		    "FILE:2: [a] recipients: \"x y@z\" is not user@domain, "
		    "user, @domain or *\n" },
		{ "quotes that are not closed",
		    "[a]\nrecipients = x@y, \"a@b,\n  c@d\n" ACCOUNT,
		    "FILE:2: [a] recipients: \"\"a@b,?c@d\" is not "
		    "user@domain, user, @domain or *\n" },
		{ "a comma that is meant",
		    "[a]\nrecipients = x\\,y@z\n" ACCOUNT, "" },
		{ "recipient without domain", "[a]\nrecipients = x\n" ACCOUNT,
		    "" },
		{ "several that are none",
		    "[a]\nrecipients = x@, a@b,\n  @\n" ACCOUNT,
		    "FILE:2: [a] recipients: \"x@\" is not user@domain, "
		    "user, @domain or *; \"@\" is not user@domain, user, "
		    "@domain or *\n" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		assert_faults(rows[i].name, rows[i].in, "", rows[i].want);
}

/* Whoever mends one fault does not want to meet the next one then. */
static void
all_faults_are_reported_in_their_order(void **state)
{
	static const char text[] =
	    "[SMTP]\nuser = u\ndeadline = soon\n"
	    "[A]\nfoo = 1\ncontainer = c/d\nretries\n"
	    "recipients = x@\nauthurl = h\nprefix = p\n"
	    "Prefix = q\n[A]\n[b]\nrecipients = a@b\n" ACCOUNT
	    "[c]\nrecipients = A@B, *\n" ACCOUNT;
	static const char variables[] = "SWIFTDROP_B_X=1|"
					"PATH=/bin|"
					"SWIFTDROP_A_BAR=2|"
					"SWIFTDROP_A_TIMEOUT=0";

	(void)state;
	assert_faults("all", text, variables,
	    /* while it is read */
	    "FILE:2: [SMTP] user: unknown key\n"
	    "FILE:5: [A] foo: unknown key\n"
	    "FILE:11: [A] prefix: duplicate key\n"
	    "FILE:12: [A] duplicate section\n"
	    /* the environment's, in the order of their names */
	    "SWIFTDROP_A_BAR: is read as \"bar\" of [A]: unknown key\n"
	    "SWIFTDROP_B_X: is read as \"x\" of [B]: unknown key\n"
	    /* values, section by section, key by key */
	    "FILE:3: [SMTP] deadline: must be a whole number\n"
	    "FILE:6: [A] container: must be a container's name, without / "
	    "and of at most 256 octets\n"
	    "FILE:9: [A] authurl: must begin with http:// or https://\n"
	    "SWIFTDROP_A_TIMEOUT: is out of range, see swiftdrop.ini(5)\n"
	    "FILE: [A] user: is missing, or "
	    "os_options_application_credential_id\n"
	    "FILE: [A] key: is missing\n"
	    "FILE:8: [A] recipients: \"x@\" is not user@domain, user, "
	    "@domain or *\n"
	    "FILE: [B] container: is missing\n"
	    "FILE: [B] authurl: is missing\n"
	    "FILE: [B] user: is missing, or "
	    "os_options_application_credential_id\n"
	    "FILE: [B] key: is missing\n"
	    /* what two accounts claim */
	    "FILE:21: [c] recipients: \"a@b\" is claimed by [b] already\n");
}

/* What many sections inherit is wrong once, and there where it stands. */
static void
what_is_inherited_is_reported_once(void **state)
{
	(void)state;
	assert_faults("file",
	    "[DEFAULT]\nauth_version = 1\nauthurl = http://h\nuser = u\n"
	    "container = c/d\nretries = x\nkey_file = /nonexistent/key\n"
	    "temp_url_key_file = /nonexistent/key\n"
	    "[a]\nrecipients = a@b\n[b]\nrecipients = b@b\n"
	    "[c]\nrecipients = c@b\nretries = y\n",
	    "",
	    "FILE:5: [DEFAULT] container: must be a container's name, "
	    "without / and of at most 256 octets\n"
	    "FILE:7: [DEFAULT] key_file: cannot read /nonexistent/key: No "
	    "such file or directory\n"
	    "FILE:8: [DEFAULT] temp_url_key_file: cannot read "
	    "/nonexistent/key: No such file or directory\n"
	    "FILE:6: [DEFAULT] retries: must be a whole number\n"
	    "FILE:15: [c] retries: must be a whole number\n");
	assert_faults("environment",
	    "[A]\nrecipients = a@b\n" ACCOUNT "[B]\nrecipients = b@b\n" ACCOUNT,
	    "SWIFTDROP_DEFAULT_RETRIES=x",
	    "SWIFTDROP_DEFAULT_RETRIES: must be a whole number\n");
}

/* A name may hold anything, its line does not end there for it. */
static void
each_fault_is_one_line(void **state)
{
	(void)state;
	assert_faults("names", GOOD "k\x1b[1m = v\n",
	    "SWIFTDROP_A\nB_C=d|SWIFTDROP_A_C\r\nX=d",
	    "FILE:8: [good] k?[1m: unknown key\n"
	    "SWIFTDROP_A?B_C: is not text in UTF-8\n"
	    "SWIFTDROP_A_C??X: is read as \"c??x\" of [A]: unknown key\n"
	    "FILE: [A] container: is missing\n"
	    "FILE: [A] authurl: is missing\n"
	    "FILE: [A] user: is missing, or "
	    "os_options_application_credential_id\n"
	    "FILE: [A] key: is missing\n");
}

/* Those that do not fit are left out, and it stays refused. */
static void
too_many_faults_are_whole_lines(void **state)
{
	char *nothing[] = { NULL };
	BUF(faults, 100);
	BUF(path, 200);
	BUF(text, 10000);
	struct config c;
	const char *line;
	int i;

	(void)state;
	for (i = 0; i < 10; i++)
		buf_addf(&text, "[x%d\x01]\n", i);
	buf_adds(&text, GOOD);
	write_file("FILE", text.data, text.len, &path);
	assert_int_equal(config_load(&c, buf_text(&path), nothing, &faults),
	    -1);
	assert_int_not_equal(faults.error, 0);
	for (line = buf_text(&faults); *line != '\0';
	     line = strchr(line, '\n') + 1) {
		assert_memory_equal(line, folder, strlen(folder));
		assert_non_null(strchr(line, '\n'));
	}
	config_free(&c);
	assert_int_equal(unlink(buf_text(&path)), 0);
}

/* Where nothing but the environment is, the variable to set is named. */
static void
faults_name_the_variable(void **state)
{
	static const struct {
		const char *name, *variables, *want;
	} rows[] = {
		{ "good",
		    "SWIFTDROP_A_RECIPIENTS=a@b|"
		    "SWIFTDROP_A_CONTAINER=c|"
		    "SWIFTDROP_A_AUTH_VERSION=1|"
		    "SWIFTDROP_A_AUTHURL=http://h|"
		    "SWIFTDROP_A_USER=u|"
		    "SWIFTDROP_A_KEY=k",
		    "" },
		{ "any case",
		    "SWIFTDROP_a_recipients=a@b|"
		    "SWIFTDROP_A_Container=c|"
		    "SWIFTDROP_A_AUTH_VERSION=1|"
		    "SWIFTDROP_A_AUTHURL=http://h|"
		    "SWIFTDROP_A_USER=u|"
		    "SWIFTDROP_A_KEY=k",
		    "" },
		{ "missing keys",
		    "SWIFTDROP_A_RECIPIENTS=a@b|"
		    "SWIFTDROP_A_AUTH_VERSION=tempurl",
		    "SWIFTDROP_A_CONTAINER: is missing\n"
		    "SWIFTDROP_A_STORAGE_URL: is missing\n"
		    "SWIFTDROP_A_TEMP_URL_KEY: is missing, or "
		    "temp_url_query\n" },
		{ "no option", "SWIFTDROP_A=b",
		    "SWIFTDROP_A: names no option, write "
		    "SWIFTDROP_<SECTION>_<OPTION>\n"
		    "environment: no account: no section has recipients\n" },
		{ "no section", "SWIFTDROP__USER=b",
		    "SWIFTDROP__USER: names no option, write "
		    "SWIFTDROP_<SECTION>_<OPTION>\n"
		    "environment: no account: no section has recipients\n" },
		{ "an empty option", "SWIFTDROP_A_=b",
		    "SWIFTDROP_A_: names no option, write "
		    "SWIFTDROP_<SECTION>_<OPTION>\n"
		    "environment: no account: no section has recipients\n" },
		{ "nothing", "PATH=/bin",
		    "environment: No such file or directory\n" },
		{ "twice in two spellings",
		    "SWIFTDROP_SMTP_LOG=none|"
		    "SWIFTDROP_smtp_log=none",
		    "SWIFTDROP_smtp_log: is given twice in the environment; "
		    "keep one of them\n"
		    "environment: no account: no section has recipients\n" },
		{ "both forms of a secret",
		    "SWIFTDROP_A_RECIPIENTS=a@b|"
		    "SWIFTDROP_A_CONTAINER=c|"
		    "SWIFTDROP_A_AUTH_VERSION=1|"
		    "SWIFTDROP_A_AUTHURL=http://h|"
		    "SWIFTDROP_A_USER=u|"
		    "SWIFTDROP_A_KEY=k|"
		    "SWIFTDROP_A_KEY_FILE=f",
		    "SWIFTDROP_A_KEY_FILE: is given twice in the environment; "
		    "keep one of them\n" },
		{ "not UTF-8", "SWIFTDROP_SMTP_LOG=\xff",
		    "SWIFTDROP_SMTP_LOG: is not text in UTF-8\n"
		    "environment: no account: no section has recipients\n" },
		{ "a line break in a secret",
		    "SWIFTDROP_A_RECIPIENTS=a@b|"
		    "SWIFTDROP_A_CONTAINER=c|"
		    "SWIFTDROP_A_AUTH_VERSION=1|"
		    "SWIFTDROP_A_AUTHURL=http://h|"
		    "SWIFTDROP_A_USER=u|"
		    "SWIFTDROP_A_KEY=k\n",
		    "SWIFTDROP_A_KEY: must be a single line\n" },
		{ "two lines", "SWIFTDROP_SMTP_LOG=a\nb",
		    "SWIFTDROP_SMTP_LOG: must be a single line\n"
		    "environment: no account: no section has recipients\n" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		assert_faults(rows[i].name, NULL, rows[i].variables,
		    rows[i].want);
}

/*
 * What Kubernetes and Docker make up for a service of our name, or of one
 * that begins with it, is passed over; what looks like it and is a key of
 * ours is not.
 */
static void
made_up_variables_are_passed_over_by_their_shape(void **state)
{
	static const struct {
		const char *variable;
		bool counts;
	} rows[] = {
		/* kubernetes.io/docs/concepts/services-networking/service */
		{ "SWIFTDROP_SERVICE_HOST=10.0.0.1", false },
		{ "SWIFTDROP_SERVICE_PORT=25", false },
		{ "SWIFTDROP_SERVICE_PORT_SMTP=25", false },
		{ "SWIFTDROP_SERVICE_PORT_SMTP_TLS=25", false },
		{ "SWIFTDROP_PORT=tcp://10.0.0.1:25", false },
		{ "SWIFTDROP_PORT_25_TCP=tcp://10.0.0.1:25", false },
		{ "SWIFTDROP_PORT_25_TCP_PROTO=tcp", false },
		{ "SWIFTDROP_PORT_25_TCP_PORT=25", false },
		{ "SWIFTDROP_PORT_25_TCP_ADDR=10.0.0.1", false },
		{ "SWIFTDROP_PORT_53_UDP_ADDR=10.0.0.1", false },
		{ "SWIFTDROP_PORT_9_SCTP=sctp://10.0.0.1:9", false },
		{ "SWIFTDROP_X_SERVICE_HOST=10.0.0.1", false },
		{ "SWIFTDROP_X_SERVICE_PORT=25", false },
		{ "SWIFTDROP_X_SERVICE_PORT_SMTP=25", false },
		{ "SWIFTDROP_X_PORT=tcp://10.0.0.1:25", false },
		{ "SWIFTDROP_SMTP_PORT=tcp://10.0.0.1:25", false },
		{ "SWIFTDROP_SMTP_PORT_25_TCP=tcp://10.0.0.1:25", false },
		{ "SWIFTDROP_SMTP_PORT_25_TCP_PORT=25", false },
		{ "SWIFTDROP_A_B_C_PORT_25_TCP_ADDR=10.0.0.1", false },
		/* docs.docker.com/engine/network/links */
		{ "SWIFTDROP_NAME=/web/swiftdrop", false },
		{ "SWIFTDROP_ENV_PATH=/bin", false },
		{ "SWIFTDROP_ENV_SWIFTDROP_A_USER=u", false },
		/* not their shape: a key of a section, known or not */
		{ "SWIFTDROP_PORTAL_CONTAINER=c", true },
		{ "SWIFTDROP_SERVICE_CONTAINER=c", true },
		{ "SWIFTDROP_PORT_CONTAINER=c", true },
		{ "SWIFTDROP_NAME_CONTAINER=c", true },
		{ "SWIFTDROP_ENVOY_CONTAINER=c", true },
		{ "SWIFTDROP_A_NAME=x", true },
		{ "SWIFTDROP_A_ENV_PATH=x", true },
		{ "SWIFTDROP_A_PORTS=1", true },
		{ "SWIFTDROP_A_PORT_25=1", true },
		{ "SWIFTDROP_A_PORT_X_TCP=1", true },
		{ "SWIFTDROP_A_PORT_25_TLS=1", true },
		{ "SWIFTDROP_A_PORT_25_TCP_NAME=1", true },
		{ "SWIFTDROP_A_PORT_25_TCP_ADDR_X=1", true },
		{ "SWIFTDROP_A_SERVICE_HOSTS=1", true },
		{ "SWIFTDROP_A_XSERVICE_HOST=1", true },
		{ "SWIFTDROP_A_SERVICE_HOST_X=1", true },
		{ "SWIFTDROP_A_XPORT=1", true },
		{ "SWIFTDROP_SERVICE=1", true },
		{ "SWIFTDROP_IMAGE_TAG=1", true },
		/* not ours at all */
		{ "SWIFTDROPX_PORT_CONTAINER=c", false },
		{ "SWIFTDROP=x", false },
		{ "XSWIFTDROP_A_USER=x", false },
		{ "swiftdrop_A_USER=x", false },
	};
	struct config c;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(faults, 4096);

		assert_int_equal(load(&c, NULL, rows[i].variable, &faults), -1);
		unit_number(rows[i].variable,
		    strcmp(buf_text(&faults),
			"environment: No such file or directory\n") != 0,
		    rows[i].counts);
		config_free(&c);
		/* What is passed over changes nothing beside a file either. */
		buf_reset(&faults);
		unit_number(rows[i].variable,
		    load(&c, GOOD, rows[i].variable, &faults),
		    rows[i].counts ? -1 : 0);
		assert_true(rows[i].counts || c.warnings.len == 0);
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
		int want;
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
	BUF(faults, 1000);
	ADDRESS(other);
	struct config c;
	size_t i;

	(void)state;
	assert_int_equal(load(&c, text, "", &faults), 0);
	for (i = 0; i < COUNT(rows); i++) {
		ADDRESS(a);

		assert_true(address_parse(&a, rows[i].in, strlen(rows[i].in)));
		unit_number(rows[i].name, route_find(&c.routes, &a),
		    rows[i].want);
	}
	/* The last account is the one that takes all the others. */
	assert_string_equal(c.routes.claims[0].key, "*");
	free(c.routes.claims[0].key);
	memmove(c.routes.claims, c.routes.claims + 1,
	    --c.routes.n * sizeof(c.routes.claims[0]));
	assert_true(address_parse(&other, "user@example.net", 16));
	assert_int_equal(route_find(&c.routes, &other), ROUTE_NONE);
	config_free(&c);
}

static void
values_are_inherited_overridden_and_unset(void **state)
{
	static const char text[] =
	    "[SMTP]\nrecipient_delimiter =\n"
	    "[DEFAULT]\n" ACCOUNT "prefix = new/\ntimeout = 7\n"
	    "[a]\nrecipients = a@b\n"
	    "[b]\nrecipients = b@b\nprefix =\ntimeout\ncontainer = d\n";
	BUF(faults, 1000);
	struct config c;

	(void)state;
	assert_int_equal(load(&c, text, "", &faults), 0);
	assert_int_equal(c.naccounts, 2);
	assert_string_equal(c.accounts[0].name, "a");
	assert_int_equal(c.accounts[0].index, 0);
	assert_string_equal(c.accounts[0].prefix, "new/");
	assert_int_equal(c.accounts[0].http.timeout_s, 7);
	assert_string_equal(c.accounts[0].container, "c");
	assert_string_equal(c.accounts[1].name, "b");
	assert_int_equal(c.accounts[1].index, 1);
	assert_string_equal(c.accounts[1].prefix, "");
	assert_int_equal(c.accounts[1].http.timeout_s, 60);
	assert_string_equal(c.accounts[1].container, "d");
	assert_false(config_same_place(&c.accounts[0], &c.accounts[1]));
	assert_true(config_same_place(&c.accounts[0], &c.accounts[0]));
	assert_string_equal(c.smtp.recipient_delimiter, "");
	assert_int_equal(c.smtp.deadline_s, 90);
	assert_int_equal(c.smtp.message_size_limit, 52494336);
	assert_int_equal(c.warnings.len, 0);
	config_free(&c);
}

/* tenant is what a project was called before Keystone v3. */
static void
a_project_has_one_name_whatever_its_keys_are(void **state)
{
	static const struct {
		const char *name, *in, *want; /* name and id */
	} rows[] = {
		{ "none", "", "(null) (null)" },
		{ "project",
		    "os_options_project_name = p\nos_options_project_id = i\n",
		    "p i" },
		{ "tenant", "tenant_name = t\nos_options_tenant_id = i\n",
		    "t i" },
		{ "swiftclient's option before its argument",
		    "tenant_name = t\nos_options_tenant_name = o\n",
		    "o (null)" },
		{ "project before tenant",
		    "tenant_name = t\nos_options_tenant_id = j\n"
		    "os_options_project_name = p\nos_options_project_id = i\n",
		    "p i" },
		{ "inherited",
		    "os_options_tenant_name =\n[DEFAULT]\n"
		    "os_options_tenant_name = o\ntenant_name = t\n",
		    "t (null)" },
	};
	struct config c;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(faults, 1000);
		BUF(got, 1000);
		BUF(printed, 10000);
		BUF(text, 1000);

		buf_addf(&text, GOOD "%s", rows[i].in);
		(void)load(&c, buf_text(&text), "", &faults);
		unit_text(rows[i].name, buf_text(&faults), "");
		buf_addf(&got, "%s %s",
		    c.accounts[0].project_name == NULL
			? "(null)"
			: c.accounts[0].project_name,
		    c.accounts[0].project_id == NULL
			? "(null)"
			: c.accounts[0].project_id);
		unit_text(rows[i].name, buf_text(&got), rows[i].want);
		config_print(&c, true, &printed);
		assert_null(strstr(buf_text(&printed), "tenant"));
		config_free(&c);
	}
	assert_faults("one that does not count",
	    GOOD "os_options_project_name = p\ntenant_name = a\x01\n", "",
	    "FILE:9: [good] tenant_name: control character in the value\n");
}

/* As swiftclient takes it apart; printed and read again it is the same. */
static void
a_user_may_bring_the_project_along(void **state)
{
	static const struct {
		const char *name, *in, *want; /* project and user */
	} rows[] = {
		{ "TENANT:USER", "user = t:u\n", "t u" },
		{ "beside the tenant", "user = t:u\ntenant_name = x\n", "t u" },
		{ "beside the project",
		    "user = t:u\nos_options_project_name = p\n", "p u" },
		{ "unset", "user = t:u\nos_options_project_name =\n", "t u" },
		{ "two colons", "user = t:u:v\n", "(null) t:u:v" },
		{ "no tenant", "user = :u\n", "(null) :u" },
		{ "no user", "user = t:\n", "(null) t:" },
		{ "v1", "user = t:u\nauth_version = 1\n", "(null) t:u" },
		{ "whose credential",
		    "user = t:u\nos_options_application_credential_name = n\n"
		    "os_options_application_credential_secret = s\n",
		    "(null) t:u" },
	};
	struct config c;
	size_t i, k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(faults, 1000);
		BUF(text, 10000);

		buf_addf(&text,
		    "[a]\nrecipients = a@b\nauthurl = http://h/v3\n"
		    "container = c\nkey = k\n%s",
		    rows[i].in);
		for (k = 0; k < 2; k++) {
			BUF(got, 1000);

			(void)load(&c, buf_text(&text), "", &faults);
			unit_text(rows[i].name, buf_text(&faults), "");
			buf_addf(&got, "%s %s",
			    c.accounts[0].project_name == NULL
				? "(null)"
				: c.accounts[0].project_name,
			    c.accounts[0].user);
			unit_text(rows[i].name, buf_text(&got), rows[i].want);
			buf_reset(&text);
			config_print(&c, false, &text);
			config_free(&c);
		}
	}
}

static void
default_is_an_account_when_it_has_recipients(void **state)
{
	BUF(faults, 1000);
	struct config c;

	(void)state;
	assert_int_equal(load(&c,
			     "[DEFAULT]\nrecipients = a@b\n" ACCOUNT
			     "[a]\nrecipients = c@d\n",
			     "", &faults),
	    0);
	assert_int_equal(c.naccounts, 2);
	assert_string_equal(c.accounts[0].name, "DEFAULT");
	/* They are not inherited. */
	assert_string_equal(c.accounts[1].recipients, "c@d");
	config_free(&c);
	assert_int_equal(load(&c,
			     "[DEFAULT]\nrecipients =\n" ACCOUNT
			     "[a]\nrecipients = c@d\n",
			     "", &faults),
	    0);
	assert_int_equal(c.naccounts, 1);
	config_free(&c);
}

static void
the_environment_beats_the_file(void **state)
{
	static const char good[] = "SWIFTDROP_SMTP_DEADLINE=12|"
				   "SWIFTDROP_A_USER=v|"
				   "SWIFTDROP_PORT_25_TCP=x|"
				   "SWIFTDROP_A_CONTENT_TYPE=|"
				   "SWIFTDROP_A_PREFIX=";
	BUF(faults, 1000);
	struct config c;

	(void)state;
	assert_int_equal(load(&c,
			     "[DEFAULT]\ncontent_type = text/x\n"
			     "[A]\nrecipients = a@b\n" ACCOUNT,
			     good, &faults),
	    0);
	assert_int_equal(c.smtp.deadline_s, 12);
	assert_string_equal(c.accounts[0].user, "v");
	/* An empty one unsets, but where empty is a value. */
	assert_string_equal(c.accounts[0].content_type, "message/rfc822");
	assert_string_equal(c.accounts[0].prefix, "");
	config_free(&c);
	assert_faults("unknown", "[A]\nrecipients = a@b\n" ACCOUNT,
	    "SWIFTDROP_A_FOO=swordfish",
	    "SWIFTDROP_A_FOO: is read as \"foo\" of [A]: unknown key\n");
}

static void
a_variable_means_what_a_line_of_the_file_would(void **state)
{
	BUF(faults, 1000);
	struct config c;

	(void)state;
	assert_int_equal(load(&c,
			     "[DEFAULT]\ncontent_type = text/x\n"
			     "[A]\nrecipients = x@y\n" ACCOUNT,
			     "SWIFTDROP_A_CONTAINER= mail\n|"
			     "SWIFTDROP_A_PREFIX=\xc2\xa0new/ x/\xe3\x80\x80|"
			     "SWIFTDROP_A_TIMEOUT=\t7 |"
			     "SWIFTDROP_A_CONTENT_TYPE= \t|"
			     "SWIFTDROP_A_RECIPIENTS=\n a@b\n c@d\n|"
			     "SWIFTDROP_A_KEY= a secret ",
			     &faults),
	    0);
	assert_string_equal(c.accounts[0].container, "mail");
	assert_string_equal(c.accounts[0].prefix, "new/ x/");
	assert_int_equal(c.accounts[0].http.timeout_s, 7);
	assert_string_equal(c.accounts[0].content_type, "message/rfc822");
	assert_string_equal(c.accounts[0].recipients, "a@b\n c@d");
	/* A file of its own keeps it as well. */
	assert_string_equal(c.accounts[0].key, " a secret ");
	config_free(&c);
}

static void
verdicts_and_counters_are_off_until_somebody_wants_them(void **state)
{
	BUF(faults, 1000);
	struct config c;

	(void)state;
	assert_int_equal(load(&c, GOOD, "", &faults), 0);
	assert_null(c.smtp.rspamd);
	assert_int_equal(c.smtp.rspamd_timeout_s, 10);
	assert_false(c.smtp.rspamd_required);
	assert_true(c.smtp.rspamd_reject);
	assert_null(c.smtp.statsd);
	config_free(&c);
	assert_int_equal(load(&c,
			     GOOD "[SMTP]\nrspamd = http://other\nstatsd =\n",
			     "SWIFTDROP_SMTP_RSPAMD=https://u:p@h:11333/x|"
			     "SWIFTDROP_SMTP_RSPAMD_TIMEOUT=90|"
			     "SWIFTDROP_SMTP_RSPAMD_REQUIRED=yes|"
			     "SWIFTDROP_SMTP_RSPAMD_REJECT=no|"
			     "SWIFTDROP_SMTP_STATSD=unix:/run/statsd",
			     &faults),
	    0);
	assert_string_equal(c.smtp.rspamd, "https://u:p@h:11333/x");
	assert_int_equal(c.smtp.rspamd_timeout_s, 90);
	assert_true(c.smtp.rspamd_required);
	assert_false(c.smtp.rspamd_reject);
	assert_string_equal(c.smtp.statsd, "unix:/run/statsd");
	config_free(&c);
}

/* It may be meant for later; where it is, is said as of a fault. */
static void
an_account_without_recipients_is_a_warning(void **state)
{
	BUF(faults, 1000);
	BUF(warnings, 1000);
	struct config c;

	(void)state;
	assert_int_equal(load(&c, GOOD "[a]\n" ACCOUNT, "", &faults), 0);
	add_without_folder(&warnings, buf_text(&c.warnings));
	unit_text("warnings", buf_text(&warnings),
	    "FILE: [a] this account has no recipients\n");
	config_free(&c);
}

/* What is not known of swiftclient's options may be known one day. */
static void
an_unknown_option_is_a_warning(void **state)
{
	BUF(faults, 1000);
	BUF(warnings, 1000);
	struct config c;

	(void)state;
	assert_int_equal(
	    load(&c, "[A]\nos_options_x = 1\nrecipients = a@b\n" ACCOUNT,
		"SWIFTDROP_A_OS_OPTIONS_Y=v", &faults),
	    0);
	add_without_folder(&warnings, buf_text(&c.warnings));
	unit_text("warnings", buf_text(&warnings),
	    "FILE:2: [A] os_options_x: unknown option, not used\n"
	    "SWIFTDROP_A_OS_OPTIONS_Y: is read as \"os_options_y\" of [A]: "
	    "unknown option, not used\n");
	config_free(&c);
}

static void
a_byte_order_mark_is_skipped(void **state)
{
	BUF(faults, 1000);
	struct config c;

	(void)state;
	assert_int_equal(load(&c, "\xef\xbb\xbf" GOOD, "", &faults), 0);
	assert_string_equal(c.accounts[0].name, "good");
	config_free(&c);
	assert_faults("twice", "\xef\xbb\xbf\xef\xbb\xbf" GOOD, "",
	    "FILE:1: no section comes before this line\n"
	    "FILE: no account: no section has recipients\n");
}

/* In a manifest a variable is often there and empty. */
static void
an_empty_variable_is_no_second_form(void **state)
{
	static const char file[] = "[DEFAULT]\nkey_file = nowhere\n"
				   "[A]\nrecipients = a@b\nauth_version = 1\n"
				   "authurl = http://h\nuser = u\n"
				   "container = c\n";
	static const struct {
		const char *name, *key, *key_file, *want;
	} rows[] = {
		{ "the file's", "SWIFTDROP_A_KEY=",
		    "SWIFTDROP_A_KEY_FILE=secret", "swordfish" },
		{ "the secret itself", "SWIFTDROP_A_KEY=k",
		    "SWIFTDROP_A_KEY_FILE=", "k" },
		{ "neither",
		    "SWIFTDROP_A_KEY=", "SWIFTDROP_A_KEY_FILE=", NULL },
	};
	BUF(path, 200);
	struct config c;
	size_t i;
	int k;

	(void)state;
	write_file("secret", "swordfish\n", 10, &path);
	for (i = 0; i < COUNT(rows); i++) {
		/* In either order: environ(7) has none. */
		for (k = 0; k < 2; k++) {
			BUF(faults, 1000);
			BUF(variables, 1000);

			buf_addf(&variables, "%s|%s",
			    k == 0 ? rows[i].key : rows[i].key_file,
			    k == 0 ? rows[i].key_file : rows[i].key);
			(void)load(&c, file, buf_text(&variables), &faults);
			unit_text(rows[i].name, buf_text(&faults),
			    rows[i].want == NULL ? "FILE: [A] key: is missing\n"
						 : "");
			if (rows[i].want != NULL)
				unit_text(rows[i].name, c.accounts[0].key,
				    rows[i].want);
			config_free(&c);
		}
	}
	assert_int_equal(unlink(buf_text(&path)), 0);
}

static void
an_own_secret_beats_an_inherited_one_of_either_form(void **state)
{
	static const char text[] =
	    "[DEFAULT]\nauth_version = tempurl\nstorage_url = http://h/v1/A\n"
	    "container = c\ntemp_url_key_file = nowhere\n"
	    "[query]\nrecipients = a@b\ntemp_url_query = q\n"
	    "[key]\nrecipients = b@b\ntemp_url_key = k\n"
	    "[file]\nrecipients = c@b\ntemp_url_query_file = secret\n";
	BUF(faults, 1000);
	BUF(path, 200);
	struct config c;

	(void)state;
	write_file("secret", "sig", 3, &path);
	/* A file that nobody uses is not read: there is none. */
	(void)load(&c, text, "", &faults);
	unit_text("faults", buf_text(&faults), "");
	assert_string_equal(c.accounts[0].temp_url_query, "q");
	assert_null(c.accounts[0].temp_url_key);
	assert_string_equal(c.accounts[1].temp_url_key, "k");
	assert_null(c.accounts[1].temp_url_query);
	assert_string_equal(c.accounts[2].temp_url_query, "sig");
	assert_null(c.accounts[2].temp_url_key);
	assert_int_equal(c.warnings.len, 0);
	config_free(&c);
	assert_int_equal(unlink(buf_text(&path)), 0);
	assert_int_equal(load(&c,
			     "[DEFAULT]\nauth_version = tempurl\n"
			     "storage_url = http://h/v1/A\ncontainer = c\n"
			     "temp_url_query = q\n[key]\nrecipients = a@b\n"
			     "temp_url_key = k\n",
			     "", &faults),
	    0);
	assert_string_equal(c.accounts[0].temp_url_key, "k");
	assert_null(c.accounts[0].temp_url_query);
	config_free(&c);
	assert_faults("inherited",
	    "[DEFAULT]\nauth_version = tempurl\nstorage_url = http://h/v1/A\n"
	    "container = c\ntemp_url_key_file = /nonexistent/key\n"
	    "[a]\nrecipients = a@b\ntemp_url_query =\n",
	    "",
	    "FILE:5: [DEFAULT] temp_url_key_file: cannot read "
	    "/nonexistent/key: No such file or directory\n");
}

static void
a_file_that_holds_no_secret_is_a_fault(void **state)
{
	static const char file[] = "[a]\nrecipients = a@b\nauth_version = 1\n"
				   "authurl = http://h\nuser = u\n"
				   "container = c\nkey_file = secret\n";
	static const struct {
		const char *name, *in;
		size_t len;
		const char *want; /* the secret, or what is wrong behind '!' */
	} rows[] = {
		{ "plain", "swordfish", 9, "swordfish" },
		{ "newline", "swordfish\n", 10, "swordfish" },
		{ "UTF-8", "p\xc3\xa4ss w\n", 8, "p\xc3\xa4ss w" },
		{ "blanks", " a ", 3, " a " },
		{ "a percent sign", "100%(x)s", 8, "100%(x)s" },
		{ "empty", "", 0, "!is empty" },
		{ "nothing but a newline", "\n", 1, "!is empty" },
		{ "two newlines", "a\n\n", 3, "!holds a control character" },
		{ "two lines", "a\nb\n", 4, "!holds a control character" },
		{ "CR LF", "a\r\n", 3,
		    "!ends its line with CR LF; save it with LF" },
		{ "CR", "a\r", 2,
		    "!ends its line with CR LF; save it with LF" },
		{ "byte order mark",
		    "\xef\xbb\xbf"
		    "a\n",
		    5, "!begins with a byte order mark; save it without" },
		{ "control character",
		    "a\x01"
		    "b\n",
		    4, "!holds a control character" },
		{ "NUL", "a\0b\n", 4, "!holds a control character" },
		{ "not UTF-8", "p\xe4ss\n", 5, "!is not text in UTF-8" },
	};
	struct config c;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(faults, 1000);
		BUF(path, 200);
		BUF(want, 1000);

		write_file("secret", rows[i].in, rows[i].len, &path);
		(void)load(&c, file, "", &faults);
		if (*rows[i].want == '!')
			buf_addf(&want, "FILE:7: [a] key_file: secret: %s\n",
			    rows[i].want + 1);
		unit_text(rows[i].name, buf_text(&faults), buf_text(&want));
		if (want.len == 0)
			unit_text(rows[i].name, c.accounts[0].key,
			    rows[i].want);
		config_free(&c);
		assert_int_equal(unlink(buf_text(&path)), 0);
	}
}

static void
secrets_are_looked_for_where_the_credentials_are(void **state)
{
	static const char file[] = "[a]\nrecipients = a@b\nauth_version = 1\n"
				   "authurl = http://h\nuser = u\n"
				   "container = c\nkey_file = secret\n";
	BUF(credentials, 200);
	BUF(faults, 1000);
	BUF(path, 200);
	BUF(variable, 300);
	struct config c;

	(void)state;
	buf_addf(&credentials, "%s/credentials", folder);
	assert_int_equal(mkdir(buf_text(&credentials), 0700), 0);
	write_file("credentials/secret", "swordfish\n", 10, &path);
	buf_addf(&variable, "CREDENTIALS_DIRECTORY=%s", buf_text(&credentials));
	assert_int_equal(load(&c, file, buf_text(&variable), &faults), 0);
	assert_string_equal(c.accounts[0].key, "swordfish");
	config_free(&c);
	/* Set and empty is as not set: beside the file. */
	assert_faults("not there", file, "CREDENTIALS_DIRECTORY=",
	    "FILE:7: [a] key_file: cannot read secret: No such file or "
	    "directory\n");
	assert_int_equal(unlink(buf_text(&path)), 0);
	assert_int_equal(rmdir(buf_text(&credentials)), 0);
}

static void
secrets_that_others_can_read_are_a_warning(void **state)
{
	static const char file[] = "[a]\nrecipients = a@b\nauth_version = 1\n"
				   "authurl = http://h\nuser = u\n"
				   "container = c\nkey_file = secret\n";
	BUF(faults, 1000);
	BUF(path, 200);
	BUF(warnings, 1000);
	struct config c;

	(void)state;
	write_file("secret", "swordfish\n", 10, &path);
	assert_int_equal(load(&c, file, "", &faults), 0);
	assert_int_equal(c.warnings.len, 0);
	config_free(&c);
	assert_int_equal(chmod(buf_text(&path), 0644), 0);
	assert_int_equal(load(&c, file, "", &faults), 0);
	add_without_folder(&warnings, buf_text(&c.warnings));
	unit_text("warnings", buf_text(&warnings),
	    "secret: holds a secret and is readable by others\n");
	config_free(&c);
	assert_int_equal(unlink(buf_text(&path)), 0);
}

static void
no_secret_is_printed(void **state)
{
	static const char text[] =
	    "[SMTP]\nrspamd = http://me:swordfish@r:11333\n"
	    "[a]\nrecipients = a@b\nproxy = http://me:swordfish@p\n"
	    "auth_version = 1\nauthurl = http://h\nuser = u\n"
	    "key = swordfish\ncontainer = c\n"
	    "[b]\nrecipients = b@b\nauth_version = tempurl\n"
	    "storage_url = http://h/v1/A\ntemp_url_query = swordfish\n"
	    "container = c\n";
	BUF(faults, 1000);
	BUF(printed, 10000);
	struct config c;

	(void)state;
	assert_int_equal(load(&c, text, "", &faults), 0);
	config_print(&c, true, &printed);
	assert_int_equal(printed.error, 0);
	assert_null(strstr(buf_text(&printed), "swordfish"));
	assert_non_null(strstr(buf_text(&printed), "\nkey = ***\n"));
	assert_non_null(strstr(buf_text(&printed), "\nuser = u\n"));
	assert_non_null(strstr(buf_text(&printed), "\nproxy = http://***@p\n"));
	assert_non_null(
	    strstr(buf_text(&printed), "\nrspamd = http://***@r:11333\n"));
	config_free(&c);
}

/* What a configuration comes to, without its secrets and not by its printer. */
static void
show(const struct config *c, struct buf *out)
{
	const struct smtp_config *s = &c->smtp;
	const struct account *a;
	size_t i;

	buf_addf(out, "%s|%s|%s|%s|%d|%s|%s|%lld|", s->hostname, s->origin,
	    s->recipient_delimiter, s->reinject, s->allow_remote,
	    s->spool_directory, s->log, (long long)s->deadline_s);
	buf_addf(out, "%s|%lld|%d|%d|%s\n", s->rspamd,
	    (long long)s->rspamd_timeout_s, s->rspamd_required,
	    s->rspamd_reject, s->statsd);
	for (a = c->accounts; a < c->accounts + c->naccounts; a++)
		buf_addf(out, "%s|%s|%s|%s|%s|%s|%s|%d|%lld|%lld|%d|%d\n",
		    a->name, a->auth_version_text, a->container, a->prefix,
		    a->user, a->authurl, a->http.proxy, a->metadata,
		    (long long)a->http.timeout_s, (long long)a->delete_after_s,
		    a->temp_url_key != NULL, a->temp_url_query != NULL);
	for (i = 0; i < c->routes.n; i++)
		buf_addf(out, "%s %d\n", c->routes.claims[i].key,
		    c->routes.claims[i].account);
	assert_int_equal(out->error, 0);
}

/* What is printed, read again, gives the same but for secrets. */
static void
what_is_printed_reads_back(void **state)
{
	static const struct {
		const char *name, *in;
	} rows[] = {
		{ "plain", GOOD },
		{ "recipients on lines",
		    "[a]\nrecipients = a@b\n  c@d\n\n  \"e,f\"@g,\n  *\n" ACCOUNT },
		{ "recipients that begin on the next line",
		    "[a]\nrecipients =\n  a@b\n  c@d\n" ACCOUNT },
		{ "recipients that look like comments",
		    "[a]\nrecipients = a@b,#c@d\n  x@y,\";e\"@f\n" ACCOUNT },
		{ "inherited and unset",
		    "[DEFAULT]\nrecipients = a@b\nprefix = new/\n"
		    "delete_after = 7\nproxy = http://p\ntimeout = 5\n" ACCOUNT
		    "[b]\nrecipients = c@d\nprefix =\ndelete_after =\nproxy\n"
		    "timeout =\n" },
		{ "one of two keys",
		    "[DEFAULT]\nrecipients = a@b\nauth_version = tempurl\n"
		    "storage_url = http://h/v1/A\ncontainer = c\n"
		    "temp_url_key = k\n"
		    "[b]\nrecipients = c@d\ntemp_url_query = q\n" },
		{ "session",
		    "[SMTP]\nhostname = h.example\norigin = o.example\n"
		    "recipient_delimiter =\nreinject = unix:/a b\n"
		    "allow_remote = on\nlog = postlog:/x y\n"
		    "spool_directory = /tmp\ndeadline = 7\n"
		    "rspamd = http://h:11333\nrspamd_timeout = 5\n"
		    "rspamd_required = yes\nrspamd_reject = no\n"
		    "statsd = [::1]:8125\n" GOOD },
		{ "names and values of all kinds",
		    "[a]b]\nrecipients = a@b\nuser = x = y : z # %(x)s \"'\n"
		    "auth_version = 1\nauthurl = http://h\nkey = k\n"
		    "container = \xc3\xbc ; [c]\n"
		    "[ two  words ]\nrecipients = c@d\n" ACCOUNT },
	};
	struct config c;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(faults, 10000);
		BUF(printed, 10000);
		BUF(again, 10000);
		BUF(got, 10000);
		BUF(want, 10000);

		(void)load(&c, rows[i].in, "", &faults);
		unit_text(rows[i].name, buf_text(&faults), "");
		show(&c, &want);
		config_print(&c, true, &printed);
		config_free(&c);
		(void)load(&c, buf_text(&printed), "", &faults);
		unit_text(rows[i].name, buf_text(&faults), "");
		show(&c, &got);
		config_print(&c, true, &again);
		config_free(&c);
		unit_text(rows[i].name, buf_text(&got), buf_text(&want));
		unit_text(rows[i].name, buf_text(&again), buf_text(&printed));
	}
}

#define CREDENTIAL                                                             \
	"os_options_application_credential_id = i\n"                           \
	"os_options_application_credential_secret = s\n"
#define NAMED                                                                  \
	"os_options_application_credential_name = n\n"                         \
	"os_options_application_credential_secret = s\n"
#define TEMPURL                                                                \
	"auth_version = tempurl\nstorage_url = http://s\ntemp_url_key = k\n"

/* The same login, project and container of the same service. */
static void
two_accounts_are_one_place_or_two(void **state)
{
	static const struct {
		const char *name;
		const char *both; /* in addition to what both inherit */
		const char *one;  /* what the second has of its own */
		bool want;
	} rows[] = {
		{ "nothing", "", "", true },
		{ "prefix", "", "prefix = new/\n", true },
		{ "metadata", "", "metadata = no\n", true },
		{ "container", "", "container = d\n", false },
		{ "user", "", "user = v\n", false },
		{ "user by id", "", "os_options_user_id = i\n", false },
		{ "authurl", "", "authurl = http://other/v3\n", false },
		{ "auth_version", "", "auth_version = 1\n", false },
		{ "project", "", "os_options_project_name = q\n", false },
		{ "the same project", "", "os_options_project_name = p\n",
		    true },
		{ "project by id", "", "os_options_project_id = q\n", false },
		{ "tenant by id", "", "os_options_tenant_id = q\n", false },
		{ "domain of the project", "",
		    "os_options_project_domain_name = d\n", false },
		{ "domain of the project by id", "",
		    "os_options_project_domain_id = d\n", false },
		{ "domain of the user", "", "os_options_user_domain_name = d\n",
		    false },
		{ "domain of the user by id", "",
		    "os_options_user_domain_id = d\n", false },
		{ "region", "", "os_options_region_name = r\n", false },
		{ "type of the service", "",
		    "os_options_service_type = object-store-2\n", false },
		{ "type of the endpoint", "",
		    "os_options_endpoint_type = internal\n", true },
		{ "storage URL", "",
		    "os_options_object_storage_url = http://x\n", false },
		{ "credential", "", CREDENTIAL, false },
		{ "user beside a credential", CREDENTIAL,
		    "user = v\nos_options_project_name = q\n", true },
		{ "another credential", CREDENTIAL,
		    "os_options_application_credential_id = j\n", false },
		{ "credential by name", "", NAMED, false },
		{ "another name", NAMED,
		    "os_options_application_credential_name = m\n", false },
		{ "a name beside an id", CREDENTIAL,
		    "os_options_application_credential_name = m\n", true },
		{ "another's of that name", NAMED, "user = v\n", false },
		{ "another domain's", NAMED,
		    "os_options_user_domain_name = d\n", false },
		{ "project beside a name", NAMED,
		    "os_options_project_name = q\n", true },
		{ "region of a credential", CREDENTIAL,
		    "os_options_region_name = r\n", false },
		{ "v1: what is Keystone's", "auth_version = 1\n",
		    "os_options_region_name = r\nos_options_user_id = i\n"
		    "os_options_project_name = q\n" CREDENTIAL,
		    true },
		{ "v1: user", "auth_version = 1\n", "user = v\n", false },
		{ "v1: authurl", "auth_version = 1\n", "authurl = http://x\n",
		    false },
		{ "v1: storage URL", "auth_version = 1\n",
		    "os_options_object_storage_url = http://x\n", false },
		{ "TempURL: what others log in with", TEMPURL,
		    "user = v\nauthurl = http://x\n", true },
		{ "TempURL: signed by somebody else", TEMPURL,
		    "temp_url_query = q\n", true },
		{ "TempURL: storage_url", TEMPURL, "storage_url = http://t\n",
		    false },
	};
	struct config c;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(faults, 1000);
		BUF(text, 1000);

		buf_addf(&text,
		    "[DEFAULT]\nauthurl = http://h/v3\nuser = u\nkey = k\n"
		    "container = c\ntenant_name = p\n%s"
		    "[a]\nrecipients = a@b\n[b]\nrecipients = b@b\n%s",
		    rows[i].both, rows[i].one);
		(void)load(&c, buf_text(&text), "", &faults);
		unit_text(rows[i].name, buf_text(&faults), "");
		unit_number(rows[i].name,
		    config_same_place(&c.accounts[0], &c.accounts[1]),
		    rows[i].want);
		/* In either order. */
		unit_number(rows[i].name,
		    config_same_place(&c.accounts[1], &c.accounts[0]),
		    rows[i].want);
		config_free(&c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(faults_name_line_section_and_key),
		cmocka_unit_test(all_faults_are_reported_in_their_order),
		cmocka_unit_test(what_is_inherited_is_reported_once),
		cmocka_unit_test(each_fault_is_one_line),
		cmocka_unit_test(too_many_faults_are_whole_lines),
		cmocka_unit_test(faults_name_the_variable),
		cmocka_unit_test(
		    made_up_variables_are_passed_over_by_their_shape),
		cmocka_unit_test(recipients_go_to_the_most_specific_claim),
		cmocka_unit_test(values_are_inherited_overridden_and_unset),
		cmocka_unit_test(a_project_has_one_name_whatever_its_keys_are),
		cmocka_unit_test(a_user_may_bring_the_project_along),
		cmocka_unit_test(default_is_an_account_when_it_has_recipients),
		cmocka_unit_test(the_environment_beats_the_file),
		cmocka_unit_test(
		    a_variable_means_what_a_line_of_the_file_would),
		cmocka_unit_test(
		    verdicts_and_counters_are_off_until_somebody_wants_them),
		cmocka_unit_test(an_account_without_recipients_is_a_warning),
		cmocka_unit_test(an_unknown_option_is_a_warning),
		cmocka_unit_test(a_byte_order_mark_is_skipped),
		cmocka_unit_test(an_empty_variable_is_no_second_form),
		cmocka_unit_test(
		    an_own_secret_beats_an_inherited_one_of_either_form),
		cmocka_unit_test(a_file_that_holds_no_secret_is_a_fault),
		cmocka_unit_test(
		    secrets_are_looked_for_where_the_credentials_are),
		cmocka_unit_test(secrets_that_others_can_read_are_a_warning),
		cmocka_unit_test(no_secret_is_printed),
		cmocka_unit_test(what_is_printed_reads_back),
		cmocka_unit_test(two_accounts_are_one_place_or_two),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
