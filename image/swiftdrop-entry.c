/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The entry point of the image: configures Postfix and swiftdrop by the
 * environment, starts them and stays with them as PID 1.
 *
 *	swiftdrop-entry			runs the container
 *	swiftdrop-entry health		probe: would mail be accepted?
 *	swiftdrop-entry check [...]	"swiftdrop check" as the filter's user
 */
#include <sys/stat.h>

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "agree.h"
#include "certificate.h"
#include "file.h"
#include "files.h"
#include "health.h"
#include "paths.h"
#include "postconf.h"
#include "stream.h"
#include "supervise.h"
#include "text.h"

#include "banned.h"

enum {
	FAULTS_MAX = 256 * 1024,     /* octets of a list of faults */
	TEXT_MAX = 16 * 1024 * 1024, /* octets of a file made here */
	BUNDLE_MAX_AGE = 365 * 86400 /* seconds */
};

/* The files that Postfix, swiftdrop and the probe read; see postconf.h. */
static const struct {
	postconf_fn *make;
	const char *base; /* NULL for none */
	const char *path;
} texts[] = {
	{ postconf_main, SHARE_DIR "/main.cf", CONFIG_DIR "/main.cf" },
	{ postconf_master, SHARE_DIR "/master.cf", CONFIG_DIR "/master.cf" },
	{ postconf_domains, NULL, CONFIG_DIR "/domains" },
	{ postconf_recipients, NULL, CONFIG_DIR "/recipients" },
	{ postconf_forwards, NULL, CONFIG_DIR "/forwards" },
	{ postconf_ini, NULL, INI_PATH },
	{ health_describe, NULL, HEALTH_PATH },
};

static void
prepare_run_dir(struct buf *faults)
{
	static const char *const folders[] = { RUN_DIR, CONFIG_DIR,
		RUN_DIR "/tls" };
	size_t i;

	for (i = 0; i < COUNT(folders); i++) {
		if ((mkdir(folders[i], 0755) == -1 && errno != EEXIST) ||
		    chmod(folders[i], 0755) == -1) {
			environment_fault(faults, folders[i],
			    "%s; mount a tmpfs at " RUN_DIR, strerror(errno));
			return;
		}
	}
	(void)unlink(CHAIN_PATH);
	if (files_make_shared(TOKEN_DIR, 0770) == -1)
		environment_fault(faults, TOKEN_DIR, "%s", strerror(errno));
	if (!files_is_memory(RUN_DIR))
		logs_say("warning: " RUN_DIR ": is no tmpfs, secrets lie on a "
			 "disk");
}

/* Writes those that are not there as they should be; whether any. */
static bool
write_texts(const struct settings *s, struct buf *faults)
{
	bool changed = false, secret;
	size_t i;

	for (i = 0; i < COUNT(texts); i++) {
		BUF(base, TEXT_MAX);
		BUF(old, TEXT_MAX);
		BUF(text, TEXT_MAX);

		secret = texts[i].make == postconf_ini;
		if (texts[i].base != NULL &&
		    file_read(texts[i].base, &base, NULL) == -1) {
			environment_fault(faults, texts[i].base, "%s",
			    strerror(errno));
			continue;
		}
		texts[i].make(s, buf_text(&base), &text);
		if (text.error == 0 &&
		    file_read(texts[i].path, &old, NULL) == 0 &&
		    strcmp(buf_text(&old), buf_text(&text)) == 0)
			continue;
		changed = true;
		if (files_write(texts[i].path, secret ? 0640 : 0644,
			secret ? FILTER_ID : 0, &text) == -1)
			environment_fault(faults, texts[i].path, "%s",
			    strerror(errno));
	}
	return changed;
}

