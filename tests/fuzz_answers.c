/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any octets as the answers of a store, of rspamd and of the server behind, to
 * a session that is always the same: whatever they say, it ends, and its 2yz to
 * the end of data is right.  Right means that the store was told to keep the
 * message and said so for each account, and that the server behind said 2yz
 * once it had the dot.
 *
 * All servers are in this file, and no time passes: connect(2) makes a pair of
 * sockets, poll(2) lets the servers work, and where nothing is to come it sets
 * the clock forward by what the caller would have waited.
 *
 * An input is a letter and answers, with '~' between them.  The letter's bits
 * say who the mail is for (enum below) and how its accounts log in (accounts[]
 * below).  An answer begins with H or h for the store's next request, R or r
 * for rspamd's, S or s for the server behind: at the connection, then to each
 * command.  In lower case it closes the connection; empty it is never given;
 * where there is none left the connection closes.  T is what the token file
 * holds, t the same where others can write to it; L has `swiftdrop login` and
 * `check` go before.
 */
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "fuzz.h"

#include "clock.h"
#include "config.h"
#include "session.h"
#include "swift.h"
#include "text.h"

#include "banned.h"

enum {
	ACCOUNTS = 3,
	CONFIGS = 4,
	MESSAGES = 2,
	PEERS = 8,
	ANSWERS = 64,
	STORE_PORT = 8080,
	BEHIND_PORT = 10026,
	RSPAMD_PORT = 11333
};

/* Bits of an input's letter; the accounts are bits 0 to ACCOUNTS - 1. */
enum {
	ALSO_BEHIND = 1 << 3,
	TWO_MESSAGES = 1 << 4,
	WITH_XFORWARD = 1 << 5
};

/*
 * All requests come to the proxy, whatever host an answer leads to; but for
 * what cannot be reached, without TLS or a CA.
 */
static const char common[] = "[DEFAULT]\n"
			     "proxy = http://127.0.0.1:8080\n"
			     "cacert = /proc/self/task\n"
			     "timeout = 1\n"
			     "retries = 1\n"
			     "user = u\n"
			     "key = k\n"
			     "[SMTP]\n"
			     "hostname = filter.example\n"
			     "reinject = 127.0.0.1:10026\n"
			     "rspamd = http://127.0.0.1:11333/\n"
			     "timeout = 5\n"
			     "deadline = 2\n"
			     "log = none\n";

/* Behind common, by the letter's upper two bits; %s is the token file. */
static const char *const accounts[CONFIGS] = {
	"[one]\n"
	"auth_version = tempurl\n"
	"storage_url = http://store/v1/AUTH_one/\n"
	"temp_url_key = k\n"
	"delete_after = 60\n"
	"[two]\n"
	"auth_version = 1\n"
	"authurl = http://store/auth/v1.0\n"
	"token_file = %s\n"
	"[three]\n"
	"auth_version = 3\n"
	"authurl = http://store/v3\n"
	"user =\n"
	"key =\n"
	"os_options_application_credential_id = i\n"
	"os_options_application_credential_secret = s\n"
	"os_options_region_name = R\n"
	"os_options_endpoint_type = internalURL\n",

	"[one]\n"
	"auth_version = tempurl\n"
	"storage_url = http://store/v1/AUTH_one\n"
	"temp_url_query = temp_url_sig=0&temp_url_expires=0\n"
	"[two]\n"
	"auth_version = 1\n"
	"authurl = http://store/auth/v1.0\n"
	"[three]\n"
	"auth_version = 3\n"
	"authurl = http://store/v3\n"
	"tenant_name = p\n",

	"[one]\n"
	"auth_version = tempurl\n"
	"storage_url = http://store/v1/AUTH_one\n"
	"temp_url_query = ?temp_url_sig=0&temp_url_expires=0\n"
	"metadata = no\n"
	"[two]\n"
	"auth_version = 1\n"
	"authurl = http://store/auth/v1.0\n"
	"os_options_object_storage_url = http://store/v1/AUTH_two/\n"
	"[three]\n"
	"auth_version = 3\n"
	"authurl = http://store/\n"
	"user =\n"
	"os_options_user_id = u\n"
	"os_options_project_id = p\n"
	"os_options_object_storage_url = http://store/v1/AUTH_three\n"
	"token_file = %s\n",

	"[one]\n"
	"auth_version = tempurl\n"
	"storage_url = https://store/v1/AUTH_one\n"
	"temp_url_key = k\n"
	"temp_url_digest = sha1\n"
	"cacert = /proc/version\n"
	"[two]\n"
	"auth_version = 1\n"
	"authurl = http://a@store:port/auth/v1.0\n"
	"token_file = %s\n"
	"[three]\n"
	"auth_version = 3\n"
	"authurl = http://store//\n"
	"os_options_application_credential_name = n\n"
	"os_options_application_credential_secret = s\n"
	"os_options_user_domain_name = d\n"
	"os_options_region_name = R\n",
};

