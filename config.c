/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The configuration: which keys there are, where their values come from and
 * what they must look like.  ini.c reads the file, route.c the recipients.
 * Logs nothing: faults and warnings are handed to the caller.
 */
#include <sys/stat.h>

#include <errno.h>
#include <limits.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config.h"
#include "file.h"
#include "ini.h"
#include "log.h"
#include "stream.h"
#include "text.h"

#include "banned.h"

enum {
	FILE_MAX = 4 * 1024 * 1024,       /* octets of a configuration file */
	VARIABLES_MAX = 16 * 1024 * 1024, /* octets, each with its name twice */
	NOTES_MAX = 1024 * 1024 * 1024, /* octets; the text above bounds them */
	SECRET_MAX = 64 * 1024, /* octets of a file that holds a secret */
	PREFIX_MAX = 512,       /* leaves room in Swift's 1024 of a name */
	CONTAINER_MAX = 256     /* Swift's max_container_name_length */
};

#define SECONDS_MAX      (366LL * 86400) /* no timer here needs more */
#define OBJECT_MAX       5368709122LL    /* Swift's max_file_size */
#define DELETE_AFTER_MAX 3155760000LL    /* a hundred years */

enum key_type {
	TEXT,
	NUMBER, /* from min to max */
	BOOL,
	URL,
	PROXY,
	CHOICE /* one of choices, words between blanks, behind NONE_OF */
};

enum key_flag {
	SECRET = 1 << 0,  /* has an X_file; printed as *** */
	EMPTY = 1 << 1,   /* an empty value is a value */
	LINES = 1 << 2,   /* may have line breaks */
	OWN = 1 << 3,     /* is not inherited */
	USERINFO = 1 << 4 /* a URL whose user part is printed as *** */
};

/* One row for each key; the same table reads, checks and prints. */
struct key {
	const char *name;
	enum key_type type;
	size_t offset;        /* of its member */
	const char *standard; /* default, NULL for none */
	unsigned int flags;
	int64_t min, max;
	const char *choices;
	const char *rival; /* a section's own one of the two counts */
};

#define NONE_OF "must be one of: "

/* clang-format off */
#define S(field) offsetof(struct smtp_config, field)
static const struct key smtp_keys[] = {
	{ "hostname", TEXT, S(hostname), .standard = NULL },
	{ "origin", TEXT, S(origin), .standard = NULL },
	{ "message_size_limit", NUMBER, S(message_size_limit), .standard = "52494336", .min = 1, .max = OBJECT_MAX },
	{ "recipient_limit", NUMBER, S(recipient_limit), .standard = "1000", .min = 1, .max = 100000 },
	{ "recipient_delimiter", TEXT, S(recipient_delimiter), .standard = "+", .flags = EMPTY },
	{ "unknown_recipient_code", NUMBER, S(unknown_recipient_code), .standard = "450", .min = 450, .max = 550 },
	{ "reinject", TEXT, S(reinject), .standard = NULL },
	{ "allow_remote", BOOL, S(allow_remote), .standard = "no" },
	{ "timeout", NUMBER, S(timeout_s), .standard = "300", .min = 1, .max = SECONDS_MAX },
	{ "session_limit", NUMBER, S(session_limit_s), .standard = "900", .min = 1, .max = SECONDS_MAX },
	{ "deadline", NUMBER, S(deadline_s), .standard = "90", .min = 1, .max = SECONDS_MAX },
	{ "spool_directory", TEXT, S(spool_directory), .standard = NULL },
	{ "log", TEXT, S(log), .standard = "auto" },
	{ .name = NULL }
};
#define A(field) offsetof(struct account, field)
static const struct key account_keys[] = {
	{ "recipients", TEXT, A(recipients), .flags = LINES | OWN },
	{ "container", TEXT, A(container), .standard = NULL },
	{ "prefix", TEXT, A(prefix), .standard = "cur/", .flags = EMPTY },
	{ "auth_version", CHOICE, A(auth_version_text), .standard = "3", .choices = NONE_OF "3 3.0 1 1.0 tempurl" },
	{ "authurl", URL, A(authurl), .flags = USERINFO },
	{ "user", TEXT, A(user), .standard = NULL },
	{ "key", TEXT, A(key), .flags = SECRET },
	{ "tenant_name", TEXT, A(tenant_name), .standard = NULL },
	{ "os_options_project_name", TEXT, A(project_name), .standard = NULL },
	{ "os_options_project_id", TEXT, A(project_id), .standard = NULL },
	{ "os_options_project_domain_name", TEXT, A(project_domain_name), .standard = NULL },
	{ "os_options_project_domain_id", TEXT, A(project_domain_id), .standard = NULL },
	{ "os_options_user_domain_name", TEXT, A(user_domain_name), .standard = NULL },
	{ "os_options_user_domain_id", TEXT, A(user_domain_id), .standard = NULL },
	{ "os_options_user_id", TEXT, A(user_id), .standard = NULL },
	{ "os_options_tenant_name", TEXT, A(tenant_name_option), .standard = NULL },
	{ "os_options_tenant_id", TEXT, A(tenant_id), .standard = NULL },
	{ "os_options_region_name", TEXT, A(region_name), .standard = NULL },
	{ "os_options_endpoint_type", CHOICE, A(endpoint_type), .standard = "public", .choices = NONE_OF "public publicURL internal internalURL admin adminURL" },
	{ "os_options_service_type", TEXT, A(service_type), .standard = "object-store" },
	{ "os_options_object_storage_url", URL, A(object_storage_url), .flags = USERINFO },
	{ "os_options_application_credential_id", TEXT, A(application_credential_id), .standard = NULL },
	{ "os_options_application_credential_secret", TEXT, A(application_credential_secret), .flags = SECRET },
	{ "token_file", TEXT, A(token_file), .standard = NULL },
	{ "storage_url", URL, A(storage_url), .flags = USERINFO },
	{ "temp_url_key", TEXT, A(temp_url_key), .flags = SECRET, .rival = "temp_url_query" },
	{ "temp_url_digest", CHOICE, A(temp_url_digest), .standard = "sha256", .choices = NONE_OF "sha1 sha256 sha512" },
	{ "temp_url_query", TEXT, A(temp_url_query), .flags = SECRET, .rival = "temp_url_key" },
	{ "cacert", TEXT, A(http.cacert), .standard = "/etc/ssl/certs" },
	{ "insecure", BOOL, A(http.insecure), .standard = "no" },
	{ "cert", TEXT, A(http.cert), .standard = NULL },
	{ "cert_key", TEXT, A(http.cert_key), .standard = NULL },
	{ "proxy", PROXY, A(http.proxy), .flags = USERINFO },
	{ "timeout", NUMBER, A(http.timeout_s), .standard = "60", .min = 1, .max = SECONDS_MAX },
	{ "retries", NUMBER, A(retries), .standard = "2", .min = 0, .max = 100 },
	{ "content_type", TEXT, A(content_type), .standard = "message/rfc822" },
	{ "delete_after", NUMBER, A(delete_after_s), .min = 1, .max = DELETE_AFTER_MAX },
	{ "metadata", BOOL, A(metadata), .standard = "yes" },
	{ .name = NULL }
};
/* clang-format on */

