/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whether the settings fit each other.  The accounts are read by the very
 * code that swiftdrop reads them with, so that both sides route alike.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agree.h"
#include "paths.h"
#include "route.h"
#include "text.h"

#include "banned.h"

enum {
	VARIABLES_MAX = 64 * 1024 * 1024, /* octets of all accounts' */
	INI_MAX = 16 * 1024 * 1024 /* octets of a written configuration */
};

/* The keys of [SMTP] that are not the user's; whatever was said of them. */
static void
set_smtp(struct settings *s)
{
	struct table *t = &s->environment.variables;
	BUF(size, 32);

	/* What Postfix adds to a mail of the largest size must fit. */
	buf_addf(&size, "%lld", (long long)s->message_size_limit + 65536);
	table_set(t, "SWIFTDROP_SMTP_HOSTNAME", s->myhostname);
	table_set(t, "SWIFTDROP_SMTP_ORIGIN", s->mydomain);
	table_set(t, "SWIFTDROP_SMTP_MESSAGE_SIZE_LIMIT", buf_text(&size));
	table_set(t, "SWIFTDROP_SMTP_RECIPIENT_DELIMITER",
	    s->recipient_delimiter);
	table_set(t, "SWIFTDROP_SMTP_REINJECT", "127.0.0.1:10026");
	table_set(t, "SWIFTDROP_SMTP_ALLOW_REMOTE", "no");
	table_set(t, "SWIFTDROP_SMTP_SPOOL_DIRECTORY", SPOOL_DIR);
	table_set(t, "SWIFTDROP_SMTP_LOG",
	    s->json ? "json:postlog:" LOG_PATH : "postlog:" LOG_PATH);
}

/* Loads all accounts from their variables.  0, or -1 with faults. */
static int
load_accounts(struct settings *s, struct buf *faults)
{
	const struct table *t = &s->environment.variables;
	BUF(text, VARIABLES_MAX);
	char **variables, *p;
	size_t i;
	int result = -1;

	for (i = 0; i < t->n; i++) {
		buf_addf(&text, "%s=%s", t->entries[i]->name,
		    t->entries[i]->value);
		buf_addc(&text, '\0');
	}
	variables = calloc(t->n + 1, sizeof(*variables));
	if (variables == NULL || text.error != 0 || t->error != 0) {
		buf_fail(faults, ENOMEM);
	} else {
		for (i = 0, p = text.data; i < t->n; i++, p += strlen(p) + 1)
			variables[i] = p;
		result = config_load(&s->config, NULL, variables, faults);
	}
	free(variables);
	return result;
}

/* A token_file for each login, for supervise.c, where the user chose none. */
static void
set_token_files(struct settings *s, struct buf *faults)
{
	struct account *a = s->config.accounts;
	size_t i, k;

	for (i = 0; i < s->config.naccounts; i++) {
		if (a[i].token_file != NULL ||
		    a[i].auth_version == AUTH_TEMPURL)
			continue;
		for (k = 0; !config_same_login(&a[k], &a[i]); k++)
			;
		if (asprintf(&a[i].token_file, TOKEN_DIR "/%zu", k) == -1) {
			a[i].token_file = NULL;
			buf_fail(faults, ENOMEM);
		}
	}
}

/* An address' domain; "@domain" has one, too. */
static const char *
domain_of(const char *address)
{
	return strrchr(address, '@') + 1;
}

static void
add_domain(struct settings *s, const char *name)
{
	BUF(key, 2 * ADDRESS_MAX);
	ADDRESS(a);

	a.has_domain = address_domain(&a.domain, name, strlen(name));
	if (a.has_domain && address_key(&a, "", 0, &key) && key.error == 0)
		(void)table_add(&s->domains, domain_of(buf_text(&key)), "");
	else
		s->domains.error = ENOMEM; /* they were looked at before */
}

/* Our domains: those of the addresses, and those that postmaster@ is in. */
static void
make_domains(struct settings *s)
{
	size_t i;

	for (i = 0; i < s->recipients.n; i++)
		add_domain(s, domain_of(s->recipients.entries[i]->name));
	for (i = 0; i < s->forwards.n; i++)
		add_domain(s, domain_of(s->forwards.entries[i]->name));
	add_domain(s, s->mydomain);
	add_domain(s, s->myhostname);
}

/* The account that an address, or "@domain" as a whole, is routed to. */
static const char *
claimed_by(struct settings *s, const char *address)
{
	ADDRESS(a);
	int account = ROUTE_FAULT;

	/* No local part: no claim but the domain's and "*" is met. */
	a.has_domain = *address == '@';
	if (a.has_domain
		? address_domain(&a.domain, address + 1, strlen(address + 1))
		: address_parse(&a, address, strlen(address)))
		account = route_find(&s->config.routes, &a);
	if (account == ROUTE_FAULT)
		s->domains.error = ENOMEM;
	return account < 0 ? NULL : s->config.accounts[account].name;
}