/* Where their objects are. */
static const char *const sections[ACCOUNTS] = { "one", "two", "three" };
static const char *const places[ACCOUNTS] = { "/one/one/", "/two/two/",
	"/three/three/" };

/* The mails as the client sends them, and so does the filter. */
static const char *const contents[MESSAGES] = {
	"Subject: 1\r\n\r\n..\r\n",
	"Subject: 2\r\n\r\ntext\r\n",
};

struct content {
	char text[64];
	size_t len;
	char md5[33];
};

struct answer {
	char kind;
	const char *text;
	size_t len;
};

/* A connection's other end. */
struct peer {
	int fd;    /* -1 for none */
	char kind; /* of its answers, in lower case */
	bool data; /* DATA was the newest command */
	char in[65536];
	size_t len;
};

/* What the store was told and said of an account's object. */
struct object {
	char name[256]; /* of the newest PUT */
	bool taken;     /* there was a 412 for it */
	bool confirmed;
};

static struct config configs[CONFIGS];
static char folder[] = "/tmp/fuzz_answers.XXXXXX";
static char token_file[64]; /* in it, where an input has one */
static struct content messages[MESSAGES];
static int in = -1, out = -1;
static int64_t skipped_ns; /* by which the clock is ahead */

/* Of one input. */
static struct answer answers[ANSWERS];
static size_t nanswers;
static struct peer peers[PEERS];
static struct object objects[MESSAGES][ACCOUNTS];
static bool dots[MESSAGES]; /* answered 2yz */

/* ---- what an answer says ------------------------------------------------- */

/*
 * The final head of an HTTP answer, past the interim ones, with folded lines
 * joined; its status, 0 where it is not complete.  libcurl ends a line at its
 * first CR.
 */
static int
final_head(const struct answer *a, struct buf *head)
{
	const char *p = a->text, *end = a->text + a->len, *cr, *lf;
	int status;

	do {
		buf_reset(head);
		status = 0;
		for (;; p = lf + 1) {
			lf = memchr(p, '\n', (size_t)(end - p));
			if (lf == NULL)
				return 0;
			if (lf == p || *p == '\r')
				break;
			if (head->len > 0 && *p != ' ' && *p != '\t')
				buf_addc(head, '\n');
			cr = memchr(p, '\r', (size_t)(lf - p));
			buf_add(head, p, (size_t)((cr == NULL ? lf : cr) - p));
		}
		p = lf + 1;
		if (head->len > 12 && text_begins(buf_text(head), "HTTP/"))
			status =
			    (int)strtol(head->data + strcspn(head->data, " "),
				NULL, 10);
	} while (status >= 100 && status < 200 && status != 101);
	return status;
}

/* The value of the first header of that name, "" for none. */
static const char *
header(const struct buf *head, const char *name)
{
	const char *line = buf_text(head);
	size_t len = strlen(name);

	while ((line = strchr(line, '\n')) != NULL) {
		line++;
		if (strncasecmp(line, name, len) != 0)
			continue;
		line += len + strspn(line + len, " \t");
		if (*line == ':')
			return line + 1 + strspn(line + 1, " \t");
	}
	return "";
}

/* "md5", md5-gzip or W/"md5", and no more. */
static bool
is_etag(const struct buf *head, const struct content *m)
{
	const char *etag = header(head, "ETag");

	etag += strncasecmp(etag, "W/", 2) == 0 ? 2 : 0;
	etag += *etag == '"' ? 1 : 0;
	return strncasecmp(etag, m->md5, 32) == 0 &&
	       strchr("\"-\n \t", etag[32]) != NULL;
}

static bool
is_length(const struct buf *head, const struct content *m)
{
	const char *length = header(head, "Content-Length");

	return *header(head, "Transfer-Encoding") != '\0' ||
	       *header(head, "Content-Encoding") != '\0' ||
	       (*length != '\0' && strtoul(length, NULL, 10) == m->len);
}

