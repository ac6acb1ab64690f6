/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any octets as variables of the image's entry point, with NULs between them:
 * each is added to a good environment, or replaces its variable there; without
 * "=" it takes it away.  It is refused with a line for each fault, or main.cf,
 * master.cf, the tables and swiftdrop.ini hold what was asked for and no line
 * more, by parsers of our own: postconf(5), master(5), texthash in
 * DATABASE_README.
 */
#include <sys/mman.h>

#include <ctype.h>
#include <jansson.h>
#include <string.h>
#include <strings.h>
#include <unicode/uidna.h>

#include "fuzz.h"

#include "file.h"
#include "image/agree.h"
#include "image/health.h"
#include "image/postconf.h"
#include "image/settings.h"
#include "text.h"

#include "banned.h"

enum {
	VARIABLES_MAX = 64,
	FILE_MAX = 16 * 1024 * 1024
};

/* environ(7) is not const. */
static char good[][80] = {
	"MYHOSTNAME=mx.example.org",
	"RECIPIENTS=[\"a@example.org\", \"b@example.org\"]",
	"FORWARDS={\"f@example.org\": [\"a@example.org\", \"y@example.net\"]}",
	"POSTMASTER=f@example.org",
	"SWIFTDROP_A_RECIPIENTS=a@example.org, b@example.org",
	"SWIFTDROP_A_CONTAINER=box",
	"SWIFTDROP_A_AUTH_VERSION=1",
	"SWIFTDROP_A_AUTHURL=http://127.0.0.1/auth/v1.0",
	"SWIFTDROP_A_USER=u",
	"SWIFTDROP_A_KEY=secret",
};

#define POSTFIX "POSTFIX_"

/* Where image/image.mk makes the bases of main.cf and master.cf. */
#ifndef BASES
#define BASES "build/image/"
#endif

/* The parameters that Postfix knows here. */
static const char known[] =
    "\na\ninet_protocols\nmydestination\nqueue_directory\nrelayhost\n"
    "recipient_delimiter\nsmtp_tls_CAfile\nsmtpd_banner\n"
    "swiftdrop_timeout\n";

/* What main.cf says of each of our own variables. */
static const char *const follow[] = { "swiftdrop_timeout", "myhostname",
	"mydomain", "smtpd_command_filter", "smtpd_upstream_proxy_protocol",
	"message_size_limit", "default_process_limit",
	"2bounce_notice_recipient" };

/* What swiftdrop.ini says: all text of an account, and of [SMTP]. */
#define A(field) offsetof(struct account, field)
static const size_t account_texts[] = { A(container), A(prefix),
	A(auth_version_text), A(authurl), A(user), A(key), A(project_name),
	A(project_id), A(project_domain_name), A(project_domain_id),
	A(user_domain_name), A(user_domain_id), A(user_id), A(region_name),
	A(endpoint_type), A(service_type), A(object_storage_url),
	A(application_credential_id), A(application_credential_name),
	A(application_credential_secret), A(token_file), A(storage_url),
	A(temp_url_key), A(temp_url_digest), A(temp_url_query), A(http.cacert),
	A(http.cert), A(http.cert_key), A(http.proxy), A(content_type) };
#define S(field) offsetof(struct smtp_config, field)
static const size_t smtp_texts[] = { S(hostname), S(origin),
	S(recipient_delimiter), S(reinject), S(spool_directory), S(rspamd),
	S(statsd), S(log) };

static struct buf main_base = { .max = FILE_MAX };
static struct buf master_base = { .max = FILE_MAX };
/* Of the good environment. */
static struct table usual_main;
static struct buf usual_master = { .max = FILE_MAX };
static int file = -1;
static char path[64];

/* ---- texts --------------------------------------------------------------- */

/*
 * Cuts the next line off a text; "" is none, as no file here has one that is
 * empty or continues another.
 */
static char *
next_line(char **text)
{
	char *line = *text;
	size_t len = strcspn(line, "\n");

	require(*line == '\0' || line[len] == '\n', "LF behind each line");
	require(strcspn(line, "\r") >= len, "no CR");
	*text += len + (line[len] == '\n' ? 1 : 0);
	line[len] = '\0';
	return line;
}

/* Takes off what Postfix takes for blanks around a value. */
static char *
trim(char *text)
{
	size_t len;

	while (isspace((unsigned char)*text))
		text++;
	for (len = strlen(text);
	     len > 0 && isspace((unsigned char)text[len - 1]); len--)
		;
	text[len] = '\0';
	return text;
}

