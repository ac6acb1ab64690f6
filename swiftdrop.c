/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * swiftdrop: receives mail over SMTP and drops it into an OpenStack Swift
 * container.  One process serves one connection; systemd, Postfix's spawn(8)
 * or inetd starts it.  main() sets the process up, session.c does the work.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "config.h"
#include "lazy.h"
#include "log.h"
#include "session.h"

#include "banned.h"

#define CONFIG_FILE "/etc/swiftdrop.ini"

/* What the command line asks for. */
struct options {
	const char *config_file;
	bool check;
	bool config;
	bool write;
	char **addresses;
	int naddresses;
};

static const char usage_text[] =
    "Usage: swiftdrop [-c FILE]\n"
    "       swiftdrop [-c FILE] check [--write] [ADDRESS...]\n"
    "       swiftdrop [-c FILE] config\n"
    "       swiftdrop --version | --help\n"
    "\n"
    "Serves one SMTP session on descriptors 0 and 1, or on the socket that\n"
    "systemd passes, and stores each message as an object in OpenStack "
    "Swift.\n"
    "\n"
    "  -c, --config=FILE   configuration (default " CONFIG_FILE ")\n"
    "      --write         check: also store and delete a probe\n"
    "      --help          show this help and exit\n"
    "      --version       show the version and exit\n"
    "\n"
    "  check    try the accounts, or those that the addresses route to\n"
    "  config   print the effective configuration, secrets as ***\n"
    "\n"
    "See swiftdrop(8) and swiftdrop.ini(5).\n";

static const char version_text[] =
    "swiftdrop " VERSION "\n"
    "Copyright (C) 2026 the swiftdrop authors\n"
    "License GPLv3+: GNU GPL version 3 or later "
    "<https://gnu.org/licenses/gpl.html>.\n"
    "This is free software: you are free to change and redistribute it.\n"
    "There is NO WARRANTY, to the extent permitted by law.\n";

static bool protect_stderr(void);
static bool is_same_channel(int a, int b);
static void silence_stderr(void);
static void protect_process(void);
static int parse_options(int argc, char **argv, struct options *o);
static int usage_error(const char *what, const char *argument);
static int take_socket(int *in, int *out, bool *stderr_is_free);
static bool was_connected(int fd);
static int serve(const struct options *o, bool stderr_is_free);
static int show_config(const struct config *config);
static void log_warnings(const struct config *config);
static void clear_environment(void);

int
main(int argc, char **argv)
{
	struct options options;
	struct config config;
	struct buf error;
	bool stderr_is_free;
	int status;

	stderr_is_free = protect_stderr();
	protect_process();
	status = parse_options(argc, argv, &options);
	if (status != -1)
		return status;
	if (!options.check && !options.config)
		return serve(&options, stderr_is_free);
	closefrom(STDERR_FILENO + 1);
	log_open("stderr", stderr_is_free);
	buf_init(&error, LOG_LINE_MAX);
	if (config_load(&config, options.config_file, &error) == -1) {
		log_fault("%s", buf_text(&error));
		status = EX_CONFIG;
	} else {
		clear_environment();
		log_warnings(&config);
		status = options.config
			     ? show_config(&config)
			     : check_run(&config, options.write,
				   options.addresses, options.naddresses);
	}
	config_free(&config);
	buf_free(&error);
	if (fflush(stdout) != 0 || ferror(stdout) != 0)
		status = EX_IOERR;
	return status;
}

/*
 * spawn(8) and inetd hand the client's socket down as descriptor 2 as well:
 * nothing that a library prints may reach it.  Returns whether descriptor 2
 * is something else and may be written to.  Descriptors 0 to 2 are open
 * afterwards, so that no socket of ours ever becomes one of them.  Descriptor 1
 * may be the same as 2 for a subcommand (the journal, a pipe): see serve().
 */
static bool
protect_stderr(void)
{
	int fd, null;

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) == -1 && null != -1)
			(void)dup2(null, fd);
	if (null > STDERR_FILENO)
		(void)close(null);
	if (!is_same_channel(STDIN_FILENO, STDERR_FILENO))
		return true;
	silence_stderr();
	return false;
}

/* Whether two descriptors are one socket or one pipe. */
static bool
is_same_channel(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 &&
	       (S_ISSOCK(x.st_mode) || S_ISFIFO(x.st_mode)) &&
	       x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void
silence_stderr(void)
{
	int null;

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null == -1)
		return;
	(void)dup2(null, STDERR_FILENO);
	(void)close(null);
}

