/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Questions about text: letters, control characters, UTF-8.
 */
#include <stdlib.h>

#include "unit.h"

#include "banned.h"

static void
utf8_is_that_of_rfc_3629(void **state)
{
	static const struct {
		const char *name, *in;
		bool want;
	} rows[] = {
		{ "ascii", "a\x7f", true },
		{ "nothing", "", true },
		{ "two octets", "\xc2\x80\xdf\xbf", true },
		{ "three octets", "\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf",
		    true },
		{ "four octets", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", true },
		{ "lone continuation", "\x80", false },
		{ "overlong of two", "\xc1\xbf", false },
		{ "overlong of three", "\xe0\x9f\xbf", false },
		{ "overlong of four", "\xf0\x8f\xbf\xbf", false },
		{ "surrogate", "\xed\xa0\x80", false },
		{ "above U+10FFFF", "\xf4\x90\x80\x80", false },
		{ "five octets", "\xf8\x88\x80\x80\x80", false },
		{ "cut after one", "\xc3", false },
		{ "cut after three", "\xf0\x90\x80", false },
		{ "not continued", "\xc3(", false },
		{ "behind good ones", "a\xc3\xbc\xff", false },
	};
	char *exact;
	size_t i, len;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		/* Without a NUL, so that a read behind the end is seen. */
		len = strlen(rows[i].in);
		exact = malloc(len == 0 ? 1 : len);
		assert_non_null(exact);
		memcpy(exact, rows[i].in, len);
		unit_number(rows[i].name, utf8_is_valid(exact, len),
		    rows[i].want);
		free(exact);
	}
}

static void
what_is_not_us_ascii_is_found(void **state)
{
	(void)state;
	assert_true(text_is_ascii("", 0));
	assert_true(text_is_ascii("\0a\x7f", 3));
	assert_false(text_is_ascii("\x80", 1));
	assert_false(text_is_ascii("\xffz", 2));
	assert_true(text_is_ascii("a\xff", 1));
}

static void
control_characters_are_found(void **state)
{
	(void)state;
	assert_false(text_has_control(""));
	assert_false(text_has_control("a ~\xc3\xbc"));
	assert_true(text_has_control("a\x1f"));
	assert_true(text_has_control("\x7f"));
	assert_true(is_control('\0'));
	assert_true(is_control('\t'));
	assert_false(is_control(' '));
	assert_false(is_control('\x80'));
}

static void
only_letters_of_ascii_have_a_case(void **state)
{
	(void)state;
	assert_int_equal(ascii_lower('Z'), 'z');
	assert_int_equal(ascii_lower('['), '[');
	assert_int_equal(ascii_lower('@'), '@');
	assert_int_equal(ascii_lower('\xc3'), '\xc3');
	assert_int_equal(ascii_upper('a'), 'A');
	assert_int_equal(ascii_upper('z'), 'Z');
	assert_int_equal(ascii_upper('{'), '{');
	assert_int_equal(ascii_upper('`'), '`');
	assert_int_equal(ascii_upper('\xe3'), '\xe3');
}

static void
words_are_compared_whole_and_in_any_case(void **state)
{
	static const struct {
		const char *name, *text;
		size_t len;
		const char *word;
		bool is, begins;
	} rows[] = {
		{ "same", "word", 4, "word", true, true },
		{ "any case", "wOrD", 4, "WoRd", true, true },
		{ "shorter", "wor", 3, "word", false, false },
		{ "longer", "words", 5, "word", false, true },
		{ "of a longer text", "word x", 4, "word", true, true },
		{ "nothing", "", 0, "", true, true },
		{ "not the same", "ward", 4, "word", false, false },
		{ "a NUL in it", "wo\0d", 4, "word", false, false },
		{ "not a letter's case", "[", 1, "{", false, false },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		unit_number(rows[i].name,
		    text_is(rows[i].text, rows[i].len, rows[i].word),
		    rows[i].is);
		unit_number(rows[i].name,
		    text_begins(rows[i].text, rows[i].word), rows[i].begins);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(utf8_is_that_of_rfc_3629),
		cmocka_unit_test(what_is_not_us_ascii_is_found),
		cmocka_unit_test(control_characters_are_found),
		cmocka_unit_test(only_letters_of_ascii_have_a_case),
		cmocka_unit_test(words_are_compared_whole_and_in_any_case),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