/* What each variable of ours begins with. */
#define VARIABLE     "SWIFTDROP_"
#define VARIABLE_LEN (sizeof(VARIABLE) - 1)

/* The member of a structure that a key's table describes. */
#define MEMBER(type, target, key)                                              \
	(*(type *)(void *)((char *)(target) + (key)->offset))
#define VALUE(type, target, key)                                               \
	(*(type const *)(const void *)((const char *)(target) + (key)->offset))

/* A key as somebody wrote it, or a section's name; text is borrowed. */
struct setting {
	const char *section;
	const struct key *key; /* NULL for the section itself */
	const char *value;     /* "" where the key stood alone */
	const char *variable;  /* of the environment, or NULL */
	unsigned int line;     /* of the file */
	bool is_file;          /* written as X_file: the value is a path */
};

struct loader {
	struct config *config;    /* borrowed */
	const char *path;         /* borrowed; NULL for no file */
	char *const *environment; /* borrowed */
	struct buf *faults;       /* borrowed */
	struct buf settings;      /* struct setting, in their order */
	bool has_file;
	bool readable_by_others;
	bool has_secret; /* the file itself holds one */
};

/*
 * Where a fault is: a file's line, its section and key, or a variable; what
 * stands nowhere is asked for in the form that the rest has.
 */
static void
add_place(const struct loader *l, const char *section, const char *key,
    const struct setting *where, struct buf *out)
{
	const char *p;

	if (where != NULL && where->variable != NULL) {
		buf_addf(out, "%s: ", where->variable);
		return;
	}
	if (l->has_file || section == NULL) {
		buf_adds(out, l->path == NULL ? "environment" : l->path);
		if (where != NULL && where->line != 0)
			buf_addf(out, ":%u", where->line);
		buf_adds(out, ": ");
		if (section != NULL)
			buf_addf(out, "[%s] ", section);
		if (key != NULL)
			buf_addf(out, "%s: ", key);
		return;
	}
	buf_addf(out, VARIABLE "%s", section);
	for (p = key == NULL ? "" : key; *p != '\0'; p++)
		buf_addf(out, "%s%c", p == key ? "_" : "", ascii_upper(*p));
	buf_adds(out, ": ");
}

/*
 * Ends the line that begins at start.  What many sections inherit is said
 * once, and what a name brought along does not begin another line.
 */
static void
end_line(struct buf *out, size_t start)
{
	const char *old;
	size_t i, len;

	for (i = start; i < out->len; i++)
		if (is_control(out->data[i]))
			out->data[i] = '?';
	buf_addc(out, '\n');
	if (out->error != 0) {
		buf_cut(out, start);
		return;
	}
	len = out->len - start;
	for (old = out->data; old < out->data + start;
	     old += strcspn(old, "\n") + 1) {
		if (strncmp(old, out->data + start, len) == 0) {
			buf_cut(out, start);
			return;
		}
	}
}

/* A line about a key: where it was written, or where it should be. */
static void
say(const struct loader *l, struct buf *out, const char *section,
    const char *key, const struct setting *where, const char *reason)
{
	size_t start = out->len;

	if (where != NULL && where->section != NULL)
		section = where->section;
	add_place(l, section, key, where, out);
	buf_adds(out, reason);
	end_line(out, start);
}

static void
fault(struct loader *l, const char *section, const char *key,
    const struct setting *where, const char *reason)
{
	say(l, l->faults, section, key, where, reason);
}

