/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * To be preloaded (ld.so(8)): the memory allocation numbered $FAIL_AT fails,
 * counted from the start of the program, with $FAIL_ON all that follow, too;
 * with $FAIL_HANGS it never returns.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* glibc's own, which these stand in for. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static long left; /* 1 for the one that fails, 0 for none */
static bool on, hangs;

static bool
fails(void)
{
	if (left == 0 || (left > 1 && left-- > 0))
		return false;
	while (hangs)
		(void)pause();
	left = on ? 1 : 0;
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *old, size_t size)
{
	return fails() ? NULL : __libc_realloc(old, size);
}

__attribute__((constructor)) static void
start(void)
{
	const char *at;

	at = getenv("FAIL_AT");
	on = getenv("FAIL_ON") != NULL;
	hangs = getenv("FAIL_HANGS") != NULL;
	left = at == NULL ? 0 : strtol(at, NULL, 10);
}
