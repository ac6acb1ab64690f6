/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Libraries that are loaded at first use.
 *
 * Debian's libcurl brings 31 libraries and costs 7 ms of every process,
 * libcrypto and libsystemd some more; a session greets, refuses and logs
 * without them.  lazy.c defines the functions of these libraries that the
 * program calls and passes each call on; the rest of the program is written
 * and type-checked against the libraries' own headers.  A build that links
 * them directly (make LINK=direct) leaves lazy.c out.
 */
#ifndef LAZY_H
#define LAZY_H

enum lazy_library {
	LAZY_CURL,
	LAZY_CRYPTO,
	LAZY_SYSTEMD
};

/*
 * Loads a library; calling it again costs nothing.  Returns 0, or -1 when the
 * library or one of the functions is missing; lazy_error() then says why.
 * Must succeed before a function of the library is called.
 */
#ifdef LINK_DIRECT
#define lazy_load(library) ((void)(library), 0)
#define lazy_error()       "linked in"
#else
int lazy_load(enum lazy_library which);

/* What the dynamic linker said of the newest failure; borrowed. */
const char *lazy_error(void);
#endif

#endif
