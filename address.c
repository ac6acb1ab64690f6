/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Mail addresses: RFC 5321 section 4.1.2 and RFC 6531 section 3.3, as
 * leniently as Postfix reads them by default where that is harmless.  Knows
 * nothing of accounts; config.c routes.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "address.h"

#include "banned.h"

/* What may not stand unquoted in a local part; Postfix allows the colon. */
#define LOCAL_SPECIALS " ()<>[];,"

static int parse_local(struct address *a, const char *text, size_t len,
    size_t *used);
static int local_octet(struct address *a, const char *text, size_t len,
    size_t *at, bool *quoted);
static int split_local(struct address *a);
static size_t skip_blanks(const char *text, size_t len, size_t at);
static int parse_literal(struct buf *domain, const char *text, size_t len);
static bool is_label(char c);
static bool is_control(char c);
static size_t utf8_length(const unsigned char *s, size_t len);

void
address_init(struct address *a)
{
	*a = (struct address){ .has_domain = false };
	buf_init(&a->local, ADDRESS_MAX);
	buf_init(&a->domain, ADDRESS_MAX);
}

void
address_free(struct address *a)
{
	buf_free(&a->local);
	buf_free(&a->domain);
}

int
address_parse(struct address *a, const char *text, size_t len)
{
	size_t i, used;

	buf_reset(&a->local);
	buf_reset(&a->domain);
	a->has_domain = false;
	a->utf8 = false;
	if (!utf8_is_valid(text, len)) {
		errno = EINVAL;
		return -1;
	}
	for (i = 0; i < len; i++)
		if ((text[i] & 0x80) != 0)
			a->utf8 = true;
	if (parse_local(a, text, len, &used) == -1)
		return -1;
	if (used == len)
		return split_local(a);
	a->has_domain = true;
	used = skip_blanks(text, len, used + 1);
	return address_domain(&a->domain, text + used, len - used);
}

/*
 * Words with or without quotes, RFC 5321 section 4.1.2: what they mean goes
 * to a->local, and where the '@' is, or the end, to *used.
 */
static int
parse_local(struct address *a, const char *text, size_t len, size_t *used)
{
	size_t i, after;
	bool quoted;

	quoted = false;
	for (i = 0; i < len && (quoted || text[i] != '@'); i++) {
		/* Postfix does not mind a blank before the '@'. */
		after = quoted ? i : skip_blanks(text, len, i);
		if (after > i && after < len && text[after] == '@')
			i = after - 1;
		else if (local_octet(a, text, len, &i, &quoted) == -1)
			return -1;
	}
	if (quoted || a->local.len == 0) {
		errno = EINVAL;
		return -1;
	}
	*used = i;
	return 0;
}
/* Takes the octet at *at, two of them when the first one is a backslash. */
static int
local_octet(struct address *a, const char *text, size_t len, size_t *at,
    bool *quoted)
{
	char before, c;

	before = *at > 0 ? text[*at - 1] : '.';
	c = text[*at];
	if (c == '"') {
		/* A quoted word ends at a dot, the '@' or the end. */
		*quoted = !*quoted;
		if (*quoted ? before == '.'
			    : *at + 1 == len ||
				  strchr(".@ ", text[*at + 1]) != NULL)
			return 0;
		errno = EINVAL;
		return -1;
	}
	if (c == '\\' && *at + 1 < len)
		c = text[++*at];
	else if (!*quoted && strchr(LOCAL_SPECIALS "\\", c) != NULL)
		c = '\0';
	if (is_control(c) && (c != '\t' || !*quoted)) {
		errno = EINVAL;
		return -1;
	}
	return buf_add_octet(&a->local, c);
}

/* A quoted string that is all of an address is, to Postfix, what it quotes. */
static int
split_local(struct address *a)
{
	const char *at;
	size_t len;

	at = memrchr(buf_text(&a->local), '@', a->local.len);
	if (at == NULL)
		return 0;
	len = (size_t)(at - buf_text(&a->local));
	a->has_domain = true;
	errno = EINVAL;
	if (len == 0 ||
	    address_domain(&a->domain, at + 1, a->local.len - len - 1) == -1)
		return -1;
	buf_cut(&a->local, len);
	return 0;
}

static size_t
skip_blanks(const char *text, size_t len, size_t at)
{
	while (at < len && text[at] == ' ')
		at++;
	return at;
}

