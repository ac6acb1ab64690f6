/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Puts the server's certificate where Postfix reads it.
 */
#include <errno.h>
#include <string.h>

#include "files.h"
#include "logs.h"
#include "postconf.h"
#include "tls.h"

#include "banned.h"

enum {
	CHAIN_MAX = 600 * 1024 /* octets; key and chain */
};

static void say_end(const struct certificate *c, int days);

int
tls_install(struct certificate *c, const char *hostname, struct buf *reason)
{
	struct buf chain;
	int days, result;

	days = 0;
	buf_init(&chain, CHAIN_MAX);
	result = c->cert_file == NULL
		     ? certificate_make(hostname, &chain, reason)
		     : certificate_load(c, &chain, &days, reason);
	if (result == 0 && files_write(CHAIN_PATH, 0600, 0, &chain) == -1) {
		(void)buf_addf(reason, "%s: %s", CHAIN_PATH, strerror(errno));
		result = -1;
	}
	buf_free(&chain);
	if (result == -1)
		return -1;
	if (c->cert_file != NULL)
		say_end(c, days);
	else
		logs_say("warning: TLS_CERT_FILE: is not set, a self-signed "
			 "certificate serves for TLS");
	return 0;
}

static void
say_end(const struct certificate *c, int days)
{
	if (days < 0)
		logs_say("error: TLS_CERT_FILE: %s has expired", c->cert_file);
	else if (days <= CERTIFICATE_WARN_DAYS)
		logs_say("warning: TLS_CERT_FILE: %s expires in %d days",
		    c->cert_file, days);
}
