/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bounded, growing runs of octets.
 *
 * Every buffer has a limit that it never passes.  A call that fails leaves
 * the contents as they were.  Whatever the buffer holds, data[len] is NUL
 * once anything was added, so that text may be read as a C string; the
 * length counts octets without that NUL.
 */
#ifndef BUF_H
#define BUF_H

#include <stdarg.h>
#include <stddef.h>

struct buf {
	char *data; /* owned; NULL while nothing was ever added */
	size_t len; /* octets in use */
	size_t cap; /* octets allocated */
	size_t max; /* octets that it may hold */
};

/*
 * Makes an empty buffer of at most max octets in the caller's storage.
 * Allocates nothing; buf_free() is needed once something was added.
 */
void buf_init(struct buf *b, size_t max);

/* Wipes and frees the contents; the buffer is empty and may be used again. */
void buf_free(struct buf *b);

/* Empties the buffer and keeps its memory. */
void buf_reset(struct buf *b);

/*
 * Appends len octets at data (copied; must not point into b).  Returns 0, or
 * -1 with errno EMSGSIZE (limit) or ENOMEM.
 */
int buf_add(struct buf *b, const void *data, size_t len);

/* The same for one octet. */
int buf_add_octet(struct buf *b, char octet);

/* The same for a C string, without its NUL. */
int buf_add_text(struct buf *b, const char *text);

/* The same for text formatted as by printf(3). */
int buf_addf(struct buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int buf_vaddf(struct buf *b, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

/* The contents as a C string, "" while empty; borrowed until the next call. */
const char *buf_text(const struct buf *b);

/* Shortens the buffer to len octets (len <= b->len). */
void buf_cut(struct buf *b, size_t len);

#endif