/* What protects secrets and costs nothing, however we were started. */
static void
protect_process(void)
{
	struct rlimit none = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(SWIFTDROP_DUMPABLE)
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
	/* A write to a closed connection or above a file limit is an error. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);
}

/* Returns -1 to go on, or an exit status. */
static int
parse_options(int argc, char **argv, struct options *o)
{
	static const struct option names[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "write", no_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*o = (struct options){ .config_file = CONFIG_FILE };
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":c:", names, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config_file = optarg;
			break;
		case 'w':
			o->write = true;
			break;
		case 'h':
		case 'v':
			(void)fputs(c == 'h' ? usage_text : version_text,
			    stdout);
			return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
		case ':':
			return usage_error("an argument is missing after",
			    argv[optind - 1]);
		default:
			return usage_error("unknown option", argv[optind - 1]);
		}
	}
	if (optind < argc) {
		o->check = strcmp(argv[optind], "check") == 0;
		o->config = strcmp(argv[optind], "config") == 0;
		if (!o->check && !o->config)
			return usage_error("unknown command", argv[optind]);
		o->addresses = argv + optind + 1;
		o->naddresses = argc - optind - 1;
		if (o->config && o->naddresses > 0)
			return usage_error("too many arguments, at",
			    o->addresses[0]);
	}
	if (o->write && !o->check)
		return usage_error("only check knows the option", "--write");
	return -1;
}

static int
usage_error(const char *what, const char *argument)
{
	(void)fprintf(stderr,
	    "swiftdrop: %s %s\nTry 'swiftdrop --help' for more information.\n",
	    what, argument);
	return EX_USAGE;
}

static int
serve(const struct options *o, bool stderr_is_free)
{
	struct config config;
	struct buf error;
	sigset_t set;
	int in, out, result, status;

	/* From here on SIGTERM is looked at where it does no harm. */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	/* A client on pipes. */
	if (is_same_channel(STDOUT_FILENO, STDERR_FILENO)) {
		silence_stderr();
		stderr_is_free = false;
	}
	result = take_socket(&in, &out, &stderr_is_free);
	buf_init(&error, LOG_LINE_MAX);
	log_open("auto", stderr_is_free);
	status = EX_CONFIG;
	if (result == -1) {
		log_text(LOG_CONFIG, LOG_LEVEL_ERROR,
		    "LISTEN_FDS does not pass one connected stream socket; "
		    "set Accept=yes in the .socket unit");
	} else if (config_load(&config, o->config_file, &error) == -1) {
		log_text(LOG_CONFIG, LOG_LEVEL_ERROR, "%s", buf_text(&error));
		session_refuse(out);
	} else {
		log_open(config.smtp.log, stderr_is_free);
		clear_environment();
		log_warnings(&config);
		session_run(&config, in, out);
		status = EX_OK;
	}
	if (result == 0)
		config_free(&config);
	buf_free(&error);
	log_close();
	return status;
}

/*
 * Finds the client and closes what else was handed down.  Returns -1 when
 * systemd passes something that is not one connection; sd_listen_fds(3).
 */
static int
take_socket(int *in, int *out, bool *stderr_is_free)
{
	const char *pid;
	char *end;
	int i, n;

	pid = getenv("LISTEN_PID");
	*in = STDIN_FILENO;
	*out = STDOUT_FILENO;
	n = 0;
	/* Asked here first: a session without needs no libsystemd. */
	if (pid != NULL && getenv("LISTEN_FDS") != NULL &&
	    strtol(pid, &end, 10) == (long)getpid() && *end == '\0')
		n = lazy_load(LAZY_SYSTEMD) == 0 ? sd_listen_fds(1) : -1;
	if (n == 0) {
		closefrom(STDERR_FILENO + 1);
		return 0;
	}
	for (i = 0; i < (n > 0 ? n : 1); i++) {
		if (is_same_channel(SD_LISTEN_FDS_START + i, STDERR_FILENO)) {
			*stderr_is_free = false;
			silence_stderr();
		}
	}
	if (n != 1 ||
	    sd_is_socket(SD_LISTEN_FDS_START, AF_UNSPEC, SOCK_STREAM, 0) <= 0 ||
	    !was_connected(SD_LISTEN_FDS_START))
		return -1;
	*in = *out = SD_LISTEN_FDS_START;
	closefrom(SD_LISTEN_FDS_START + 1);
	return 0;
}

/* A client that has gone already leaves an error behind, if not its name. */
static bool
was_connected(int fd)
{
	struct sockaddr_storage address;
	socklen_t len;
	int error;

	len = sizeof(address);
	if (getpeername(fd, (struct sockaddr *)&address, &len) == 0)
		return true;
	error = 0;
	len = sizeof(error);
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
	       error != 0;
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

static void
log_warnings(const struct config *config)
{
	const char *line, *next;

	for (line = buf_text(&config->warnings); *line != '\0';
	     line = next + 1) {
		next = strchr(line, '\n');
		log_text(LOG_CONFIG, LOG_LEVEL_WARNING, "%.*s",
		    (int)(next - line), line);
	}
}

static int
show_config(const struct config *config)
{
	struct buf text;
	int result;

	buf_init(&text, 16 * 1024 * 1024);
	result = config_print(config, &text);
	if (result == 0)
		(void)fputs(buf_text(&text), stdout);
	buf_free(&text);
	return result == 0 ? EX_OK : EX_OSERR;
}
