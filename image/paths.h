/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where things are in the image, and whose.
 */
#ifndef PATHS_H
#define PATHS_H

#define RUN_DIR     "/run/swiftdrop"
#define CONFIG_DIR  RUN_DIR "/postfix"
#define INI_PATH    RUN_DIR "/swiftdrop.ini"
#define HEALTH_PATH RUN_DIR "/health"
#define CHAIN_PATH  RUN_DIR "/tls/chain.pem"
#define LOG_DIR     RUN_DIR "/log"
#define LOG_PATH    LOG_DIR "/socket"
#define TOKEN_DIR   RUN_DIR "/token"
#define QUEUE_DIR   "/var/spool/postfix"
#define SPOOL_DIR   QUEUE_DIR "/swiftdrop"
#define PASS_SOCKET QUEUE_DIR "/private/smtpd"

/* Of the server that image/master.cf has for our own mail. */
#define ERRORMAIL_SOCKET QUEUE_DIR "/private/errormail"

#define SHARE_DIR   "/usr/share/swiftdrop"
#define FILTER_PATH "/usr/sbin/swiftdrop"

/* The numbers that image/collect gives the users; each has such a group. */
enum {
	POSTFIX_ID = 900,
	FILTER_ID = 901
};

#endif
