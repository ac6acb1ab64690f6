/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the container was told, checked: the variables turned into values
 * that fit each other.  No file is written and nothing is run here.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "environment.h"
#include "list.h"

/* An address whose mail goes elsewhere, or to another address of ours. */
struct forward {
	char *address; /* owned; as an address_key() */
	struct list targets;
};

struct settings {
	struct environment environment;
	const char *myhostname;   /* borrowed from environment */
	const char *mydomain;     /* borrowed from environment */
	char *postmaster;         /* owned; NULL where not set */
	struct list recipients;   /* stored; as address_key(), or "@domain" */
	struct forward *forwards; /* owned; in their order */
	size_t nforwards;
	struct list domains; /* of recipients and forwards, and our own */
	struct forward *postmasters; /* owned; postmaster@ of our domains */
	size_t npostmasters;
	bool proxy; /* a PROXY protocol header comes first */
	bool debug;
	bool check_is_fatal;
	int64_t message_size_limit; /* octets */
	int64_t max_processes;
	int64_t drain_timeout_s;
	const char *tls_cert_file; /* borrowed; NULL for a self-signed one */
	const char *tls_key_file;  /* borrowed */
	const char *recipient_delimiter; /* borrowed; "" for none */
	struct list smtp;     /* "key = value" of swiftdrop.ini's [SMTP] */
	struct config config; /* as swiftdrop will read it */
};

/*
 * Takes over and checks the variables of environment (as environ(7)).  Each
 * fault is a line in *faults, each thing worth a look but no fault a line in
 * *warnings.  parameters are the names that Postfix knows, a line each
 * (borrowed); "" knows all.  environ(7) is replaced while this runs, for
 * config_load().  Returns 0, also when there are faults, or -1 with errno
 * ENOMEM.  settings_free() is needed in every case.
 */
int settings_load(struct settings *s, char *const *environment,
    environment_read_fn *read_file, const char *parameters, struct buf *faults,
    struct buf *warnings);

/* Wipes and frees all. */
void settings_free(struct settings *s);

/* The value of a main.cf parameter given by POSTFIX_parameter, or NULL. */
const char *settings_parameter(const struct settings *s, const char *name);

#endif