/* postconf(5): "name = value" a line; none twice. */
static void
parse_main(char *text, struct table *parameters)
{
	char *line, *value;

	while (*text != '\0') {
		line = next_line(&text);
		value = strchr(line, '=');
		require(value != NULL, "a parameter a line");
		*value++ = '\0';
		require(!isspace((unsigned char)*line) && *trim(line) != '\0' &&
			    line[strspn(line, "abcdefghijklmnopqrstuvwxyz"
					      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
					      "0123456789_")] == '\0',
		    "the name of a parameter");
		require(table_add(parameters, line, trim(value)),
		    "no parameter twice");
	}
}

/* texthash: a key up to the first blank and a value; none twice. */
static void
parse_map(char *text, struct table *map)
{
	char *line, *value;

	while (*text != '\0') {
		line = next_line(&text);
		require(*line != '#' && *line != '"' &&
			    !isspace((unsigned char)*line) && *line != '\0',
		    "an entry a line");
		for (value = line;
		     *value != '\0' && !isspace((unsigned char)*value); value++)
			;
		require(*value != '\0', "a value");
		*value++ = '\0';
		value = trim(value);
		require(*value != '\0', "a value that is not blank");
		require(table_add(map, line, value), "no key twice");
	}
}

/* ---- what each holds ----------------------------------------------------- */

static bool
follows(const char *name)
{
	size_t i;

	for (i = 0; i < COUNT(follow); i++)
		if (strcmp(follow[i], name) == 0)
			return true;
	return false;
}

static bool
is_asked(const struct table *asked, const char *parameter)
{
	BUF(name, 1024);

	buf_addf(&name, POSTFIX "%s", parameter);
	return table_get(asked, buf_text(&name)) != NULL;
}

static void
check_main(const struct settings *s, char *text)
{
	const struct table *asked = &s->environment.variables;
	TABLE(parameters);
	const char *name, *value;
	size_t i, n;

	parse_main(text, &parameters);
	n = usual_main.n;
	for (i = 0; i < asked->n; i++) {
		BUF(copy, FILE_MAX);

		if (strncmp(asked->entries[i]->name, POSTFIX,
			strlen(POSTFIX)) != 0)
			continue;
		name = asked->entries[i]->name + strlen(POSTFIX);
		n += table_get(&usual_main, name) == NULL ? 1 : 0;
		value = table_get(&parameters, name);
		buf_adds(&copy, asked->entries[i]->value);
		buf_addc(&copy, '\0');
		require(value != NULL && strcmp(value, trim(copy.data)) == 0,
		    "the value that was asked for");
	}
	for (i = 0; i < usual_main.n; i++) {
		name = usual_main.entries[i]->name;
		value = table_get(&parameters, name);
		/* The good environment has a postmaster. */
		if (value == NULL && s->postmaster.len == 0 &&
		    strcmp(name, "2bounce_notice_recipient") == 0) {
			n--;
			continue;
		}
		require(value != NULL, "all parameters of the image");
		require(follows(name) || is_asked(asked, name) ||
			    strcmp(value, usual_main.entries[i]->value) == 0,
		    "no change to what was not asked for");
	}
	require(parameters.n == n, "no parameter more");
	require(strcmp(table_get(&parameters, "myhostname"), s->myhostname) ==
			0 &&
		    strcmp(table_get(&parameters, "mydomain"), s->mydomain) ==
			0,
	    "our names");
}

/* Only its numbers and "-v" may differ from those of the good environment. */
static void
check_master(const struct settings *s, const char *text)
{
	static const char verbose[] = " -v\n";
	const char *usual = buf_text(&usual_master);

	while (*text != '\0') {
		if (s->debug && *usual == '\n' &&
		    strncmp(text, verbose, strlen(verbose)) == 0)
			text += strlen(verbose) - 1;
		require(isdigit((unsigned char)*text)
			    ? isdigit((unsigned char)*usual)
			    : *text == *usual,
		    "the services of the image");
		if (isdigit((unsigned char)*text)) {
			text += strspn(text, "0123456789");
			usual += strspn(usual, "0123456789");
		} else {
			text++;
			usual++;
		}
	}
	require(*usual == '\0', "all services of the image");
}

