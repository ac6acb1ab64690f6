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
#include "lazy.h"
#include "log.h"
#include "message.h"
#include "object.h"
#include "route.h"
#include "swift.h"

#include "banned.h"

static int choose(const struct config *config, char *const *addresses, int n,
    bool *chosen);
static int try_accounts(const struct config *config, bool write,
    const bool *chosen);
static bool try_account(struct swift *swift, const struct config *config,
    const struct account *a, bool write);
static int make_probe(const struct config *config, struct message *m,
    struct swift_object *o);

int
check_run(const struct config *config, bool write, char *const *addresses,
    int n)
{
	bool *chosen;
	int status, worst;

	chosen = calloc(config->naccounts + 1, sizeof(*chosen));
	if (chosen == NULL)
		return EX_OSERR;
	worst = choose(config, addresses, n, chosen);
	if (lazy_load(LAZY_CURL) == -1 || lazy_load(LAZY_CRYPTO) == -1) {
		log_fault("%s", lazy_error());
		free(chosen);
		return EX_UNAVAILABLE;
	}
	status = try_accounts(config, write, chosen);
	free(chosen);
	if (message_try_spool(config->smtp.spool_directory) == -1) {
		log_fault("spool_directory %s: %s",
		    config->smtp.spool_directory, strerror(errno));
		status = EX_UNAVAILABLE;
	}
	return status != EX_OK ? status : worst;
}

/* Marks the accounts to try; EX_DATAERR when an address has none. */
static int
choose(const struct config *config, char *const *addresses, int n, bool *chosen)
{
	struct address a;
	ptrdiff_t account;
	size_t k;
	int i, status;

	for (k = 0; k < config->naccounts; k++)
		chosen[k] = n == 0;
	status = EX_OK;
	for (i = 0; i < n; i++) {
		address_init(&a);
		account = ROUTE_NONE;
		if (address_parse(&a, addresses[i], strlen(addresses[i])) == 0)
			account = route_find(config, &a);
		if (account >= 0) {
			chosen[account] = true;
		} else {
			log_fault("no account claims %s", addresses[i]);
			status = EX_DATAERR;
		}
		address_free(&a);
	}
	return status;
}

static int
try_accounts(const struct config *config, bool write, const bool *chosen)
{
	struct swift *swift;
	size_t i;
	int status;

	swift = swift_open(config);
	if (swift == NULL)
		return EX_OSERR;
	status = EX_OK;
	for (i = 0; i < config->naccounts; i++)
		if (chosen[i] &&
		    !try_account(swift, config, &config->accounts[i], write))
			status = EX_UNAVAILABLE;
	swift_close(swift);
	return status;
}

static bool
try_account(struct swift *swift, const struct config *config,
    const struct account *a, bool write)
{
	struct swift_object probe = { .message = NULL };
	struct swift_result result;
	struct message m;
	struct buf warnings;
	int64_t deadline_ms;

	deadline_ms = clock_ms() + config->smtp.deadline_s * 1000;
	swift_result_init(&result);
	buf_init(&warnings, 4096);
	if (make_probe(config, &m, &probe) == -1)
		(void)buf_add_text(&result.reason, strerror(errno));
	else
		(void)swift_check(swift, a, write ? &probe : NULL, deadline_ms,
		    &result, &warnings);
	if (result.outcome == SWIFT_STORED)
		(void)printf("%s: ok, container=%s%s\n", a->name, a->container,
		    buf_text(&warnings));
	else
		(void)printf("%s%s: failed, container=%s, request=%s, "
			     "status=%ld, reason=\"%s\"\n",
		    log_prefix(STDOUT_FILENO, LOG_LEVEL_ERROR), a->name,
		    a->container, buf_text(&result.request), result.status,
		    buf_text(&result.reason));
	(void)fflush(stdout);
	message_close(&m);
	buf_free(&probe.name);
	buf_free(&warnings);
	swift_result_free(&result);
	return result.outcome == SWIFT_STORED;
}

/* An object that readers skip, for its name begins with a dot. */
static int
make_probe(const struct config *config, struct message *m,
    struct swift_object *o)
{
	static const char text[] = "Subject: swiftdrop check\r\n\r\n";
	uint64_t random;

	message_open(m, config->smtp.spool_directory,
	    config->smtp.message_size_limit, false);
	message_add(m, text, sizeof(text) - 1);
	buf_init(&o->name, OBJECT_NAME_MAX);
	o->message = m;
	o->metadata = "";
	if (message_finish(m) == -1 && !m->too_big)
		return -1;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -1;
	return buf_addf(&o->name, ".swiftdrop-check-%016" PRIx64, random);
}
