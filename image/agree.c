/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whether the settings fit each other.  The accounts are read by the very
 * code that swiftdrop reads them with, from an environment made up here, so
 * that both sides route alike.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "agree.h"
#include "route.h"

#include "banned.h"

/* [SMTP] keys that follow from other variables, or from the image itself. */
static const struct {
	const char *key;
	const char *instead; /* NULL: nothing, the image sets it */
} managed[] = {
	{ "hostname", "MYHOSTNAME" },
	{ "origin", "MYDOMAIN" },
	{ "message_size_limit", "MESSAGE_SIZE_LIMIT" },
	{ "recipient_delimiter", "POSTFIX_recipient_delimiter" },
	{ "reinject", NULL },
	{ "allow_remote", NULL },
	{ "spool_directory", NULL },
	{ "log", NULL },
};

/* The part of a variable's name that names a section, and the rest. */
struct name {
	const char *section;
	size_t len;
	const char *key; /* "" where there is none */
};

static int make_smtp(struct settings *s, struct buf *faults);
static bool is_managed(const char *key, const char **instead);
static int add_smtp(struct settings *s, const char *key, const char *value);
static struct name split_name(const char *variable);
static bool is_section(const struct name *name, const char *section);
static int load_accounts(struct settings *s, struct buf *faults,
    struct buf *warnings);
static int list_sections(struct settings *s, struct list *sections);
static int load_part(struct settings *s, const char *section,
    struct config *config, struct buf *error);
static int make_variables(struct settings *s, const char *section,
    struct list *variables);
static bool is_part(const struct name *name, const char *section);
static void add_reason(struct buf *faults, const char *reason);
static void check_blanks(struct settings *s, struct buf *faults);
static int make_domains(struct settings *s);
static int add_domain(struct settings *s, const char *name);
static int make_postmasters(struct settings *s, struct buf *faults,
    struct buf *warnings);
static int add_postmaster(struct settings *s, const char *domain,
    struct buf *warnings);
static int add_alias(struct settings *s, const char *address);
static void check_recipients(struct settings *s, struct buf *faults);
static void check_claims(struct settings *s, struct buf *faults);
static bool is_accepted(const struct settings *s, const char *claim);
static void check_forwards(struct settings *s, struct buf *faults);
static void check_target(const struct settings *s, const struct forward *f,
    const char *target, struct buf *faults);
static bool leads_to(const struct settings *s, const char *from,
    const char *to);
static const char *claimed_by(const struct settings *s, const char *address);
static const struct forward *find_forward(const struct settings *s,
    const char *address);
static bool is_ours(const struct settings *s, const char *address);

int
agree(struct settings *s, struct buf *faults, struct buf *warnings)
{
	size_t before;

	before = faults->len;
	if (make_smtp(s, faults) == -1 || make_domains(s) == -1)
		return -1;
	check_blanks(s, faults);
	if (load_accounts(s, faults, warnings) == -1)
		return -1;
	/* Without all accounts nothing can be said about who claims what. */
	if (s->config.naccounts == 0)
		return 0;
	check_recipients(s, faults);
	check_claims(s, faults);
	check_forwards(s, faults);
	if (faults->len != before)
		return 0;
	return make_postmasters(s, faults, warnings);
}

/* The keys of [SMTP] that follow from the settings. */
static int
make_smtp(struct settings *s, struct buf *faults)
{
	struct name name;
	const char *instead, *variable;
	char number[32];
	size_t i;

	s->recipient_delimiter = settings_parameter(s, "recipient_delimiter");
	if (s->recipient_delimiter == NULL)
		s->recipient_delimiter = "+";
	/* What Postfix adds to a mail of the largest size must fit. */
	(void)snprintf(number, sizeof(number), "%lld",
	    (long long)s->message_size_limit + 65536);
	if (add_smtp(s, "hostname", s->myhostname) == -1 ||
	    add_smtp(s, "origin", s->mydomain) == -1 ||
	    add_smtp(s, "message_size_limit", number) == -1 ||
	    add_smtp(s, "recipient_delimiter", s->recipient_delimiter) == -1)
		return -1;
	for (i = 0; i < s->environment.swiftdrop.n; i++) {
		variable = s->environment.swiftdrop.items[i].name;
		name = split_name(variable);
		if (*name.key == '\0')
			environment_fault(faults, variable,
			    "names no option, "
			    "write SWIFTDROP_<SECTION>_<OPTION>");
		if (!is_section(&name, "SMTP"))
			continue;
		if (is_managed(name.key, &instead))
			environment_fault(faults, variable, "%s%s",
			    instead == NULL ? "is set by the image"
					    : "has its own variable, ",
			    instead == NULL ? "" : instead);
	}
	return 0;
}

