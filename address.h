/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Mail addresses: their grammar (RFC 5321 section 4.1.2, RFC 6531 section
 * 3.3) and the form in which two of them are compared.
 */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum {
	ADDRESS_MAX = 2048 /* octets; no command line is longer */
};

struct address {
	struct buf local;  /* owned; as given, but without quotes */
	struct buf domain; /* owned; lower case, no trailing dot; may be "" */
	bool has_domain;   /* a bare local part has none */
	bool utf8;         /* holds octets outside US-ASCII */
};

void address_init(struct address *a);
void address_free(struct address *a);

/*
 * Takes a mailbox apart: local part (dots may stand anywhere, as Postfix
 * lets them) and domain or address literal; a bare local part is allowed.
 * text is borrowed, len octets.  Returns 0, or -1 with errno EINVAL (not a
 * mailbox) or ENOMEM; *a is then unusable but may be freed.
 */
int address_parse(struct address *a, const char *text, size_t len);

/*
 * Checks and lowers a domain or address literal of len octets into *domain.
 * Returns 0 or -1 as address_parse() does.
 */
int address_domain(struct buf *domain, const char *text, size_t len);

/*
 * The octets of the mailbox at the start of text: up to '>' when it stands in
 * brackets, else up to a blank, or the end; those inside a quoted string not
 * counted.
 */
size_t address_span(const char *text, size_t len, bool brackets);

/*
 * Appends the form for comparison to *key: the local part without quotes and
 * in lower case (US-ASCII), '@', the domain; origin completes a bare local
 * part.  extension is the length of what a recipient delimiter splits off
 * the local part, 0 to keep all of it.  Returns 0 or -1 with errno ENOMEM or
 * EMSGSIZE.
 */
int address_key(const struct address *a, const char *origin, size_t extension,
    struct buf *key);

/*
 * How many octets of the local part are the address extension, delimiter
 * included; 0 when there is none.  delimiters is a set of characters, as
 * Postfix's recipient_delimiter; the exceptions are Postfix's too (a leading
 * delimiter, and for '-' the owner- and -request conventions).
 */
size_t address_extension(const struct address *a, const char *delimiters);

/* Lowers US-ASCII letters and leaves every other octet alone. */
char ascii_lower(char c);

/* Whether text has a control character of US-ASCII. */
bool text_has_control(const char *text);

/* Whether len octets of text are well-formed UTF-8 (RFC 3629). */
bool utf8_is_valid(const char *text, size_t len);

#endif
