/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Addresses: what parses, into what, and when two of them are the same.
 */
#include <errno.h>

#include "unit.h"

#include "address.h"

#include "banned.h"

/* want is local|domain|key, or NULL where the text is refused. */
static void
mailboxes_parse_as_rfc_5321_has_them(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "plain", "User@Example.ORG",
		    "User|example.org|user@example.org" },
		{ "bare local part", "postmaster", "postmaster||postmaster@o" },
		{ "dots anywhere", ".a..b.@c", ".a..b.|c|.a..b.@c" },
		{ "all of atext", "!#$%&'*+-/=?^_`{|}~@c",
		    "!#$%&'*+-/=?^_`{|}~|c|!#$%&'*+-/=?^_`{|}~@c" },
		{ "quoted", "\"A b\"@c", "A b|c|a b@c" },
		{ "quoted pair", "\"a\\\"\\\\b\"@c", "a\"\\b|c|a\"\\b@c" },
		{ "quotes that need not be", "\"a\"@c", "a|c|a@c" },
		{ "quoted at sign", "\"a@b\"@c", "a@b|c|a@b@c" },
		{ "quoted words", "\"a b\".c.\"d\"@e", "a b.c.d|e|a b.c.d@e" },
		{ "all of it quoted", "\"a@b\"", "a|b|a@b" },
		{ "quoted pair without quotes", "a\\ b@c", "a b|c|a b@c" },
		{ "blanks around the at sign", "a  @ c", "a|c|a@c" },
		{ "colon", "a:b@c", "a:b|c|a:b@c" },
		{ "tab in quotes", "\"a\tb\"@c", "a\tb|c|a\tb@c" },
		{ "empty quoted", "\"\"@c", NULL },
		{ "all of it quoted, no local part", "\"@c\"", NULL },
		{ "all of it quoted, no domain", "\"a@\"", NULL },
		{ "trailing dot", "a@b.c.", "a|b.c|a@b.c" },
		{ "underscore and digits", "a@_1.b-2", "a|_1.b-2|a@_1.b-2" },
		{ "address literal", "a@[192.0.2.1]",
		    "a|[192.0.2.1]|a@[192.0.2.1]" },
		{ "IPv6 literal", "a@[IPv6:2001:DB8::1]",
		    "a|[ipv6:2001:db8::1]|a@[ipv6:2001:db8::1]" },
		{ "UTF-8", "\xc3\x9c@b\xc3\xbc.de",
		    "\xc3\x9c|b\xc3\xbc.de|\xc3\xbc@b\xc3\xbc.de" },
		{ "blank and tab around the at sign", "a\t@ c", "a|c|a@c" },
		{ "nothing", "", NULL },
		{ "no local part", "@c", NULL },
		{ "no domain", "a@", NULL },
		{ "two at signs", "a@b@c", NULL },
		{ "blank", "a b@c", NULL },
		{ "blank in the domain", "a@b c", NULL },
		{ "comma", "a,b@c", NULL },
		{ "angle bracket", "a>@c", NULL },
		{ "control character", "a\tb@c", NULL },
		{ "DEL", "a\x7f@c", NULL },
		{ "DEL in quotes", "\"\\\x7f\"@c", NULL },
		{ "open quote", "\"a@c", NULL },
		{ "backslash at the end", "\"a\\", NULL },
		{ "text behind quotes", "\"a\"b@c", NULL },
		{ "quotes inside", "a\"b\"@c", NULL },
		{ "leading dot", "a@.b", NULL },
		{ "two dots", "a@b..c", NULL },
		{ "two trailing dots", "a@b..", NULL },
		{ "only a dot", "a@.", NULL },
		{ "empty literal", "a@[]", NULL },
		{ "open literal", "a@[1.2.3.4", NULL },
		{ "blank in a literal", "a@[1 2]", NULL },
		{ "bracket in a literal", "a@[[]]", NULL },
		{ "text behind a literal", "a@[1]x", NULL },
		{ "not UTF-8", "a\xff@c", NULL },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		ADDRESS(a);
		BUF(got, 1000);

		if (address_parse(&a, rows[i].in, strlen(rows[i].in))) {
			buf_addf(&got, "%s|%s|", buf_text(&a.local),
			    buf_text(&a.domain));
			address_key(&a, "O", 0, &got);
			assert_int_equal(got.error, 0);
		} else {
			buf_adds(&got, "refused");
		}
		unit_text(rows[i].name, buf_text(&got),
		    rows[i].want == NULL ? "refused" : rows[i].want);
	}
}

static void
only_octets_outside_ascii_need_smtputf8(void **state)
{
	static const struct {
		const char *name, *in;
		bool utf8, has_domain;
	} rows[] = {
		{ "ascii", "a@b", false, true },
		{ "local part", "\xc3\xbc@b", true, true },
		{ "domain", "a@\xc3\xbc", true, true },
		{ "no domain", "a", false, false },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		ADDRESS(a);

		assert_true(address_parse(&a, rows[i].in, strlen(rows[i].in)));
		unit_number(rows[i].name, a.utf8, rows[i].utf8);
		unit_number(rows[i].name, a.has_domain, rows[i].has_domain);
	}
}

