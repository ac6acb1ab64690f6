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
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "health.h"
#include "postconf.h"
#include "spool.h"
#include "supervise.h"
#include "tls.h"

#include "banned.h"

#ifndef VERSION
#define VERSION "unknown"
#endif

enum {
	FAULTS_MAX = 256 * 1024,     /* octets of a list of faults */
	TEXT_MAX = 8 * 1024 * 1024,  /* octets of a file made here */
	BUNDLE_MAX_AGE = 365 * 86400 /* seconds */
};

/* The files that Postfix and swiftdrop read; see postconf.h. */
typedef int text_fn(const struct settings *s, struct buf *out);
typedef int base_fn(const struct settings *s, const char *base,
    struct buf *out);

static int run(void);
static int configure(struct supervisor *v, struct settings *s, struct owners *o,
    struct buf *faults);
static void prepare_run_dir(struct buf *faults);
static void prepare_certificate(struct supervisor *v, const struct settings *s,
    struct buf *faults);
static void write_files(const struct settings *s, const struct owners *o,
    struct buf *faults);
static int write_base(const struct settings *s, const char *name,
    base_fn *make);
static void write_text(const struct settings *s, text_fn *make,
    const char *path, const struct owners *o, struct buf *faults);
static void warn_of_bundle(void);
static int work(struct supervisor *v);
static int health(void);
static int check(char *const *arguments);
static int usage(FILE *out, int status);

int
main(int argc, char **argv)
{
	if (argc == 1)
		return run();
	if (strcmp(argv[1], "health") == 0 && argc == 2)
		return health();
	if (strcmp(argv[1], "check") == 0)
		return check(argv + 2);
	if (strcmp(argv[1], "--version") == 0) {
		(void)printf("swiftdrop-entry %s\n", VERSION);
		return EX_OK;
	}
	return strcmp(argv[1], "--help") == 0 ? usage(stdout, EX_OK)
					      : usage(stderr, EX_USAGE);
}

static int
run(void)
{
	struct supervisor v = { .listener = { .sockets = { -1, -1 },
				    .control = -1 },
		.logs = { { -1, -1 } } };
	struct settings s;
	struct owners o;
	struct buf faults;
	int status;

	(void)umask(022);
	buf_init(&faults, FAULTS_MAX);
	v.settings = &s;
	v.owners = &o;
	status = EX_CONFIG;
	if (configure(&v, &s, &o, &faults) == -1)
		logs_say("error: %s", strerror(ENOMEM));
	else if (faults.len != 0)
		logs_say_lines("error", &faults);
	else
		status = work(&v);
	listener_close(&v.listener);
	settings_free(&s);
	buf_free(&faults);
	return status;
}

/* All that can be found wrong before anything runs. */
static int
configure(struct supervisor *v, struct settings *s, struct owners *o,
    struct buf *faults)
{
	struct buf parameters, warnings, reason;
	int result;

	buf_init(&parameters, TEXT_MAX);
	buf_init(&warnings, FAULTS_MAX);
	buf_init(&reason, 4096);
	if (environment_read_file(SHARE_DIR "/postfix-parameters",
		&parameters) == -1 ||
	    files_owners(o, &reason) == -1)
		environment_fault(faults, "image", "is damaged; %s",
		    buf_text(&reason));
	result = settings_load(s, environ, environment_read_file,
	    buf_text(&parameters), faults, &warnings);
	logs_say_lines("warning", &warnings);
	v->certificate.cert_file = s->tls_cert_file;
	v->certificate.key_file = s->tls_key_file;
	if (result == 0) {
		prepare_run_dir(faults);
		prepare_certificate(v, s, faults);
		listener_bind(&v->listener, faults);
	}
	/* Nothing is written as long as something is wrong. */
	if (result == 0 && faults->len == 0) {
		write_files(s, o, faults);
		spool_prepare(o, faults);
		if (logs_open(&v->logs, o->filter_group, &reason) == -1)
			logs_say("warning: %sreasons why Postfix does not "
				 "start may be lost",
			    buf_text(&reason));
	}
	buf_free(&parameters);
	buf_free(&warnings);
	buf_free(&reason);
	return result;
}

static void
prepare_run_dir(struct buf *faults)
{
	static const char *const folders[] = { CONFIG_DIR, RUN_DIR "/tls" };
	size_t i;

	if (mkdir(RUN_DIR, 0755) == -1 && errno != EEXIST) {
		environment_fault(faults, RUN_DIR, "%s; mount a tmpfs there",
		    strerror(errno));
		return;
	}
	if (!files_is_memory(RUN_DIR))
		logs_say("warning: " RUN_DIR ": is no tmpfs, secrets lie on a "
			 "disk");
	if (chmod(RUN_DIR, 0755) == -1) {
		environment_fault(faults, RUN_DIR, "%s; mount a tmpfs there",
		    strerror(errno));
		return;
	}
	for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		if (mkdir(folders[i], 0755) == -1 && errno != EEXIST)
			environment_fault(faults, folders[i], "%s",
			    strerror(errno));
}