static void
no_memory(struct loader *l)
{
	fault(l, NULL, NULL, NULL, strerror(ENOMEM));
}

/* A file that holds a secret. */
static void
warn_of_readers(struct loader *l, const char *path)
{
	struct buf *out = &l->config->warnings;
	size_t start = out->len;

	buf_addf(out, "%s: holds a secret and is readable by others", path);
	end_line(out, start);
}

static const struct key *
keys_of(const char *section)
{
	return strcmp(section, "SMTP") == 0 ? smtp_keys : account_keys;
}

static const struct key *
key_named(const char *section, const char *name)
{
	const struct key *key;

	for (key = keys_of(section); strcmp(key->name, name) != 0; key++)
		;
	return key;
}

/* Where a section itself sets a key, or NULL; with none, where it begins. */
static struct setting *
own_setting(const struct loader *l, const char *section, const struct key *key)
{
	struct setting *settings = (void *)l->settings.data;
	size_t i;

	for (i = 0; i < l->settings.len / sizeof(*settings); i++)
		if (settings[i].key == key &&
		    strcmp(settings[i].section, section) == 0)
			return &settings[i];
	return NULL;
}

/* The section's own setting, or the one it inherits, or NULL. */
static const struct setting *
effective(const struct loader *l, const char *section, const struct key *key)
{
	const struct setting *own;

	own = own_setting(l, section, key);
	if (own != NULL || keys_of(section) == smtp_keys ||
	    (key->flags & OWN) != 0)
		return own;
	/* A section's own choice between two keys beats what it inherits. */
	own = key->rival == NULL
		  ? NULL
		  : own_setting(l, section, key_named(section, key->rival));
	if (own != NULL && *own->value != '\0')
		return NULL;
	return own_setting(l, "DEFAULT", key);
}

static void
fault_of(struct loader *l, const char *section, const char *name,
    const char *reason)
{
	fault(l, section, name, effective(l, section, key_named(section, name)),
	    reason);
}

/* Whether the section is new; notes it if so. */
static bool
add_section(struct loader *l, const char *name)
{
	struct setting section = { .section = name };

	if (own_setting(l, name, NULL) != NULL)
		return false;
	buf_add(&l->settings, &section, sizeof(section));
	return true;
}

/* The key that a name means, also as X_file; its table ends without a name. */
static const struct key *
find_key(const char *section, const char *name, bool *is_file)
{
	const struct key *key;
	size_t len;

	for (key = keys_of(section); key->name != NULL; key++) {
		len = strlen(key->name);
		if (strncmp(key->name, name, len) != 0)
			continue;
		*is_file = (key->flags & SECRET) != 0 &&
			   strcmp(name + len, "_file") == 0;
		if (name[len] == '\0' || *is_file)
			break;
	}
	return key;
}

/* Says that nobody knows the key; swiftclient may know more than we do. */
static void
unknown_key(struct loader *l, const struct setting *where, const char *name)
{
	bool is_option = strncmp(name, "os_options_", 11) == 0 &&
			 keys_of(where->section) == account_keys;
	struct buf *out = is_option ? &l->config->warnings : l->faults;
	size_t start = out->len;

	add_place(l, where->section, name, where, out);
	if (where->variable != NULL)
		buf_addf(out, "is read as \"%s\" of [%s]: ", name,
		    where->section);
	buf_adds(out, is_option ? "unknown option, not used" : "unknown key");
	end_line(out, start);
}

/* Whether two settings of one key contradict each other; says so. */
static bool
is_twice(struct loader *l, const struct setting *old,
    const struct setting *newer, const char *name)
{
	bool is_form = old->is_file != newer->is_file;

	/* A variable beats the file; an empty one is no second form. */
	if (newer->variable != NULL &&
	    (old->variable == NULL ||
		(is_form && (*old->value == '\0' || *newer->value == '\0'))))
		return false;
	fault(l, newer->section, name, newer,
	    newer->variable != NULL
		? "is given twice in the environment; keep one of them"
	    : is_form ? "stands beside its other form, with and without "
			"_file; keep one of them"
		      : "duplicate key");
	return true;
}

/* Notes what was written. */
static void
put(struct loader *l, struct setting newer, const char *name)
{
	struct setting *old;

	newer.key = find_key(newer.section, name, &newer.is_file);
	if (newer.key->name == NULL) {
		unknown_key(l, &newer, name);
		return;
	}
	if ((newer.key->flags & SECRET) != 0 && !newer.is_file &&
	    newer.variable == NULL && *newer.value != '\0')
		l->has_secret = true;
	old = own_setting(l, newer.section, newer.key);
	if (old == NULL)
		buf_add(&l->settings, &newer, sizeof(newer));
	else if (!is_twice(l, old, &newer, name) &&
		 (old->variable == NULL || *newer.value != '\0'))
		*old = newer;
}

static void
take_section(void *context, const char *section, unsigned int line)
{
	struct setting where = { .line = line };
	struct loader *l = context;

	if (text_has_control(section))
		fault(l, NULL, NULL, &where,
		    "control character in a section's name");
	else if (!add_section(l, section))
		fault(l, section, NULL, &where, "duplicate section");
}

static void
take_entry(void *context, const char *section, const char *key,
    const char *value, unsigned int line)
{
	struct setting where = { .section = section,
		.value = value == NULL ? "" : value,
		.line = line };

	put(context, where, key);
}

