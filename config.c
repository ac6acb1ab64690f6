/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The configuration: which keys there are, where their values come from and
 * what they must look like.  ini.c reads the file, route.c the recipients.
 * Logs nothing: faults and warnings are handed to the caller.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config.h"
#include "endpoint.h"
#include "ini.h"
#include "log.h"
#include "route.h"

#include "banned.h"

enum {
	FILE_MAX = 4 * 1024 * 1024, /* octets of a configuration file */
	SECRET_MAX = 64 * 1024,     /* octets of a file that holds a secret */
	PREFIX_MAX = 512,           /* leaves room in Swift's 1024 of a name */
	CONTAINER_MAX = 256,        /* Swift's max_container_name_length */
	KEYS_MAX = 48
};

#define SECONDS_MAX         (366LL * 86400) /* no timer here needs more */
#define OBJECT_MAX          5368709122LL    /* Swift's max_file_size */
#define DELETE_AFTER_MAX    3155760000LL    /* a hundred years */
#define MEMBER(type, field) offsetof(struct type, field)

enum key_type {
	KEY_TEXT,
	KEY_NUMBER,
	KEY_BOOL,
	KEY_URL,
	KEY_CHOICE
};

enum key_flag {
	KEY_SECRET = 1 << 0,  /* has an X_file; printed as *** */
	KEY_EMPTY = 1 << 1,   /* an empty value is a value */
	KEY_LINES = 1 << 2,   /* may have line breaks */
	KEY_OWN = 1 << 3,     /* is not inherited */
	KEY_USERINFO = 1 << 4 /* a URL whose user part is printed as *** */
};

/* One row for each key; the same table reads, checks and prints. */
struct key {
	const char *name;
	enum key_type type;
	size_t offset;        /* of its member */
	const char *standard; /* default, NULL for none; KEY_CHOICE: see min */
	int64_t min, max;     /* KEY_NUMBER */
	const char *choices;  /* KEY_CHOICE: words between blanks */
	unsigned int flags;
};

/* clang-format off */
#define S(field) MEMBER(smtp_config, field)
static const struct key smtp_keys[] = {
	{ "hostname", KEY_TEXT, S(hostname), NULL, 0, 0, NULL, 0 },
	{ "origin", KEY_TEXT, S(origin), NULL, 0, 0, NULL, 0 },
	{ "message_size_limit", KEY_NUMBER, S(message_size_limit), "52494336", 1, OBJECT_MAX, NULL, 0 },
	{ "recipient_limit", KEY_NUMBER, S(recipient_limit), "1000", 1, 100000, NULL, 0 },
	{ "recipient_delimiter", KEY_TEXT, S(recipient_delimiter), "+", 0, 0, NULL, KEY_EMPTY },
	{ "unknown_recipient_code", KEY_NUMBER, S(unknown_recipient_code), "450", 450, 550, NULL, 0 },
	{ "reinject", KEY_TEXT, S(reinject), NULL, 0, 0, NULL, 0 },
	{ "allow_remote", KEY_BOOL, S(allow_remote), "no", 0, 0, NULL, 0 },
	{ "timeout", KEY_NUMBER, S(timeout_s), "300", 1, SECONDS_MAX, NULL, 0 },
	{ "session_limit", KEY_NUMBER, S(session_limit_s), "900", 1, SECONDS_MAX, NULL, 0 },
	{ "deadline", KEY_NUMBER, S(deadline_s), "90", 1, SECONDS_MAX, NULL, 0 },
	{ "spool_directory", KEY_TEXT, S(spool_directory), NULL, 0, 0, NULL, 0 },
	{ "log", KEY_TEXT, S(log), "auto", 0, 0, NULL, 0 },
};
#undef S
#define A(field) MEMBER(account, field)
static const struct key account_keys[] = {
	{ "recipients", KEY_TEXT, A(recipients), NULL, 0, 0, NULL, KEY_LINES | KEY_OWN },
	{ "container", KEY_TEXT, A(container), NULL, 0, 0, NULL, 0 },
	{ "prefix", KEY_TEXT, A(prefix), "cur/", 0, 0, NULL, KEY_EMPTY },
	{ "auth_version", KEY_CHOICE, A(auth_version_text), "3", 0, 0, "3 3.0 1 1.0 tempurl", 0 },
	{ "authurl", KEY_URL, A(authurl), NULL, 0, 0, NULL, KEY_USERINFO },
	{ "user", KEY_TEXT, A(user), NULL, 0, 0, NULL, 0 },
	{ "key", KEY_TEXT, A(key), NULL, 0, 0, NULL, KEY_SECRET },
	{ "tenant_name", KEY_TEXT, A(tenant_name), NULL, 0, 0, NULL, 0 },
	{ "os_options_project_name", KEY_TEXT, A(project_name), NULL, 0, 0, NULL, 0 },
	{ "os_options_project_id", KEY_TEXT, A(project_id), NULL, 0, 0, NULL, 0 },
	{ "os_options_project_domain_name", KEY_TEXT, A(project_domain_name), NULL, 0, 0, NULL, 0 },
	{ "os_options_project_domain_id", KEY_TEXT, A(project_domain_id), NULL, 0, 0, NULL, 0 },
	{ "os_options_user_domain_name", KEY_TEXT, A(user_domain_name), NULL, 0, 0, NULL, 0 },
	{ "os_options_user_domain_id", KEY_TEXT, A(user_domain_id), NULL, 0, 0, NULL, 0 },
	{ "os_options_user_id", KEY_TEXT, A(user_id), NULL, 0, 0, NULL, 0 },
	{ "os_options_tenant_name", KEY_TEXT, A(tenant_name_option), NULL, 0, 0, NULL, 0 },
	{ "os_options_tenant_id", KEY_TEXT, A(tenant_id), NULL, 0, 0, NULL, 0 },
	{ "os_options_region_name", KEY_TEXT, A(region_name), NULL, 0, 0, NULL, 0 },
	{ "os_options_endpoint_type", KEY_CHOICE, A(endpoint_type), "public", 0, 0, "public publicURL internal internalURL admin adminURL", 0 },
	{ "os_options_service_type", KEY_TEXT, A(service_type), "object-store", 0, 0, NULL, 0 },
	{ "os_options_object_storage_url", KEY_URL, A(object_storage_url), NULL, 0, 0, NULL, KEY_USERINFO },
	{ "os_options_application_credential_id", KEY_TEXT, A(application_credential_id), NULL, 0, 0, NULL, 0 },
	{ "os_options_application_credential_secret", KEY_TEXT, A(application_credential_secret), NULL, 0, 0, NULL, KEY_SECRET },
	{ "storage_url", KEY_URL, A(storage_url), NULL, 0, 0, NULL, KEY_USERINFO },
	{ "temp_url_key", KEY_TEXT, A(temp_url_key), NULL, 0, 0, NULL, KEY_SECRET },
	{ "temp_url_digest", KEY_CHOICE, A(temp_url_digest), "sha256", 0, 0, "sha1 sha256 sha512", 0 },
	{ "temp_url_query", KEY_TEXT, A(temp_url_query), NULL, 0, 0, NULL, KEY_SECRET },
	{ "cacert", KEY_TEXT, A(cacert), "/etc/ssl/certs", 0, 0, NULL, 0 },
	{ "insecure", KEY_BOOL, A(insecure), "no", 0, 0, NULL, 0 },
	{ "cert", KEY_TEXT, A(cert), NULL, 0, 0, NULL, 0 },
	{ "cert_key", KEY_TEXT, A(cert_key), NULL, 0, 0, NULL, 0 },
	{ "proxy", KEY_TEXT, A(proxy), NULL, 0, 0, NULL, KEY_USERINFO },
	{ "timeout", KEY_NUMBER, A(timeout_s), "60", 1, SECONDS_MAX, NULL, 0 },
	{ "retries", KEY_NUMBER, A(retries), "2", 0, 100, NULL, 0 },
	{ "content_type", KEY_TEXT, A(content_type), "message/rfc822", 0, 0, NULL, 0 },
	{ "delete_after", KEY_NUMBER, A(delete_after_s), NULL, 1, DELETE_AFTER_MAX, NULL, 0 },
	{ "metadata", KEY_BOOL, A(metadata), "yes", 0, 0, NULL, 0 },
};
#undef A
/* clang-format on */

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
_Static_assert(COUNT(account_keys) <= KEYS_MAX, "KEYS_MAX is too small");