static void
prepare_certificate(struct supervisor *v, const struct settings *s,
    struct buf *faults)
{
	struct buf reason;

	/* Half a pair is a fault that was told already. */
	if ((s->tls_cert_file == NULL) != (s->tls_key_file == NULL))
		return;
	buf_init(&reason, 4096);
	if (tls_install(&v->certificate, s->myhostname, &reason) == -1)
		environment_fault(faults, environment_name(VAR_TLS_CERT_FILE),
		    "%s", buf_text(&reason));
	buf_free(&reason);
}

static void
write_files(const struct settings *s, const struct owners *o,
    struct buf *faults)
{
	static const struct {
		text_fn *make;
		const char *path;
	} texts[] = {
		{ postconf_domains, CONFIG_DIR "/domains" },
		{ postconf_recipients, CONFIG_DIR "/recipients" },
		{ postconf_forwards, CONFIG_DIR "/forwards" },
		{ postconf_ini, INI_PATH },
		{ health_describe, HEALTH_PATH },
	};
	size_t i;

	if (write_base(s, "main.cf", postconf_main) == -1)
		environment_fault(faults, "main.cf", "%s", strerror(errno));
	if (write_base(s, "master.cf", postconf_master) == -1)
		environment_fault(faults, "master.cf", "%s", strerror(errno));
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		write_text(s, texts[i].make, texts[i].path, o, faults);
}

/* Makes a file of CONFIG_DIR out of that of the same name in SHARE_DIR. */
static int
write_base(const struct settings *s, const char *name, base_fn *make)
{
	struct buf base, text;
	char path[256];
	int result;

	buf_init(&base, TEXT_MAX);
	buf_init(&text, TEXT_MAX);
	(void)snprintf(path, sizeof(path), SHARE_DIR "/%s", name);
	result = environment_read_file(path, &base);
	if (result == 0)
		result = make(s, buf_text(&base), &text);
	(void)snprintf(path, sizeof(path), CONFIG_DIR "/%s", name);
	if (result == 0)
		result = files_write(path, 0644, 0, &text);
	buf_free(&base);
	buf_free(&text);
	return result;
}

static void
write_text(const struct settings *s, text_fn *make, const char *path,
    const struct owners *o, struct buf *faults)
{
	struct buf text;
	bool secret;

	secret = strcmp(path, INI_PATH) == 0;
	buf_init(&text, TEXT_MAX);
	if (make(s, &text) == -1 ||
	    files_write(path, secret ? 0640 : 0644,
		secret ? o->filter_group : 0, &text) == -1)
		environment_fault(faults, path, "%s", strerror(errno));
	buf_free(&text);
}

static int
work(struct supervisor *v)
{
	warn_of_bundle();
	if (supervise_init(v) == -1) {
		logs_say("error: signals: %s", strerror(errno));
		return EX_OSERR;
	}
	if (supervise_check(v) == -1 && v->settings->check_is_fatal) {
		if (!v->stop)
			logs_say("error: an account fails; STARTUP_CHECK=warn "
				 "starts all the same");
		return v->stop ? EX_OK : EX_UNAVAILABLE;
	}
	return v->stop ? EX_OK : supervise_run(v);
}

/* Certificates of authorities come with the image, and get old with it. */
static void
warn_of_bundle(void)
{
	static const char path[] = "/etc/ssl/certs/ca-certificates.crt";
	struct stat st;

	if (stat(path, &st) == -1)
		logs_say("warning: %s: %s", path, strerror(errno));
	else if (time(NULL) - st.st_mtim.tv_sec > BUNDLE_MAX_AGE)
		logs_say("warning: %s is older than a year, use a newer image",
		    path);
}

static int
health(void)
{
	struct buf reason;
	int result;

	buf_init(&reason, 4096);
	result = health_probe(&reason);
	if (result == -1)
		(void)fprintf(stderr, "swiftdrop-entry: health: %s\n",
		    buf_text(&reason));
	buf_free(&reason);
	return result == 0 ? EX_OK : EX_UNAVAILABLE;
}

static int
check(char *const *arguments)
{
	struct owners o;
	struct buf reason;

	buf_init(&reason, 4096);
	if (files_owners(&o, &reason) == 0) {
		supervise_exec_check(&o, arguments);
		(void)buf_add_text(&reason, strerror(errno));
	}
	(void)fprintf(stderr, "swiftdrop-entry: check: %s\n",
	    buf_text(&reason));
	buf_free(&reason);
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
