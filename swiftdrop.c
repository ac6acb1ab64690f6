/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * swiftdrop: receives mail over SMTP and drops it into an OpenStack Swift
 * container.  One process serves one connection; systemd, Postfix's spawn(8)
 * or inetd starts it.  main() sets the process up, session.c does the work.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "config.h"
#include "http.h"
#include "log.h"
#include "session.h"

#include "banned.h"

#define CONFIG_FILE  "/etc/swiftdrop.ini"
#define PROBE_OCTETS "28" /* one line and the blank one */

#ifndef __GLIBC__
/* musl has none. */
#define closefrom(fd) (void)syscall(SYS_close_range, fd, ~0U, 0U)
#endif

enum {
	FAULTS_MAX = 64 * 1024, /* octets of all that is wrong */
	ALARM_LATE_S = 20       /* for objects to be deleted, and the log */
};

/* What the command line asks for. */
struct options {
	const char *config_file;
	/* "check", "login", "config", or NULL for a session */
	const char *command;
	int64_t octets; /* of a probe, or -1 */
	char **addresses;
	int naddresses;
};

static const char usage_text[] =
    "Usage: swiftdrop [-c FILE]\n"
    "       swiftdrop [-c FILE] check [--write[=OCTETS]] [ADDRESS...]\n"
    "       swiftdrop [-c FILE] login [ACCOUNT...]\n"
    "       swiftdrop [-c FILE] config\n"
    "       swiftdrop --version | --help\n\n"
    "Serves one SMTP session on descriptors 0 and 1, or on the socket that\n"
    "systemd passes, and stores each message as an object in an OpenStack\n"
    "Swift container.\n\n"
    "  -c, --config=FILE   configuration (default " CONFIG_FILE ")\n"
    "      --write[=OCTETS]  check: store and delete a probe of that size\n"
    "      --help          show this help and exit\n"
    "      --version       show the version and exit\n\n"
    "  check    try the accounts, or those that the addresses route to\n"
    "  login    log in and replace the accounts' token_file\n"
    "  config   print the effective configuration, secrets as ***\n\n"
    "See swiftdrop(8) and swiftdrop.ini(5).\n";

static const char license_text[] =
    "Copyright (C) 2026 the swiftdrop authors\n"
    "License GPLv3+: GNU GPL version 3 or later "
    "<https://gnu.org/licenses/gpl.html>.\n"
    "This is free software: you are free to change and redistribute it.\n"
    "There is NO WARRANTY, to the extent permitted by law.\n";