/* A key as somebody wrote it. */
struct setting {
	const char *value;    /* borrowed; "" where it stood alone */
	const char *variable; /* borrowed; of the environment, or NULL */
	unsigned int line;    /* of the file */
	bool set;
	bool is_file; /* written as X_file: the value is a path */
};

/* A section as somebody wrote it. */
struct section {
	char *name; /* owned */
	struct setting settings[KEYS_MAX];
};

struct loader {
	struct config *config;    /* borrowed */
	const char *path;         /* borrowed */
	struct buf *error;        /* borrowed */
	struct buf text;          /* owned; of the file */
	struct ini ini;           /* owned */
	struct section *sections; /* owned; [SMTP] and [DEFAULT] come first */
	size_t nsections;
	size_t default_at; /* how many others come before [DEFAULT] */
	bool has_file;
	bool has_variables;
	bool readable_by_others;
	bool has_secret; /* the file itself holds one */
};

enum {
	SECTION_SMTP,
	SECTION_DEFAULT,
	SECTION_FIRST
};

static int load(struct loader *l);
static int read_file(struct loader *l);
static int slurp(const char *path, size_t max, struct buf *text,
    struct stat *st);
static int take_file(struct loader *l);
static int take_entry(struct loader *l, const struct ini_entry *entry);
static int take_environment(struct loader *l);
static int take_variable(struct loader *l, const char *variable);
static bool is_ours(const char *variable);
static int compare_text(const void *a, const void *b);
static struct section *find_section(struct loader *l, const char *name,
    size_t len);
static struct section *add_section(struct loader *l, const char *name,
    size_t len);
static const struct key *find_key(const struct loader *l,
    const struct section *s, const char *name, bool *is_file);
static const struct key *keys_of(const struct loader *l,
    const struct section *s, size_t *n);
static int put(struct loader *l, struct section *s, const char *name,
    const struct setting *value);
static int fault(struct loader *l, const struct section *s, const char *key,
    const struct setting *where, const char *reason);
static int warn_unknown(struct loader *l, const struct section *s,
    const char *name, const struct setting *where_set);
static void warn(struct loader *l, const char *subject, const char *reason);
static int resolve(struct loader *l, const struct section *s, void *target);
static const struct setting *effective(const struct loader *l,
    const struct section *s, size_t i);
static int convert(struct loader *l, const struct section *s,
    const struct key *key, const struct setting *setting, void *target);
static const char *convert_text(const struct key *key, const char *value,
    char *member);
static const char *check_text(const struct key *key, const char *value);
static const char *check_url(const char *value);
static const char *convert_number(const struct key *key, const char *value,
    int64_t *number);
static const char *convert_bool(const char *value, bool *flag);
static int read_secret(struct loader *l, const struct section *s,
    const struct key *key, const struct setting *setting, struct buf *secret);
