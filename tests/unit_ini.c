/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The INI reader, form by form; the system tests compare it with Python's
 * configparser.
 */
#include "unit.h"

#include "ini.h"

#include "banned.h"

static void
show(void *context, const struct ini_item *item)
{
	assert_true(item->line > 0);
	if (item->fault != NULL) {
		assert_true(strlen(item->fault) > 0);
		buf_addf(context, "!%u", item->line);
	} else if (item->key == NULL) {
		buf_addf(context, "[%s]", item->section);
	} else {
		assert_non_null(item->section);
		buf_addf(context, "%s%s%s;", item->key,
		    item->value == NULL ? "" : "=",
		    item->value == NULL ? "" : item->value);
	}
}

/* Faults alone, with their reasons. */
static void
show_reason(void *context, const struct ini_item *item)
{
	if (item->fault != NULL)
		buf_addf(context, "%u: %s", item->line, item->fault);
	else
		show(context, item);
}

/* Shows in *got what the octets hold. */
static void
parse(const char *in, size_t len, struct buf *got, ini_fn *take)
{
	BUF(text, 1000);

	buf_add(&text, in, len);
	ini_parse(&text, take, got);
	assert_int_equal(got->error, 0);
}

/* want: "[section]", "key=value;", "key;" without a value, "!LINE", in order. */
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
		{ "all kinds of blanks",
		    "[a]\nk\x1c\x1f\xc2\x85=\xe1\x9a\x80\xe2\x80\x80\xe2\x80\x8a"
		    "\xe2\x80\xa8v\xe2\x80\xa9\xe2\x80\xaf\xe2\x81\x9f"
		    "\xe3\x80\x80\v\f",
		    "[a]k=v;" },
		{ "no blanks: zero width space, braille",
		    "[a]\nk=\xe2\x80\x8bv\xe2\xa0\x80",
		    "[a]k=\xe2\x80\x8bv\xe2\xa0\x80;" },
		{ "a line of wide blanks", "[a]\nk = v\n\xe3\x80\x80\n  w\n",
		    "[a]k=v||w;" },
		{ "indents in characters",
		    "[a]\n\xe3\x80\x80k = v\n  w\n\xe3\x80\x80l = x\n",
		    "[a]k=v|w;l=x;" },
		{ "wide blanks around a section", "\xc2\xa0[a]\xe2\x80\x83\nk",
		    "[a]k;" },
		{ "no last LF", "[a]\nk = v\n  w", "[a]k=v|w;" },
		{ "several values of a key", "[a]\nk = v\nK: w\n",
		    "[a]k=v;k=w;" },
		{ "a section again", "[a]\n[b]\n[a]\n", "[a][b][a]" },
		{ "byte order mark", "\xef\xbb\xbf[a]\nk = v\n", "[a]k=v;" },
		{ "byte order mark alone", "\xef\xbb\xbf", "" },
		{ "byte order mark inside", "[a]\n\xef\xbb\xbfk = v\n",
		    "[a]\xef\xbb\xbfk=v;" },
		{ "nothing", "", "" },
		{ "no section", "\nk = v\nl = w\n[a]\nk = v\n", "!2[a]k=v;" },
		{ "no key", "[a]\n= v\nk = w\n", "[a]!2k=w;" },
		{ "continued without value", "[a]\nk\n  v\nl = w",
		    "[a]!3k;l=w;" },
		{ "not UTF-8", "[a]\nk = v\nl = \xff\nm = w\n",
		    "[a]!3k=v;m=w;" },
	};
	size_t i, k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(got, 1000);

		parse(rows[i].in, strlen(rows[i].in), &got, show);
		for (k = 0; k < got.len; k++)
			if (got.data[k] == '\n')
				got.data[k] = '|';
		unit_text(rows[i].name, buf_text(&got), rows[i].want);
	}
}

static void
a_nul_is_refused(void **state)
{
	BUF(got, 100);

	(void)state;
	parse("[a]\nj=u\nk=\0v\nl=w\n", 16, &got, show_reason);
	assert_string_equal(buf_text(&got),
	    "[a]3: control character (NUL)j=u;");
}

/* What looks like a key may be a secret in the wrong place. */
static void
a_report_does_not_show_values(void **state)
{
	BUF(got, 1000);

	(void)state;
	parse("swordfish = x\n", 14, &got, show_reason);
	assert_string_equal(buf_text(&got),
	    "1: no section comes before this line");
	buf_reset(&got);
	parse("[a]\nkey\n swordfish\n", 19, &got, show_reason);
	assert_string_equal(buf_text(&got),
	    "[a]3: a key without a value cannot go on herekey;");
	buf_reset(&got);
	parse("[a]\n= swordfish\n", 16, &got, show_reason);
	assert_null(strstr(buf_text(&got), "swordfish"));
}

struct count {
	unsigned int entries, line; /* and where the newest was */
	size_t longest;             /* value, in octets */
	char key[16];               /* of the newest */
};

static void
count(void *context, const struct ini_item *item)
{
	struct count *c = context;

	assert_null(item->fault);
	assert_string_equal(item->section, "a");
	c->line = item->line;
	if (item->key == NULL) {
		assert_int_equal(item->line, 1);
		return;
	}
	c->entries++;
	if (strlen(item->value) > c->longest)
		c->longest = strlen(item->value);
	(void)snprintf(c->key, sizeof(c->key), "%s", item->key);
}

static void
lines_have_no_limit_and_keys_their_numbers(void **state)
{
	struct count c = { .entries = 0 };
	BUF(text, 1000000);
	int i;

	(void)state;
	buf_adds(&text, "[a]\nlong = ");
	for (i = 0; i < 300000; i++)
		buf_addc(&text, 'x');
	for (i = 0; i < 100; i++)
		buf_addf(&text, "\nk%d = %d", i, i);
	assert_int_equal(text.error, 0);
	ini_parse(&text, count, &c);
	assert_int_equal(c.entries, 101);
	assert_int_equal(c.longest, 300000);
	assert_string_equal(c.key, "k99");
	assert_int_equal(c.line, 102);
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
