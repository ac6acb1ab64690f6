/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The texts that Postfix and swiftdrop read: main.cf, master.cf, the tables
 * and swiftdrop.ini, made from the settings and from the project's own pair
 * for a host (the folder postfix/).  Writes no file itself.
 */
#ifndef POSTCONF_H
#define POSTCONF_H

#include "buf.h"
#include "settings.h"

/*
 * Each appends its text to *out; base is what the file of that name holds in
 * postfix/ (borrowed; "" where there is none).  Failures are in out->error,
 * EINVAL when base is not as expected.
 */
typedef void postconf_fn(const struct settings *s, const char *base,
    struct buf *out);

postconf_fn postconf_main;
postconf_fn postconf_master;
postconf_fn postconf_domains;
postconf_fn postconf_recipients;
postconf_fn postconf_forwards;
postconf_fn postconf_ini;

#endif
