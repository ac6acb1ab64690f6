/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Puts the server's certificate where Postfix reads it.
 */
#ifndef TLS_H
#define TLS_H

#include "buf.h"
#include "certificate.h"

/*
 * Writes the certificate of c, or one made for the host where c names no
 * files, to CHAIN_PATH, and logs what is to be said about it: that it is
 * self-signed, or ends soon.  Returns 0, or -1 with the reason appended to
 * *reason; the file is then as it was.
 */
int tls_install(struct certificate *c, const char *hostname,
    struct buf *reason);

#endif
