/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any octets as a configuration: a file, and behind each NUL a variable of
 * the environment.  It is refused with a line for each fault, or it is taken;
 * then what is printed of it, read again, gives the same, and every claim
 * leads to its account.
 */
#include <sys/mman.h>

#include <string.h>

#include "fuzz.h"

#include "config.h"
#include "route.h"

#include "banned.h"

enum {
	VARIABLES_MAX = 16
};

static int file = -1;
static char path[64];

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	/* An input that names the terminal must not wait for it. */
	require(freopen("/dev/null", "r", stdin) != NULL, "no input");
	file = memfd_create("config", MFD_CLOEXEC);
	require(file != -1, "memfd_create");
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	return 0;
}

/* What is behind the file's octets, each with the name that makes it ours. */
static void
take_variables(const char *text, size_t len, struct buf *out,
    char **environment)
{
	/* A folder of small files: "key_file = ostype" is a secret. */
	static char directory[] = "CREDENTIALS_DIRECTORY=/proc/sys/kernel";
	size_t at[VARIABLES_MAX], i, n;

	for (n = 0; len > 0 && n < VARIABLES_MAX; n++) {
		at[n] = out->len;
		i = strnlen(text + 1, len - 1);
		buf_adds(out, "SWIFTDROP_");
		buf_add(out, text + 1, i);
		buf_addc(out, '\0');
		text += i + 1;
		len -= i + 1;
	}
	require(out->error == 0, "room for the variables");
	for (i = 0; i < n; i++)
		environment[i] = out->data + at[i];
	environment[n++] = directory;
	environment[n] = NULL;
}

/* Each is a line, and says first where it is. */
static void
check_lines(const struct buf *lines)
{
	const char *line;
	size_t len;

	for (line = buf_text(lines); *line != '\0'; line += len + 1) {
		len = strcspn(line, "\n");
		require(line[len] == '\n' && len > 0, "a line");
		require(strncmp(line, path, strlen(path)) == 0 ||
			    strncmp(line, "SWIFTDROP_", 10) == 0 ||
			    strncmp(line, "/proc/", 6) == 0 ||
			    lines->error != 0,
		    "a place");
	}
	require(strlen(buf_text(lines)) == lines->len, "text");
}

/* A key whose local part was quoted need not be an address itself. */
static void
check_claim(const struct config *c, const struct claim *claim)
{
	ADDRESS(a);
	BUF(key, 2 * ADDRESS_MAX);

	if (!address_parse(&a, claim->key, strlen(claim->key)))
		return;
	address_key(&a, c->smtp.origin, 0, &key);
	if (strcmp(buf_text(&key), claim->key) == 0)
		require(route_find(&c->routes, &a) == claim->account,
		    "the account that claims it");
}

static void
check_claims(const struct config *c)
{
	const struct claim *claim = c->routes.claims;
	size_t i;

	for (i = 0; i < c->routes.n; i++) {
		require(claim[i].account >= 0 &&
			    (size_t)claim[i].account < c->naccounts,
		    "an account");
		require(i == 0 || strcmp(claim[i - 1].key, claim[i].key) <= 0,
		    "claims in order");
		check_claim(c, &claim[i]);
	}
}

/* The printed text is a whole configuration, and the same. */
static void
check_printed(const struct config *c)
{
	char *nothing[] = { NULL };
	BUF(text, 64 * 1024 * 1024);
	BUF(again, 64 * 1024 * 1024);
	BUF(faults, 64 * 1024);
	struct config second;

	config_print(c, true, &text);
	require(text.error == 0, "a printed configuration");
	fill(file, buf_text(&text), text.len);
	require(config_load(&second, path, nothing, &faults) == 0,
	    buf_text(&faults));
	require(second.naccounts == c->naccounts &&
		    second.routes.n == c->routes.n,
	    "the same accounts and claims");
	config_print(&second, true, &again);
	require(strcmp(buf_text(&text), buf_text(&again)) == 0,
	    "the same again");
	config_free(&second);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *environment[VARIABLES_MAX + 2];
	const char *text = (const char *)data;
	BUF(variables, 16 * 1024 * 1024);
	BUF(faults, 64 * 1024);
	struct config c;
	size_t len;

	len = strnlen(text, size);
	take_variables(text + len, size - len, &variables, environment);
	fill(file, text, len);
	if (config_load(&c, path, environment, &faults) == 0) {
		require(faults.len == 0, "no fault that is none");
		require(c.naccounts > 0, "an account");
		check_lines(&c.warnings);
		check_claims(&c);
		check_printed(&c);
	} else {
		require(faults.len > 0, "a reason");
		check_lines(&faults);
	}
	config_free(&c);
	return 0;
}
