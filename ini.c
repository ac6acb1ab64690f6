/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads an INI file as Python's configparser does.  Its rules are those of
 * RawConfigParser._read() of Python 3.11; the test compares the two.  Knows
 * no key and no section; config.c does.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "ini.h"

#include "banned.h"

/* A run of octets in the file's text. */
struct span {
	const char *text; /* borrowed */
	size_t len;
};

struct parser {
	struct ini *ini;   /* borrowed */
	struct buf *error; /* borrowed */
	struct buf value;  /* owned; of the newest entry, its lines joined */
	unsigned int line;
	size_t indent;  /* characters before the newest header or key */
	bool in_value;  /* lines may continue the newest entry */
	bool has_value; /* the newest entry has a delimiter */
};

static int parse_lines(struct parser *p, struct span rest);
static int parse_line(struct parser *p, struct span line);
static int parse_header(struct parser *p, struct span name);
static int parse_entry(struct parser *p, struct span line);
static int add_entry(struct parser *p, struct span key);
static int continue_value(struct parser *p, struct span line);
static int finish_entry(struct parser *p);
static int fail(struct parser *p, const char *reason, struct span what);
static int fail_errno(struct parser *p);
static struct span next_line(struct span *rest);
static struct span trim(struct span s);
static struct span trim_left(struct span s);
static struct span trim_right(struct span s);
static size_t leading_blanks(struct span s);
static size_t blank_length(struct span s);
static size_t last_length(struct span s);
static char *span_dup(struct span s);
static void *grow(void *array, size_t n, size_t size);

int
ini_parse(struct ini *ini, const char *text, size_t len, struct buf *error)
{
	struct parser p = { .ini = ini, .error = error };
	struct span rest = { text, len };
	int result;

	*ini = (struct ini){ .sections = NULL };
	buf_init(&p.value, len + 1);
	result = parse_lines(&p, rest);
	buf_free(&p.value);
	return result;
}

static int
parse_lines(struct parser *p, struct span rest)
{
	struct span line;

	while (rest.len > 0) {
		p->line++;
		line = next_line(&rest);
		if (memchr(line.text, '\0', line.len) != NULL)
			return fail(p, "control character (NUL)", line);
		if (!utf8_is_valid(line.text, line.len))
			return fail(p, "the line is not in UTF-8", line);
		if (parse_line(p, line) == -1)
			return -1;
	}
	return finish_entry(p);
}

static int
parse_line(struct parser *p, struct span line)
{
	struct span s;
	size_t indent, end;

	s = trim(line);
	if (s.len > 0 && (s.text[0] == '#' || s.text[0] == ';'))
		return 0;
	if (s.len == 0) {
		/* An empty line inside a value is part of it. */
		if (p->in_value && p->has_value)
			return continue_value(p, s);
		return 0;
	}
	indent = leading_blanks(line);
	if (p->in_value && indent > p->indent)
		return continue_value(p, s);
	p->indent = indent;
	/* Up to the last bracket, as its greedy expression has it. */
	for (end = s.len; end > 0 && s.text[end - 1] != ']'; end--)
		;
	if (s.text[0] == '[' && end > 2)
		return parse_header(p, (struct span){ s.text + 1, end - 2 });
	if (p->ini->nsections == 0)
		return fail(p, "no section comes before this line", s);
	return parse_entry(p, s);
}

static int
parse_header(struct parser *p, struct span name)
{
	struct ini *ini;
	void *sections;
	size_t i;

	if (finish_entry(p) == -1)
		return -1;
	ini = p->ini;
	for (i = 0; i < ini->nsections; i++)
		if (strlen(ini->sections[i].name) == name.len &&
		    memcmp(ini->sections[i].name, name.text, name.len) == 0)
			return fail(p, "duplicate section", name);
	sections =
	    grow(ini->sections, ini->nsections, sizeof(ini->sections[0]));
	if (sections == NULL)
		return fail_errno(p);
	ini->sections = sections;
	ini->sections[ini->nsections] = (struct ini_section){
		.name = span_dup(name),
		.line = p->line,
	};
	if (ini->sections[ini->nsections].name == NULL)
		return fail_errno(p);
	ini->nsections++;
	return 0;
}

/* "key = value", "key: value" or "key"; the first delimiter counts. */
static int
parse_entry(struct parser *p, struct span line)
{
	struct span key, value;
	size_t i;

	if (finish_entry(p) == -1)
		return -1;
	for (i = 0; i < line.len; i++)
		if (line.text[i] == '=' || line.text[i] == ':')
			break;
	key = trim_right((struct span){ line.text, i });
	if (key.len == 0)
		return fail(p, "no key before the delimiter", line);
	if (add_entry(p, key) == -1)
		return -1;
	p->in_value = true;
	p->has_value = i < line.len;
	if (!p->has_value)
		return 0;
	value = trim((struct span){ line.text + i + 1, line.len - i - 1 });
	if (buf_add(&p->value, value.text, value.len) == -1)
		return fail_errno(p);
	return 0;
}

static int
add_entry(struct parser *p, struct span key)
{
	struct ini *ini;
	struct ini_entry *entry;
	void *entries;
	size_t i;

	ini = p->ini;
	entries = grow(ini->entries, ini->nentries, sizeof(ini->entries[0]));
	if (entries == NULL)
		return fail_errno(p);
	ini->entries = entries;
	entry = &ini->entries[ini->nentries];
	*entry = (struct ini_entry){
		.section = ini->nsections - 1,
		.key = span_dup(key),
		.line = p->line,
	};
	if (entry->key == NULL)
		return fail_errno(p);
	for (i = 0; i < key.len; i++)
		entry->key[i] = ascii_lower(entry->key[i]);
	ini->nentries++;
	for (i = 0; i < ini->nentries - 1; i++)
		if (ini->entries[i].section == entry->section &&
		    strcmp(ini->entries[i].key, entry->key) == 0)
			return fail(p, "duplicate key", key);
	return 0;
}

