/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads an INI file as Python's configparser does.  Its rules are those of
 * RawConfigParser._read() of Python 3.11; the test compares the two.  Knows
 * no key and no section; config.c does.
 */
#include <string.h>

#include "ini.h"
#include "text.h"

#include "banned.h"

struct parser {
	ini_fn *take;
	void *context;
	struct ini_item entry; /* the newest, which may go on; or no key */
	char *end;             /* of its value, its lines joined in place */
	unsigned int now;      /* the line that is read */
	size_t indent;         /* blanks before the newest entry or header */
	bool homeless;         /* that no section came first was said */
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

static char *
skip_blanks(char *text)
{
	while (blank_length(text) > 0)
		text += blank_length(text);
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
	(void)trim(text, text + strlen(text));
	return skip_blanks(text);
}

static void
fault(const struct parser *p, const char *reason)
{
	const struct ini_item item = { .fault = reason, .line = p->now };

	p->take(p->context, &item);
}

/* The newest entry is complete. */
static void
finish_entry(struct parser *p)
{
	if (p->entry.key == NULL)
		return;
	if (p->entry.value != NULL)
		(void)trim(p->entry.value, p->end);
	p->take(p->context, &p->entry);
	p->entry.key = NULL;
}

/* A line that is part of the value: what is joined is never longer. */
static void
continue_value(struct parser *p, const char *text)
{
	size_t len = strlen(text);

	if (p->entry.value == NULL) {
		fault(p, "a key without a value cannot go on here");
		return;
	}
	*p->end++ = '\n';
	memmove(p->end, text, len);
	p->end += len;
}

/* "key = value", "key: value" or "key"; the first delimiter counts. */
static void
begin_entry(struct parser *p, char *text, char *end)
{
	char *octet, *value;

	if (p->entry.section == NULL) {
		if (!p->homeless)
			fault(p, "no section comes before this line");
		p->homeless = true;
		return;
	}
	value = strpbrk(text, "=:");
	if (value != NULL) {
		(void)trim(text, value);
		value = skip_blanks(value + 1);
	}
	if (*text == '\0') {
		fault(p, "no key before the delimiter");
		return;
	}
	for (octet = text; *octet != '\0'; octet++)
		*octet = ascii_lower(*octet);
	p->entry.key = text;
	p->entry.value = value;
	p->entry.line = p->now;
	p->end = end;
}

static void
take_line(struct parser *p, char *text, char *end)
{
	char *bracket;
	size_t indent;

	/* Characters, not octets. */
	for (indent = 0; blank_length(text) > 0; indent++)
		text += blank_length(text);
	end = trim(text, end);
	if (*text == '#' || *text == ';')
		return;
	if (p->entry.key != NULL &&
	    (*text == '\0' ? p->entry.value != NULL : indent > p->indent)) {
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
	p->entry = (struct ini_item){ .section = text + 1, .line = p->now };
	p->take(p->context, &p->entry);
}

void
ini_parse(struct buf *text, ini_fn *take, void *context)
{
	struct parser p = { .take = take, .context = context };
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
		end = start + strcspn(start, "\r\n");
		next = end + (end[0] == '\r' && end[1] == '\n' ? 2 : 1);
		if (*end == '\0' && end < last) {
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