/* Whether a key of [SMTP] is not the user's, and what is there instead. */
static bool
is_managed(const char *key, const char **instead)
{
	size_t i;

	for (i = 0; i < sizeof(managed) / sizeof(managed[0]); i++) {
		if (strcasecmp(managed[i].key, key) != 0)
			continue;
		*instead = managed[i].instead;
		return true;
	}
	return false;
}

static int
add_smtp(struct settings *s, const char *key, const char *value)
{
	struct buf line;
	int result;

	buf_init(&line, 4096);
	result = buf_addf(&line, "%s = %s", key, value);
	if (result == 0)
		result = list_add(&s->smtp, buf_text(&line), line.len);
	buf_free(&line);
	return result;
}

static struct name
split_name(const char *variable)
{
	struct name name;

	name.section = variable + strlen("SWIFTDROP_");
	name.len = strcspn(name.section, "_");
	name.key = name.section + name.len;
	if (*name.key == '_')
		name.key++;
	return name;
}

static bool
is_section(const struct name *name, const char *section)
{
	return strlen(section) == name->len &&
	       strncasecmp(name->section, section, name->len) == 0;
}

/*
 * One account at a time first, so that the faults of all of them are told at
 * once; then all together, for those that lie between them.
 */
static int
load_accounts(struct settings *s, struct buf *faults, struct buf *warnings)
{
	struct list sections = { NULL, 0 };
	struct config config;
	struct buf error;
	size_t i;
	bool good;
	int result;

	buf_init(&error, 4096);
	result = list_sections(s, &sections);
	good = true;
	for (i = 0; result == 0 && i < sections.n; i++) {
		buf_reset(&error);
		if (load_part(s, sections.items[i], &config, &error) == -1) {
			add_reason(faults, buf_text(&error));
			good = false;
		}
		config_free(&config);
	}
	buf_reset(&error);
	if (result == 0 && good) {
		if (load_part(s, NULL, &s->config, &error) == -1) {
			add_reason(faults, buf_text(&error));
			config_free(&s->config);
		} else {
			(void)buf_add_text(warnings,
			    buf_text(&s->config.warnings));
		}
	}
	list_free(&sections);
	buf_free(&error);
	return result;
}

/* The accounts that have a section of their own. */
static int
list_sections(struct settings *s, struct list *sections)
{
	struct name name;
	size_t i;

	for (i = 0; i < s->environment.swiftdrop.n; i++) {
		name = split_name(s->environment.swiftdrop.items[i].name);
		if (*name.key == '\0' || is_section(&name, "SMTP") ||
		    is_section(&name, "DEFAULT"))
			continue;
		if (list_add_once(sections, name.section, name.len) == -1)
			return -1;
	}
	return 0;
}

/* Loads what section needs, or everything when it is NULL. */
static int
load_part(struct settings *s, const char *section, struct config *config,
    struct buf *error)
{
	struct list variables = { NULL, 0 };
	char **all, **saved;
	int result;

	all = NULL;
	result = make_variables(s, section, &variables);
	if (result == 0)
		all = reallocarray(variables.items, variables.n + 1,
		    sizeof(*all));
	if (all != NULL) {
		/* environ(7) has an end. */
		variables.items = all;
		all[variables.n] = NULL;
		saved = environ;
		environ = all;
		result = config_load(config, "/nonexistent", error);
		environ = saved;
	} else {
		*config = (struct config){ .accounts = NULL };
		buf_init(&config->warnings, 1);
		(void)buf_add_text(error, strerror(ENOMEM));
		result = -1;
	}
	list_free(&variables);
	return result;
}