static int secret_fault(struct loader *l, const struct section *s,
    const struct key *key, const struct setting *setting,
    const struct buf *path);
static int finish_smtp(struct loader *l);
static const struct setting *own_setting(const struct loader *l,
    const struct section *s, const char *name);
static int finish_accounts(struct loader *l);
static int finish_account(struct loader *l, const struct section *s);
static bool has_recipients(const struct loader *l, const struct section *s);
static void settle_inherited(const struct loader *l, const struct section *s,
    struct account *a);
static void wipe_text(char **text);
static int check_account(struct loader *l, const struct section *s,
    struct account *a);
static int take_claims(struct loader *l, const struct section *s,
    size_t account);
static const struct setting *set_at(const struct loader *l,
    const struct section *s, const char *name);
static const char *missing_key(const struct account *a);
static int default_text(char **member, const char *value);
static void free_keys(const struct key *keys, size_t n, void *target);
static int print_keys(const struct key *keys, size_t n, const void *target,
    const void *inherited, struct buf *out);
static bool is_set(const struct key *key, const void *target);
static int print_key(const struct key *key, const void *target,
    struct buf *out);
static int print_text(const struct key *key, const char *text, struct buf *out);

int
config_load(struct config *c, const char *path, struct buf *error)
{
	struct loader l = { .config = c, .path = path, .error = error };
	size_t i;
	int result;

	*c = (struct config){ .accounts = NULL };
	buf_init(&c->warnings, FILE_MAX);
	buf_init(&l.text, FILE_MAX);
	result = load(&l);
	for (i = 0; i < l.nsections; i++)
		free(l.sections[i].name);
	free(l.sections);
	ini_free(&l.ini);
	buf_free(&l.text);
	return result;
}

static int
load(struct loader *l)
{
	if (add_section(l, "SMTP", 4) == NULL ||
	    add_section(l, "DEFAULT", 7) == NULL)
		return fault(l, NULL, NULL, NULL, strerror(errno));
	if (read_file(l) == -1 || take_file(l) == -1 ||
	    take_environment(l) == -1)
		return -1;
	if (!l->has_file && !l->has_variables)
		return fault(l, NULL, NULL, NULL, strerror(ENOENT));
	if (l->has_secret && l->readable_by_others)
		warn(l, l->path, "holds a secret and is readable by others");
	if (resolve(l, &l->sections[SECTION_SMTP], &l->config->smtp) == -1 ||
	    finish_smtp(l) == -1)
		return -1;
	return finish_accounts(l);
}

static int
read_file(struct loader *l)
{
	struct stat st;

	if (slurp(l->path, FILE_MAX, &l->text, &st) == -1) {
		if (errno == ENOENT)
			return 0;
		return fault(l, NULL, NULL, NULL,
		    errno == EMSGSIZE ? "is too large" : strerror(errno));
	}
	l->has_file = true;
	l->readable_by_others = (st.st_mode & S_IROTH) != 0;
	return 0;
}

/* Reads a whole file; -1 with errno, EMSGSIZE when it passes max octets. */
static int
slurp(const char *path, size_t max, struct buf *text, struct stat *st)
{
	char chunk[1024];
	ssize_t n;
	int fd, saved;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return -1;
	text->max = max;
	n = fstat(fd, st);
	while (n != -1) {
		n = read(fd, chunk, sizeof(chunk));
		if (n == 0)
			break;
		if (n > 0 && buf_add(text, chunk, (size_t)n) == -1)
			n = -1;
		else if (n == -1 && errno == EINTR)
			n = 0;
	}
	saved = errno;
	explicit_bzero(chunk, sizeof(chunk));
	(void)close(fd);
	errno = saved;
	return n == -1 ? -1 : 0;
}

static int
take_file(struct loader *l)
{
	struct setting where = { .set = true };
	struct buf reason;
	size_t i;
	int result;

	buf_init(&reason, 1024);
	result = ini_parse(&l->ini, buf_text(&l->text), l->text.len, &reason);
	where.line = l->ini.error_line;
	if (result == -1)
		(void)fault(l, NULL, NULL, &where, buf_text(&reason));
	buf_free(&reason);
	for (i = 0; result == 0 && i < l->ini.nsections; i++) {
		where.line = l->ini.sections[i].line;
		if (strcmp(l->ini.sections[i].name, "DEFAULT") == 0)
			l->default_at = l->nsections - SECTION_FIRST;
		if (text_has_control(l->ini.sections[i].name))
			result = fault(l, NULL, NULL, &where,
			    "control character in a section's name");
		else if (find_section(l, l->ini.sections[i].name,
			     strlen(l->ini.sections[i].name)) == NULL)
			result = fault(l, NULL, NULL, &where, strerror(errno));
	}
	for (i = 0; result == 0 && i < l->ini.nentries; i++)
		result = take_entry(l, &l->ini.entries[i]);
	return result;
}

static int
take_entry(struct loader *l, const struct ini_entry *entry)
{
	struct setting setting = { .set = true, .line = entry->line };
	const char *name;

	name = l->ini.sections[entry->section].name;
	setting.value = entry->value == NULL ? "" : entry->value;
	return put(l, find_section(l, name, strlen(name)), entry->key,
	    &setting);
}

