/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the unit tests share: cmocka with the headers that it asks for, and
 * comparisons that name the row of a table that failed.
 */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"
#include "text.h"

/* Appends octets as C would write them. */
static inline const char *
unit_show(struct buf *out, const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (text[i] >= ' ' && text[i] <= '~')
			buf_addc(out, text[i]);
		else
			buf_addf(out, "\\%03o",
			    (unsigned int)(unsigned char)text[i]);
	return buf_text(out);
}

/* Fails the test unless the octets are the same. */
static inline void
unit_octets(const char *name, const char *got, size_t got_len, const char *want,
    size_t want_len)
{
	struct buf g = { .max = 4096 }, w = { .max = 4096 };

	if (got_len == want_len &&
	    (want_len == 0 || memcmp(got, want, want_len) == 0))
		return;
	print_error("%s: got \"%s\"\n%s: want \"%s\"\n", name,
	    unit_show(&g, got, got_len), name, unit_show(&w, want, want_len));
	buf_free(&g);
	buf_free(&w);
	fail_msg("%s", name);
}

static inline void
unit_text(const char *name, const char *got, const char *want)
{
	unit_octets(name, got, strlen(got), want, strlen(want));
}

static inline void
unit_number(const char *name, long long got, long long want)
{
	if (got != want)
		fail_msg("%s: got %lld, want %lld", name, got, want);
}

#endif