static int
make_variables(struct settings *s, const char *section, struct list *variables)
{
	struct buf text;
	struct name name;
	const struct pair *pair;
	size_t i;
	int result;

	buf_init(&text, (size_t)2 * 1024 * 1024);
	result = 0;
	for (i = 0; result == 0 && i < s->smtp.n; i++) {
		buf_reset(&text);
		result = buf_addf(&text, "SWIFTDROP_SMTP_%.*s=%s",
		    (int)strcspn(s->smtp.items[i], " "), s->smtp.items[i],
		    strchr(s->smtp.items[i], '=') + 2);
		if (result == 0)
			result = list_add(variables, buf_text(&text), text.len);
	}
	for (i = 0; result == 0 && i < s->environment.swiftdrop.n; i++) {
		pair = &s->environment.swiftdrop.items[i];
		name = split_name(pair->name);
		if (!is_part(&name, section))
			continue;
		buf_reset(&text);
		result = buf_addf(&text, "%s=%s", pair->name, pair->value);
		if (result == 0)
			result = list_add(variables, buf_text(&text), text.len);
	}
	buf_free(&text);
	return result;
}

/* Whether a variable counts when section is loaded by itself. */
static bool
is_part(const struct name *name, const char *section)
{
	const char *instead;

	if (*name->key == '\0')
		return false;
	/* Those that are the image's were told to be a fault. */
	if (is_section(name, "SMTP"))
		return !is_managed(name->key, &instead);
	if (section == NULL)
		return true;
	/* recipients of [DEFAULT] would make another account of it. */
	if (is_section(name, "DEFAULT"))
		return strcasecmp(name->key, "recipients") != 0;
	return is_section(name, section);
}

/*
 * Passes on what config_load() says, once, as a fault that [DEFAULT] brings
 * comes with every account.  Its "[A] key: text" becomes the variable's name.
 */
static void
add_reason(struct buf *faults, const char *reason)
{
	static const char source[] = "environment: ";
	struct buf line;
	const char *text;

	if (strncmp(reason, source, sizeof(source) - 1) == 0)
		reason += sizeof(source) - 1;
	text = reason;
	buf_init(&line, 4096);
	if (*reason == '[' && strchr(reason, ']') != NULL) {
		text = strchr(reason, ']');
		(void)buf_addf(&line, "SWIFTDROP_%.*s",
		    (int)(text - reason) - 1, reason + 1);
		text += strspn(text, "] ");
		if (text[strspn(text, "abcdefghijklmnopqrstuvwxyz_")] == ':')
			(void)buf_add_octet(&line, '_');
		else
			(void)buf_add_text(&line, ": ");
		for (; line.data[line.len - 1] != ' ' && *text != ':'; text++)
			(void)buf_add_octet(&line,
			    (char)toupper((unsigned char)*text));
	}
	(void)buf_add_text(&line, text);
	(void)buf_add_octet(&line, '\n');
	if (strstr(buf_text(faults), buf_text(&line)) == NULL)
		(void)buf_add(faults, buf_text(&line), line.len);
	buf_free(&line);
}

/* An INI file cannot tell blanks around a value from blanks in it. */
static void
check_blanks(struct settings *s, struct buf *faults)
{
	const struct pair *pair;
	size_t i, len;

	for (i = 0; i < s->environment.swiftdrop.n; i++) {
		pair = &s->environment.swiftdrop.items[i];
		len = strlen(pair->value);
		if (len != 0 &&
		    (strchr(" \t\r\n", pair->value[0]) != NULL ||
			strchr(" \t\r\n", pair->value[len - 1]) != NULL))
			environment_fault(faults, pair->name,
			    "has blanks or empty lines around its value");
	}
}

