/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bounded buffers: what they hold, and that they stop at their limit with
 * the contents as they were.
 */
#include <errno.h>
#include <stdlib.h>

#include "unit.h"

#include "banned.h"

static void
empty_reads_as_text(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 8);
	assert_string_equal(buf_text(&b), "");
	buf_reset(&b);
	buf_cut(&b, 0);
	assert_int_equal(b.len, 0);
	assert_null(b.data);
	buf_free(&b);
	buf_free(NULL);
}

static void
contents_end_in_nul(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	assert_int_equal(buf_add(&b, "a\0b", 3), 0);
	assert_int_equal(buf_add_octet(&b, 'c'), 0);
	assert_int_equal(buf_add_text(&b, "de"), 0);
	assert_int_equal(buf_addf(&b, "%d%s", 7, "!"), 0);
	assert_int_equal(buf_add(&b, "", 0), 0);
	unit_octets("all", b.data, b.len + 1, "a\0bcde7!", 9);
	buf_free(&b);
}

static void
limit_is_reached_and_never_passed(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 4);
	assert_int_equal(buf_add_text(&b, "abcd"), 0);
	errno = 0;
	assert_int_equal(buf_add_octet(&b, 'e'), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(buf_addf(&b, "%s", "x"), -1);
	assert_int_equal(buf_add(&b, "x", SIZE_MAX), -1);
	assert_string_equal(buf_text(&b), "abcd");
	assert_int_equal(b.len, 4);
	buf_free(&b);
	buf_init(&b, 0);
	assert_int_equal(buf_add_octet(&b, 'a'), -1);
	assert_int_equal(buf_add(&b, "", 0), 0);
	buf_free(&b);
	buf_init(&b, SIZE_MAX);
	assert_int_equal(buf_add_octet(&b, 'a'), -1);
	buf_free(&b);
}

static void
growth_keeps_the_contents(void **state)
{
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 100000);
	for (i = 0; i < 100000; i++)
		assert_int_equal(buf_add_octet(&b, (char)('a' + i % 26)), 0);
	for (i = 0; i < 100000; i++)
		assert_int_equal(b.data[i], 'a' + i % 26);
	assert_int_equal(buf_add_octet(&b, 'x'), -1);
	buf_free(&b);
}

static void
cut_takes_from_the_end(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 10);
	assert_int_equal(buf_add_text(&b, "cdef"), 0);
	assert_string_equal(buf_text(&b), "cdef");
	buf_cut(&b, 3);
	assert_string_equal(buf_text(&b), "cde");
	buf_cut(&b, 0);
	assert_string_equal(buf_text(&b), "");
	assert_int_equal(buf_add_text(&b, "0123456789"), 0);
	buf_reset(&b);
	assert_int_equal(b.len, 0);
	buf_free(&b);
	assert_int_equal(b.max, 10);
	assert_int_equal(buf_add_text(&b, "again"), 0);
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_reads_as_text),
		cmocka_unit_test(contents_end_in_nul),
		cmocka_unit_test(limit_is_reached_and_never_passed),
		cmocka_unit_test(growth_keeps_the_contents),
		cmocka_unit_test(cut_takes_from_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
