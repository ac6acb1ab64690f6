/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The subcommand "check".  Says on stdout what it found; the caller's exit
 * status says the same to monitoring.
 */
#include <sys/random.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "check.h"
#include "clock.h"
#include "log.h"
#include "object.h"
#include "swift.h"

#include "banned.h"

enum {
	PROBE_LIFE_S = 3600
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

static bool
try_account(struct swift *swift, const struct config *config,
    const struct account *a, bool write)
{
	static const char text[] = "Subject: swiftdrop check\r\n\r\n";
	struct account probe = *a;
	struct swift_put p;
	struct message m;
	uint64_t random;
	BUF(warnings, 4096);

	/* An object that readers skip, for its name begins with a dot. */
	probe.delete_after_s = PROBE_LIFE_S;
	probe.metadata = false;
	probe.retries = 0;
	message_open(&m, config->smtp.spool_directory, sizeof(text));
	message_add(&m, text, sizeof(text) - 1);
	(void)message_finish(&m);
	swift_put_init(&p, &probe);
	p.message = &m;
	p.deadline_ms = clock_ms() + config->smtp.deadline_s * 1000;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		buf_adds(&p.reason, strerror(errno));
	else if (swift_login(swift, &p))
		try_container(swift, &p, &warnings);
	buf_addf(&p.name, ".swiftdrop-check-%016" PRIx64, random);
	if (write && p.outcome == SWIFT_STORED)
		try_probe(swift, &p, &warnings);
	if (p.outcome == SWIFT_STORED)
		(void)printf("%s: ok, container=%s%s\n", a->name, a->container,
		    buf_text(&warnings));
	else
		(void)printf("%s%s: failed, container=%s, request=%s, "
			     "status=%ld, reason=\"%s\"\n",
		    log_prefix(STDOUT_FILENO, LOG_LEVEL_ERROR), a->name,
		    a->container, p.request, p.status, buf_text(&p.reason));
	(void)fflush(stdout);
	message_close(&m);
	swift_put_free(&p);
	return p.outcome == SWIFT_STORED;
}

int
check_run(const struct config *config, bool write, char *const *addresses,
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
		    !try_account(swift, config, &config->accounts[i], write))
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