static void
take_fault(void *context, const char *reason, unsigned int line)
{
	struct setting where = { .line = line };

	fault(context, NULL, NULL, &where, reason);
}

/* Whether there is a file, or none is needed. */
static bool
take_file(struct loader *l)
{
	const struct ini_reader reader = { take_section, take_entry, take_fault,
		l };
	struct buf *text = &l->config->text;
	struct stat st;

	if (l->path == NULL)
		return true;
	if (file_read(l->path, text, &st) == -1) {
		if (errno == ENOENT)
			return true;
		l->has_file = true;
		fault(l, NULL, NULL, NULL,
		    errno == EMSGSIZE ? "is too large" : strerror(errno));
		return false;
	}
	l->has_file = true;
	l->readable_by_others = (st.st_mode & S_IROTH) != 0;
	ini_parse(text, &reader);
	return true;
}

/*
 * Kubernetes and Docker make up variables for a service of our name, or of one
 * that begins with it; they are not meant for us, and none of them is a key.
 */
#define MADE_UP                                                                \
	"^[^_]+_(([^=]*_)?(SERVICE_HOST|SERVICE_PORT(_[^=]+)?|PORT("           \
	"_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)|NAME|ENV_[^=]*)="

char **
config_variables(char *const *environment, const char *prefix)
{
	char *const nothing[] = { NULL };
	char *const *variable;
	regex_t made_up;
	char **ours;
	size_t len, n;

	if (environment == NULL)
		environment = nothing;
	n = 0;
	len = strlen(prefix);
	for (variable = environment; *variable != NULL; variable++)
		n += strncmp(*variable, prefix, len) == 0;
	ours = calloc(n + 1, sizeof(*ours));
	if (ours == NULL)
		return NULL;
	if (n == 0)
		return ours;
	if (regcomp(&made_up, MADE_UP, REG_EXTENDED | REG_NOSUB) != 0) {
		free(ours);
		errno = ENOMEM;
		return NULL;
	}
	n = 0;
	for (variable = environment; *variable != NULL; variable++)
		if (strncmp(*variable, prefix, len) == 0 &&
		    regexec(&made_up, *variable, 0, NULL, 0) != 0)
			ours[n++] = *variable;
	regfree(&made_up);
	return ours;
}

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/*
 * Cuts SWIFTDROP_<SECTION>_<OPTION> up in place.  Returns the option, the
 * section stands where it stood; NULL where there are not both.
 */
static char *
split_name(char *variable)
{
	char *name, *p;

	name = strchr(variable + VARIABLE_LEN, '_');
	if (name == NULL || name == variable + VARIABLE_LEN || name[1] == '\0')
		return NULL;
	*name++ = '\0';
	for (p = variable + VARIABLE_LEN; *p != '\0'; p++)
		*p = ascii_upper(*p);
	for (p = name; *p != '\0'; p++)
		*p = ascii_lower(*p);
	return name;
}

/* SWIFTDROP_<SECTION>_<OPTION>=value, cut up in place. */
static void
take_variable(struct loader *l, char *variable, const char *whole_name)
{
	struct setting where = { .variable = whole_name };
	const struct key *key;
	char *name, *value;

	value = variable + strlen(whole_name);
	if (*value != '\0')
		*value++ = '\0';
	where.section = variable + VARIABLE_LEN;
	where.value = value;
	name = split_name(variable);
	if (name == NULL) {
		fault(l, NULL, NULL, &where,
		    "names no option, write SWIFTDROP_<SECTION>_<OPTION>");
		return;
	}
	if (text_has_control(where.section) ||
	    !utf8_is_valid(whole_name, strlen(whole_name)) ||
	    !utf8_is_valid(value, strlen(value))) {
		fault(l, NULL, NULL, &where, "is not text in UTF-8");
		return;
	}
	/* It means what a line of the file would; a secret is what it is. */
	key = find_key(where.section, name, &where.is_file);
	if ((key->flags & SECRET) == 0 || where.is_file)
		where.value = ini_trim(value);
	(void)add_section(l, where.section);
	put(l, where, name);
}

/* In the order of their names, so that nothing depends on environ(7)'s. */
static void
take_environment(struct loader *l)
{
	struct buf *text = &l->config->variables;
	char *name, *next, **ours, *variable;
	size_t i, n;

	ours = config_variables(l->environment, VARIABLE);
	for (n = 0; ours != NULL && ours[n] != NULL; n++)
		;
	if (n > 0)
		qsort(ours, n, sizeof(*ours), compare_text);
	/* The name, for faults, then all of it, which is cut up. */
	for (i = 0; i < n; i++) {
		buf_add(text, ours[i], strcspn(ours[i], "="));
		buf_addc(text, '\0');
		buf_add(text, ours[i], strlen(ours[i]) + 1);
	}
	if (ours == NULL || text->error != 0) {
		no_memory(l);
		n = 0;
	}
	free(ours);
	for (next = text->data; n > 0; n--) {
		name = next;
		variable = name + strlen(name) + 1;
		next = variable + strlen(variable) + 1;
		take_variable(l, variable, name);
	}
}

