/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The life of the container.  One loop passes logs on, reaps children and
 * hears signals; what is waited for differs.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "files.h"
#include "paths.h"
#include "sessions.h"
#include "supervise.h"

#include "banned.h"

enum {
	RENEW_MS = 10000,        /* between looks at what may be renewed */
	DRAIN_MS = 200,          /* between looks at running sessions */
	MASTER_MS = 10000,       /* for master(8) to end after SIGTERM */
	OUTPUT_MAX = 1024 * 1024 /* octets that a child may say */
};

/* What children inherit: nothing of what may hold a secret. */
static char *clean_environment[] = { (char[]){ "PATH=/usr/sbin:/usr/bin" },
	(char[]){ "LANG=C" }, NULL, NULL };

void
supervise_exec_filter(char *const *arguments)
{
	if (files_become(FILTER_ID) == 0)
		(void)execve(FILTER_PATH, arguments, clean_environment);
}

/* output, unless -1, takes what the child says. */
static pid_t
start(struct supervisor *v, char *const *arguments, bool as_filter, int output)
{
	pid_t pid;

	pid = fork();
	if (pid == -1) {
		logs_say("fork: %s", strerror(errno));
		(void)close(output);
	}
	if (pid != 0)
		return pid;
	(void)sigprocmask(SIG_SETMASK, &v->inherited, NULL);
	if (output != -1 && (dup2(output, STDOUT_FILENO) == -1 ||
				dup2(output, STDERR_FILENO) == -1))
		_exit(EX_OSERR);
	if (!as_filter)
		(void)execve(arguments[0], arguments, clean_environment);
	else
		supervise_exec_filter(arguments);
	logs_say("%s: %s", arguments[0], strerror(errno));
	_exit(EX_OSERR);
}

/*
 * Starts "swiftdrop login", unless it still runs: sessions take the tokens
 * from files.
 */
static void
log_in(struct supervisor *v)
{
	char *arguments[] = { (char[]){ FILTER_PATH }, (char[]){ "login" },
		NULL };

	if (v->settings->login_interval_s == 0 || v->login > 0)
		return;
	v->login_ms = clock_ms() + v->settings->login_interval_s * 1000;
	v->login_output = memfd_create("login", MFD_CLOEXEC);
	v->login = start(v, arguments, true, v->login_output);
}

/* Appends what was said to an output of start(), and closes it. */
static void
take_output(int output, struct buf *said)
{
	BUF(path, 64);

	buf_addf(&path, "/proc/self/fd/%d", output);
	(void)file_read(buf_text(&path), said, NULL);
	(void)close(output);
}

/*
 * The login ended: says which accounts failed, unless the same ones failed in
 * the same way before.  What a reason is worded like does not count.
 */
static void
end_login(struct supervisor *v, int status)
{
	BUF(said, OUTPUT_MAX);
	BUF(lines, OUTPUT_MAX);
	BUF(failed, OUTPUT_MAX);
	char *line, *reason, *rest;

	take_output(v->login_output, &said);
	if (said.len == 0)
		buf_addf(&said, "wait status %d\n", status);
	for (rest = said.data; (line = strsep(&rest, "\n")) != NULL;) {
		if (status == 0 || *line == '\0' ||
		    strstr(line, ": ok, ") != NULL)
			continue;
		buf_addf(&lines, "%s\n", line);
		reason = strstr(line, ", reason=");
		if (reason != NULL)
			*reason = '\0';
		buf_addf(&failed, "%s\n", line);
	}
	if (failed.len == 0 && v->login_told.len > 0)
		logs_say("all accounts log in again");
	if (strcmp(buf_text(&failed), buf_text(&v->login_told)) != 0)
		logs_say_lines("warning: login", &lines);
	buf_reset(&v->login_told);
	buf_adds(&v->login_told, buf_text(&failed));
}

/* Ours and everybody's orphans: we are PID 1. */
static void
reap(struct supervisor *v)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == v->child) {
			v->child = 0;
			v->status = status;
		} else if (pid == v->listener.pid) {
			v->listener.pid = 0;
		} else if (pid == v->login) {
			v->login = 0;
			end_login(v, status);
		}
	}
	/* Without a port there is no use in going on. */
	if (v->listener.pid == 0 && v->listener.control != -1 && !v->stop) {
		logs_say("error: the listener of port 25 ended");
		v->failed = true;
		v->stop = true;
	}
}