/* Whether two descriptors are one socket or one pipe. */
static bool
is_same_channel(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 &&
	       (S_ISSOCK(x.st_mode) || S_ISFIFO(x.st_mode)) &&
	       x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/*
 * spawn(8) and inetd hand the client's socket down as descriptor 2 as well:
 * nothing that a library prints may reach it.  Whether 2 is something else.
 */
static bool
protect_stderr(int client)
{
	if (!is_same_channel(client, STDERR_FILENO))
		return true;
	/* What is opened for it, closefrom(3) closes. */
	(void)dup2(open("/dev/null", O_RDWR), STDERR_FILENO);
	return false;
}

/* What protects secrets and costs nothing, however we were started. */
static void
protect_process(void)
{
	struct rlimit none = { 0, 0 };
	int fd;

	/* Descriptors 0 to 2 are open, so that no socket becomes one of them. */
	do
		fd = open("/dev/null", O_RDWR);
	while (fd != -1 && fd <= STDERR_FILENO);
	if (fd != -1)
		(void)close(fd);
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(SWIFTDROP_DUMPABLE)
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
	/* A write to a closed connection or above a file limit is an error. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);
}

static int
usage_error(const char *what, const char *argument)
{
	if (what != NULL)
		(void)fprintf(stderr, "swiftdrop: %s %s\n", what, argument);
	(void)fputs("Try 'swiftdrop --help' for more information.\n", stderr);
	return EX_USAGE;
}

/* The exit status. */
static int
print_version(void)
{
	BUF(libraries, 1024);

	http_libraries(&libraries);
	(void)printf("swiftdrop " VERSION "\n%s\n%s", buf_text(&libraries),
	    license_text);
	return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
}

/* What stands behind the options; returns as parse_options(). */
static int
parse_command(int n, char **words, struct options *o)
{
	if (n > 0) {
		o->command = words[0];
		o->addresses = words + 1;
		o->naddresses = n - 1;
		if (strcmp(o->command, "check") != 0 &&
		    strcmp(o->command, "login") != 0 &&
		    strcmp(o->command, "config") != 0)
			return usage_error("unknown command", o->command);
		if (n > 1 && strcmp(o->command, "config") == 0)
			return usage_error("too many arguments, at", words[1]);
	}
	if (o->octets >= 0 &&
	    (o->command == NULL || strcmp(o->command, "check") != 0))
		return usage_error("only check knows the option", "--write");
	return -1;
}

/* Returns -1 to go on, or an exit status. */
static int
parse_options(int argc, char **argv, struct options *o)
{
	static const struct option names[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "write", optional_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	const char *value;
	char *end;
	int c;

	*o = (struct options){ .config_file = CONFIG_FILE, .octets = -1 };
	while ((c = getopt_long(argc, argv, "c:", names, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config_file = optarg;
			break;
		case 'w':
			value = optarg == NULL ? PROBE_OCTETS : optarg;
			o->octets = strtoll(value, &end, 10);
			if (end == value || *end != '\0' || o->octets < 0)
				return usage_error("no number of octets:",
				    value);
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
		case 'v':
			return print_version();
		default: /* getopt_long(3) has said what is wrong. */
			return usage_error(NULL, NULL);
		}
	}
	return parse_command(argc - optind, argv + optind, o);
}

/* Whether fd is a stream socket with a client, or one that has gone again. */
static bool
is_connection(int fd)
{
	struct sockaddr_storage address;
	int value;
	socklen_t len = sizeof(address), value_len = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &value_len) == -1 ||
	    value != SOCK_STREAM)
		return false;
	if (getpeername(fd, (struct sockaddr *)&address, &len) == 0)
		return true;
	/* A client that has gone leaves an error behind, if not its name. */
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &value_len) == 0 &&
	       value != 0;
}

/*
 * How many connections systemd passes: one, none, or -1 where what it passes
 * is not one.  libsystemd is loaded only where LISTEN_PID is ours: no other
 * session pays for it.
 */
static int
passed_socket(void)
{
	union {
		void *address;
		int (*call)(int unset_environment);
	} listen_fds = { NULL };
	const char *pid = getenv("LISTEN_PID");
	void *library;
	char *end;
	int n;

	if (pid == NULL || strtol(pid, &end, 10) != (long)getpid() ||
	    *end != '\0')
		return 0;
	library = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
	if (library != NULL)
		listen_fds.address = dlsym(library, "sd_listen_fds");
	n = listen_fds.address == NULL ? -1 : listen_fds.call(0);
	return n == 0 || (n == 1 && is_connection(SD_LISTEN_FDS_START)) ? n
									: -1;
}

/*
 * Nothing of the environment is for the libraries: not http_proxy, not
 * SSLKEYLOGFILE, not OPENSSL_CONF.  The time zone is read before it goes.
 * clearenv(3) leaves the values where proc(5) shows them: secrets are wiped.
 */
static void
clear_environment(void)
{
	char **variable;

	tzset();
	for (variable = environ; variable != NULL && *variable != NULL;
	     variable++)
		explicit_bzero(*variable, strlen(*variable));
	(void)clearenv();
}

/* What config.c has to say, a line each; on stderr for a subcommand. */
static void
say_lines(enum log_level level, const struct buf *lines, bool on_stderr)
{
	const char *line;
	int len;

	for (line = buf_text(lines); *line != '\0'; line += len + 1) {
		len = (int)strcspn(line, "\n");
		if (on_stderr)
			log_fault("%.*s", len, line);
		else
			log_text(LOG_CONFIG, level, "%.*s", len, line);
	}
}

static int
serve(const struct options *o, bool stderr_is_free)
{
	BUF(faults, FAULTS_MAX);
	struct config config;
	sigset_t term;
	int passed;

	/* From here on SIGTERM is looked at where it does no harm. */
	(void)sigemptyset(&term);
	(void)sigaddset(&term, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &term, NULL);
	passed = passed_socket();
	if (passed != 0) {
		(void)dup2(SD_LISTEN_FDS_START, STDIN_FILENO);
		(void)dup2(SD_LISTEN_FDS_START, STDOUT_FILENO);
	}
	/* The same, or a client on pipes. */
	stderr_is_free = protect_stderr(STDOUT_FILENO) && stderr_is_free;
	closefrom(STDERR_FILENO + 1);
	log_open("auto", stderr_is_free);
	if (passed == -1) {
		log_text(LOG_CONFIG, LOG_LEVEL_ERROR,
		    "LISTEN_FDS does not pass one connected stream socket; "
		    "set Accept=yes in the .socket unit");
		return EX_CONFIG;
	}
	if (config_load(&config, o->config_file, environ, &faults) == -1) {
		say_lines(LOG_LEVEL_ERROR, &faults, false);
		session_refuse(STDOUT_FILENO);
		config_free(&config);
		return EX_CONFIG;
	}
	log_open(config.smtp.log, stderr_is_free);
	clear_environment();
	say_lines(LOG_LEVEL_WARNING, &config.warnings, false);
	/* A library that waits for itself holds a place here no longer. */
	(void)alarm((unsigned)(config.smtp.session_limit_s +
			       config.smtp.deadline_s + ALARM_LATE_S));
	session_run(&config, STDIN_FILENO, STDOUT_FILENO,
	    signalfd(-1, &term, SFD_CLOEXEC));
	log_close();
	config_free(&config);
	return EX_OK;
}

static int
run_command(const struct options *o, bool stderr_is_free)
{
	BUF(faults, FAULTS_MAX);
	BUF(text, 16 * 1024 * 1024);
	struct config config;
	int status;

	closefrom(STDERR_FILENO + 1);
	log_open("stderr", stderr_is_free);
	if (*log_prefix(STDERR_FILENO, LOG_LEVEL_ERROR) != '\0')
		log_open("journal", stderr_is_free);
	if (config_load(&config, o->config_file, environ, &faults) == -1) {
		say_lines(LOG_LEVEL_ERROR, &faults, true);
		config_free(&config);
		return EX_CONFIG;
	}
	clear_environment();
	say_lines(LOG_LEVEL_WARNING, &config.warnings, false);
	if (strcmp(o->command, "check") == 0) {
		status =
		    check_run(&config, o->octets, o->addresses, o->naddresses);
	} else if (strcmp(o->command, "login") == 0) {
		status = check_login(&config, o->addresses, o->naddresses);
	} else {
		config_print(&config, true, &text);
		(void)fputs(buf_text(&text), stdout);
		status = text.error == 0 ? EX_OK : EX_OSERR;
	}
	config_free(&config);
	return fflush(stdout) == 0 && ferror(stdout) == 0 ? status : EX_IOERR;
}

int
main(int argc, char **argv)
{
	struct options options;
	bool stderr_is_free;
	int status;

	protect_process();
	stderr_is_free = protect_stderr(STDIN_FILENO);
	status = parse_options(argc, argv, &options);
	if (status != -1)
		return status;
	return options.command == NULL ? serve(&options, stderr_is_free)
				       : run_command(&options, stderr_is_free);
}