bool
config_is_key(const char *variable, size_t len)
{
	char *copy, *name;
	bool is_file, result;

	copy = len > VARIABLE_LEN ? strndup(variable, len) : NULL;
	name = copy == NULL ? NULL : split_name(copy);
	result = name != NULL &&
		 find_key(copy + VARIABLE_LEN, name, &is_file)->name != NULL;
	free(copy);
	return result;
}

/* The value of a variable of the environment, NULL where not set or empty. */
static const char *
variable_of(const struct loader *l, const char *name)
{
	size_t i, len;

	len = strlen(name);
	for (i = 0; l->environment != NULL && l->environment[i] != NULL; i++)
		if (strncmp(l->environment[i], name, len) == 0 &&
		    l->environment[i][len] == '=' &&
		    l->environment[i][len + 1] != '\0')
			return l->environment[i] + len + 1;
	return NULL;
}

/* What is wrong with a secret's text, or NULL. */
static const char *
check_secret(struct buf *secret)
{
	const char *text = buf_text(secret);

	if (secret->len > 0 && text[secret->len - 1] == '\n')
		buf_cut(secret, secret->len - 1);
	if (secret->len == 0)
		return "is empty";
	if (strncmp(text, "\357\273\277", 3) == 0)
		return "begins with a byte order mark; save it without";
	if (text[secret->len - 1] == '\r')
		return "ends its line with CR LF; save it with LF";
	if (strlen(text) != secret->len || text_has_control(text))
		return "holds a control character";
	return utf8_is_valid(text, secret->len) ? NULL : "is not text in UTF-8";
}

/* Reads an X_file; a relative path starts where the credentials are. */
static const char *
read_secret(struct loader *l, const struct setting *setting, struct buf *secret)
{
	BUF(path, PATH_MAX);
	BUF(name, 256);
	BUF(text, PATH_MAX + 256);
	const char *folder, *reason, *slash;
	struct stat st;

	folder = variable_of(l, "CREDENTIALS_DIRECTORY");
	slash = l->path == NULL ? NULL : strrchr(l->path, '/');
	if (setting->value[0] != '/' && folder != NULL)
		buf_addf(&path, "%s/", folder);
	else if (setting->value[0] != '/' && slash != NULL)
		buf_add(&path, l->path, (size_t)(slash - l->path) + 1);
	buf_adds(&path, setting->value);
	if (file_read(buf_text(&path), secret, &st) == -1) {
		buf_adds(&text, "cannot read ");
		reason = strerror(errno);
	} else {
		if ((st.st_mode & S_IROTH) != 0)
			warn_of_readers(l, buf_text(&path));
		reason = check_secret(secret);
		if (reason == NULL)
			return buf_text(secret);
	}
	buf_addf(&text, "%s: %s",
	    text_has_control(buf_text(&path)) ? "the file" : buf_text(&path),
	    reason);
	buf_addf(&name, "%s_file", setting->key->name);
	fault(l, setting->section, buf_text(&name), setting, buf_text(&text));
	/* No more to be said of the key. */
	return "***";
}

/* What libcurl and the signature need; it is not for us to parse URLs. */
static const char *
check_url(const char *value)
{
	const char *p;

	if (!text_begins(value, "http://") && !text_begins(value, "https://"))
		return "must begin with http:// or https://";
	p = strstr(value, "://") + 3;
	if (*p == '\0' || *p == '/')
		return "names no host";
	if (strpbrk(value, " ?#") != NULL)
		return "must not have a blank, a query or a fragment";
	/* Where a user part ends must be clear, or it could be shown. */
	if (strchr(p + strcspn(p, "/"), '@') != NULL)
		return "must not have an @ behind a /; write a / in a user or "
		       "password as %2F";
	return NULL;
}

/* An HTTP proxy as libcurl takes it: it shows what it does not understand. */
#define PROXY_URL                                                              \
	"^([Hh][Tt][Tt][Pp][Ss]?://)?([^][/?#@ ]+@)?"                          \
	"([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+])"                                 \
	"(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|"           \
	"[1-5]?[0-9]{1,4}))?/?$"

static const char *
check_proxy(const char *value)
{
	regex_t regex;
	bool found;

	if (regcomp(&regex, PROXY_URL, REG_EXTENDED | REG_NOSUB) != 0)
		return strerror(ENOMEM);
	found = regexec(&regex, value, 0, NULL, 0) == 0;
	regfree(&regex);
	return found
		   ? NULL
		   : "must be http://host:port or http://user:password@host:port,"
		     " with / ? # @ in user and password as %2F %3F %23 %40";
}

static const char *
check_choice(const struct key *key, const char *value)
{
	const char *p;
	size_t len;

	for (p = key->choices + sizeof(NONE_OF) - 1; *p != '\0';
	     p += len + strspn(p + len, " ")) {
		len = strcspn(p, " ");
		if (strlen(value) == len && strncmp(p, value, len) == 0)
			return NULL;
	}
	return key->choices;
}

static const char *
convert_number(const struct key *key, const char *value, int64_t *number)
{
	size_t len;

	len = strlen(value);
	if (len == 0 || len > 18 || strspn(value, "0123456789") != len)
		return "must be a whole number";
	*number = strtoll(value, NULL, 10);
	return *number < key->min || *number > key->max
		   ? "is out of range, see swiftdrop.ini(5)"
		   : NULL;
}