/* Whether an SMTP reply is 2yz to its last line. */
static bool
is_2yz(const struct answer *a)
{
	const char *p = a->text, *end = a->text + a->len, *lf;

	for (;; p = lf + 1) {
		lf = memchr(p, '\n', (size_t)(end - p));
		if (lf == NULL || lf - p < 4 || *p != '2')
			return false;
		if (p[3] != '-')
			return true;
	}
}

/* ---- the servers --------------------------------------------------------- */

/* The next answer for a peer; NULL when there is none left. */
static struct answer *
next_answer(const struct peer *p)
{
	struct answer *a;

	for (a = answers; a < answers + nanswers; a++)
		if (ascii_lower(a->kind) == p->kind)
			return a;
	return NULL;
}

static void
hang_up(struct peer *p)
{
	(void)close(p->fd);
	p->fd = -1;
}

static void
give(struct peer *p, struct answer *a)
{
	bool close;

	close = a == NULL || a->kind == p->kind;
	if (a != NULL && a->len > 0)
		(void)send(p->fd, a->text, a->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (a != NULL)
		a->kind = '\0';
	if (close)
		hang_up(p);
}

/* Whose object the path of a request ends in; its name behind that place. */
static int
account_of(const char *request, char name[256])
{
	const char *path = request + strcspn(request, " ") + 1;
	size_t len = strcspn(path, " ?#\r"), i, n;
	const char *at;
	int k;

	for (k = 0; k < ACCOUNTS; k++) {
		n = strlen(places[k]);
		for (i = len; i-- > 0;) {
			at = path + i;
			if (len - i > n && len - i - n < 256 &&
			    memcmp(at, places[k], n) == 0 &&
			    memchr(at + n, '/', len - i - n) == NULL) {
				memcpy(name, at + n, len - i - n);
				name[len - i - n] = '\0';
				return k;
			}
		}
	}
	return -1;
}

static void
judge_put(const char *request, const char *body, size_t len,
    const struct answer *a)
{
	BUF(head, 65536);
	char name[256];
	struct object *o;
	int k, t, status;

	for (t = 0; t < MESSAGES; t++)
		if (len == messages[t].len &&
		    memcmp(body, messages[t].text, len) == 0)
			break;
	require(t < MESSAGES, "the message in a PUT");
	require(strstr(request, messages[t].md5) != NULL, "its own ETag");
	require(strstr(request, "\r\nIf-None-Match: *\r\n") != NULL,
	    "a PUT that replaces nothing");
	k = account_of(request, name);
	require(k >= 0, "an account's container");
	o = &objects[t][k];
	if (strcmp(o->name, name) != 0)
		o->taken = false;
	memcpy(o->name, name, sizeof(name));
	status = a == NULL ? 0 : final_head(a, &head);
	o->taken = o->taken || status == 412;
	o->confirmed = status == 201 && is_etag(&head, &messages[t]);
}

/* HEAD and DELETE of what was put before. */
static void
judge_object(const char *request, const struct answer *a)
{
	BUF(head, 65536);
	char name[256];
	struct object *o;
	int k, t;

	k = account_of(request, name);
	for (t = 0; k >= 0 && t < MESSAGES; t++) {
		o = &objects[t][k];
		if (strcmp(o->name, name) != 0)
			continue;
		if (*request == 'D')
			o->confirmed = false;
		else if (o->taken && a != NULL && final_head(a, &head) == 200)
			o->confirmed = is_etag(&head, &messages[t]) &&
				       is_length(&head, &messages[t]);
	}
}

/* Answers a request once all of it is there; whether it was. */
static bool
take_request(struct peer *p)
{
	const char *end, *length;
	struct answer *a;
	size_t head, body;

	p->in[p->len] = '\0';
	end = strstr(p->in, "\r\n\r\n");
	if (end == NULL)
		return false;
	head = (size_t)(end - p->in) + 4;
	length = strcasestr(p->in, "\r\nContent-Length:");
	body =
	    length == NULL || length > end ? 0 : strtoul(length + 17, NULL, 10);
	if (p->len - head < body)
		return false;
	a = next_answer(p);
	if (strncmp(p->in, "PUT ", 4) == 0)
		judge_put(p->in, p->in + head, body, a);
	else if (strncmp(p->in, "HEAD ", 5) == 0 ||
		 strncmp(p->in, "DELETE ", 7) == 0)
		judge_object(p->in, a);
	p->len -= head + body;
	memmove(p->in, p->in + head + body, p->len);
	give(p, a);
	return true;
}

static void
judge_dot(const char *text, size_t len, const struct answer *a)
{
	int t;

	for (t = 0; t < MESSAGES; t++)
		if (len == strlen(contents[t]) &&
		    memcmp(text, contents[t], len) == 0)
			break;
	require(t < MESSAGES, "the message before the dot");
	dots[t] = a != NULL && is_2yz(a);
}

/* The same for a command, or for the content up to its dot. */
static bool
take_command(struct peer *p)
{
	const char *mark = p->data ? "\r\n.\r\n" : "\r\n";
	const char *end;
	struct answer *a;
	size_t len;

	p->in[p->len] = '\0';
	end = strstr(p->in, mark);
	if (end == NULL)
		return false;
	len = (size_t)(end - p->in) + strlen(mark);
	a = next_answer(p);
	if (p->data)
		judge_dot(p->in, len - 3, a);
	p->data = !p->data && strncmp(p->in, "DATA\r\n", 6) == 0;
	p->len -= len;
	memmove(p->in, p->in + len, p->len);
	give(p, a);
	return true;
}

/* Lets the servers do what they can; whether there was anything. */
static bool
serve(void)
{
	struct peer *p;
	bool busy;
	ssize_t n;

	busy = false;
	for (p = peers; p < peers + PEERS; p++) {
		if (p->fd == -1)
			continue;
		n = recv(p->fd, p->in + p->len, sizeof(p->in) - 1 - p->len,
		    MSG_DONTWAIT);
		if (n == 0 || (n == -1 && errno != EAGAIN))
			hang_up(p);
		busy = busy || n != -1;
		p->len += n > 0 ? (size_t)n : 0;
		while (p->fd != -1 &&
		       (p->kind == 's' ? take_command(p) : take_request(p)))
			;
	}
	return busy;
}

/* ---- what the session and libcurl call ----------------------------------- */

/* With a socket of a pair in place of theirs; its flags stay. */
int
connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
	const struct sockaddr_in *to = address.__sockaddr_in__;
	int pair[2], flags, port;
	struct peer *p;

	require(len >= sizeof(*to) && to->sin_family == AF_INET,
	    "connections over IPv4");
	port = ntohs(to->sin_port);
	require(port == STORE_PORT || port == BEHIND_PORT ||
		    port == RSPAMD_PORT,
	    "connections to the servers alone");
	for (p = peers; p < peers + PEERS && p->fd != -1; p++)
		;
	require(p < peers + PEERS, "few connections");
	flags = fcntl(fd, F_GETFL);
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 &&
		    dup3(pair[0], fd, O_CLOEXEC) == fd &&
		    fcntl(fd, F_SETFL, flags) == 0 && close(pair[0]) == 0,
	    "a pair of sockets");
	p->fd = pair[1];
	p->kind = port == BEHIND_PORT ? 's' : port == STORE_PORT ? 'h' : 'r';
	p->data = false;
	p->len = 0;
	if (p->kind == 's')
		give(p, next_answer(p));
	return 0;
}