static int
continue_value(struct parser *p, struct span line)
{
	if (!p->has_value)
		return fail(p, "a key without a value cannot go on here", line);
	if (buf_add_octet(&p->value, '\n') == -1 ||
	    buf_add(&p->value, line.text, line.len) == -1)
		return fail_errno(p);
	return 0;
}

/* The newest entry is complete: its value, without blanks at the end. */
static int
finish_entry(struct parser *p)
{
	struct span value;
	struct ini_entry *entry;
	char *text;

	if (p->in_value && p->has_value) {
		entry = &p->ini->entries[p->ini->nentries - 1];
		value = (struct span){ buf_text(&p->value), p->value.len };
		text = span_dup(trim_right(value));
		if (text == NULL)
			return fail_errno(p);
		entry->value = text;
	}
	buf_reset(&p->value);
	p->in_value = false;
	p->has_value = false;
	return 0;
}

void
ini_free(struct ini *ini)
{
	size_t i;

	for (i = 0; i < ini->nsections; i++)
		free(ini->sections[i].name);
	for (i = 0; i < ini->nentries; i++) {
		free(ini->entries[i].key);
		if (ini->entries[i].value != NULL)
			explicit_bzero(ini->entries[i].value,
			    strlen(ini->entries[i].value));
		free(ini->entries[i].value);
	}
	free(ini->sections);
	free(ini->entries);
	*ini = (struct ini){ .sections = NULL };
}

/* The faulty text is not shown: what looks like a key may be a secret. */
static int
fail(struct parser *p, const char *reason, struct span what)
{
	static const size_t shown = 64;

	p->ini->error_line = p->line;
	(void)buf_add_text(p->error, reason);
	if (strncmp(reason, "duplicate", 9) == 0)
		(void)buf_addf(p->error, " \"%.*s\"",
		    (int)(what.len < shown ? what.len : shown), what.text);
	return -1;
}

static int
fail_errno(struct parser *p)
{
	p->ini->error_line = p->line;
	(void)buf_add_text(p->error, strerror(errno));
	return -1;
}

/* Cuts the first line off; LF, CR and CRLF end one (universal newlines). */
static struct span
next_line(struct span *rest)
{
	struct span line;
	size_t i, skip;

	for (i = 0; i < rest->len; i++)
		if (rest->text[i] == '\n' || rest->text[i] == '\r')
			break;
	line = (struct span){ rest->text, i };
	skip = i < rest->len ? 1 : 0;
	if (i + 1 < rest->len && rest->text[i] == '\r' &&
	    rest->text[i + 1] == '\n')
		skip = 2;
	rest->text += i + skip;
	rest->len -= i + skip;
	return line;
}

static struct span
trim(struct span s)
{
	return trim_left(trim_right(s));
}

static struct span
trim_left(struct span s)
{
	size_t n;

	while ((n = blank_length(s)) > 0) {
		s.text += n;
		s.len -= n;
	}
	return s;
}

static struct span
trim_right(struct span s)
{
	struct span last;

	while (s.len > 0) {
		last.len = last_length(s);
		last.text = s.text + s.len - last.len;
		if (blank_length(last) == 0)
			break;
		s.len -= last.len;
	}
	return s;
}

/* How many blank characters (not octets) the line starts with. */
static size_t
leading_blanks(struct span s)
{
	size_t n, count;

	for (count = 0; (n = blank_length(s)) > 0; count++) {
		s.text += n;
		s.len -= n;
	}
	return count;
}

/* The octets of a blank, in the sense of str.isspace(), at the start of s. */
static size_t
blank_length(struct span s)
{
	static const struct span blanks[] = {
		/* U+0085, U+00A0, U+1680, U+2028, U+2029, U+202F, U+205F,
		 * U+3000; the range from U+2000 to U+200A is below */
		{ "\xc2\x85", 2 }, { "\xc2\xa0", 2 }, { "\xe1\x9a\x80", 3 },
		{ "\xe2\x80\xa8", 3 }, { "\xe2\x80\xa9", 3 },
		{ "\xe2\x80\xaf", 3 }, { "\xe2\x81\x9f", 3 },
		{ "\xe3\x80\x80", 3 }
	};
	unsigned char c;
	size_t i;

	if (s.len == 0)
		return 0;
	c = (unsigned char)s.text[0];
	if (c < 0x80)
		return c == ' ' || (c >= 0x09 && c <= 0x0d) ||
		       (c >= 0x1c && c <= 0x1f);
	for (i = 0; i < sizeof(blanks) / sizeof(blanks[0]); i++)
		if (s.len >= blanks[i].len &&
		    memcmp(s.text, blanks[i].text, blanks[i].len) == 0)
			return blanks[i].len;
	if (s.len >= 3 && memcmp(s.text, "\xe2\x80", 2) == 0) {
		c = (unsigned char)s.text[2];
		return c >= 0x80 && c <= 0x8a ? 3 : 0;
	}
	return 0;
}

/* The octets of the last character of well-formed UTF-8. */
static size_t
last_length(struct span s)
{
	size_t n;

	for (n = 1; n < s.len && n < 4; n++)
		if (((unsigned char)s.text[s.len - n] & 0xc0) != 0x80)
			break;
	return n;
}

static char *
span_dup(struct span s)
{
	return strndup(s.text, s.len);
}

/* Room for one element more, in steps that double. */
static void *
grow(void *array, size_t n, size_t size)
{
	if (n != 0 && (n < 8 || (n & (n - 1)) != 0))
		return array;
	return reallocarray(array, n == 0 ? 8 : n * 2, size);
}