/* towlower(towupper(c)) of each character in C.UTF-8, which is here. */
static void
keys_have_no_case(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "u umlaut", "M\xc3\x9cLLER@X", "m\xc3\xbcller@x" },
		{ "in the domain", "a@\xc3\x9c.X", "a@\xc3\xbc.x" },
		{ "cyrillic", "\xd0\x9f@x", "\xd0\xbf@x" },
		{ "final sigma", "\xcf\x82@x", "\xcf\x83@x" },
		{ "long s", "\xc5\xbf@x", "s@x" },
		{ "kelvin sign", "\xe2\x84\xaa@x", "k@x" },
		{ "longer in lower case", "\xc8\xba@x", "\xe2\xb1\xa5@x" },
		{ "sharp s is one letter", "\xc3\x9f@x", "\xc3\x9f@x" },
		{ "none to fold", "\xe7\x94\xa8@x", "\xe7\x94\xa8@x" },
		{ "four octets", "\xf0\x90\x90\x80@x", "\xf0\x90\x90\xa8@x" },
		{ "bare local part", "A", "a@\xc3\xb6" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		ADDRESS(a);
		BUF(key, 100);

		assert_true(address_parse(&a, rows[i].in, strlen(rows[i].in)));
		assert_true(address_key(&a, "\xc3\x96", 0, &key));
		unit_text(rows[i].name, buf_text(&key), rows[i].want);
	}
}

/* Also one that gets longer by being folded. */
static void
a_key_without_room_is_a_failure(void **state)
{
	static const char *const rows[] = { "abc@x", "\xc8\xba@x" };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		ADDRESS(a);
		BUF(key, 4);

		assert_true(address_parse(&a, rows[i], strlen(rows[i])));
		(void)address_key(&a, "", 0, &key);
		assert_int_equal(key.error, EMSGSIZE);
	}
}

/* As split_addr(3) of Postfix. */
static void
extensions_split_as_in_postfix(void **state)
{
	static const struct {
		const char *name, *local, *delimiters, *want;
	} rows[] = {
		{ "plus", "user+x", "+", "user" },
		{ "first of several", "user+x+y", "+", "user" },
		{ "two delimiters", "user-x+y", "+-", "user" },
		{ "other delimiter", "user+x", "-", "user+x" },
		{ "none", "user+x", "", "user+x" },
		{ "no extension", "user", "+", "user" },
		{ "empty extension", "user+", "+", "user" },
		{ "leading delimiter", "+x", "+", "+x" },
		{ "owner", "owner-list", "-", "owner-list" },
		{ "owner with plus", "owner-list+x", "+", "owner-list" },
		{ "request", "list-request", "-", "list-request" },
		{ "request, other case", "list-Request", "-", "list-Request" },
		{ "request alone", "-request", "-", "-request" },
		{ "mailer-daemon", "MAILER-DAEMON", "-", "mailer-daemon" },
		{ "double-bounce", "double-bounce", "-", "double-bounce" },
	};
	const char *p;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		ADDRESS(a);
		BUF(key, 100);
		BUF(want, 100);

		assert_true(
		    address_parse(&a, rows[i].local, strlen(rows[i].local)));
		address_key(&a, "o", address_extension(&a, rows[i].delimiters),
		    &key);
		for (p = rows[i].want; *p != '\0'; p++)
			buf_addc(&want, ascii_lower(*p));
		buf_adds(&want, "@o");
		unit_text(rows[i].name, buf_text(&key), buf_text(&want));
	}
}

static void
a_mailbox_ends_at_a_blank_or_bracket(void **state)
{
	static const struct {
		const char *name, *in;
		const char *ends;
		size_t want;
	} rows[] = {
		{ "end", "a@b", SMTP_BLANKS, 3 },
		{ "blank in brackets", "a b@c> SIZE=1", ">", 5 },
		{ "bracket", "a@b> SIZE=1", ">", 3 },
		{ "blank", "a@b SIZE=1", SMTP_BLANKS, 3 },
		{ "in quotes", "\"a >\"@b>", ">", 7 },
		{ "quoted pair", "\"a\\\" \"@b>", ">", 8 },
		{ "open quotes", "\"a b", SMTP_BLANKS, 4 },
		{ "open quoted pair", "\"a\\", SMTP_BLANKS, 3 },
		{ "backslash without quotes", "a\\>b>", ">", 4 },
		{ "nothing", "", SMTP_BLANKS, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		unit_number(rows[i].name,
		    (long long)address_span(rows[i].in, rows[i].ends),
		    (long long)rows[i].want);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mailboxes_parse_as_rfc_5321_has_them),
		cmocka_unit_test(only_octets_outside_ascii_need_smtputf8),
		cmocka_unit_test(keys_have_no_case),
		cmocka_unit_test(a_key_without_room_is_a_failure),
		cmocka_unit_test(extensions_split_as_in_postfix),
		cmocka_unit_test(a_mailbox_ends_at_a_blank_or_bracket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