/* In the order of their names, so that nothing depends on environ(7)'s. */
static int
take_environment(struct loader *l)
{
	const char **variables;
	size_t i, n;
	int result;

	for (n = 0; environ != NULL && environ[n] != NULL; n++)
		;
	variables = calloc(n + 1, sizeof(*variables));
	if (variables == NULL)
		return fault(l, NULL, NULL, NULL, strerror(errno));
	for (i = 0, n = 0; environ != NULL && environ[i] != NULL; i++)
		if (is_ours(environ[i]))
			variables[n++] = environ[i];
	qsort(variables, n, sizeof(*variables), compare_text);
	result = 0;
	for (i = 0; result == 0 && i < n; i++)
		result = take_variable(l, variables[i]);
	free(variables);
	return result;
}

/*
 * Kubernetes makes up SWIFTDROP_SERVICE_HOST, SWIFTDROP_PORT_25_TCP and the
 * like for a service of that name; they are not meant for us.
 */
static bool
is_ours(const char *variable)
{
	return strncmp(variable, "SWIFTDROP_", 10) == 0 &&
	       strncmp(variable, "SWIFTDROP_SERVICE_", 18) != 0 &&
	       strncmp(variable, "SWIFTDROP_PORT", 14) != 0;
}

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* SWIFTDROP_<SECTION>_<OPTION>=value */
static int
take_variable(struct loader *l, const char *variable)
{
	struct setting setting = { .set = true, .variable = variable };
	struct section *s;
	const char *name, *option;
	char upper[256], lower[256];
	size_t i, len;

	name = variable + strlen("SWIFTDROP_");
	len = strcspn(name, "_=");
	option = name + len + 1;
	if (len == 0 || len >= sizeof(upper) || name[len] != '_' ||
	    *option == '=' || strcspn(option, "=") >= sizeof(lower)) {
		warn(l, variable,
		    "names no option, write "
		    "SWIFTDROP_<SECTION>_<OPTION>");
		return 0;
	}
	for (i = 0; i < len; i++)
		upper[i] = name[i] >= 'a' && name[i] <= 'z'
			       ? (char)(name[i] - 'a' + 'A')
			       : name[i];
	s = find_section(l, upper, len);
	len = strcspn(option, "=");
	for (i = 0; i < len; i++)
		lower[i] = ascii_lower(option[i]);
	lower[len] = '\0';
	setting.value = option + len + (option[len] == '=' ? 1 : 0);
	if (s == NULL)
		return fault(l, NULL, NULL, &setting, strerror(errno));
	if (text_has_control(s->name) ||
	    !utf8_is_valid(setting.value, strlen(setting.value)))
		return fault(l, s, lower, &setting, "is not text in UTF-8");
	l->has_variables = true;
	return put(l, s, lower, &setting);
}

/* Finds or makes a section; NULL with errno ENOMEM. */
static struct section *
find_section(struct loader *l, const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < l->nsections; i++)
		if (strlen(l->sections[i].name) == len &&
		    memcmp(l->sections[i].name, name, len) == 0)
			return &l->sections[i];
	return add_section(l, name, len);
}

static struct section *
add_section(struct loader *l, const char *name, size_t len)
{
	struct section *sections;

	sections =
	    reallocarray(l->sections, l->nsections + 1, sizeof(l->sections[0]));
	if (sections == NULL)
		return NULL;
	l->sections = sections;
	sections[l->nsections] = (struct section){ .name = strndup(name, len) };
	if (sections[l->nsections].name == NULL)
		return NULL;
	return &sections[l->nsections++];
}

static const struct key *
keys_of(const struct loader *l, const struct section *s, size_t *n)
{
	if (s == &l->sections[SECTION_SMTP]) {
		*n = COUNT(smtp_keys);
		return smtp_keys;
	}
	*n = COUNT(account_keys);
	return account_keys;
}

/* Finds the row of a key, or of X for the name "X_file" of a secret. */
static const struct key *
find_key(const struct loader *l, const struct section *s, const char *name,
    bool *is_file)
{
	const struct key *keys;
	size_t i, len, n;

	keys = keys_of(l, s, &n);
	for (i = 0; i < n; i++) {
		len = strlen(keys[i].name);
		if (strncmp(keys[i].name, name, len) != 0)
			continue;
		*is_file = (keys[i].flags & KEY_SECRET) != 0 &&
			   strcmp(name + len, "_file") == 0;
		if (name[len] == '\0' || *is_file)
			return &keys[i];
	}
	return NULL;
}

/* Notes what was written; a variable replaces what the file says. */
static int
put(struct loader *l, struct section *s, const char *name,
    const struct setting *value)
{
	const struct key *key;
	struct setting *setting;
	bool is_file;
	size_t n;

	key = find_key(l, s, name, &is_file);
	if (key == NULL && strncmp(name, "os_options_", 11) == 0 &&
	    s != &l->sections[SECTION_SMTP]) {
		return warn_unknown(l, s, name, value);
	}
	if (key == NULL)
		return fault(l, s, name, value, "unknown key");
	setting = &s->settings[key - keys_of(l, s, &n)];
	if (setting->set && setting->variable == NULL &&
	    value->variable == NULL)
		return fault(l, s, name, value,
		    "stands beside its other form, with and without _file; "
		    "keep one of them");
	if (setting->set && setting->variable != NULL)
		return fault(l, s, name, value,
		    "is given twice in the environment; keep one of them");
	*setting = *value;
	setting->is_file = is_file;
	if ((key->flags & KEY_SECRET) != 0 && !is_file &&
	    value->variable == NULL && *value->value != '\0')
		l->has_secret = true;
	return 0;
}

