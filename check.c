/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The subcommands "check" and "login".  They say on stdout what they found;
 * the exit status says the same to monitoring.
 */
#include <sys/random.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "clock.h"
#include "log.h"
#include "swift.h"

#include "banned.h"

enum {
	PROBE_LIFE_S = 3600,
	EXPIRY_WARNING_S = 7 * 86400
};

/* What is tried, and with what. */
struct check {
	const struct config *config; /* borrowed */
	struct swift *swift;         /* owned */
	bool *chosen;                /* owned; of each account, by its index */
	int64_t octets;              /* of the probe; -1 for none */
};

/* The account that an argument means; -1 for none, which is said. */
typedef int find_fn(const struct config *config, const char *argument);

/* Tries an account and says what came of it; whether all is well. */
typedef bool try_fn(const struct check *c, const struct account *a);

static int
find_by_address(const struct config *config, const char *text)
{
	int account = ROUTE_NONE;
	ADDRESS(a);

	if (address_parse(&a, text, strlen(text)))
		account = route_find(&config->routes, &a);
	if (account >= 0)
		return account;
	log_fault("no account claims %s", text);
	return -1;
}

/* Only an account that has a token_file. */
static int
find_by_name(const struct config *config, const char *name)
{
	const struct account *a = config->accounts;

	while (a < config->accounts + config->naccounts &&
	       strcmp(a->name, name) != 0)
		a++;
	if (a == config->accounts + config->naccounts)
		log_fault("no account is called %s", name);
	else if (a->token_file == NULL)
		log_fault("account %s has no token_file", name);
	else
		return a->index;
	return -1;
}

/* Says on stdout what came of an account, and frees it; whether it is well. */
static bool
conclude(struct swift_put *p, const char *key, const char *value,
    const char *more)
{
	bool good = p->outcome == SWIFT_STORED;
	struct log_line l;

	if (!good)
		buf_adds(&p->reason, more);
	if (good) {
		(void)printf("%s: ok, %s=%s%s\n", p->account->name, key, value,
		    more);
	} else if (*log_prefix(STDOUT_FILENO, LOG_LEVEL_ERROR) == '\0') {
		(void)printf("%s: failed, %s=%s, request=%s, status=%ld, "
			     "reason=\"%s\"\n",
		    p->account->name, key, value, p->request, p->status,
		    buf_text(&p->reason));
	} else {
		/* Where it is the journal that reads, it has fields. */
		log_begin(&l, LOG_CHECK, LOG_LEVEL_ERROR);
		log_add(&l, "account", "%s", p->account->name);
		log_add(&l, key, "%s", value);
		log_add(&l, "request", "%s", p->request);
		log_add(&l, "status", "%ld", p->status);
		log_add_quoted(&l, "reason", buf_text(&p->reason));
		log_end(&l);
	}
	(void)fflush(stdout);
	swift_put_free(p);
	return good;
}

/* Looks at the container, if that is permitted. */
static void
try_container(struct swift *swift, struct swift_put *p, struct buf *warnings)
{
	/* Swift signs objects only, tempurl.py's _get_path_parts(). */
	if (p->account->auth_version == AUTH_TEMPURL) {
		buf_adds(warnings,
		    ", warning: a TempURL cannot show the container");
		p->outcome = SWIFT_STORED;
		return;
	}
	swift_head(swift, p, true);
	/* Not that of a login. */
	if (p->status != 403 || strcmp(p->request, "HEAD") != 0)
		return;
	p->outcome = SWIFT_STORED;
	buf_adds(warnings,
	    ", warning: no right to look at the container (403)");
}

/*
 * Puts an object as a mail would be, but for its name, tries to overwrite it,
 * looks at it and deletes it.
 */
static void
try_probe(struct swift *swift, struct swift_put *p, struct buf *warnings)
{
	BUF(reason, 1024);
	long status;

	if (swift_store(swift, p) != SWIFT_STORED) {
		swift_withdraw(swift, p, p->deadline_ms);
		return;
	}
	if (swift_overwrites(swift, p))
		buf_adds(warnings,
		    ", warning: If-None-Match is ignored, an object's name "
		    "alone keeps it from being overwritten");
	swift_head(swift, p, false);
	if (p->status == 401 || p->status == 403) {
		buf_addf(warnings,
		    ", warning: no right to look at an object (%ld)",
		    p->status);
		p->outcome = SWIFT_STORED;
	} else if (!swift_is_ours(swift, p)) {
		p->outcome = SWIFT_TEMPORARY;
	}
	if (swift_delete(swift, p, p->deadline_ms, &reason, &status) == 0)
		return;
	buf_addf(warnings,
	    ", warning: the probe was not deleted (%s), it expires in an hour",
	    buf_text(&reason));
	if (status == 401 || status == 403)
		return;
	p->request = "DELETE";
	p->status = status;
	p->outcome = SWIFT_TEMPORARY;
	buf_reset(&p->reason);
	buf_adds(&p->reason, buf_text(&reason));
}