/* The words of configparser's getboolean(). */
static const char *
convert_bool(const char *value, bool *flag)
{
	static const char *const words[] = { "no", "yes", "false", "true",
		"off", "on", "0", "1" };
	size_t i;

	for (i = 0; i < COUNT(words); i++) {
		if (strcasecmp(value, words[i]) == 0) {
			*flag = i % 2 == 1;
			return NULL;
		}
	}
	return "must be yes or no";
}

/* What is wrong with a value as text, or NULL. */
static const char *
check_text(const struct key *key, const char *value)
{
	const char *p;

	for (p = value; *p != '\0'; p++)
		if (is_control(*p) &&
		    !(*p == '\n' && (key->flags & LINES) != 0))
			return *p == '\n' ? "must be a single line"
					  : "control character in the value";
	return key->type == URL      ? check_url(value)
	       : key->type == PROXY  ? check_proxy(value)
	       : key->type == CHOICE ? check_choice(key, value)
				     : NULL;
}

/* Stores a value in its member; returns what is wrong with it, or NULL. */
static const char *
convert(const struct key *key, const char *value, void *target)
{
	if (key->type == NUMBER)
		return convert_number(key, value,
		    &MEMBER(int64_t, target, key));
	if (key->type == BOOL)
		return convert_bool(value, &MEMBER(bool, target, key));
	/* Also what is wrong: it is not missing as well. */
	MEMBER(char *, target, key) = strdup(value);
	return MEMBER(char *, target, key) == NULL ? strerror(ENOMEM)
						   : check_text(key, value);
}

/* Turns the settings of a section into members of *target. */
static void
resolve(struct loader *l, const char *section, void *target)
{
	const struct setting *setting;
	const struct key *key;
	const char *reason, *value;

	for (key = keys_of(section); key->name != NULL; key++) {
		BUF(secret, SECRET_MAX);

		setting = effective(l, section, key);
		value = setting == NULL ? "" : setting->value;
		if (*value != '\0' && setting->is_file)
			value = read_secret(l, setting, &secret);
		/* Empty is the same as not set, but where it is a value. */
		if (*value == '\0' &&
		    (setting == NULL || (key->flags & EMPTY) == 0))
			value = key->standard;
		reason = value == NULL ? NULL : convert(key, value, target);
		if (reason != NULL)
			fault(l, section, key->name, setting, reason);
	}
}

static bool
default_text(char **member, const char *value)
{
	if (*member == NULL)
		*member = strdup(value);
	return *member != NULL;
}

/* What the table cannot say of [SMTP]. */
static void
finish_smtp(struct loader *l)
{
	struct smtp_config *smtp = &l->config->smtp;
	char host[HOST_NAME_MAX + 1] = "";
	const char *folder;

	(void)gethostname(host, sizeof(host) - 1);
	folder = variable_of(l, "TMPDIR");
	if (!default_text(&smtp->hostname,
		*host == '\0' ? "localhost" : host) ||
	    !default_text(&smtp->origin, smtp->hostname) ||
	    !default_text(&smtp->spool_directory,
		folder == NULL ? "/tmp" : folder)) {
		no_memory(l);
		return;
	}
	if (strpbrk(smtp->hostname, " \"<>@") != NULL)
		fault_of(l, "SMTP", "hostname", "is not a host name");
	if (smtp->unknown_recipient_code != 450 &&
	    smtp->unknown_recipient_code != 550)
		fault_of(l, "SMTP", "unknown_recipient_code",
		    "must be 450 or 550");
	if (smtp->reinject != NULL && !stream_is_endpoint(smtp->reinject))
		fault_of(l, "SMTP", "reinject",
		    "must be IP:port, [v6]:port, localhost:port or unix:path");
	if (smtp->log != NULL && !log_is_target(smtp->log))
		fault_of(l, "SMTP", "log",
		    "must be auto, journal, syslog, [json:]stderr, "
		    "[json:]postlog:PATH or none");
}

