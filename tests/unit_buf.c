/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bounded buffers: what they hold, that they stop at their limit with the
 * contents as they were, and that the first failure is kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <wchar.h>

#include "unit.h"

#include "banned.h"

static void
empty_reads_as_text(void **state)
{
	BUF(b, 8);

	(void)state;
	assert_string_equal(buf_text(&b), "");
	buf_reset(&b);
	buf_cut(&b, 0);
	assert_int_equal(b.len, 0);
	assert_null(b.data);
	buf_free(&b);
	assert_string_equal(buf_text(&b), "");
}

static void
contents_end_in_nul(void **state)
{
	BUF(b, 100);

	(void)state;
	buf_add(&b, "a\0b", 3);
	buf_addc(&b, 'c');
	buf_adds(&b, "de");
	buf_addf(&b, "%d%s", 7, "!");
	buf_add(&b, "", 0);
	assert_int_equal(b.error, 0);
	unit_octets("all", b.data, b.len + 1, "a\0bcde7!", 9);
}

static void
limit_is_reached_and_never_passed(void **state)
{
	BUF(b, 4);
	BUF(none, 0);
	BUF(endless, SIZE_MAX);

	(void)state;
	buf_adds(&b, "abcd");
	assert_int_equal(b.error, 0);
	buf_addc(&b, 'e');
	assert_int_equal(b.error, EMSGSIZE);
	assert_string_equal(buf_text(&b), "abcd");
	assert_int_equal(b.len, 4);
	b.error = 0;
	buf_addf(&b, "%s", "x");
	assert_int_equal(b.error, EMSGSIZE);
	b.error = 0;
	buf_add(&b, "x", SIZE_MAX);
	assert_int_equal(b.error, EMSGSIZE);
	assert_string_equal(buf_text(&b), "abcd");
	assert_int_equal(b.len, 4);
	buf_add(&none, "", 0);
	assert_int_equal(none.error, 0);
	buf_addc(&none, 'a');
	assert_int_equal(none.error, EMSGSIZE);
	buf_addc(&endless, 'a');
	assert_int_equal(endless.error, EMSGSIZE);
}

/* A text with a hole in it would be worse than one that ends early. */
static void
the_first_failure_is_kept_and_later_pieces_do_nothing(void **state)
{
	BUF(b, 4);

	(void)state;
	buf_adds(&b, "ab");
	buf_adds(&b, "cde");
	assert_int_equal(b.error, EMSGSIZE);
	buf_addc(&b, 'f');
	buf_adds(&b, "f");
	buf_add(&b, "f", 1);
	buf_addf(&b, "%c", 'f');
	buf_encode(&b, "f g", 3, "", '%');
	assert_string_equal(buf_text(&b), "ab");
	assert_int_equal(b.len, 2);
	assert_int_equal(b.error, EMSGSIZE);
	/* Shortening does not mend it, emptying does. */
	buf_cut(&b, 1);
	buf_addc(&b, 'f');
	assert_string_equal(buf_text(&b), "a");
	assert_int_equal(b.error, EMSGSIZE);
	buf_reset(&b);
	assert_int_equal(b.error, 0);
	buf_adds(&b, "wxyz");
	assert_int_equal(b.error, 0);
	assert_string_equal(buf_text(&b), "wxyz");
	buf_addc(&b, '!');
	assert_int_equal(b.error, EMSGSIZE);
	buf_free(&b);
	assert_int_equal(b.error, 0);
	buf_addc(&b, 'g');
	assert_string_equal(buf_text(&b), "g");
}

static void
a_failure_of_a_piece_is_that_of_the_text(void **state)
{
	BUF(b, 10);

	(void)state;
	buf_fail(&b, 0);
	buf_adds(&b, "a");
	assert_int_equal(b.error, 0);
	buf_fail(&b, ENOMEM);
	buf_fail(&b, EMSGSIZE);
	buf_fail(&b, 0);
	buf_adds(&b, "b");
	assert_int_equal(b.error, ENOMEM);
	assert_string_equal(buf_text(&b), "a");
}

/* Here a character that the locale does not have. */
static void
text_that_printf_cannot_make_is_a_failure(void **state)
{
	BUF(b, 100);

	(void)state;
	buf_adds(&b, "ab");
	buf_addf(&b, "c%lc", (wint_t)0x4f60);
	assert_int_equal(b.error, EMSGSIZE);
	buf_adds(&b, "c");
	assert_string_equal(buf_text(&b), "ab");
}

static void
growth_keeps_the_contents(void **state)
{
	BUF(b, 100000);
	size_t i;

	(void)state;
	for (i = 0; i < 100000; i++)
		buf_addc(&b, (char)('a' + i % 26));
	assert_int_equal(b.error, 0);
	assert_int_equal(b.len, 100000);
	for (i = 0; i < 100000; i++)
		assert_int_equal(b.data[i], 'a' + i % 26);
	buf_addc(&b, 'x');
	assert_int_equal(b.error, EMSGSIZE);
}

static void
cut_takes_from_the_end(void **state)
{
	BUF(b, 10);

	(void)state;
	buf_adds(&b, "cdef");
	assert_string_equal(buf_text(&b), "cdef");
	buf_cut(&b, 3);
	assert_string_equal(buf_text(&b), "cde");
	buf_cut(&b, 0);
	assert_string_equal(buf_text(&b), "");
	buf_adds(&b, "0123456789");
	assert_int_equal(b.error, 0);
	buf_reset(&b);
	assert_int_equal(b.len, 0);
	buf_free(&b);
	assert_int_equal(b.max, 10);
	buf_adds(&b, "again");
	assert_string_equal(buf_text(&b), "again");
}

static void
what_may_not_stand_is_encoded(void **state)
{
	static const struct {
		const char *name, *in;
		size_t len;
		const char *escaped;
		char mark;
		const char *want;
	} rows[] = {
		{ "percent", "a b%c~!", 7, "%", '%', "a%20b%25c~!" },
		{ "xtext", "a+b=\r", 5, "+=", '+', "a+2Bb+3D+0D" },
		{ "octal", "a/b:\x7f", 5, "/:", '\\', "a\\057b\\072\\177" },
		{ "high octets", "\xc3\xbc\xff", 3, "", '%', "%C3%BC%FF" },
		{ "NUL", "a\0b", 3, "", '%', "a%00b" },
		{ "nothing", "", 0, "%", '%', "" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(b, 100);

		buf_encode(&b, rows[i].in, rows[i].len, rows[i].escaped,
		    rows[i].mark);
		unit_text(rows[i].name, buf_text(&b), rows[i].want);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_reads_as_text),
		cmocka_unit_test(contents_end_in_nul),
		cmocka_unit_test(limit_is_reached_and_never_passed),
		cmocka_unit_test(
		    the_first_failure_is_kept_and_later_pieces_do_nothing),
		cmocka_unit_test(a_failure_of_a_piece_is_that_of_the_text),
		cmocka_unit_test(text_that_printf_cannot_make_is_a_failure),
		cmocka_unit_test(growth_keeps_the_contents),
		cmocka_unit_test(cut_takes_from_the_end),
		cmocka_unit_test(what_may_not_stand_is_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