int
poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	const struct timespec now = { 0 };
	long ready;

	do
		ready = syscall(SYS_ppoll, fds, n, &now, NULL, 0);
	while (serve());
	ready = syscall(SYS_ppoll, fds, n, &now, NULL, 0);
	if (ready != 0)
		return (int)ready;
	require(timeout_ms >= 0, "no wait that never ends");
	skipped_ns += (int64_t)timeout_ms * 1000000;
	return 0;
}

/* What libFuzzer asks, the time of day, stays as it is. */
int
clock_gettime(clockid_t clock, struct timespec *time)
{
	int64_t ns;

	if (syscall(SYS_clock_gettime, clock, time) == -1)
		return -1;
	if (clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME &&
	    clock != CLOCK_MONOTONIC_RAW && clock != CLOCK_MONOTONIC_COARSE)
		return 0;
	ns = time->tv_nsec + skipped_ns;
	time->tv_sec += ns / 1000000000;
	time->tv_nsec = ns % 1000000000;
	return 0;
}

/* ---- the session --------------------------------------------------------- */

static void
make_content(struct content *m, const char *sent)
{
	unsigned char md5[16];
	size_t i;

	for (i = 0; sent[i] != '\0'; i++)
		if (i == 0 || sent[i] != '.' || sent[i - 1] != '\n')
			m->text[m->len++] = sent[i];
	require(EVP_Q_digest(NULL, "MD5", NULL, m->text, m->len, md5, NULL) ==
		    1,
	    "MD5");
	for (i = 0; i < sizeof(md5); i++)
		(void)snprintf(m->md5 + 2 * i, 3, "%02x", md5[i]);
}

