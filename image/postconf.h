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

/* Where things are in the image. */
#define RUN_DIR     "/run/swiftdrop"
#define CONFIG_DIR  RUN_DIR "/postfix"
#define INI_PATH    RUN_DIR "/swiftdrop.ini"
#define CHAIN_PATH  RUN_DIR "/tls/chain.pem"
#define LOG_PATH    RUN_DIR "/log/socket"
#define QUEUE_DIR   "/var/spool/postfix"
#define SPOOL_DIR   QUEUE_DIR "/swiftdrop"
#define SHARE_DIR   "/usr/share/swiftdrop"
#define FILTER_PATH "/usr/sbin/swiftdrop"
#define FILTER_USER "swiftdrop"
#define PASS_SOCKET QUEUE_DIR "/private/smtpd"

/*
 * Each appends its text to *out and returns 0, or -1 with errno: ENOMEM,
 * EMSGSIZE, or EINVAL when the text of postfix/ (main, master; borrowed) is
 * not as expected.
 */
int postconf_main(const struct settings *s, const char *main, struct buf *out);
int postconf_master(const struct settings *s, const char *master,
    struct buf *out);
int postconf_domains(const struct settings *s, struct buf *out);
int postconf_recipients(const struct settings *s, struct buf *out);
int postconf_forwards(const struct settings *s, struct buf *out);
int postconf_ini(const struct settings *s, struct buf *out);

#endif