/* Whether an address is in one of our domains and nobody takes it. */
static bool
is_lost(struct settings *s, const char *address)
{
	return table_get(&s->domains, domain_of(address)) != NULL &&
	       claimed_by(s, address) == NULL &&
	       table_get(&s->forwards, address) == NULL;
}

/* What Postfix will accept must have an account. */
static void
check_recipients(struct settings *s, struct buf *faults)
{
	size_t i;

	for (i = 0; i < s->recipients.n; i++)
		if (claimed_by(s, s->recipients.entries[i]->name) == NULL)
			environment_fault(faults, "RECIPIENTS",
			    "no account claims \"%s\"",
			    s->recipients.entries[i]->name);
}

/* Whether an entry of RECIPIENTS is the claim, lies in it, or covers it. */
static bool
is_accepted(const struct settings *s, const char *claim)
{
	size_t i;

	if (table_get(&s->recipients, claim) != NULL)
		return true;
	if (strcmp(claim, "*") == 0)
		return s->recipients.n > 0;
	if (*claim != '@')
		return table_get(&s->recipients, strrchr(claim, '@')) != NULL;
	for (i = 0; i < s->recipients.n; i++)
		if (strcmp(domain_of(s->recipients.entries[i]->name),
			claim + 1) == 0)
			return true;
	return false;
}

/* A section that is misspelt would be one, and its mail go elsewhere. */
static void
check_accounts(const struct settings *s, struct buf *faults)
{
	const struct account *a;
	size_t i;

	for (i = 0; i < s->config.naccounts; i++) {
		BUF(name, 4096);

		a = &s->config.accounts[i];
		buf_addf(&name, "SWIFTDROP_%s_RECIPIENTS", a->name);
		if (a->recipients == NULL)
			environment_fault(faults, buf_text(&name),
			    "is missing: account %s gets no mail; is its "
			    "name misspelt?",
			    a->name);
	}
}

/* What an account claims Postfix must accept, or it will never come. */
static void
check_claims(const struct settings *s, struct buf *faults)
{
	const struct claim *claim;
	size_t i;

	for (i = 0; i < s->config.routes.n; i++) {
		claim = &s->config.routes.claims[i];
		if (!is_accepted(s, claim->key) &&
		    table_get(&s->forwards, claim->key) == NULL)
			environment_fault(faults, "RECIPIENTS",
			    "\"%s\" of account %s is missing", claim->key,
			    s->config.accounts[claim->account].name);
	}
}

/* Adds each of a forward's targets, which ", " separates. */
static void
add_targets(struct table *targets, const char *list)
{
	BUF(copy, VARIABLES_MAX);
	char *rest, *target;

	if (list != NULL && *list != '\0')
		buf_adds(&copy, list);
	targets->error |= copy.error;
	for (rest = copy.data; (target = strsep(&rest, ",")) != NULL;)
		(void)table_add(targets, target + strspn(target, " "), "");
}

/* The addresses that mail to one comes to by the forwards, itself first. */
static void
reach(const struct settings *s, const char *from, struct table *reached)
{
	size_t i;

	/* Without memory no loop is found here; Postfix ends them, too. */
	(void)table_add(reached, from, "");
	for (i = 0; i < reached->n; i++)
		add_targets(reached,
		    table_get(&s->forwards, reached->entries[i]->name));
}

static bool
leads_to(const struct settings *s, const char *from, const char *to)
{
	TABLE(reached);

	reach(s, from, &reached);
	return table_get(&reached, to) != NULL;
}

static void
check_target(struct settings *s, const char *from, const char *to,
    struct buf *faults)
{
	if (leads_to(s, to, from))
		environment_fault(faults, "FORWARDS",
		    "\"%s\" is forwarded to itself", from);
	else if (is_lost(s, to) && strncmp(to, "postmaster@", 11) != 0)
		environment_fault(faults, "FORWARDS",
		    "\"%s\" is forwarded to \"%s\", which is in a domain of "
		    "ours, but neither in RECIPIENTS nor in FORWARDS",
		    from, to);
}

static void
check_forwards(struct settings *s, struct buf *faults)
{
	const char *account, *from;
	size_t i, j;

	for (i = 0; i < s->forwards.n; i++) {
		TABLE(targets);

		from = s->forwards.entries[i]->name;
		account = claimed_by(s, from);
		if (table_get(&s->recipients, from) != NULL)
			environment_fault(faults, "FORWARDS",
			    "\"%s\" is in RECIPIENTS too", from);
		else if (account != NULL)
			environment_fault(faults, "FORWARDS",
			    "\"%s\" is claimed by account %s", from, account);
		add_targets(&targets, s->forwards.entries[i]->value);
		s->domains.error |= targets.error;
		for (j = 0; j < targets.n; j++)
			check_target(s, from, targets.entries[j]->name, faults);
	}
}

static void
check_lost(struct settings *s, const char *name, const char *address,
    struct buf *faults)
{
	if (is_lost(s, address))
		environment_fault(faults, name,
		    "\"%s\" is in a domain of ours, but neither in RECIPIENTS "
		    "nor in FORWARDS",
		    address);
}