/* A ready TempURL query ends at a second, or at a date and time. */
static bool
try_expiry(struct swift_put *p, struct buf *warnings)
{
	const char *query = p->account->temp_url_query;
	struct tm tm = { 0 };
	long long left_s;

	query = query == NULL ? NULL : strstr(query, "temp_url_expires=");
	if (query == NULL)
		return true;
	query += strlen("temp_url_expires=");
	left_s = strtoll(query, NULL, 10) - time(NULL);
	/* To the end of its hour; what follows may be percent-encoded. */
	if (strptime(query, "%Y-%m-%dT%H", &tm) != NULL)
		left_s = timegm(&tm) + 3600 - time(NULL);
	if (left_s <= 0)
		buf_adds(&p->reason, "temp_url_query has expired");
	else if (left_s < EXPIRY_WARNING_S)
		buf_addf(warnings,
		    ", warning: temp_url_query expires in %lld hours",
		    left_s / 3600);
	return left_s > 0;
}

/* A message as large as is wanted. */
static bool
make_message(struct message *m, const char *spool_directory, int64_t octets,
    struct buf *reason)
{
	static const char text[] = "Subject: swiftdrop check\r\n\r\n";
	int64_t len;

	message_open(m, spool_directory, octets);
	for (; octets > 0; octets -= len) {
		len = sizeof(text) - 1;
		len = octets < len ? octets : len;
		message_add(m, text, (size_t)len);
	}
	if (message_finish(m) == 0)
		return true;
	buf_addf(reason, "spool_directory %s: %s", spool_directory,
	    strerror(m->fault));
	return false;
}

static bool
try_account(const struct check *c, const struct account *a)
{
	struct account probe = *a;
	struct message m = { .fd = -1 };
	struct swift_put p;
	uint64_t random;
	BUF(warnings, 4096);

	/* An object that readers skip, for its name begins with a dot. */
	probe.delete_after_s = PROBE_LIFE_S;
	probe.metadata = false;
	probe.retries = 0;
	swift_put_init(&p, &probe);
	p.message = &m;
	p.deadline_ms = clock_ms() + c->config->smtp.deadline_s * 1000;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		buf_adds(&p.reason, strerror(errno));
	else if (make_message(&m, c->config->smtp.spool_directory, c->octets,
		     &p.reason) &&
		 try_expiry(&p, &warnings))
		try_container(c->swift, &p, &warnings);
	buf_addf(&p.name, ".swiftdrop-check-%016" PRIx64, random);
	if (c->octets >= 0 && p.outcome == SWIFT_STORED)
		try_probe(c->swift, &p, &warnings);
	message_close(&m);
	return conclude(&p, "container", a->container, buf_text(&warnings));
}

/* Logs in for an account that has a token_file; for some that share it, once. */
static bool
renew(const struct check *c, const struct account *a)
{
	const struct account *b;
	struct swift_put p;
	char ends[32] = "";
	time_t time;

	for (b = c->config->accounts; b < a && a->token_file != NULL; b++)
		if (c->chosen[b->index] && b->token_file != NULL &&
		    strcmp(b->token_file, a->token_file) == 0)
			return true;
	if (a->token_file == NULL)
		return true;
	swift_put_init(&p, a);
	p.deadline_ms = clock_ms() + c->config->smtp.deadline_s * 1000;
	time = (time_t)swift_write_token(c->swift, &p);
	if (time != -1)
		(void)strftime(ends, sizeof(ends), ", ends=%Y-%m-%dT%H:%M:%SZ",
		    gmtime(&time));
	return conclude(&p, "token_file", a->token_file, ends);
}

/* Tries the accounts that the arguments mean, or all where there are none. */
static int
run(struct check *c, char *const *arguments, int n, find_fn *find, try_fn *try)
{
	const struct account *accounts = c->config->accounts;
	size_t i, naccounts = c->config->naccounts;
	int account, k, status = EX_OSERR;

	c->chosen = calloc(naccounts, sizeof(*c->chosen));
	c->swift = swift_open(c->config);
	if (c->chosen == NULL || c->swift == NULL)
		goto out;
	status = EX_OK;
	for (k = 0; k < n; k++) {
		account = find(c->config, arguments[k]);
		if (account == -1)
			status = EX_DATAERR;
		else
			c->chosen[account] = true;
	}
	for (i = 0; i < naccounts; i++) {
		c->chosen[i] |= n == 0;
		if (c->chosen[i] && !try(c, &accounts[i]))
			status = EX_UNAVAILABLE;
	}
out:
	swift_close(c->swift);
	free(c->chosen);
	return status;
}

int
check_run(const struct config *config, int64_t octets, char *const *addresses,
    int n)
{
	struct check c = { .config = config, .octets = octets };
	int status = run(&c, addresses, n, find_by_address, try_account);

	if (message_try_spool(config->smtp.spool_directory) == 0)
		return status;
	log_fault("spool_directory %s: %s", config->smtp.spool_directory,
	    strerror(errno));
	return EX_UNAVAILABLE;
}

int
check_login(const struct config *config, char *const *names, int n)
{
	struct check c = { .config = config };

	return run(&c, names, n, find_by_name, renew);
}