/* Reports a fault; returns -1 for the caller to pass on. */
static int
fault(struct loader *l, const struct section *s, const char *key,
    const struct setting *where, const char *reason)
{
	if (where != NULL && where->variable != NULL)
		(void)buf_addf(l->error, "environment: %.*s",
		    (int)strcspn(where->variable, "="), where->variable);
	else if (where != NULL && where->line != 0)
		(void)buf_addf(l->error, "%s:%u", l->path, where->line);
	else if (l->has_file || s == NULL)
		(void)buf_add_text(l->error, l->path);
	else
		(void)buf_add_text(l->error, "environment");
	(void)buf_add_text(l->error, ": ");
	if (s != NULL)
		(void)buf_addf(l->error, "[%s] ", s->name);
	if (key != NULL)
		(void)buf_addf(l->error, "%s: ", key);
	(void)buf_add_text(l->error, reason);
	return -1;
}

/* swiftclient may know more of them than we do. */
static int
warn_unknown(struct loader *l, const struct section *s, const char *name,
    const struct setting *where_set)
{
	struct buf *error, text;

	buf_init(&text, 4096);
	error = l->error;
	l->error = &text;
	(void)fault(l, s, name, where_set, "unknown option, not used");
	l->error = error;
	(void)buf_addf(&l->config->warnings, "%s\n", buf_text(&text));
	buf_free(&text);
	return 0;
}

static void
warn(struct loader *l, const char *subject, const char *reason)
{
	/* Of a variable only the name: its value may be a secret. */
	(void)buf_addf(&l->config->warnings, "%.*s: %s\n",
	    (int)strcspn(subject, "="), subject, reason);
}

/* Turns the settings of a section into members of *target. */
static int
resolve(struct loader *l, const struct section *s, void *target)
{
	static const struct setting none = { .value = "" };
	const struct setting *setting;
	const struct key *keys;
	size_t i, n;

	keys = keys_of(l, s, &n);
	for (i = 0; i < n; i++) {
		setting = effective(l, s, i);
		if (setting == NULL)
			setting = &none;
		if (convert(l, s, &keys[i], setting, target) == -1)
			return -1;
	}
	return 0;
}

/* The section's own setting, or the one it inherits, or NULL. */
static const struct setting *
effective(const struct loader *l, const struct section *s, size_t i)
{
	const struct section *inherited;

	inherited = &l->sections[SECTION_DEFAULT];
	if (s->settings[i].set)
		return &s->settings[i];
	if (s == &l->sections[SECTION_SMTP] ||
	    (account_keys[i].flags & KEY_OWN) != 0 ||
	    !inherited->settings[i].set)
		return NULL;
	return &inherited->settings[i];
}

static int
convert(struct loader *l, const struct section *s, const struct key *key,
    const struct setting *setting, void *target)
{
	struct buf secret;
	const char *reason, *value;
	char *member;
	int result;

	buf_init(&secret, SECRET_MAX);
	result = 0;
	value = setting->value;
	if (setting->is_file && *value != '\0') {
		result = read_secret(l, s, key, setting, &secret);
		value = buf_text(&secret);
	}
	/* Empty is the same as not set, but where it is a value. */
	if (*value == '\0' && (!setting->set || (key->flags & KEY_EMPTY) == 0))
		value = key->standard;
	member = (char *)target + key->offset;
	if (result == 0 && value != NULL) {
		reason = convert_text(key, value, member);
		if (reason != NULL)
			result = fault(l, s, key->name, setting, reason);
	}
	buf_free(&secret);
	return result;
}

/* Stores a value in its member; returns what is wrong with it, or NULL. */
static const char *
convert_text(const struct key *key, const char *value, char *member)
{
	const char *reason;
	char *copy;

	reason = check_text(key, value);
	if (reason != NULL)
		return reason;
	if (key->type == KEY_NUMBER)
		return convert_number(key, value, (int64_t *)(void *)member);
	if (key->type == KEY_BOOL)
		return convert_bool(value, (bool *)(void *)member);
	copy = strdup(value);
	if (copy == NULL)
		return strerror(errno);
	*(char **)(void *)member = copy;
	return NULL;
}

static const char *
check_text(const struct key *key, const char *value)
{
	const char *p;
	size_t len;

	for (p = value; *p != '\0'; p++)
		if (((unsigned char)*p < ' ' || *p == 0x7f) &&
		    !(*p == '\n' && (key->flags & KEY_LINES) != 0))
			return *p == '\n' ? "must be a single line"
					  : "control character in the value";
	if (key->type == KEY_URL)
		return check_url(value);
	if (key->type != KEY_CHOICE)
		return NULL;
	len = strlen(value);
	for (p = key->choices; *p != '\0'; p += strspn(p, " ")) {
		if (strcspn(p, " ") == len && strncmp(p, value, len) == 0)
			return NULL;
		p += strcspn(p, " ");
	}
	return "is not one of the values that swiftdrop.ini(5) lists";
}

/* What libcurl and the signature need; it is not for us to parse URLs. */
static const char *
check_url(const char *value)
{
	const char *p;

	if (strncasecmp(value, "http://", 7) != 0 &&
	    strncasecmp(value, "https://", 8) != 0)
		return "must begin with http:// or https://";
	p = strstr(value, "://") + 3;
	if (*p == '\0' || *p == '/')
		return "names no host";
	if (strpbrk(value, " ?#") != NULL)
		return "must not have a blank, a query or a fragment";
	return NULL;
}

static const char *
convert_number(const struct key *key, const char *value, int64_t *number)
{
	const char *p;

	*number = 0;
	for (p = value; *p >= '0' && *p <= '9' && p - value < 18; p++)
		*number = *number * 10 + (*p - '0');
	if (*p != '\0' || p == value)
		return "must be a whole number";
	if (*number < key->min || *number > key->max)
		return "is out of range, see swiftdrop.ini(5)";
	return NULL;
}