/* Our domains: those of the addresses, and those that postmaster@ is in. */
static int
make_domains(struct settings *s)
{
	const char *domain;
	size_t i;

	for (i = 0; i < s->recipients.n; i++) {
		domain = strrchr(s->recipients.items[i], '@') + 1;
		if (list_add_once(&s->domains, domain, strlen(domain)) == -1)
			return -1;
	}
	for (i = 0; i < s->nforwards; i++) {
		domain = strrchr(s->forwards[i].address, '@') + 1;
		if (list_add_once(&s->domains, domain, strlen(domain)) == -1)
			return -1;
	}
	return add_domain(s, s->mydomain) == -1 ? -1
						: add_domain(s, s->myhostname);
}

static int
add_domain(struct settings *s, const char *name)
{
	struct buf lower;
	int result;

	buf_init(&lower, ADDRESS_MAX);
	result = address_domain(&lower, name, strlen(name));
	/* What is no domain is a fault that was told already. */
	if (result == -1 && errno == EINVAL)
		result = 0;
	else if (result == 0)
		result =
		    list_add_once(&s->domains, buf_text(&lower), lower.len);
	buf_free(&lower);
	return result;
}

static int
make_postmasters(struct settings *s, struct buf *faults, struct buf *warnings)
{
	size_t i;

	if (s->postmaster == NULL) {
		environment_fault(warnings, environment_name(VAR_POSTMASTER),
		    "is not set: bounces that cannot be delivered are lost, "
		    "and mail to postmaster@ is taken only where RECIPIENTS "
		    "or FORWARDS have it");
		return 0;
	}
	if (is_ours(s, s->postmaster) && claimed_by(s, s->postmaster) == NULL &&
	    find_forward(s, s->postmaster) == NULL)
		environment_fault(faults, environment_name(VAR_POSTMASTER),
		    "\"%s\" is in a domain of ours, but neither in "
		    "RECIPIENTS nor in FORWARDS",
		    s->postmaster);
	for (i = 0; i < s->domains.n; i++)
		if (add_postmaster(s, s->domains.items[i], warnings) == -1)
			return -1;
	return 0;
}

/* postmaster@domain goes to POSTMASTER, unless it goes somewhere already. */
static int
add_postmaster(struct settings *s, const char *domain, struct buf *warnings)
{
	struct buf address;
	const char *account, *text;
	int result;

	buf_init(&address, (size_t)2 * ADDRESS_MAX);
	result = buf_addf(&address, "postmaster@%s", domain);
	text = buf_text(&address);
	account = claimed_by(s, text);
	if (account != NULL && !list_has(&s->recipients, text))
		environment_fault(warnings, environment_name(VAR_POSTMASTER),
		    "mail to %s is stored by account %s", text, account);
	if (result == 0 && find_forward(s, text) == NULL &&
	    strcmp(text, s->postmaster) != 0 &&
	    (account == NULL || !is_accepted(s, text)))
		result = add_alias(s, text);
	buf_free(&address);
	return result;
}

static int
add_alias(struct settings *s, const char *address)
{
	struct forward *all;
	struct forward f = { .address = strdup(address) };

	all = reallocarray(s->postmasters, s->npostmasters + 1, sizeof(*all));
	if (all != NULL)
		s->postmasters = all;
	if (all == NULL || f.address == NULL ||
	    list_add(&f.targets, s->postmaster, strlen(s->postmaster)) == -1) {
		free(f.address);
		return -1;
	}
	all[s->npostmasters++] = f;
	return 0;
}

/* What Postfix will accept must have an account. */
static void
check_recipients(struct settings *s, struct buf *faults)
{
	const char *recipient;
	size_t i;

	for (i = 0; i < s->recipients.n; i++) {
		recipient = s->recipients.items[i];
		if (claimed_by(s, recipient) == NULL)
			environment_fault(faults,
			    environment_name(VAR_RECIPIENTS),
			    "no account claims \"%s\"", recipient);
	}
}

/* What an account claims Postfix must accept, or it will never come. */
static void
check_claims(struct settings *s, struct buf *faults)
{
	const struct claim *claim;
	size_t i;

	for (i = 0; i < s->config.nclaims; i++) {
		claim = &s->config.claims[i];
		if (is_accepted(s, claim->key) ||
		    find_forward(s, claim->key) != NULL)
			continue;
		environment_fault(faults, environment_name(VAR_RECIPIENTS),
		    "\"%s\" of account %s is missing", claim->key,
		    s->config.accounts[claim->account].name);
	}
}

