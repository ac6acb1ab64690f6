/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The life of the container after its configuration: swiftdrop's check,
 * Postfix, the public port, and the end of all of them.
 */
#ifndef SUPERVISE_H
#define SUPERVISE_H

#include <signal.h>
#include <stdbool.h>

#include "errormail.h"
#include "listener.h"
#include "logs.h"
#include "settings.h"

struct supervisor {
	/* Takes changed files of the settings; whether Postfix must know. */
	bool (*refresh)(void);
	const struct settings *settings; /* borrowed */
	int logs[LOGS_SOCKETS];          /* owned */
	struct listener listener;
	struct errormail errormail;
	sigset_t inherited; /* signals blocked before we were */
	int signals;        /* owned; signalfd(2) of SIGTERM, SIGINT, SIGCHLD */
	pid_t child;        /* that supervise_wait() waits for */
	int status;         /* of that child, as of wait(2) */
	pid_t login;        /* of "swiftdrop login" while it runs, or 0 */
	int login_output;   /* owned while it runs; what it says */
	int64_t login_ms;   /* when it is to run again */
	struct buf login_told; /* which accounts failed last, and how */
	bool stop;             /* SIGTERM came */
	bool failed;           /* we stop for a fault of our own */
};

/*
 * Takes the signals over.  Everything before must have gone well.  Returns 0,
 * or -1 with errno.
 */
int supervise_init(struct supervisor *v);

/*
 * Logs in for every account, then runs swiftdrop's check of them as the
 * filter's user and logs what it says.  Returns 0, or -1 when an account
 * failed the check.
 */
int supervise_check(struct supervisor *v);

/*
 * Starts Postfix, opens the port, passes logs on, renews settings and logins until master(8) ends or SIGTERM comes; then closes the port, lets
 * running sessions finish and stops master(8).  Returns the container's exit
 * status.
 */
int supervise_run(struct supervisor *v);

/*
 * Runs swiftdrop with these arguments (the first is its name) in this process'
 * place, as the filter's user and in a clean environment.  Returns only when
 * that fails, with errno.
 */
void supervise_exec_filter(char *const *arguments);

#endif