int
address_domain(struct buf *domain, const char *text, size_t len)
{
	size_t i;
	char last;

	if (len > 0 && text[0] == '[')
		return parse_literal(domain, text, len);
	/* The root label is allowed and does not count. */
	if (len > 1 && text[len - 1] == '.')
		len--;
	last = '.';
	for (i = 0; i < len; i++) {
		if (text[i] == '.' ? last == '.' : !is_label(text[i]))
			break;
		last = text[i];
		if (buf_add_octet(domain, ascii_lower(last)) == -1)
			return -1;
	}
	if (i < len || len == 0 || last == '.') {
		errno = EINVAL;
		return -1;
	}
	return 0;
}

/* An octet of a label: LDH, the underscore that is out there, UTF-8. */
static bool
is_label(char c)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";

	return (c & 0x80) != 0 ||
	       memchr(set, ascii_lower(c), sizeof(set) - 1) != NULL;
}

/* An address literal, kept with its brackets; RFC 5321 section 4.1.3. */
static int
parse_literal(struct buf *domain, const char *text, size_t len)
{
	size_t i;

	if (len < 3 || text[len - 1] != ']') {
		errno = EINVAL;
		return -1;
	}
	for (i = 1; i < len - 1; i++) {
		/* dcontent, RFC 5321 section 4.1.2 */
		if (text[i] < '!' || text[i] > '~' || text[i] == '[' ||
		    text[i] == ']' || text[i] == '\\') {
			errno = EINVAL;
			return -1;
		}
	}
	for (i = 0; i < len; i++)
		if (buf_add_octet(domain, ascii_lower(text[i])) == -1)
			return -1;
	return 0;
}

size_t
address_span(const char *text, size_t len, bool brackets)
{
	size_t i;
	bool quoted;

	quoted = false;
	for (i = 0; i < len; i++) {
		if (text[i] == '\\' && i + 1 < len)
			i++;
		else if (text[i] == '"')
			quoted = !quoted;
		else if (!quoted && text[i] == (brackets ? '>' : ' '))
			break;
	}
	return i;
}

int
address_key(const struct address *a, const char *origin, size_t extension,
    struct buf *key)
{
	size_t i;

	for (i = 0; i < a->local.len - extension; i++)
		if (buf_add_octet(key, ascii_lower(a->local.data[i])) == -1)
			return -1;
	if (buf_add_octet(key, '@') == -1)
		return -1;
	if (a->has_domain)
		return buf_add(key, buf_text(&a->domain), a->domain.len);
	for (i = 0; origin[i] != '\0'; i++)
		if (buf_add_octet(key, ascii_lower(origin[i])) == -1)
			return -1;
	return 0;
}

/* As Postfix's split_addr(3): global/split_addr.c. */
size_t
address_extension(const struct address *a, const char *delimiters)
{
	static const char request[] = "-request";
	const char *local;
	size_t at, len;

	local = buf_text(&a->local);
	len = a->local.len;
	if (strcasecmp(local, "postmaster") == 0 ||
	    strcasecmp(local, "mailer-daemon") == 0 ||
	    strcasecmp(local, "double-bounce") == 0)
		return 0;
	if (strchr(delimiters, '-') != NULL &&
	    (strncasecmp(local, "owner-", 6) == 0 ||
		(len > sizeof(request) - 1 &&
		    strcasecmp(local + len - (sizeof(request) - 1), request) ==
			0)))
		return 0;
	at = strcspn(local, delimiters);
	return at == 0 || at >= len ? 0 : len - at;
}

static bool
is_control(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f;
}

char
ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool
text_has_control(const char *text)
{
	for (; *text != '\0'; text++)
		if (is_control(*text))
			return true;
	return false;
}

bool
utf8_is_valid(const char *text, size_t len)
{
	const unsigned char *s;
	size_t n;

	s = (const unsigned char *)text;
	while (len > 0) {
		n = utf8_length(s, len);
		if (n == 0)
			return false;
		s += n;
		len -= n;
	}
	return true;
}

/* The octets of the first character, 0 when it is malformed (RFC 3629 4). */
static size_t
utf8_length(const unsigned char *s, size_t len)
{
	size_t i, n;

	if (s[0] < 0x80)
		return 1;
	n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || n > len)
		return 0;
	for (i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, and what lies above U+10FFFF. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}