/* postmaster@domain goes to POSTMASTER, unless it goes somewhere already. */
static void
add_postmaster(struct settings *s, const char *domain, struct buf *warnings)
{
	BUF(address, 2 * ADDRESS_MAX);
	const char *account, *text;

	buf_addf(&address, "postmaster@%s", domain);
	text = buf_text(&address);
	account = claimed_by(s, text);
	if (account != NULL && table_get(&s->recipients, text) == NULL)
		environment_fault(warnings, "POSTMASTER",
		    "mail to %s is stored by account %s", text, account);
	if (strcmp(text, buf_text(&s->postmaster)) != 0 &&
	    (account == NULL || !is_accepted(s, text)))
		(void)table_add(&s->forwards, text, buf_text(&s->postmaster));
}

static void
make_postmasters(struct settings *s, struct buf *faults, struct buf *warnings)
{
	size_t i;

	if (s->postmaster.len == 0) {
		environment_fault(warnings, "POSTMASTER",
		    "is not set: bounces that cannot be delivered are lost, "
		    "and mail to postmaster@ is taken only where RECIPIENTS "
		    "or FORWARDS have it");
		return;
	}
	check_lost(s, "POSTMASTER", buf_text(&s->postmaster), faults);
	for (i = 0; i < s->domains.n; i++)
		add_postmaster(s, s->domains.entries[i]->name, warnings);
}

static void
find_errormail(struct settings *s, struct buf *faults)
{
	TABLE(reached);
	const char *address;
	size_t i;

	if (s->errormail.len == 0)
		return;
	check_lost(s, "ERRORMAIL", buf_text(&s->errormail), faults);
	reach(s, buf_text(&s->errormail), &reached);
	for (i = 0; i < reached.n; i++) {
		address = reached.entries[i]->name;
		if (table_get(&s->domains, domain_of(address)) != NULL &&
		    claimed_by(s, address) != NULL)
			s->errormail_account = claimed_by(s, address);
	}
}

void
agree(struct settings *s, struct buf *faults, struct buf *warnings)
{
	size_t before = faults->len;
	int result;

	set_smtp(s);
	make_domains(s);
	/* Without all accounts and lists nothing can be said about claims. */
	result = load_accounts(s, faults);
	check_accounts(s, faults);
	if (result == -1 || s->is_partial)
		return;
	buf_adds(warnings, buf_text(&s->config.warnings));
	if (s->login_interval_s > 0)
		set_token_files(s, faults);
	check_recipients(s, faults);
	check_claims(s, faults);
	check_forwards(s, faults);
	if (faults->len == before)
		make_postmasters(s, faults, warnings);
	if (faults->len == before)
		find_errormail(s, faults);
	buf_fail(faults, s->domains.error | s->forwards.error);
}

/* What config_print() wrote, by the names of variables; cut up in place. */
static void
take_values(struct buf *ini, struct table *values)
{
	const char *section = "";
	char *line, *rest = ini->data, *value;

	while ((line = strsep(&rest, "\n")) != NULL) {
		BUF(name, INI_MAX);

		value = strstr(line, " = ");
		if (*line == '[') {
			section = line + 1;
			line[strlen(line) - 1] = '\0';
		} else if (value != NULL) {
			*value = '\0';
			buf_addf(&name, "SWIFTDROP_%s_", section);
			for (; *line != '\0'; line++)
				buf_addc(&name, ascii_upper(*line));
			(void)table_add(values, buf_text(&name), value + 3);
		}
	}
}

/* Names what is in one and not in the other, or with another value. */
static void
compare_values(const struct table *checked, const struct table *read,
    struct buf *faults)
{
	static const char reason[] =
	    "this, or the DEFAULT that it inherits, is another value in a "
	    "file; take away what is blank around it";
	const char *value;
	size_t i;

	for (i = 0; i < checked->n; i++) {
		value = table_get(read, checked->entries[i]->name);
		if (value == NULL ||
		    strcmp(value, checked->entries[i]->value) != 0)
			environment_fault(faults, checked->entries[i]->name,
			    "%s", reason);
	}
	for (i = 0; i < read->n; i++)
		if (table_get(checked, read->entries[i]->name) == NULL)
			environment_fault(faults, read->entries[i]->name, "%s",
			    reason);
}

void
agree_read_back(const struct settings *s, const char *path, struct buf *faults)
{
	BUF(text, INI_MAX);
	BUF(again, INI_MAX);
	TABLE(checked);
	TABLE(read);
	struct config config;

	if (config_load(&config, path, NULL, faults) == 0) {
		config_print(&s->config, false, &text);
		config_print(&config, false, &again);
		take_values(&text, &checked);
		take_values(&again, &read);
		compare_values(&checked, &read, faults);
		buf_fail(faults, text.error);
		buf_fail(faults, again.error);
		buf_fail(faults, checked.error | read.error);
	}
	config_free(&config);
}