/* An address or a list of them with nothing else in it; how many. */
static size_t
count_addresses(const char *list, bool wildcard)
{
	size_t len, n;

	for (n = 1;; n++, list += len + 2) {
		len = strcspn(list, ",");
		require(len > 0 && memchr(list, '@', len) != NULL &&
			    memchr(list, '@', len) == memrchr(list, '@', len) &&
			    (*list != '@' || wildcard) && list[len - 1] != '@',
		    "an address");
		require(strcspn(list, " \t\"\\:;|/<>()") >= len,
		    "no special characters");
		if (list[len] == '\0')
			return n;
		require(list[len + 1] == ' ', "a list");
	}
}

/* As far as it can be said without what swiftdrop knows of letters. */
static bool
is_same_address(const char *key, const char *text)
{
	size_t len = strlen(text);

	if (strchr(text, '"') != NULL || !text_is_ascii(text, len))
		return true;
	len -= text[len - 1] == '.' ? 1 : 0;
	return strlen(key) == len && strncasecmp(key, text, len) == 0;
}

static void
check_domains(const struct settings *s, char *text)
{
	TABLE(map);
	size_t i;

	parse_map(text, &map);
	require(map.n == s->domains.n && map.n > 0, "our domains");
	for (i = 0; i < map.n; i++)
		require(strcmp(map.entries[i]->value,
			    "swiftdrop-client:[127.0.0.1]:10025") == 0 &&
			    strpbrk(map.entries[i]->name, "@:/[]") == NULL,
		    "the way to swiftdrop");
}

static json_t *
asked_json(const struct settings *s, const char *name)
{
	const char *text = environment_get(&s->environment, name);

	return text == NULL ? NULL : json_loads(text, 0, NULL);
}

/* The A-labels of an address' domain; by ICU, as Postfix has them. */
static void
a_labels(const char *address, char labels[1024])
{
	UErrorCode error = U_ZERO_ERROR;
	UIDNAInfo info = UIDNA_INFO_INITIALIZER;
	UIDNA *idna = uidna_openUTS46(UIDNA_NONTRANSITIONAL_TO_ASCII, &error);

	(void)uidna_nameToASCII_UTF8(idna, strchr(address, '@') + 1, -1, labels,
	    1024, &info, &error);
	uidna_close(idna);
	require(U_SUCCESS(error) && info.errors == 0, "a domain's other form");
}

/* Whether an entry is one of the first n with its domain in the other form. */
static bool
is_other_form(const struct table *map, size_t n, const struct pair *entry)
{
	char wanted[1024], found[1024];
	const struct pair *first;
	size_t i, len = strcspn(entry->name, "@") + 1;

	for (i = 0; i < n; i++) {
		first = map->entries[i];
		if (strncmp(first->name, entry->name, len) != 0 ||
		    strcmp(first->value, entry->value) != 0 ||
		    text_is_ascii(first->name + len,
			strlen(first->name + len)) ==
			text_is_ascii(entry->name + len,
			    strlen(entry->name + len)))
			continue;
		a_labels(first->name, wanted);
		a_labels(entry->name, found);
		if (strcmp(wanted, found) == 0)
			return true;
	}
	return false;
}

static void
check_recipients(const struct settings *s, char *text)
{
	json_auto_t *asked = asked_json(s, "RECIPIENTS");
	TABLE(map);
	size_t i, n = json_array_size(asked);

	parse_map(text, &map);
	require(map.n >= n, "the recipients asked for");
	for (i = 0; i < map.n; i++) {
		require(strcmp(map.entries[i]->value, "stored") == 0, "stored");
		require(count_addresses(map.entries[i]->name, true) == 1,
		    "one address");
		require(i < n ? is_same_address(map.entries[i]->name,
				    json_string_value(json_array_get(asked, i)))
			      : is_other_form(&map, n, map.entries[i]),
		    "the recipient asked for");
	}
}

static void
check_forwards(const struct settings *s, char *text)
{
	json_auto_t *asked = asked_json(s, "FORWARDS");
	TABLE(map);
	const char *from, *domain;
	json_t *to;
	size_t i, n;

	parse_map(text, &map);
	i = 0;
	json_object_foreach(asked, from, to)
	{
		require(i < map.n &&
			    is_same_address(map.entries[i]->name, from),
		    "the forward asked for");
		n = count_addresses(map.entries[i]->value, false);
		require(n <= (json_is_array(to) ? json_array_size(to) : 1),
		    "no target more");
		i++;
	}
	/* postmaster@ of our domains, where nobody has it. */
	for (n = i; i < map.n; i++) {
		if (is_other_form(&map, n, map.entries[i]))
			continue;
		domain = map.entries[i]->name + strlen("postmaster@");
		require(strncmp(map.entries[i]->name, "postmaster@", 11) == 0 &&
			    table_get(&s->domains, domain) != NULL &&
			    strcmp(map.entries[i]->value,
				buf_text(&s->postmaster)) == 0,
		    "no forward more");
	}
	for (i = 0; i < map.n; i++)
		require(count_addresses(map.entries[i]->name, false) == 1,
		    "one address");
}