/* Reads and checks all settings; they are the caller's to free. */
static void
load(struct settings *s, struct buf *warnings, struct buf *faults)
{
	BUF(parameters, TEXT_MAX);

	buf_addc(&parameters, '\n');
	if (file_read(SHARE_DIR "/postfix-parameters", &parameters, NULL) == -1)
		environment_fault(faults, "image", "is damaged");
	settings_load(s, environ, buf_text(&parameters), faults, warnings);
	agree(s, faults, warnings);
}

static bool
is_good(const struct buf *faults)
{
	return faults->len == 0 && faults->error == 0;
}

/*
 * Writes what has changed, unless something is wrong or swiftdrop.ini would
 * not say what was checked; whether it did.
 */
static bool
install(const struct settings *s, struct buf *faults)
{
	static const char path[] = INI_PATH ".check";
	BUF(text, TEXT_MAX);

	if (!is_good(faults))
		return false;
	postconf_ini(s, "", &text);
	if (files_write(path, 0600, 0, &text) == -1)
		environment_fault(faults, path, "%s", strerror(errno));
	else
		agree_read_back(s, path, faults);
	(void)unlink(path);
	return is_good(faults) && write_texts(s, faults);
}

static void
say_faults(const struct buf *faults)
{
	logs_say_lines("error", faults);
	if (faults->error != 0)
		logs_say("error: %s", strerror(faults->error));
}

/*
 * Takes what has changed in the files that variables name.  A fault is told
 * once, and all stays as it was.
 */
static bool
refresh(void)
{
	static struct buf told = { .max = FAULTS_MAX };
	BUF(warnings, FAULTS_MAX);
	BUF(faults, FAULTS_MAX);
	struct settings s;
	bool changed;

	load(&s, &warnings, &faults);
	changed = install(&s, &faults);
	if (!is_good(&faults))
		buf_adds(&faults, "the settings stay as they were\n");
	changed = certificate_install(&s, &faults) || changed;
	if (!is_good(&faults) &&
	    strcmp(buf_text(&told), buf_text(&faults)) != 0)
		say_faults(&faults);
	buf_reset(&told);
	buf_adds(&told, buf_text(&faults));
	settings_free(&s);
	return changed;
}

/* The filter looks no name up: what statsd is called becomes its address. */
static void
look_up_statsd(void)
{
	static const char name[] = "SWIFTDROP_SMTP_STATSD";
	const struct addrinfo hints = { .ai_socktype = SOCK_DGRAM };
	char address[NI_MAXHOST], *port, *value = getenv(name);
	struct addrinfo *found;
	BUF(endpoint, 4096);
	int error;

	port = value == NULL || stream_is_endpoint(value) ? NULL
							  : strchr(value, ':');
	if (port == NULL)
		return;
	*port++ = '\0';
	error = getaddrinfo(value, NULL, &hints, &found);
	if (error == 0) {
		error = getnameinfo(found->ai_addr, found->ai_addrlen, address,
		    sizeof(address), NULL, 0, NI_NUMERICHOST);
		freeaddrinfo(found);
		buf_addf(&endpoint,
		    strchr(address, ':') == NULL ? "%s:%s" : "[%s]:%s", address,
		    port);
	}
	if (error != 0)
		logs_say("warning: %s: %s: %s; nothing is counted", name, value,
		    gai_strerror(error));
	/* Empty is not set; a name that stays is a fault. */
	(void)setenv(name, error == 0 ? buf_text(&endpoint) : "", 1);
}

/* All that can be found wrong before anything runs. */
static void
configure(struct supervisor *v, struct settings *s, struct buf *faults)
{
	const char *protocols;
	BUF(warnings, FAULTS_MAX);

	look_up_statsd();
	load(s, &warnings, faults);
	v->errormail.address = buf_text(&s->errormail);
	v->errormail.account = s->errormail_account;
	v->errormail.hostname = s->myhostname;
	logs_set(s->json, s->errormail.len > 0 ? errormail_see : NULL,
	    &v->errormail);
	logs_say_lines("warning", &warnings);
	if (!files_may_switch(faults))
		return;
	prepare_run_dir(faults);
	(void)certificate_install(s, faults);
	/* Another client than Postfix is for would be one on this host to it. */
	protocols = environment_get(&s->environment, "POSTFIX_inet_protocols");
	listener_bind(&v->listener,
	    protocols != NULL && strcmp(protocols, "ipv4") == 0 ? AF_INET
								: AF_UNSPEC,
	    faults);
	(void)install(s, faults);
	/* Nothing is made as long as something is wrong. */
	if (!is_good(faults))
		return;
	files_prepare_queue(faults);
	logs_open(v->logs, faults);
}