static void
take_signals(struct supervisor *v)
{
	struct signalfd_siginfo info;

	while (read(v->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(v);
		else
			v->stop = true;
	}
}

/* Waits at most timeout_ms (-1 for ever) for something and deals with it. */
static void
turn(struct supervisor *v, int timeout_ms)
{
	struct pollfd fds[LOGS_SOCKETS + 1];
	enum logs_source i;

	for (i = 0; i < LOGS_SOCKETS; i++)
		fds[i] = (struct pollfd){ v->logs[i], POLLIN, 0 };
	fds[LOGS_SOCKETS] = (struct pollfd){ v->signals, POLLIN, 0 };
	if (poll(fds, LOGS_SOCKETS + 1, timeout_ms) > 0) {
		for (i = 0; i < LOGS_SOCKETS; i++)
			if ((fds[i].revents & POLLIN) != 0)
				(void)logs_pass_on(fds[i].fd, i);
		if ((fds[LOGS_SOCKETS].revents & POLLIN) != 0)
			take_signals(v);
	}
}

/*
 * Goes on for so long, until v->child ends or it is time to stop; whether the
 * child still runs.
 */
static bool
wait_for(struct supervisor *v, int64_t ms)
{
	const int64_t deadline_ms = clock_ms() + ms;
	const bool stop = v->stop;

	while (
	    v->child != 0 && v->stop == stop && clock_left_ms(deadline_ms) > 0)
		turn(v, clock_left_ms(deadline_ms));
	return v->child != 0;
}

int
supervise_init(struct supervisor *v)
{
	sigset_t set;
	const char *tz = getenv("TZ");

	if (tz != NULL && asprintf(&clean_environment[2], "TZ=%s", tz) == -1)
		return -1;
	v->login_told.max = OUTPUT_MAX;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, &v->inherited) == -1)
		return -1;
	/* Where we are not PID 1, orphans come to us all the same. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	v->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return v->signals == -1 ? -1 : 0;
}

int
supervise_check(struct supervisor *v)
{
	BUF(said, OUTPUT_MAX);
	int output;
	char *arguments[] = { (char[]){ FILTER_PATH }, (char[]){ "check" },
		NULL };

	/* Before, so that the check needs no token of its own. */
	log_in(v);
	while (!v->stop && v->login > 0)
		turn(v, -1);
	output = memfd_create("check", MFD_CLOEXEC);
	v->child = start(v, arguments, true, output);
	if (v->child == -1)
		return -1;
	while (!v->stop && v->child != 0)
		turn(v, -1);
	take_output(output, &said);
	logs_say_lines("check", &said);
	return !v->stop && WIFEXITED(v->status) && WEXITSTATUS(v->status) == 0
		   ? 0
		   : -1;
}

/*
 * Until somebody ends it.  On SIGHUP master(8) lets idle servers end and busy
 * ones finish; their successors read the new files.
 */
static void
serve(struct supervisor *v)
{
	while (wait_for(v, RENEW_MS) && !v->stop) {
		if (v->refresh()) {
			logs_say("the changed settings are in use");
			(void)kill(v->child, SIGHUP);
			v->login_ms = 0;
		}
		if (clock_left_ms(v->login_ms) == 0)
			log_in(v);
		errormail_tell(&v->errormail);
	}
}

/* Closes the port, waits for what runs, ends Postfix. */
static void
drain(struct supervisor *v)
{
	int64_t deadline_ms;
	size_t n;

	listener_close(&v->listener);
	/* It would count as a session.  We lack the capability KILL. */
	if (v->login > 0 && seteuid(FILTER_ID) == 0) {
		(void)kill(v->login, SIGKILL);
		if (seteuid(0) == -1)
			logs_say("error: user: %s", strerror(errno));
	}
	deadline_ms = clock_ms() + v->settings->drain_timeout_s * 1000;
	n = sessions_count();
	logs_say("port 25 is closed, %zu sessions running", n);
	while (n > 0 && v->child != 0 && clock_left_ms(deadline_ms) > 0) {
		(void)wait_for(v, DRAIN_MS);
		n = sessions_count();
	}
	if (n > 0)
		logs_say("warning: %zu sessions are cut after %lld s "
			 "(DRAIN_TIMEOUT)",
		    n, (long long)v->settings->drain_timeout_s);
	if (v->child != 0)
		(void)kill(v->child, SIGTERM);
	if (wait_for(v, MASTER_MS)) {
		logs_say("warning: master(8) does not end");
		(void)kill(v->child, SIGKILL);
		(void)wait_for(v, MASTER_MS);
	}
}

static int
end_status(const struct supervisor *v)
{
	const bool exited = WIFEXITED(v->status);
	const int n = exited ? WEXITSTATUS(v->status) : WTERMSIG(v->status);

	if (v->stop)
		return v->failed ? EX_SOFTWARE : EX_OK;
	logs_say("error: master(8) %s %d",
	    exited ? "ended with status" : "was killed by signal", n);
	return exited && n != 0 ? n : EX_SOFTWARE;
}

int
supervise_run(struct supervisor *v)
{
	char *arguments[] = { (char[]){ "/usr/lib/postfix/sbin/master" },
		(char[]){ "-c" }, (char[]){ CONFIG_DIR }, NULL };

	v->child = start(v, arguments, false, -1);
	if (v->child == -1)
		return EX_OSERR;
	if (listener_start(&v->listener) == -1) {
		logs_say("error: listener: %s", strerror(errno));
		v->failed = true;
		v->stop = true;
	}
	serve(v);
	if (v->child != 0)
		drain(v);
	listener_close(&v->listener);
	while (logs_pass_on(v->logs[LOGS_POSTFIX], LOGS_POSTFIX))
		;
	return end_status(v);
}