/* Sections as the accounts are, and in each no key twice. */
static void
check_ini(const struct settings *s, char *text)
{
	TABLE(keys);
	char *line, *value;
	size_t n;

	n = 0;
	require(strcmp(next_line(&text), "[SMTP]") == 0, "[SMTP]");
	while (*text != '\0') {
		line = next_line(&text);
		if (*line == '\0') {
			line = next_line(&text);
			require(n < s->config.naccounts && *line++ == '[' &&
				    line[strlen(line) - 1] == ']',
			    "a section");
			line[strlen(line) - 1] = '\0';
			require(strcmp(line, s->config.accounts[n++].name) == 0,
			    "the section of an account");
			table_free(&keys);
			continue;
		}
		value = strstr(line, " = ");
		require(value != NULL, "a key and its value");
		*value = '\0';
		require(*line >= 'a' && *line <= 'z' &&
			    line[strspn(line, "abcdefghijklmnopqrstuvwxyz_")] ==
				'\0',
		    "a key");
		require(table_add(&keys, line, ""), "no key twice");
	}
	require(n == s->config.naccounts, "a section for each account");
}

/* ---- what is read back --------------------------------------------------- */

static bool
is_same_text(const void *a, const void *b, const size_t *at, size_t n)
{
	const char *x, *y;
	size_t i;

	for (i = 0; i < n; i++) {
		x = *(char *const *)(const void *)((const char *)a + at[i]);
		y = *(char *const *)(const void *)((const char *)b + at[i]);
		if (strcmp(x == NULL ? "" : x, y == NULL ? "" : y) != 0)
			return false;
	}
	return true;
}

static bool
is_same_account(const struct account *a, const struct account *b)
{
	return strcmp(a->name, b->name) == 0 &&
	       is_same_text(a, b, account_texts, COUNT(account_texts)) &&
	       a->auth_version == b->auth_version &&
	       a->http.insecure == b->http.insecure &&
	       a->http.timeout_s == b->http.timeout_s &&
	       a->retries == b->retries &&
	       a->delete_after_s == b->delete_after_s &&
	       a->metadata == b->metadata;
}

static bool
is_same_config(const struct config *a, const struct config *b)
{
	size_t i;

	if (a->naccounts != b->naccounts || a->routes.n != b->routes.n ||
	    !is_same_text(&a->smtp, &b->smtp, smtp_texts, COUNT(smtp_texts)) ||
	    a->smtp.message_size_limit != b->smtp.message_size_limit ||
	    a->smtp.recipient_limit != b->smtp.recipient_limit ||
	    a->smtp.unknown_recipient_code != b->smtp.unknown_recipient_code ||
	    a->smtp.allow_remote != b->smtp.allow_remote ||
	    a->smtp.timeout_s != b->smtp.timeout_s ||
	    a->smtp.session_limit_s != b->smtp.session_limit_s ||
	    a->smtp.deadline_s != b->smtp.deadline_s)
		return false;
	for (i = 0; i < a->naccounts; i++)
		if (!is_same_account(&a->accounts[i], &b->accounts[i]))
			return false;
	for (i = 0; i < a->routes.n; i++)
		if (a->routes.claims[i].account !=
			b->routes.claims[i].account ||
		    strcmp(a->routes.claims[i].key, b->routes.claims[i].key) !=
			0)
			return false;
	return true;
}

/* The file is taken exactly when it means what the variables meant. */
static void
check_read_back(const struct settings *s, const struct buf *ini)
{
	BUF(faults, 65536);
	BUF(ignored, 65536);
	struct config config;
	bool same;

	fill(file, ini->data, ini->len);
	same = config_load(&config, path, NULL, &ignored) == 0 &&
	       is_same_config(&s->config, &config);
	config_free(&config);
	agree_read_back(s, path, &faults);
	if (same)
		require(faults.len == 0, buf_text(&faults));
	else
		require(faults.len > 0, "a fault where the file differs");
}

