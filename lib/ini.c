/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads an INI file as Python's configparser does.  Its rules are those of
 * RawConfigParser._read() of Python 3.11; the test compares the two.  Knows
 * no key and no section; config.c does.
 */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "ini.h"
#include "text.h"

#include "banned.h"

struct parser {
	const struct ini_reader *reader;
	char *section;     /* that lines belong to, or NULL */
	char *key;         /* of the newest entry, which may go on, or NULL */
	char *value, *end; /* of it, its lines joined in place; or NULL */
	unsigned int line; /* of it */
	unsigned int now;  /* the line that is read */
	size_t indent;     /* blanks before the newest entry or header */
	bool homeless;     /* that no section came first was said */
};

/* The octets of the blank that text begins with, as str.isspace() has it. */
static size_t
blank_length(const char *text)
{
	static const char wide[][4] = { "\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80",
		"\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f",
		"\xe3\x80\x80" };
	size_t i;

	if ((*text & 0x80) == 0)
		return *text == ' ' || (*text >= '\t' && *text <= '\r') ||
		       (*text >= '\x1c' && *text <= '\x1f');
	for (i = 0; i < COUNT(wide); i++)
		if (strncmp(text, wide[i], strlen(wide[i])) == 0)
			return strlen(wide[i]);
	/* U+2000 to U+200A */
	return strncmp(text, "\xe2\x80", 2) == 0 && text[2] <= '\x8a' ? 3 : 0;
}

/* Passes blanks and counts them: characters, not octets. */
static char *
skip_blanks(char *text, size_t *count)
{
	size_t n;

	for (*count = 0; (n = blank_length(text)) > 0; text += n)
		++*count;
	return text;
}

/* Takes blanks off the end of the text that ends there. */
static char *
trim(const char *text, char *end)
{
	size_t n;

	do {
		*end = '\0';
		/* The last character, which is well-formed. */
		for (n = 1; end - text > (ptrdiff_t)n; n++)
			if ((*(end - n) & 0xc0) != 0x80)
				break;
		n = end == text ? 0 : blank_length(end - n);
		end -= n;
	} while (n > 0);
	return end;
}

char *
ini_trim(char *text)
{
	size_t ignored;

	(void)trim(text, text + strlen(text));
	return skip_blanks(text, &ignored);
}

static void
fault(const struct parser *p, const char *reason)
{
	p->reader->fault(p->reader->context, reason, p->now);
}

/* The newest entry is complete. */
static void
finish_entry(struct parser *p)
{
	char *key = p->key;

	if (key == NULL)
		return;
	p->key = NULL;
	if (p->value != NULL)
		(void)trim(p->value, p->end);
	p->reader->entry(p->reader->context, p->section, key, p->value,
	    p->line);
}

/* A line that is part of the value: what is joined is never longer. */
static void
continue_value(struct parser *p, const char *text)
{
	size_t len;

	if (p->value == NULL) {
		fault(p, "a key without a value cannot go on here");
		return;
	}
	len = strlen(text);
	*p->end++ = '\n';
	memmove(p->end, text, len);
	p->end += len;
}

/* "key = value", "key: value" or "key"; the first delimiter counts. */
static void
begin_entry(struct parser *p, char *text, char *end)
{
	size_t ignored;
	char *octet;

	if (p->section == NULL) {
		if (!p->homeless)
			fault(p, "no section comes before this line");
		p->homeless = true;
		return;
	}
	p->value = text + strcspn(text, "=:");
	p->end = end;
	if (*p->value == '\0') {
		p->value = NULL;
	} else {
		(void)trim(text, p->value++);
		p->value = skip_blanks(p->value, &ignored);
	}
	if (*text == '\0') {
		fault(p, "no key before the delimiter");
		return;
	}
	for (octet = text; *octet != '\0'; octet++)
		*octet = ascii_lower(*octet);
	p->key = text;
	p->line = p->now;
}

static void
take_line(struct parser *p, char *text, char *end)
{
	char *bracket;
	size_t indent;

	text = skip_blanks(text, &indent);
	end = trim(text, end);
	if (*text == '#' || *text == ';')
		return;
	if (p->key != NULL &&
	    (*text == '\0' ? p->value != NULL : indent > p->indent)) {
		continue_value(p, text);
		return;
	}
	if (*text == '\0')
		return;
	finish_entry(p);
	p->indent = indent;
	/* Up to the last bracket, as its greedy expression has it. */
	bracket = strrchr(text, ']');
	if (*text != '[' || bracket == NULL || bracket == text + 1) {
		begin_entry(p, text, end);
		return;
	}
	*bracket = '\0';
	p->section = text + 1;
	p->reader->section(p->reader->context, p->section, p->now);
}

void
ini_parse(struct buf *text, const struct ini_reader *reader)
{
	struct parser p = { .reader = reader };
	char *end, *last, *next, *start;

	if (text->len == 0)
		return;
	last = text->data + text->len;
	next = text->data;
	if (strncmp(next, "\357\273\277", 3) == 0)
		next += 3;
	while (next < last) {
		p.now++;
		start = next;
		/* LF, CR and CRLF end a line (universal newlines). */
		end = start;
		while (end < last && *end != '\n' && *end != '\r')
			end++;
		next = end + (end[0] == '\r' && end[1] == '\n' ? 2 : 1);
		if (memchr(start, '\0', (size_t)(end - start)) != NULL) {
			fault(&p, "control character (NUL)");
			break;
		}
		if (!utf8_is_valid(start, (size_t)(end - start))) {
			fault(&p, "the line is not in UTF-8");
			continue;
		}
		*end = '\0';
		take_line(&p, start, end);
	}
	finish_entry(&p);
}
