/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any octets as a configuration file: it is refused with one line that says
 * why, or it is taken; then what is printed of it reads as INI again and
 * every claim leads to its account.
 */
#include <sys/mman.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "ini.h"
#include "route.h"

#include "banned.h"

/* libFuzzer's entry points; llvm.org/docs/LibFuzzer.html */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file = -1;
static char path[64];

static void check_printed(const struct config *c);
static void check_claims(const struct config *c);
static void check_claim(const struct config *c, const struct claim *claim);
static void require(bool condition, const char *what);

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	(void)clearenv();
	/* A folder of small files: "key_file = ostype" is a secret. */
	require(setenv("CREDENTIALS_DIRECTORY", "/proc/sys/kernel", 1) == 0,
	    "an environment");
	/* An input that names the terminal must not wait for it. */
	require(freopen("/dev/null", "r", stdin) != NULL, "no input");
	file = memfd_create("config", MFD_CLOEXEC);
	require(file != -1, "memfd_create");
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config c;
	struct buf error;

	require(ftruncate(file, 0) == 0 &&
		    pwrite(file, data, size, 0) == (ssize_t)size,
	    "a full file");
	buf_init(&error, 64 * 1024);
	if (config_load(&c, path, &error) == 0) {
		require(error.len == 0, "no error that is not one");
		require(c.naccounts > 0, "an account");
		check_printed(&c);
		check_claims(&c);
	} else {
		require(error.len > 0, "a reason");
		require(strchr(error.data, '\n') == NULL, "a single line");
	}
	config_free(&c);
	buf_free(&error);
	return 0;
}

static void
check_printed(const struct config *c)
{
	struct buf text, error;
	struct ini ini;

	buf_init(&text, 64 * 1024 * 1024);
	buf_init(&error, 1024);
	require(config_print(c, &text) == 0, "a printed configuration");
	require(ini_parse(&ini, text.data, text.len, &error) == 0,
	    buf_text(&error));
	require(ini.nsections == c->naccounts + 1, "each section again");
	ini_free(&ini);
	buf_free(&text);
	buf_free(&error);
}

static void
check_claims(const struct config *c)
{
	size_t i;

	for (i = 0; i < c->nclaims; i++) {
		require(c->claims[i].account < c->naccounts, "an account");
		require(i == 0 ||
			    strcmp(c->claims[i - 1].key, c->claims[i].key) < 0,
		    "claims in order");
		check_claim(c, &c->claims[i]);
	}
}

/* A key whose local part was quoted need not be an address itself. */
static void
check_claim(const struct config *c, const struct claim *claim)
{
	struct address a;
	struct buf key;

	address_init(&a);
	buf_init(&key, 2 * ADDRESS_MAX);
	if (address_parse(&a, claim->key, strlen(claim->key)) == 0 &&
	    address_key(&a, c->smtp.origin, 0, &key) == 0 &&
	    strcmp(buf_text(&key), claim->key) == 0)
		require(route_find(c, &a) == (ptrdiff_t)claim->account,
		    "the account that claims it");
	buf_free(&key);
	address_free(&a);
}

static void
require(bool condition, const char *what)
{
	if (condition)
		return;
	(void)fprintf(stderr, "fuzz_config: want %s\n", what);
	abort();
}