bool
config_has_credential(const struct account *a)
{
	return a->auth_version == AUTH_KEYSTONE &&
	       a->application_credential_id != NULL;
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

static bool
same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/*
 * The region and a storage URL given by hand count as well: one login may
 * lead to several clusters.
 */
bool
config_same_login(const struct account *a, const struct account *b)
{
	if (a->auth_version != b->auth_version ||
	    !same(a->authurl, b->authurl) ||
	    !same(a->object_storage_url, b->object_storage_url))
		return false;
	if (a->auth_version == AUTH_V1)
		return same(a->user, b->user);
	if (!same(a->region_name, b->region_name) ||
	    !same(a->application_credential_id, b->application_credential_id))
		return false;
	return config_has_credential(a) ||
	       (same(a->user, b->user) && same(a->user_id, b->user_id) &&
		   same(config_project_name(a), config_project_name(b)) &&
		   same(config_project_id(a), config_project_id(b)) &&
		   same(a->project_domain_name, b->project_domain_name) &&
		   same(a->project_domain_id, b->project_domain_id) &&
		   same(a->user_domain_name, b->user_domain_name) &&
		   same(a->user_domain_id, b->user_domain_id));
}

bool
config_same_place(const struct account *a, const struct account *b)
{
	return same(a->container, b->container) &&
	       (a->auth_version == AUTH_TEMPURL
		       ? b->auth_version == AUTH_TEMPURL &&
			     same(a->storage_url, b->storage_url)
		       : config_same_login(a, b));
}

static void
require(struct loader *l, const struct account *a, const char *key,
    const char *value, const char *reason)
{
	if (value == NULL)
		fault(l, a->name, key, NULL, reason);
}

/* The keys without which an account cannot log in. */
static void
require_login(struct loader *l, const struct account *a)
{
	static const char missing[] = "is missing";

	if (a->auth_version == AUTH_TEMPURL) {
		require(l, a, "storage_url", a->storage_url, missing);
		if (a->temp_url_query == NULL)
			require(l, a, "temp_url_key", a->temp_url_key,
			    "is missing, or temp_url_query");
		return;
	}
	require(l, a, "authurl", a->authurl, missing);
	if (config_has_credential(a)) {
		require(l, a, "os_options_application_credential_secret",
		    a->application_credential_secret, missing);
		return;
	}
	if (a->auth_version == AUTH_V1)
		require(l, a, "user", a->user, missing);
	else if (a->user_id == NULL)
		require(l, a, "user", a->user,
		    "is missing, or os_options_application_credential_id");
	require(l, a, "key", a->key, missing);
}

/* What the table cannot say of an account. */
static void
check_account(struct loader *l, const struct account *a)
{
	require(l, a, "container", a->container, "is missing");
	if (check_choice(key_named(a->name, "auth_version"),
		a->auth_version_text) == NULL)
		require_login(l, a);
	if (a->container != NULL && (strchr(a->container, '/') != NULL ||
					strlen(a->container) > CONTAINER_MAX ||
					strcmp(a->container, ".") == 0 ||
					strcmp(a->container, "..") == 0))
		fault_of(l, a->name, "container",
		    "must be a container's name, without / and of at most 256 "
		    "octets");
	if (strlen(a->prefix) > PREFIX_MAX)
		fault_of(l, a->name, "prefix", "must have at most 512 octets");
	if (*a->prefix != '\0' && a->prefix[strlen(a->prefix) - 1] != '/')
		say(l, &l->config->warnings, a->name, "prefix",
		    effective(l, a->name, key_named(a->name, "prefix")),
		    "does not end in /: it is no folder, but how the objects' "
		    "names begin");
	if (a->temp_url_key != NULL && a->temp_url_query != NULL)
		fault_of(l, a->name, "temp_url_query",
		    "stands beside temp_url_key; keep one of them");
	if (a->token_file != NULL &&
	    (a->auth_version == AUTH_TEMPURL || *a->token_file != '/'))
		fault_of(l, a->name, "token_file",
		    *a->token_file == '/'
			? "has no use with auth_version tempurl"
			: "must be an absolute path");
	if (a->auth_version == AUTH_KEYSTONE && a->authurl != NULL &&
	    strstr(a->authurl, "/v2.0") != NULL)
		fault_of(l, a->name, "authurl",
		    "is of Keystone v2, which no longer exists; write .../v3");
}

static void
finish_account(struct loader *l, const char *section)
{
	struct config *c = l->config;
	struct account *a;
	BUF(wrong, 4096);

	a = &c->accounts[c->naccounts];
	a->index = (int)c->naccounts++;
	a->name = section;
	resolve(l, section, a);
	if (a->auth_version_text == NULL || a->prefix == NULL) {
		no_memory(l);
		return;
	}
	a->auth_version = a->auth_version_text[0] == '3'   ? AUTH_KEYSTONE
			  : a->auth_version_text[0] == '1' ? AUTH_V1
							   : AUTH_TEMPURL;
	check_account(l, a);
	if (a->recipients == NULL) {
		say(l, &c->warnings, section, NULL, NULL,
		    "this account has no recipients");
	} else if (!route_add(&c->routes, a->index, a->recipients, &wrong)) {
		fault_of(l, section, "recipients", buf_text(&wrong));
	}
}

/* Two accounts that claim the same, once they are all known. */
static void
check_claims(struct loader *l)
{
	struct config *c = l->config;
	const struct claim *claim;
	size_t i;

	route_sort(&c->routes);
	for (i = 1; i < c->routes.n; i++) {
		BUF(reason, 4096);

		claim = &c->routes.claims[i];
		if (claim->account == claim[-1].account ||
		    strcmp(claim->key, claim[-1].key) != 0)
			continue;
		buf_addf(&reason, "\"%s\" is claimed by [%s] already",
		    claim->key, c->accounts[claim[-1].account].name);
		fault_of(l, c->accounts[claim->account].name, "recipients",
		    buf_text(&reason));
	}
}

/* Two logins that would replace each other's token. */
static void
check_token_files(struct loader *l)
{
	const struct account *a = l->config->accounts;
	size_t i, k;

	for (i = 1; i < l->config->naccounts; i++)
		for (k = 0; k < i; k++)
			if (a[i].token_file != NULL &&
			    same(a[i].token_file, a[k].token_file) &&
			    !config_same_login(&a[i], &a[k]))
				fault_of(l, a[i].name, "token_file",
				    "is the file of another login; give it one "
				    "of its own");
}

/* Every section is an account, [DEFAULT] only when it has recipients. */
static void
finish_accounts(struct loader *l)
{
	struct config *c = l->config;
	const struct setting *own, *settings = (void *)l->settings.data;
	size_t i, n = l->settings.len / sizeof(*settings);

	c->accounts = calloc(n + 1, sizeof(c->accounts[0]));
	if (c->accounts == NULL) {
		no_memory(l);
		return;
	}
	own = own_setting(l, "DEFAULT", key_named("DEFAULT", "recipients"));
	for (i = 0; i < n; i++)
		if (settings[i].key == NULL &&
		    keys_of(settings[i].section) != smtp_keys &&
		    (strcmp(settings[i].section, "DEFAULT") != 0 ||
			(own != NULL && *own->value != '\0')))
			finish_account(l, settings[i].section);
	if (c->naccounts == 0)
		fault(l, NULL, NULL, NULL,
		    "no account: no section has recipients");
	check_claims(l);
	check_token_files(l);
}

static void
load(struct loader *l)
{
	struct config *c = l->config;

	if (!take_file(l))
		return;
	take_environment(l);
	if (!l->has_file && c->variables.len == 0) {
		fault(l, NULL, NULL, NULL, strerror(ENOENT));
		return;
	}
	if (l->has_secret && l->readable_by_others)
		warn_of_readers(l, l->path);
	resolve(l, "SMTP", &c->smtp);
	finish_smtp(l);
	c->routes.origin = c->smtp.origin;
	c->routes.delimiters = c->smtp.recipient_delimiter;
	finish_accounts(l);
	if (c->warnings.error != 0 || l->settings.error != 0)
		no_memory(l);
}

int
config_load(struct config *c, const char *path, char *const *environment,
    struct buf *faults)
{
	struct loader l = { .config = c,
		.path = path,
		.environment = environment,
		.faults = faults,
		.settings = { .max = NOTES_MAX } };
	size_t before = faults->len;

	*c = (struct config){
		.warnings = { .max = FILE_MAX },
		.text = { .max = FILE_MAX },
		.variables = { .max = VARIABLES_MAX },
	};
	load(&l);
	buf_free(&l.settings);
	return faults->len == before && faults->error == 0 ? 0 : -1;
}

static bool
is_text(const struct key *key)
{
	return key->type != NUMBER && key->type != BOOL;
}

static void
free_keys(const struct key *key, void *target)
{
	char *text;

	for (; key->name != NULL; key++) {
		text = is_text(key) ? MEMBER(char *, target, key) : NULL;
		if (text != NULL)
			explicit_bzero(text, strlen(text));
		free(text);
	}
}

void
config_free(struct config *c)
{
	size_t i;

	free_keys(smtp_keys, &c->smtp);
	for (i = 0; i < c->naccounts; i++)
		free_keys(account_keys, &c->accounts[i]);
	free(c->accounts);
	route_free(&c->routes);
	buf_free(&c->warnings);
	buf_free(&c->text);
	buf_free(&c->variables);
	*c = (struct config){ .accounts = NULL };
}

static bool
is_set(const struct key *key, const void *target)
{
	if (is_text(key))
		return VALUE(char *, target, key) != NULL;
	return key->type == BOOL || key->min == 0 ||
	       VALUE(int64_t, target, key) != 0;
}

/* A value as the file has it; out of sight where hide says so. */
static void
print_text(const struct key *key, const char *text, bool hide, struct buf *out)
{
	const char *host, *p;

	text += strspn(text, "\n");
	if (hide && (key->flags & SECRET) != 0 && *text != '\0')
		text = "***";
	host = strstr(text, "://");
	host = host == NULL ? text : host + 3;
	p = memrchr(host, '@', strcspn(host, "/"));
	if (hide && (key->flags & USERINFO) != 0 && p != NULL) {
		buf_addf(out, "%.*s***", (int)(host - text), text);
		text = p;
	}
	/* Line breaks separate recipients as commas do. */
	for (; *text != '\0'; text++)
		buf_addc(out, *text == '\n' ? ',' : *text);
}

static void
print_keys(const struct key *key, const void *target, const void *inherited,
    bool hide, struct buf *out)
{
	for (; key->name != NULL; key++) {
		/* What it does not inherit must be said. */
		if (!is_set(key, target) &&
		    (inherited == NULL || !is_set(key, inherited) ||
			(key->flags & OWN) != 0))
			continue;
		buf_addf(out, "%s = ", key->name);
		if (is_text(key) && is_set(key, target))
			print_text(key, VALUE(char *, target, key), hide, out);
		else if (key->type == BOOL)
			buf_adds(out, VALUE(bool, target, key) ? "yes" : "no");
		else if (is_set(key, target))
			buf_addf(out, "%lld",
			    (long long)VALUE(int64_t, target, key));
		buf_addc(out, '\n');
	}
}

static void
print(const struct config *c, bool hide, struct buf *out)
{
	const struct account *inherited;
	size_t i;

	inherited = NULL;
	for (i = 0; i < c->naccounts; i++)
		if (strcmp(c->accounts[i].name, "DEFAULT") == 0)
			inherited = &c->accounts[i];
	buf_adds(out, "[SMTP]\n");
	print_keys(smtp_keys, &c->smtp, NULL, hide, out);
	for (i = 0; i < c->naccounts; i++) {
		buf_addf(out, "\n[%s]\n", c->accounts[i].name);
		print_keys(account_keys, &c->accounts[i], inherited, hide, out);
	}
}

void
config_print(const struct config *c, struct buf *out)
{
	print(c, true, out);
}

void
config_write(const struct config *c, struct buf *out)
{
	print(c, false, out);
}
