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
#include "object.h"
#include "swift.h"
#include "text.h"

#include "banned.h"

enum {
	PROBE_LIFE_S = 3600,
	EXPIRY_WARNING_S = 7 * 86400
};

/* Marks the accounts to try; EX_DATAERR when an address has none. */
static int
choose(const struct config *config, char *const *addresses, int n, bool *chosen)
{
	int account, i, status;
	size_t k;

	for (k = 0; k < config->naccounts; k++)
		chosen[k] = n == 0;
	status = EX_OK;
	for (i = 0; i < n; i++) {
		ADDRESS(a);

		account = ROUTE_NONE;
		if (address_parse(&a, addresses[i], strlen(addresses[i])))
			account = route_find(&config->routes, &a);
		if (account >= 0) {
			chosen[account] = true;
		} else {
			log_fault("no account claims %s", addresses[i]);
			status = EX_DATAERR;
		}
	}
	return status;
}

/* Looks at the container, if that is permitted. */
static void
try_container(struct swift *swift, struct swift_put *p, struct buf *warnings)
{
	/* Swift signs objects only, tempurl.py's _get_path_parts(). */
	if (p->account->auth_version == AUTH_TEMPURL) {
		buf_adds(warnings,
		    ", warning: a TempURL cannot show the container");
		return;
	}
	(void)swift_head(swift, p, true);
	if (p->status != 403)
		return;
	p->outcome = SWIFT_STORED;
	buf_adds(warnings,
	    ", warning: no right to look at the container (403)");
}

/* Puts, looks at and deletes an object as a mail would be, but for its name. */
static void
try_probe(struct swift *swift, struct swift_put *p, struct buf *warnings)
{
	BUF(reason, 1024);
	long status;

	if (swift_store(swift, p) != SWIFT_STORED) {
		swift_withdraw(swift, p, p->deadline_ms);
		return;
	}
	(void)swift_head(swift, p, false);
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

/* Where it is the journal that reads, what failed has fields. */
static void
report(const struct swift_put *p)
{
	const struct account *a = p->account;
	struct log_line l;

	if (*log_prefix(STDOUT_FILENO, LOG_LEVEL_ERROR) == '\0') {
		(void)printf("%s: failed, container=%s, request=%s, "
			     "status=%ld, reason=\"%s\"\n",
		    a->name, a->container, p->request, p->status,
		    buf_text(&p->reason));
		return;
	}
	log_begin(&l, LOG_CHECK, LOG_LEVEL_ERROR);
	log_add(&l, "account", "%s", a->name);
	log_add(&l, "container", "%s", a->container);
	log_add(&l, "request", "%s", p->request);
	log_add(&l, "status", "%ld", p->status);
	log_add_quoted(&l, "reason", buf_text(&p->reason));
	log_end(&l);
}

static bool
try_account(struct swift *swift, const struct config *config,
    const struct account *a, int64_t octets)
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
	p.deadline_ms = clock_ms() + config->smtp.deadline_s * 1000;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		buf_adds(&p.reason, strerror(errno));
	else if (make_message(&m, config->smtp.spool_directory, octets,
		     &p.reason) &&
		 try_expiry(&p, &warnings) && swift_login(swift, &p))
		try_container(swift, &p, &warnings);
	buf_addf(&p.name, ".swiftdrop-check-%016" PRIx64, random);
	if (octets >= 0 && p.outcome == SWIFT_STORED)
		try_probe(swift, &p, &warnings);
	if (p.outcome == SWIFT_STORED) {
		(void)printf("%s: ok, container=%s%s\n", a->name, a->container,
		    buf_text(&warnings));
	} else {
		buf_adds(&p.reason, buf_text(&warnings));
		report(&p);
	}
	(void)fflush(stdout);
	message_close(&m);
	swift_put_free(&p);
	return p.outcome == SWIFT_STORED;
}

int
check_run(const struct config *config, int64_t octets, char *const *addresses,
    int n)
{
	struct swift *swift;
	bool *chosen;
	size_t i;
	int status;

	chosen = calloc(config->naccounts, sizeof(*chosen));
	swift = chosen == NULL ? NULL : swift_open(config);
	if (swift == NULL) {
		free(chosen);
		return EX_OSERR;
	}
	status = choose(config, addresses, n, chosen);
	for (i = 0; i < config->naccounts; i++)
		if (chosen[i] &&
		    !try_account(swift, config, &config->accounts[i], octets))
			status = EX_UNAVAILABLE;
	if (message_try_spool(config->smtp.spool_directory) == -1) {
		log_fault("spool_directory %s: %s",
		    config->smtp.spool_directory, strerror(errno));
		status = EX_UNAVAILABLE;
	}
	swift_close(swift);
	free(chosen);
	return status;
}

/* Logs in for one account; whether its token_file is new. */
static bool
renew(struct swift *swift, const struct config *config, const struct account *a)
{
	struct swift_put p;
	char when[32] = "";
	int64_t ends_s;
	time_t time;

	swift_put_init(&p, a);
	p.deadline_ms = clock_ms() + config->smtp.deadline_s * 1000;
	ends_s = swift_write_token(swift, &p);
	time = (time_t)ends_s;
	if (ends_s != -1) {
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ",
		    gmtime(&time));
		(void)printf("%s: ok, token_file=%s, ends=%s\n", a->name,
		    a->token_file, when);
	} else {
		(void)printf("%s%s: failed, token_file=%s, request=%s, "
			     "status=%ld, reason=\"%s\"\n",
		    log_prefix(STDOUT_FILENO, LOG_LEVEL_ERROR), a->name,
		    a->token_file, p.request, p.status, buf_text(&p.reason));
	}
	(void)fflush(stdout);
	swift_put_free(&p);
	return ends_s != -1;
}

/* Whether the file of an account is that of one before it. */
static bool
is_renewed(const struct config *config, size_t account)
{
	size_t i;

	for (i = 0; i < account; i++)
		if (config->accounts[i].token_file != NULL &&
		    strcmp(config->accounts[i].token_file,
			config->accounts[account].token_file) == 0)
			return true;
	return false;
}

/* The account of a name that has a token_file; says what is wrong. */
static const struct account *
named_account(const struct config *config, const char *name)
{
	const struct account *a;

	for (a = config->accounts; a < config->accounts + config->naccounts;
	     a++) {
		if (strcmp(a->name, name) != 0)
			continue;
		if (a->token_file == NULL)
			log_fault("account %s has no token_file", name);
		return a->token_file == NULL ? NULL : a;
	}
	log_fault("no account is called %s", name);
	return NULL;
}

int
check_login(const struct config *config, char *const *names, int n)
{
	const struct account *a;
	struct swift *swift;
	size_t i;
	int k, status;

	swift = swift_open(config);
	if (swift == NULL)
		return EX_OSERR;
	status = EX_OK;
	for (k = 0; k < n; k++) {
		a = named_account(config, names[k]);
		if (a == NULL)
			status = EX_DATAERR;
		else if (!renew(swift, config, a))
			status = EX_UNAVAILABLE;
	}
	for (i = 0; n == 0 && i < config->naccounts; i++)
		if (config->accounts[i].token_file != NULL &&
		    !is_renewed(config, i) &&
		    !renew(swift, config, &config->accounts[i]))
			status = EX_UNAVAILABLE;
	swift_close(swift);
	return status;
}