/* The words of configparser's getboolean(). */
static const char *
convert_bool(const char *value, bool *flag)
{
	static const struct {
		const char *word;
		bool flag;
	} words[] = { { "yes", true }, { "true", true }, { "on", true },
		{ "1", true }, { "no", false }, { "false", false },
		{ "off", false }, { "0", false } };
	size_t i;

	for (i = 0; i < COUNT(words); i++) {
		if (strcasecmp(value, words[i].word) == 0) {
			*flag = words[i].flag;
			return NULL;
		}
	}
	return "must be yes or no";
}

/* Reads an X_file; a relative path starts where the credentials are. */
static int
read_secret(struct loader *l, const struct section *s, const struct key *key,
    const struct setting *setting, struct buf *secret)
{
	struct buf path;
	struct stat st;
	const char *folder, *slash;
	int result;

	buf_init(&path, PATH_MAX);
	folder = getenv("CREDENTIALS_DIRECTORY");
	slash = strrchr(l->path, '/');
	result = 0;
	if (setting->value[0] != '/' && folder != NULL && *folder != '\0')
		result = buf_addf(&path, "%s/", folder);
	else if (setting->value[0] != '/' && slash != NULL)
		result =
		    buf_addf(&path, "%.*s/", (int)(slash - l->path), l->path);
	if (result == 0)
		result = buf_add_text(&path, setting->value);
	if (result == 0)
		result = slurp(buf_text(&path), SECRET_MAX, secret, &st);
	if (result == 0 && (st.st_mode & S_IROTH) != 0)
		warn(l, buf_text(&path),
		    "holds a secret and is readable by others");
	if (result == 0 && secret->len > 0 &&
	    secret->data[secret->len - 1] == '\n')
		buf_cut(secret, secret->len - 1);
	if (result == -1)
		result = secret_fault(l, s, key, setting, &path);
	else if (memchr(buf_text(secret), '\0', secret->len) != NULL)
		result = fault(l, s, key->name, setting,
		    "the file holds a NUL, it is not a secret in text");
	buf_free(&path);
	return result;
}

static int
secret_fault(struct loader *l, const struct section *s, const struct key *key,
    const struct setting *setting, const struct buf *path)
{
	struct buf reason, name;
	int saved;

	saved = errno;
	buf_init(&reason, PATH_MAX + 256);
	buf_init(&name, 256);
	(void)buf_addf(&name, "%s_file", key->name);
	(void)buf_addf(&reason, "cannot read %s: %s",
	    text_has_control(buf_text(path)) ? "the file" : buf_text(path),
	    strerror(saved));
	(void)fault(l, s, buf_text(&name), setting, buf_text(&reason));
	buf_free(&name);
	buf_free(&reason);
	return -1;
}

/* What the table cannot say of [SMTP]. */
static int
finish_smtp(struct loader *l)
{
	struct smtp_config *smtp;
	struct endpoints endpoints;
	const struct section *s;
	char name[HOST_NAME_MAX + 1] = "";
	const char *folder;

	s = &l->sections[SECTION_SMTP];
	smtp = &l->config->smtp;
	(void)gethostname(name, sizeof(name) - 1);
	folder = getenv("TMPDIR");
	if (default_text(&smtp->hostname, *name == '\0' ? "localhost" : name) ==
		-1 ||
	    default_text(&smtp->origin, smtp->hostname) == -1 ||
	    default_text(&smtp->spool_directory,
		folder == NULL || *folder == '\0' ? "/tmp" : folder) == -1)
		return fault(l, s, NULL, NULL, strerror(errno));
	if (strpbrk(smtp->hostname, " \"<>@") != NULL)
		return fault(l, s, "hostname", own_setting(l, s, "hostname"),
		    "is not a host name");
	if (smtp->unknown_recipient_code != 450 &&
	    smtp->unknown_recipient_code != 550)
		return fault(l, s, "unknown_recipient_code",
		    own_setting(l, s, "unknown_recipient_code"),
		    "must be 450 or 550");
	if (smtp->reinject != NULL &&
	    endpoint_parse(smtp->reinject, &endpoints) == -1)
		return fault(l, s, "reinject", own_setting(l, s, "reinject"),
		    "must be IP:port, [v6]:port, localhost:port or unix:path");
	if (!log_is_target(smtp->log))
		return fault(l, s, "log", own_setting(l, s, "log"),
		    "must be auto, journal, syslog, stderr, postlog:PATH "
		    "or none");
	return 0;
}

/* Where the section itself sets a key, or NULL. */
static const struct setting *
own_setting(const struct loader *l, const struct section *s, const char *name)
{
	const struct setting *setting;
	const struct key *key;
	bool is_file;
	size_t n;

	key = find_key(l, s, name, &is_file);
	if (key == NULL)
		return NULL;
	setting = &s->settings[key - keys_of(l, s, &n)];
	return setting->set ? setting : NULL;
}

static int
default_text(char **member, const char *value)
{
	if (*member == NULL)
		*member = strdup(value);
	return *member == NULL ? -1 : 0;
}

/*
 * Every section is an account, [DEFAULT] only when it has recipients; in the
 * file's order, those that only the environment names behind.
 */
static int
finish_accounts(struct loader *l)
{
	struct config *c;
	size_t i;

	c = l->config;
	c->accounts = calloc(l->nsections, sizeof(c->accounts[0]));
	if (c->accounts == NULL)
		return fault(l, NULL, NULL, NULL, strerror(errno));
	for (i = SECTION_FIRST; i <= l->nsections; i++) {
		if (i == SECTION_FIRST + l->default_at &&
		    has_recipients(l, &l->sections[SECTION_DEFAULT]) &&
		    finish_account(l, &l->sections[SECTION_DEFAULT]) == -1)
			return -1;
		if (i < l->nsections &&
		    finish_account(l, &l->sections[i]) == -1)
			return -1;
	}
	if (c->naccounts == 0)
		return fault(l, NULL, NULL, NULL,
		    "no account: no section has recipients");
	return 0;
}

