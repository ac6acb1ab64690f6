/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Questions about text.  Letters are those of US-ASCII, whatever the locale.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* Change the case of a letter and leave every other octet alone. */
char ascii_lower(char c);
char ascii_upper(char c);

/* Whether len octets at text are word, in upper or lower case. */
bool text_is(const char *text, size_t len, const char *word);

/* Whether text begins with prefix, in upper or lower case. */
bool text_begins(const char *text, const char *prefix);

/* Whether an octet, or one of text, is a control character. */
bool is_control(char c);
bool text_has_control(const char *text);

/* Whether len octets of text are all US-ASCII. */
bool text_is_ascii(const char *text, size_t len);

/* The octets of the first character, 0 when it is malformed (RFC 3629 4). */
size_t utf8_length(const char *text, size_t len);

/* Whether len octets of text are well-formed UTF-8 (RFC 3629). */
bool utf8_is_valid(const char *text, size_t len);

#endif