static void
clean_up(void)
{
	(void)unlink(token_file);
	(void)rmdir(folder);
}

/* Each account with its recipient, container and prefix. */
static void
load(struct config *config, const char *text)
{
	char *nothing[] = { NULL };
	BUF(faults, 4096);
	BUF(whole, 8192);
	const char *line;
	char path[64];
	size_t len;
	int k;

	buf_adds(&whole, common);
	for (k = -1, line = text; *line != '\0'; line += len + 1) {
		len = strcspn(line, "\n");
		if (text_begins(line, "token_file"))
			buf_addf(&whole, "token_file = %s\n", token_file);
		else
			buf_add(&whole, line, len + 1);
		if (*line == '[' && ++k < ACCOUNTS)
			buf_addf(&whole,
			    "recipients = %s@example.org\ncontainer = %s\n"
			    "prefix = %s/\n",
			    sections[k], sections[k], sections[k]);
	}
	fill(in, buf_text(&whole), whole.len);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", in);
	require(config_load(config, path, nothing, &faults) == 0,
	    buf_text(&faults));
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	size_t i;

	(void)argc;
	(void)argv;
	in = memfd_create("in", MFD_CLOEXEC);
	out = memfd_create("out", MFD_CLOEXEC);
	require(in != -1 && out != -1, "memfd_create");
	require(mkdtemp(folder) != NULL && atexit(clean_up) == 0, "a folder");
	(void)snprintf(token_file, sizeof(token_file), "%s/token", folder);
	for (i = 0; i < CONFIGS; i++)
		load(&configs[i], accounts[i]);
	for (i = 0; i < MESSAGES; i++)
		make_content(&messages[i], contents[i]);
	for (i = 0; i < PEERS; i++)
		peers[i].fd = -1;
	return 0;
}

static void
take_answers(const char *text, size_t len)
{
	const char *end;
	size_t n;

	nanswers = 0;
	for (; len > 0 && nanswers < ANSWERS; text += n, len -= n) {
		end = memchr(text, '~', len);
		n = end == NULL ? len : (size_t)(end - text);
		if (n > 0)
			answers[nanswers++] =
			    (struct answer){ *text, text + 1, n - 1 };
		n += end == NULL ? 0 : 1;
	}
}

/* With the last of accounts[] a client uses all extensions there are. */
static bool
is_wordy(int who)
{
	return who >> 6 == CONFIGS - 1 && (who & WITH_XFORWARD) != 0;
}

static void
add_dialogue(struct buf *text, int who)
{
	int k, t;

	buf_adds(text, "EHLO client.example\r\n");
	if (who & WITH_XFORWARD)
		buf_adds(text, "XFORWARD NAME=a.example ADDR=192.0.2.1 "
			       "PROTO=ESMTP HELO=a IDENT=1\r\n");
	if (is_wordy(who))
		buf_addf(text,
		    "XFORWARD HELO=%0250d\r\nXFORWARD NAME=%0250d\r\n", 0, 0);
	for (t = 0; t < (who & TWO_MESSAGES ? 2 : 1); t++) {
		buf_addf(text, "MAIL FROM:<s@example.net> SIZE=20%s\r\n",
		    is_wordy(who) ? " SMTPUTF8 BODY=8BITMIME ENVID=1" : "");
		for (k = 0; k < ACCOUNTS; k++)
			if (who & 1 << k)
				buf_addf(text, "RCPT TO:<%s@example.org>\r\n",
				    sections[k]);
		if (who & ALSO_BEHIND)
			buf_adds(text, "RCPT TO:<x@example.com>\r\n"
				       "RCPT TO:<y@example.com>\r\n");
		buf_addf(text, "DATA\r\n%s.\r\n", contents[t]);
	}
	buf_adds(text, "QUIT\r\n");
	require(text->error == 0, "room for the dialogue");
}