static bool
has_recipients(const struct loader *l, const struct section *s)
{
	const struct setting *setting;

	setting = own_setting(l, s, "recipients");
	return setting != NULL && *setting->value != '\0';
}

static int
finish_account(struct loader *l, const struct section *s)
{
	struct account *a;
	const char *missing;
	size_t i;

	i = l->config->naccounts++;
	a = &l->config->accounts[i];
	if (resolve(l, s, a) == -1)
		return -1;
	a->name = strdup(s->name);
	if (a->name == NULL)
		return fault(l, s, NULL, NULL, strerror(errno));
	a->auth_version = a->auth_version_text[0] == '3'   ? AUTH_KEYSTONE
			  : a->auth_version_text[0] == '1' ? AUTH_V1
							   : AUTH_TEMPURL;
	settle_inherited(l, s, a);
	missing = missing_key(a);
	if (missing != NULL)
		return fault(l, s, missing, NULL, "is missing");
	if (check_account(l, s, a) == -1)
		return -1;
	if (a->recipients == NULL) {
		warn(l, s->name, "this account has no recipients");
		return 0;
	}
	return take_claims(l, s, i);
}

/* A section's own choice between two keys beats what it inherits. */
static void
settle_inherited(const struct loader *l, const struct section *s,
    struct account *a)
{
	const struct setting *key, *query;

	key = own_setting(l, s, "temp_url_key");
	query = own_setting(l, s, "temp_url_query");
	if (a->temp_url_key == NULL || a->temp_url_query == NULL ||
	    (key == NULL) == (query == NULL))
		return;
	if (key == NULL)
		wipe_text(&a->temp_url_key);
	else
		wipe_text(&a->temp_url_query);
}