/* Whether an entry of RECIPIENTS is the claim, lies in it, or covers it. */
static bool
is_accepted(const struct settings *s, const char *claim)
{
	const char *recipient;
	size_t i;

	for (i = 0; i < s->recipients.n; i++) {
		recipient = s->recipients.items[i];
		if (strcmp(claim, "*") == 0 || strcmp(claim, recipient) == 0)
			return true;
		if (strcmp(strrchr(recipient, '@'), strrchr(claim, '@')) == 0 &&
		    (claim[0] == '@' || recipient[0] == '@'))
			return true;
	}
	return false;
}

static void
check_forwards(struct settings *s, struct buf *faults)
{
	const struct forward *f;
	const char *account;
	size_t i, j;

	for (i = 0; i < s->nforwards; i++) {
		f = &s->forwards[i];
		account = claimed_by(s, f->address);
		if (list_has(&s->recipients, f->address))
			environment_fault(faults,
			    environment_name(VAR_FORWARDS),
			    "\"%s\" is in RECIPIENTS too", f->address);
		else if (account != NULL)
			environment_fault(faults,
			    environment_name(VAR_FORWARDS),
			    "\"%s\" is claimed by account %s", f->address,
			    account);
		for (j = 0; j < f->targets.n; j++)
			check_target(s, f, f->targets.items[j], faults);
	}
}

static void
check_target(const struct settings *s, const struct forward *f,
    const char *target, struct buf *faults)
{
	if (leads_to(s, target, f->address))
		environment_fault(faults, environment_name(VAR_FORWARDS),
		    "\"%s\" is forwarded to itself", f->address);
	else if (is_ours(s, target) && claimed_by(s, target) == NULL &&
		 find_forward(s, target) == NULL &&
		 strncmp(target, "postmaster@", 11) != 0)
		environment_fault(faults, environment_name(VAR_FORWARDS),
		    "\"%s\" is forwarded to \"%s\", which is in a domain of "
		    "ours, but neither in RECIPIENTS nor in FORWARDS",
		    f->address, target);
}

/* Whether mail to one address comes to another by the forwards. */
static bool
leads_to(const struct settings *s, const char *from, const char *to)
{
	struct list reached = { NULL, 0 };
	const struct forward *f;
	size_t i, j;
	bool result;

	/* Without memory no loop is found here; Postfix ends them, too. */
	(void)list_add(&reached, from, strlen(from));
	for (i = 0; i < reached.n; i++) {
		f = find_forward(s, reached.items[i]);
		for (j = 0; f != NULL && j < f->targets.n; j++)
			(void)list_add_once(&reached, f->targets.items[j],
			    strlen(f->targets.items[j]));
	}
	result = list_has(&reached, to);
	list_free(&reached);
	return result;
}

/* The account that an address, or "@domain" as a whole, is routed to. */
static const char *
claimed_by(const struct settings *s, const char *address)
{
	struct address a;
	ptrdiff_t account;
	size_t i;

	account = ROUTE_NONE;
	address_init(&a);
	if (address[0] == '@') {
		for (i = 0; i < s->config.nclaims; i++)
			if (strcmp(s->config.claims[i].key, address) == 0 ||
			    strcmp(s->config.claims[i].key, "*") == 0)
				account =
				    (ptrdiff_t)s->config.claims[i].account;
	} else if (address_parse(&a, address, strlen(address)) == 0) {
		account = route_find(&s->config, &a);
	}
	address_free(&a);
	return account == ROUTE_NONE ? NULL : s->config.accounts[account].name;
}

static const struct forward *
find_forward(const struct settings *s, const char *address)
{
	size_t i;

	for (i = 0; i < s->nforwards; i++)
		if (strcmp(s->forwards[i].address, address) == 0)
			return &s->forwards[i];
	return NULL;
}

/* Whether an address is in one of our domains. */
static bool
is_ours(const struct settings *s, const char *address)
{
	return list_has(&s->domains, strrchr(address, '@') + 1);
}
