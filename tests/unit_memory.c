/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Each allocation fails once: what comes of it is the whole or a fault, and
 * never a part of the whole.  And what held a secret is wiped before it is
 * freed.  The linker puts what is here in the place of what our own files
 * call; libraries keep theirs.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#include "config.h"

#include "banned.h"

#define SECRET "swordfish"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *old, size_t n, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
void __real_free(void *memory);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *old, size_t n, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);
void __wrap_free(void *memory);

static unsigned int left;  /* allocations until one fails; 0 for none */
static unsigned int leaks; /* secrets that were freed as they are */

static bool
fails(void)
{
	if (left == 0 || --left > 0)
		return false;
	errno = ENOMEM;
	return true;
}

void *
__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_reallocarray(void *old, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(old, n, size);
}

char *
__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

char *
__wrap_strndup(const char *text, size_t len)
{
	return fails() ? NULL : __real_strndup(text, len);
}

void
__wrap_free(void *memory)
{
	if (memory != NULL && memmem(memory, malloc_usable_size(memory), SECRET,
				  strlen(SECRET)) != NULL)
		leaks++;
	__real_free(memory);
}

static char folder[] = "/tmp/unit_memory.XXXXXX";
static char path[64];

static int
setup(void **state)
{
	static const char text[] =
	    "[SMTP]\nhostname = h\norigin = o\n[DEFAULT]\nauth_version = 1\n"
	    "authurl = http://h/v1\nuser = u\ncontainer = c\n"
	    "[A]\nrecipients = a@b, \"c\"@d, @e\n  *\nkey = " SECRET "\n"
	    "[B]\nrecipients = f@g\nkey_file = secret\nos_options_x = 1\n"
	    "[C]\nrecipients = h@i\nauth_version = tempurl\n"
	    "storage_url = http://h/v1/C\n";
	FILE *file;

	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/secret", folder);
	file = fopen(path, "w");
	if (file == NULL || fputs(SECRET "\n", file) == EOF ||
	    fclose(file) != 0)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/ini", folder);
	file = fopen(path, "w");
	return file == NULL || fputs(text, file) == EOF || fclose(file) != 0
		   ? -1
		   : 0;
}

static int
teardown(void **state)
{
	BUF(secret, 64);

	(void)state;
	buf_addf(&secret, "%s/secret", folder);
	(void)unlink(path);
	(void)unlink(buf_text(&secret));
	return rmdir(folder);
}

/* Loads it; the environment is as strict as the file. */
static int
load(struct config *c, struct buf *faults)
{
	char credentials[] = "SWIFTDROP_C_TEMP_URL_QUERY=" SECRET;
	char metadata[] = "SWIFTDROP_A_METADATA=no";
	char *environment[] = { metadata, credentials, NULL };

	return config_load(c, path, environment, faults);
}

static void
a_configuration_is_read_whole_or_refused(void **state)
{
	struct config c;
	BUF(faults, 4096);
	BUF(want, 16384);
	unsigned int n, refused;

	(void)state;
	assert_int_equal(load(&c, &faults), 0);
	config_write(&c, &want);
	buf_adds(&want, buf_text(&c.warnings));
	config_free(&c);
	refused = 0;
	for (n = 1;; n++) {
		BUF(got, 16384);
		int result;

		buf_reset(&faults);
		left = n;
		result = load(&c, &faults);
		if (left != 0)
			break;
		if (result == 0) {
			config_write(&c, &got);
			buf_adds(&got, buf_text(&c.warnings));
			unit_text("taken", buf_text(&got), buf_text(&want));
		} else {
			refused++;
			assert_true(faults.len > 0 || faults.error != 0);
		}
		config_free(&c);
	}
	left = 0;
	config_free(&c);
	assert_true(refused > 50);
}

static void
no_secret_is_left_behind(void **state)
{
	BUF(faults, 4096);
	BUF(text, 16384);
	struct config c;

	(void)state;
	leaks = 0;
	assert_int_equal(load(&c, &faults), 0);
	assert_string_equal(c.accounts[0].key, SECRET);
	assert_string_equal(c.accounts[1].key, SECRET);
	assert_string_equal(c.accounts[2].temp_url_query, SECRET);
	config_write(&c, &text);
	config_free(&c);
	buf_free(&text);
	assert_int_equal(leaks, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_configuration_is_read_whole_or_refused),
		cmocka_unit_test(no_secret_is_left_behind),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
