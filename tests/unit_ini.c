/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The INI reader, form by form; the system tests compare it with Python's
 * configparser.
 */
#include "unit.h"

#include "ini.h"

#include "banned.h"

/* want: "[section]key=value;" in order, "key;" without a value, or "!LINE". */
static void
files_read_as_configparser_reads_them(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "equals sign", "[a]\nk = v\n", "[a]k=v;" },
		{ "colon", "[a]\nk: v\n", "[a]k=v;" },
		{ "first delimiter counts", "[a]\nk: v=w:x", "[a]k=v=w:x;" },
		{ "no blanks", "[a]\nk=v", "[a]k=v;" },
		{ "key in lower case", "[A]\nKey = V", "[A]key=V;" },
		{ "key with blanks", "[a]\nk l = v", "[a]k l=v;" },
		{ "no value", "[a]\nk\n", "[a]k;" },
		{ "empty value", "[a]\nk =\n", "[a]k=;" },
		{ "comments", "# x\n[a]\n; y\n  # z\nk = v\n", "[a]k=v;" },
		{ "no comment inside", "[a]\nk = v ; w # x",
		    "[a]k=v ; w # x;" },
		{ "continuation", "[a]\nk = v\n  w\n\tx\n", "[a]k=v|w|x;" },
		{ "continuation with delimiter", "[a]\nk = v\n  w = x",
		    "[a]k=v|w = x;" },
		{ "empty line inside", "[a]\nk = v\n\n  w\n", "[a]k=v||w;" },
		{ "empty lines behind", "[a]\nk = v\n\n\nl = w",
		    "[a]k=v;l=w;" },
		{ "comment inside", "[a]\nk = v\n  # c\n  w", "[a]k=v|w;" },
		{ "indented keys", "[a]\n  k = v\n  l = w", "[a]k=v;l=w;" },
		{ "two sections", "[a]\nk = v\n[b]\nk = w", "[a]k=v;[b]k=w;" },
		{ "section with brackets", "[a]b]\nk", "[a]b]k;" },
		{ "text behind a section", "[a] x\nk", "[a]k;" },
		{ "empty section name is a key", "[a]\n[]", "[a][];" },
		{ "CRLF", "[a]\r\nk = v\r\n", "[a]k=v;" },
		{ "CR", "[a]\rk = v\r", "[a]k=v;" },
		{ "no-break space", "[a]\nk\xc2\xa0=\xe2\x80\x83v", "[a]k=v;" },
		{ "no last LF", "[a]\nk = v\n  w", "[a]k=v|w;" },
		{ "nothing", "", "" },
		{ "no section", "\nk = v\n", "!2" },
		{ "no key", "[a]\n= v\n", "!2" },
		{ "duplicate key", "[a]\nk = v\nK: w\n", "!3" },
		{ "duplicate section", "[a]\n[b]\n[a]\n", "!3" },
		{ "duplicate DEFAULT", "[DEFAULT]\n\n[DEFAULT]\n", "!3" },
		{ "continued without value", "[a]\nk\n  v\n", "!3" },
		{ "not UTF-8", "[a]\nk = \xff\n", "!2" },
	};
	struct ini ini;
	struct buf got, error;
	size_t i, k, n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		buf_init(&got, 1000);
		buf_init(&error, 1000);
		if (ini_parse(&ini, rows[i].in, strlen(rows[i].in), &error) ==
		    -1) {
			(void)buf_addf(&got, "!%u", ini.error_line);
			assert_true(error.len > 0);
		}
		n = error.len > 0 ? 0 : ini.nentries;
		for (k = 0; k < n; k++) {
			if (k == 0 || ini.entries[k].section !=
					  ini.entries[k - 1].section)
				(void)buf_addf(&got, "[%s]",
				    ini.sections[ini.entries[k].section].name);
			(void)buf_add_text(&got, ini.entries[k].key);
			if (ini.entries[k].value != NULL)
				(void)buf_addf(&got, "=%s",
				    ini.entries[k].value);
			(void)buf_add_octet(&got, ';');
		}
		for (k = 0; k < got.len; k++)
			if (got.data[k] == '\n')
				got.data[k] = '|';
		unit_text(rows[i].name, buf_text(&got), rows[i].want);
		buf_free(&got);
		buf_free(&error);
		ini_free(&ini);
	}
}

static void
a_nul_is_refused(void **state)
{
	struct ini ini;
	struct buf error;

	(void)state;
	buf_init(&error, 100);
	assert_int_equal(ini_parse(&ini, "[a]\nk=\0v", 8, &error), -1);
	assert_string_equal(buf_text(&error), "control character (NUL)");
	assert_int_equal(ini.error_line, 2);
	ini_free(&ini);
	buf_free(&error);
}

/* What looks like a key may be a secret in the wrong place. */
static void
a_report_does_not_show_values(void **state)
{
	struct ini ini;
	struct buf error;

	(void)state;
	buf_init(&error, 1000);
	assert_int_equal(ini_parse(&ini, "swordfish = x\n", 14, &error), -1);
	assert_null(strstr(buf_text(&error), "swordfish"));
	ini_free(&ini);
	buf_reset(&error);
	assert_int_equal(ini_parse(&ini, "[a]\nkey\n swordfish\n", 19, &error),
	    -1);
	assert_null(strstr(buf_text(&error), "swordfish"));
	ini_free(&ini);
	buf_free(&error);
}

static void
lines_have_no_limit_and_keys_their_numbers(void **state)
{
	struct ini ini;
	struct buf text, error;
	int i;

	(void)state;
	buf_init(&text, 1000000);
	buf_init(&error, 100);
	assert_int_equal(buf_add_text(&text, "[a]\nlong = "), 0);
	for (i = 0; i < 300000; i++)
		assert_int_equal(buf_add_octet(&text, 'x'), 0);
	for (i = 0; i < 100; i++)
		assert_int_equal(buf_addf(&text, "\nk%d = %d", i, i), 0);
	assert_int_equal(ini_parse(&ini, text.data, text.len, &error), 0);
	assert_int_equal(ini.nentries, 101);
	assert_int_equal(strlen(ini.entries[0].value), 300000);
	assert_string_equal(ini.entries[100].key, "k99");
	assert_int_equal(ini.entries[100].line, 102);
	ini_free(&ini);
	buf_free(&text);
	buf_free(&error);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_read_as_configparser_reads_them),
		cmocka_unit_test(a_nul_is_refused),
		cmocka_unit_test(a_report_does_not_show_values),
		cmocka_unit_test(lines_have_no_limit_and_keys_their_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