/* The code of the next reply and the octets of all its lines; 0 at the end. */
static int
next_code(const char **text)
{
	const char *line;
	size_t i, len;

	do {
		line = *text;
		if (*line == '\0')
			return 0;
		len = strcspn(line, "\n");
		require(line[len] == '\n' && len > 4 && line[len - 1] == '\r',
		    "CRLF behind each reply");
		require(strspn(line, "0123456789") == 3 && line[0] >= '2' &&
			    line[0] <= '5' && strchr(" -", line[3]) != NULL,
		    "a reply code");
		for (i = 0; i + 1 < len; i++)
			require(line[i] >= ' ' && line[i] <= '~',
			    "printable replies");
		*text += len + 1;
	} while (line[3] == '-');
	return (line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0';
}

/* The replies to one mail: its 2yz is right; whether another can follow. */
static bool
check_mail(const char **text, int who, int t)
{
	int behind, k;

	(void)next_code(text);
	behind = 0;
	for (k = 0; k < ACCOUNTS; k++)
		if (who & 1 << k)
			require(next_code(text) == 250, "our own recipients");
	for (k = 0; k < (who & ALSO_BEHIND ? 2 : 0); k++)
		behind += next_code(text) / 100 == 2 ? 1 : 0;
	if (next_code(text) != 354)
		return false;
	if (next_code(text) / 100 != 2)
		return true;
	require((who & 7) != 0 || behind > 0, "a recipient");
	for (k = 0; k < ACCOUNTS; k++)
		if (who & 1 << k)
			require(objects[t][k].confirmed,
			    "2yz for what the store has confirmed alone");
	if (behind > 0)
		require(dots[t], "2yz for what the server behind took alone");
	return true;
}

static void
check_replies(int who)
{
	static char replies[65536];
	const char *text = replies;
	ssize_t n;
	int k;

	n = pread(out, replies, sizeof(replies) - 1, 0);
	require(n > 0 && n < (ssize_t)sizeof(replies) - 1,
	    "an answer of some size");
	replies[n] = '\0';
	require(next_code(&text) == 220 && next_code(&text) == 250,
	    "a greeting");
	for (k = 0; k < (is_wordy(who) ? 3 : who & WITH_XFORWARD ? 1 : 0); k++)
		require(next_code(&text) == 250, "XFORWARD");
	if (check_mail(&text, who, 0) && who & TWO_MESSAGES)
		(void)check_mail(&text, who, 1);
}

/* The file as the input wants it. */
static void
make_token_file(void)
{
	struct answer *a;
	int fd;

	(void)unlink(token_file);
	for (a = answers; a < answers + nanswers; a++) {
		if (ascii_lower(a->kind) != 't')
			continue;
		fd = open(token_file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		require(fd != -1, "a token file");
		fill(fd, a->text, a->len);
		require(fchmod(fd, a->kind == 't' ? 0622 : 0600) == 0 &&
			    close(fd) == 0,
		    "the rights of a token file");
	}
}

/* What `login` and `check` do: it works and there is a file, or says why. */
static void
log_in(const struct config *config, const struct account *a)
{
	struct swift *s = swift_open(config);
	struct swift_put p;
	struct stat st;
	int64_t ends_s;

	require(s != NULL, "memory");
	swift_put_init(&p, a);
	p.deadline_ms = clock_ms() + 2000;
	if (a->token_file != NULL) {
		ends_s = swift_write_token(s, &p);
		require((ends_s != -1) == (p.outcome == SWIFT_STORED),
		    "a token, or a failure");
		require(ends_s == -1 ? p.reason.len > 0
				     : stat(token_file, &st) == 0 &&
					   (st.st_mode & 0777) == 0600,
		    "a reason, or a file for its owner");
	}
	swift_head(s, &p, true);
	require(p.outcome == SWIFT_STORED || p.reason.len > 0, "a reason");
	swift_put_free(&p);
	swift_close(s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct config *config;
	BUF(dialogue, 4096);
	struct peer *p;
	size_t i, k;

	if (size == 0)
		return 0;
	config = &configs[*data >> 6];
	take_answers((const char *)data + 1, size - 1);
	memset(objects, 0, sizeof(objects));
	memset(dots, 0, sizeof(dots));
	make_token_file();
	for (i = 0; i < nanswers; i++)
		for (k = 0; answers[i].kind == 'L' && k < ACCOUNTS; k++)
			if (*data & 1 << k)
				log_in(config, &config->accounts[k]);
	add_dialogue(&dialogue, *data);
	fill(in, dialogue.data, dialogue.len);
	fill(out, "", 0);
	session_run(config, in, out, -1);
	for (p = peers; p < peers + PEERS; p++)
		if (p->fd != -1)
			hang_up(p);
	check_replies(*data);
	return 0;
}