static void
wipe_text(char **text)
{
	if (*text != NULL)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

/* The key without which the account cannot work, or NULL. */
static const char *
missing_key(const struct account *a)
{
	if (a->container == NULL)
		return "container";
	if (a->auth_version == AUTH_TEMPURL) {
		if (a->storage_url == NULL)
			return "storage_url";
		return a->temp_url_key == NULL && a->temp_url_query == NULL
			   ? "temp_url_key or temp_url_query"
			   : NULL;
	}
	if (a->authurl == NULL)
		return "authurl";
	if (a->auth_version == AUTH_KEYSTONE &&
	    a->application_credential_id != NULL)
		return a->application_credential_secret == NULL
			   ? "os_options_application_credential_secret"
			   : NULL;
	if (a->user == NULL &&
	    (a->auth_version == AUTH_V1 || a->user_id == NULL))
		return a->auth_version == AUTH_V1
			   ? "user"
			   : "user (or os_options_application_credential_id)";
	return a->key == NULL ? "key" : NULL;
}

/* Where an account's key was set, in its section or in [DEFAULT]. */
static const struct setting *
set_at(const struct loader *l, const struct section *s, const char *name)
{
	const struct key *key;
	bool is_file;

	key = find_key(l, s, name, &is_file);
	return key == NULL ? NULL
			   : effective(l, s, (size_t)(key - account_keys));
}

static int
check_account(struct loader *l, const struct section *s, struct account *a)
{
	if (strchr(a->container, '/') != NULL ||
	    strlen(a->container) > CONTAINER_MAX ||
	    strcmp(a->container, ".") == 0 || strcmp(a->container, "..") == 0)
		return fault(l, s, "container", set_at(l, s, "container"),
		    "must be a container's name, without / and of at most "
		    "256 octets");
	if (strlen(a->prefix) > PREFIX_MAX)
		return fault(l, s, "prefix", set_at(l, s, "prefix"),
		    "must have at most 512 octets");
	if (a->temp_url_key != NULL && a->temp_url_query != NULL)
		return fault(l, s, "temp_url_query",
		    set_at(l, s, "temp_url_query"),
		    "stands beside temp_url_key; keep one of them");
	if (a->auth_version == AUTH_KEYSTONE) {
		if (strstr(a->authurl, "/v2.0") != NULL)
			return fault(l, s, "authurl", set_at(l, s, "authurl"),
			    "is of Keystone v2, which no longer exists; "
			    "write .../v3");
	}
	return 0;
}

/* Takes the comma list apart; commas inside quotes do not separate. */
static int
take_claims(struct loader *l, const struct section *s, size_t account)
{
	struct buf reason;
	int result;

	buf_init(&reason, 4096);
	result = route_claim(l->config, account, &reason);
	if (result == -1)
		(void)fault(l, s, "recipients", own_setting(l, s, "recipients"),
		    buf_text(&reason));
	buf_free(&reason);
	return result;
}

void
config_free(struct config *c)
{
	size_t i;

	free_keys(smtp_keys, COUNT(smtp_keys), &c->smtp);
	for (i = 0; i < c->naccounts; i++) {
		free_keys(account_keys, COUNT(account_keys), &c->accounts[i]);
		free(c->accounts[i].name);
	}
	free(c->accounts);
	for (i = 0; i < c->nclaims; i++)
		free(c->claims[i].key);
	free(c->claims);
	buf_free(&c->warnings);
	*c = (struct config){ .accounts = NULL };
}

static bool
is_text(const struct key *key)
{
	return key->type == KEY_TEXT || key->type == KEY_URL ||
	       key->type == KEY_CHOICE;
}

/* A text member of a structure that a table describes. */
static char *
text_member(const void *target, const struct key *key)
{
	char *text;

	memcpy(&text, (const char *)target + key->offset, sizeof(text));
	return text;
}

static int64_t
number_member(const void *target, const struct key *key)
{
	int64_t number;

	memcpy(&number, (const char *)target + key->offset, sizeof(number));
	return number;
}

static bool
bool_member(const void *target, const struct key *key)
{
	bool flag;

	memcpy(&flag, (const char *)target + key->offset, sizeof(flag));
	return flag;
}

static void
free_keys(const struct key *keys, size_t n, void *target)
{
	char *text;
	size_t i;

	for (i = 0; i < n; i++) {
		if (!is_text(&keys[i]))
			continue;
		text = text_member(target, &keys[i]);
		wipe_text(&text);
		memcpy((char *)target + keys[i].offset, &text, sizeof(text));
	}
}

int
config_print(const struct config *c, struct buf *out)
{
	const struct account *inherited;
	size_t i;

	inherited = NULL;
	for (i = 0; i < c->naccounts; i++)
		if (strcmp(c->accounts[i].name, "DEFAULT") == 0)
			inherited = &c->accounts[i];
	if (buf_add_text(out, "[SMTP]\n") == -1 ||
	    print_keys(smtp_keys, COUNT(smtp_keys), &c->smtp, NULL, out) == -1)
		return -1;
	for (i = 0; i < c->naccounts; i++)
		if (buf_addf(out, "\n[%s]\n", c->accounts[i].name) == -1 ||
		    print_keys(account_keys, COUNT(account_keys),
			&c->accounts[i], inherited, out) == -1)
			return -1;
	return 0;
}

static int
print_keys(const struct key *keys, size_t n, const void *target,
    const void *inherited, struct buf *out)
{
	size_t i;
	int result;

	result = 0;
	for (i = 0; i < n && result == 0; i++) {
		if (is_set(&keys[i], target))
			result = print_key(&keys[i], target, out);
		/* What it does not inherit must be said. */
		else if (inherited != NULL && is_set(&keys[i], inherited) &&
			 (keys[i].flags & KEY_OWN) == 0)
			result = buf_addf(out, "%s =\n", keys[i].name);
	}
	return result;
}

static bool
is_set(const struct key *key, const void *target)
{
	if (is_text(key))
		return text_member(target, key) != NULL;
	return key->type == KEY_BOOL || key->min == 0 ||
	       number_member(target, key) != 0;
}

static int
print_key(const struct key *key, const void *target, struct buf *out)
{
	if (key->type == KEY_NUMBER)
		return buf_addf(out, "%s = %lld\n", key->name,
		    (long long)number_member(target, key));
	if (key->type == KEY_BOOL)
		return buf_addf(out, "%s = %s\n", key->name,
		    bool_member(target, key) ? "yes" : "no");
	return print_text(key, text_member(target, key), out);
}

static int
print_text(const struct key *key, const char *text, struct buf *out)
{
	const char *host, *p;

	if (buf_addf(out, "%s = ", key->name) == -1)
		return -1;
	if ((key->flags & KEY_SECRET) != 0 && *text != '\0')
		text = "***";
	host = strstr(text, "://");
	host = host == NULL ? text : host + 3;
	p = host + strcspn(host, "/");
	while (p > host && *p != '@')
		p--;
	if ((key->flags & KEY_USERINFO) != 0 && *p == '@') {
		if (buf_addf(out, "%.*s***", (int)(host - text), text) == -1)
			return -1;
		text = p;
	}
	for (; *text != '\0'; text++)
		if (buf_add_octet(out, *text == '\n' ? ' ' : *text) == -1)
			return -1;
	return buf_add_octet(out, '\n');
}

static bool
same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool
config_has_credential(const struct account *a)
{
	return a->auth_version == AUTH_KEYSTONE &&
	       a->application_credential_id != NULL;
}

/*
 * The region and a storage URL given by hand count as well: one login may
 * lead to several clusters.
 */
bool
config_same_place(const struct account *a, const struct account *b)
{
	if (a->auth_version != b->auth_version ||
	    !same(a->container, b->container))
		return false;
	if (a->auth_version == AUTH_TEMPURL)
		return same(a->storage_url, b->storage_url);
	if (!same(a->authurl, b->authurl) ||
	    !same(a->object_storage_url, b->object_storage_url))
		return false;
	if (a->auth_version == AUTH_V1)
		return same(a->user, b->user);
	if (!same(a->region_name, b->region_name) ||
	    config_has_credential(a) != config_has_credential(b))
		return false;
	if (config_has_credential(a))
		return same(a->application_credential_id,
		    b->application_credential_id);
	return same(a->user, b->user) && same(a->user_id, b->user_id) &&
	       same(config_project_name(a), config_project_name(b)) &&
	       same(config_project_id(a), config_project_id(b)) &&
	       same(a->project_domain_name, b->project_domain_name) &&
	       same(a->project_domain_id, b->project_domain_id) &&
	       same(a->user_domain_name, b->user_domain_name) &&
	       same(a->user_domain_id, b->user_domain_id);
}

/* tenant is what a project was called before Keystone v3. */
const char *
config_project_name(const struct account *a)
{
	if (a->project_name != NULL)
		return a->project_name;
	return a->tenant_name_option != NULL ? a->tenant_name_option
					     : a->tenant_name;
}

const char *
config_project_id(const struct account *a)
{
	return a->project_id != NULL ? a->project_id : a->tenant_id;
}
