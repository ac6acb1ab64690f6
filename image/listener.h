/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The public port.  Postfix's master(8) cannot close a port and let the
 * sessions that came by it go on: it ends their servers.  So the port belongs
 * to a process of our own, which hands each connection to smtpd(8) the way
 * postscreen(8) does (a "pass" service of master.cf), and to close the port
 * is to end that process.
 */
#ifndef LISTENER_H
#define LISTENER_H

#include <sys/types.h>

#include "buf.h"

enum {
	LISTENER_SOCKETS = 2 /* IPv4 and IPv6 */
};

struct listener {
	int sockets[LISTENER_SOCKETS]; /* owned; bound; -1 for none */
	int control;                   /* owned; closing it ends the process */
	pid_t pid;
};

/*
 * Binds the port on all addresses of a family, or AF_UNSPEC; connections are
 * still refused.  Faults are lines in *faults.  The sockets must be -1 before,
 * and listener_close() is needed in every case.
 */
void listener_bind(struct listener *l, int family, struct buf *faults);

/*
 * Starts the process, which opens the port once Postfix's socket is there.
 * The parent's copies of the sockets are closed.  Returns 0, or -1 with errno.
 */
int listener_start(struct listener *l);

/* Tells the process to close the port and to end. */
void listener_close(struct listener *l);

#endif