/* ---- all of it ----------------------------------------------------------- */

/* A text that a check may cut up, with a NUL before it and behind it. */
static char *
make(postconf_fn *fn, const struct settings *s, const struct buf *base,
    struct buf *out)
{
	buf_addc(out, '\n');
	fn(s, base == NULL ? "" : buf_text(base), out);
	require(out->error == 0, "a text");
	require(strlen(out->data) == out->len, "no NUL");
	return out->data + 1;
}

static void
check_texts(const struct settings *s)
{
	BUF(main_text, FILE_MAX);
	BUF(master, FILE_MAX);
	BUF(domains, FILE_MAX);
	BUF(recipients, FILE_MAX);
	BUF(forwards, FILE_MAX);
	BUF(ini, FILE_MAX);
	BUF(health, FILE_MAX);
	BUF(whole, FILE_MAX);
	char *text;
	size_t i;

	check_main(s, make(postconf_main, s, &main_base, &main_text));
	check_master(s, make(postconf_master, s, &master_base, &master));
	check_domains(s, make(postconf_domains, s, NULL, &domains));
	check_recipients(s, make(postconf_recipients, s, NULL, &recipients));
	check_forwards(s, make(postconf_forwards, s, NULL, &forwards));
	postconf_ini(s, "", &whole);
	check_ini(s, make(postconf_ini, s, NULL, &ini));
	check_read_back(s, &whole);
	text = make(health_describe, s, NULL, &health);
	for (i = 0; i < 5; i++)
		(void)next_line(&text);
	require(*text == '\0', "five lines for the probe");
}

/* Each is a line, and says first which variable it is about. */
static void
check_lines(const struct buf *lines)
{
	const char *line;
	size_t len;

	for (line = buf_text(lines); *line != '\0'; line += len + 1) {
		len = strcspn(line, "\n");
		require(line[len] == '\n' && len > 0, "a line");
	}
}

static void
load(struct settings *s, char *const *environment, struct buf *faults)
{
	BUF(warnings, 1024 * 1024);

	settings_load(s, environment, known, faults, &warnings);
	agree(s, faults, &warnings);
	check_lines(faults);
	check_lines(&warnings);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char *environment[COUNT(good) + 1] = { NULL };
	BUF(faults, 65536);
	BUF(text, FILE_MAX);
	struct settings s;
	size_t i;

	(void)argc;
	(void)argv;
	/* An input that names the terminal must not wait for it. */
	require(freopen("/dev/null", "r", stdin) != NULL, "no input");
	file = memfd_create("ini", MFD_CLOEXEC);
	require(file != -1, "memfd_create");
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	require(file_read(BASES "main.cf", &main_base, NULL) == 0 &&
		    file_read(BASES "master.cf", &master_base, NULL) == 0,
	    "to be started where it was built");
	for (i = 0; i < COUNT(good); i++)
		environment[i] = good[i];
	load(&s, environment, &faults);
	require(faults.len == 0, buf_text(&faults));
	parse_main(make(postconf_main, &s, &main_base, &text), &usual_main);
	postconf_master(&s, buf_text(&master_base), &usual_master);
	check_texts(&s);
	settings_free(&s);
	return 0;
}

static bool
is_of(const char *variable, const char *other)
{
	size_t len = strcspn(variable, "=");

	return strcspn(other, "=") == len && memcmp(variable, other, len) == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *environment[COUNT(good) + VARIABLES_MAX + 1], *own, *end;
	BUF(text, FILE_MAX);
	BUF(faults, 1024 * 1024);
	struct settings s;
	size_t i, n;

	buf_add(&text, data, size);
	buf_addc(&text, '\0');
	end = text.data + text.len;
	n = 0;
	for (i = 0; i < COUNT(good); i++) {
		for (own = text.data; own < end; own += strlen(own) + 1)
			if (is_of(good[i], own))
				break;
		if (own >= end)
			environment[n++] = good[i];
	}
	for (own = text.data; own < end; own += strlen(own) + 1)
		if (strchr(own, '=') != NULL && n < COUNT(environment) - 1)
			environment[n++] = own;
	environment[n] = NULL;
	load(&s, environment, &faults);
	if (faults.len == 0 && faults.error == 0)
		check_texts(&s);
	settings_free(&s);
	return 0;
}
