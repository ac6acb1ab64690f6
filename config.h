/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The configuration: an INI file, overridden by the environment, with secrets
 * in files of their own.  swiftdrop.ini(5) describes it for its users.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include "buf.h"
#include "http.h"
#include "route.h"

enum auth_version {
	AUTH_KEYSTONE, /* Keystone v3 */
	AUTH_V1,       /* tempauth, Ceph RGW */
	AUTH_TEMPURL   /* each request is signed, nothing to log in to */
};

/* The section [SMTP]: the session.  Text is owned, NULL where not set. */
struct smtp_config {
	char *hostname;
	char *origin;
	int64_t message_size_limit;     /* octets */
	int64_t recipient_limit;        /* recipients a message */
	char *recipient_delimiter;      /* a set of characters, "" for none */
	int64_t unknown_recipient_code; /* 450 or 550 */
	char *reinject;
	bool allow_remote;
	int64_t timeout_s;
	int64_t session_limit_s;
	int64_t deadline_s;
	char *spool_directory;
	char *rspamd; /* URL of a normal worker */
	int64_t rspamd_timeout_s;
	bool rspamd_required; /* without a verdict nothing is stored */
	bool rspamd_reject;   /* a verdict may refuse */
	char *statsd;         /* as reinject */
	char *log;
};

/* A Swift account.  Text is owned, NULL where not set. */
struct account {
	char *name; /* of its section */
	int index;  /* in struct config */
	char *recipients;
	char *container;
	char *prefix;
	enum auth_version auth_version;
	char *auth_version_text;
	char *authurl;
	char *user;
	char *key;          /* secret */
	char *project_name; /* by whichever key it was given */
	char *project_id;   /* likewise */
	char *project_domain_name;
	char *project_domain_id;
	char *user_domain_name;
	char *user_domain_id;
	char *user_id;
	char *region_name;
	char *endpoint_type;
	char *service_type;
	char *object_storage_url;
	char *application_credential_id;
	char *application_credential_name;   /* where there is no id */
	char *application_credential_secret; /* secret */
	char *token_file;
	char *storage_url;
	char *temp_url_key; /* secret */
	char *temp_url_digest;
	char *temp_url_query; /* secret */
	struct http_options http;
	int64_t retries;
	char *content_type;
	int64_t delete_after_s; /* 0 for never */
	bool metadata;
};

struct config {
	struct smtp_config smtp;
	struct account *accounts; /* owned; in the file's order */
	size_t naccounts;
	struct routes routes;
	struct buf warnings; /* one line each, ended by LF */
};

/*
 * Reads the file at path (NULL for none), the SWIFTDROP_* variables of
 * environment (as environ(7), NULL for none) and the files that hold secrets;
 * all borrowed.  The file may be absent when such a variable is there.
 * Returns 0, or -1 with every fault appended to *faults, a line each, ended by
 * LF, none of them twice: where it is, as "FILE:LINE: [SECTION] KEY: " or, for
 * a variable and wherever there is no path, "VARIABLE: ", and what to change.
 * What does not fit is left out.  Warnings have the same form, or begin with
 * the path of the file that holds a secret.  config_free() is needed in every
 * case.
 */
int config_load(struct config *c, const char *path, char *const *environment,
    struct buf *faults);

/* Wipes the secrets and frees everything. */
void config_free(struct config *c);

/*
 * The variables of environment (as environ(7)) that begin with prefix, as
 * "SWIFTDROP_" (up to its only underscore), but for what Kubernetes and Docker
 * make up for a service of that name.  Returns an array that ends in NULL and
 * is the caller's to free, its texts borrowed; or NULL with errno ENOMEM.
 */
char **config_variables(char *const *environment, const char *prefix);

/*
 * Whether the name of a variable is PREFIX_<SECTION>_<OPTION> with an option
 * that config_load() knows, X_FILE of a secret included.
 */
bool config_is_key(const char *variable);

/*
 * Appends the effective configuration as INI, as config_load() reads it; with
 * hide, secrets and userinfo are ***.
 */
void config_print(const struct config *c, bool hide, struct buf *out);

/*
 * Whether two accounts lead to the same place: the same login, project and
 * container of the same service.
 */
bool config_same_place(const struct account *a, const struct account *b);

/* Whether two accounts log in alike, so that one token serves both. */
bool config_same_login(const struct account *a, const struct account *b);

/* Whether an account logs in with an application credential. */
bool config_has_credential(const struct account *a);

#endif
