/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the container was told: the variables turned into values, each of them
 * checked by itself.  No file is written and nothing is run here.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "environment.h"
#include "table.h"

struct settings {
	struct environment environment;
	const char *myhostname;  /* borrowed from environment */
	const char *mydomain;    /* borrowed from environment */
	struct buf postmaster;   /* as an address_key(); empty where not set */
	struct buf errormail;    /* the same */
	struct table recipients; /* stored; as address_key(), or "@domain" */
	struct table forwards;   /* their targets, with ", " between them */
	bool proxy;              /* a PROXY protocol header comes first */
	bool debug;
	bool json; /* each line of the log */
	bool check_is_fatal;
	bool is_partial; /* a list could not be read at all; was told */
	int64_t message_size_limit; /* octets */
	int64_t max_processes;      /* swiftdrops at once */
	int64_t max_servers; /* smtpd(8) at once, and of each other kind */
	int64_t drain_timeout_s;
	int64_t login_interval_s;  /* 0: each mail logs in by itself */
	const char *tls_cert_file; /* borrowed; NULL for a self-signed one */
	const char *tls_key_file;  /* borrowed */
	const char *recipient_delimiter; /* borrowed; "" for none */

	/* What agree() adds. */
	struct table domains; /* of recipients and forwards, and our own */
	struct config config; /* as swiftdrop will read it */
	const char *errormail_account; /* that stores its mail, or NULL */
};

/*
 * Takes over and checks the variables of environment (as environ(7)).  Each
 * fault is a line in *faults.  parameters are the names that Postfix knows, LF
 * before and behind each of them (borrowed).  settings_free() is needed in
 * every case.
 */
void settings_load(struct settings *s, char *const *environment,
    const char *parameters, struct buf *faults, struct buf *warnings);

/* Wipes and frees all. */
void settings_free(struct settings *s);

#endif