/*
 * Certificates of authorities come with the image, and get old with it; a
 * folder that is mounted over them need not have the bundle.
 */
static void
warn_of_bundle(void)
{
	static const char path[] = "/etc/ssl/certs/ca-certificates.crt";
	struct stat st;

	if (stat(path, &st) == 0 &&
	    time(NULL) - st.st_mtim.tv_sec > BUNDLE_MAX_AGE)
		logs_say("warning: %s is older than a year, use a newer image",
		    path);
}

static int
work(struct supervisor *v)
{
	warn_of_bundle();
	if (supervise_init(v) == -1) {
		logs_say("error: signals: %s", strerror(errno));
		return EX_OSERR;
	}
	if (supervise_check(v) == -1 && !v->stop) {
		if (v->settings->check_is_fatal) {
			logs_say("error: an account fails; STARTUP_CHECK=warn "
				 "starts all the same");
			return EX_UNAVAILABLE;
		}
		logs_say("warning: an account fails the check");
	}
	return v->stop ? EX_OK : supervise_run(v);
}

static int
run(void)
{
	struct settings s;
	struct supervisor v = {
		.settings = &s,
		.refresh = refresh,
		.listener = { .sockets = { -1, -1 }, .control = -1 },
	};
	BUF(faults, FAULTS_MAX);
	int status;

	(void)umask(022);
	configure(&v, &s, &faults);
	if (is_good(&faults)) {
		status = work(&v);
	} else {
		say_faults(&faults);
		/* As root is without the capability DAC_OVERRIDE. */
		if (strstr(buf_text(&faults), ": Permission denied\n") != NULL)
			logs_say("error: a folder of another user is open here "
				 "only if it is to all; give it to root");
		status = EX_CONFIG;
	}
	listener_close(&v.listener);
	table_free(&v.errormail.lines);
	settings_free(&s);
	return status;
}

static int
health(void)
{
	BUF(reason, 128 * 1024);

	if (health_probe(&reason) == 0)
		return EX_OK;
	(void)fprintf(stderr, "swiftdrop-entry: health: %s\n",
	    buf_text(&reason));
	return EX_UNAVAILABLE;
}

/* "swiftdrop check" with the same arguments. */
static int
check(char **argv)
{
	argv[0] = (char[]){ FILTER_PATH };
	supervise_exec_filter(argv);
	(void)fprintf(stderr, "swiftdrop-entry: check: %s\n", strerror(errno));
	return EX_OSERR;
}

static int
usage(FILE *out, int status)
{
	(void)fputs("usage: swiftdrop-entry\n"
		    "       swiftdrop-entry health\n"
		    "       swiftdrop-entry check [--write] [ADDRESS...]\n"
		    "Runs Postfix and swiftdrop as the environment says; see "
		    "image/README.md.\n",
	    out);
	return status;
}

int
main(int argc, char **argv)
{
	if (argc == 1)
		return run();
	if (strcmp(argv[1], "health") == 0 && argc == 2)
		return health();
	if (strcmp(argv[1], "check") == 0)
		return check(argv);
	if (strcmp(argv[1], "--version") == 0) {
		(void)printf("swiftdrop-entry %s\n", VERSION);
		return EX_OK;
	}
	return strcmp(argv[1], "--help") == 0 ? usage(stdout, EX_OK)
					      : usage(stderr, EX_USAGE);
}
