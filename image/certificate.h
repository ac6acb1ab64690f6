/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's certificate: a mounted pair that is checked before Postfix
 * sees it, or one made here.
 */
#ifndef CERTIFICATE_H
#define CERTIFICATE_H

#include <stdbool.h>

#include "buf.h"
#include "settings.h"

/*
 * Writes key and chain of the settings' files to CHAIN_PATH (for Postfix's
 * smtpd_tls_chain_files) where it holds others, or where it is not there and
 * there are no files, a pair made for the host and signed by itself; whether
 * it did.  Logs that it is self-signed and, once a day, that it has ended or
 * soon will.  A fault is a line in *faults (a file that cannot be read, no
 * PEM, a key that is not the certificate's); CHAIN_PATH is then as it was.
 */
bool certificate_install(const struct settings *s, struct buf *faults);

#endif
