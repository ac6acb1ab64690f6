/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Log lines, as they arrive on a socket like that of Postfix's postlogd.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include <jansson.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

#include "failing.h"

#include "log.h"

#include "banned.h"

static char folder[] = "/tmp/unit_log.XXXXXX";
static char target[64], json_target[72];
static int server = -1;

static int
setup(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	(void)snprintf(target, sizeof(target), "postlog:%s/log", folder);
	(void)snprintf(json_target, sizeof(json_target), "json:%s", target);
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/log", folder);
	server = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return bind(server, (struct sockaddr *)&un, sizeof(un));
}

static int
teardown(void **state)
{
	(void)state;
	log_close();
	(void)close(server);
	(void)unlink(target + strlen("postlog:"));
	return rmdir(folder);
}

/* The newest line behind "when host swiftdrop[pid]: ", or "" if none came. */
static const char *
received(void)
{
	static char line[8192];
	const char *text;
	ssize_t n;

	n = recv(server, line, sizeof(line) - 1, MSG_DONTWAIT);
	line[n < 0 ? 0 : n] = '\0';
	text = strstr(line, "]: ");
	return text == NULL ? "" : text + 3;
}

static void
a_line_is_a_verb_and_pairs(void **state)
{
	struct log_line l;

	(void)state;
	log_open(target, false);
	log_begin(&l, LOG_STORED, LOG_LEVEL_INFO);
	log_add(&l, "client", "%s[%s]", "a", "192.0.2.1");
	log_add(&l, "size", "%d", 241);
	log_add_quoted(&l, "reason", "two words");
	log_end(&l);
	unit_text("line", received(),
	    "stored: client=a[192.0.2.1], size=241, reason=\"two words\"");
}

static void
verbs_are_those_of_the_manual(void **state)
{
	static const struct {
		enum log_verb verb;
		const char *want;
	} rows[] = {
		{ LOG_STORED, "stored: x" },
		{ LOG_DEFERRED, "deferred: x" },
		{ LOG_REJECTED, "rejected: x" },
		{ LOG_FORWARDED, "forwarded: x" },
		{ LOG_IN_DOUBT, "in-doubt: x" },
		{ LOG_LOST, "lost: x" },
	};
	size_t i;

	(void)state;
	log_open(target, false);
	for (i = 0; i < COUNT(rows); i++) {
		log_text(rows[i].verb, LOG_LEVEL_INFO, "%s", "x");
		unit_text(rows[i].want, received(), rows[i].want);
	}
}

static void
control_characters_are_escaped(void **state)
{
	struct log_line l;

	(void)state;
	log_open(target, false);
	log_begin(&l, LOG_REJECTED, LOG_LEVEL_INFO);
	log_add(&l, "from", "<%s>", "a\r\nstored: x\x7f");
	log_end(&l);
	unit_text("pair", received(),
	    "rejected: from=<a\\015\\012stored: x\\177>");
	log_text(LOG_CONFIG, LOG_LEVEL_ERROR, "%s", "a\nb");
	unit_text("text", received(), "config: a\\012b");
}

static void
a_long_line_is_cut_not_lost(void **state)
{
	struct log_line l;
	char much[6000];
	const char *got;

	(void)state;
	memset(much, 'x', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	log_open(target, false);
	log_begin(&l, LOG_DEFERRED, LOG_LEVEL_WARNING);
	log_add(&l, "to", "%s", much);
	log_end(&l);
	got = received();
	assert_memory_equal(got, "deferred: to=xxx", 16);
	assert_in_range(strlen(got), LOG_LINE_MAX - 10, LOG_LINE_MAX);
	log_text(LOG_CONFIG, LOG_LEVEL_ERROR, "%s", much);
	got = received();
	assert_memory_equal(got, "config: xxx", 11);
	assert_in_range(strlen(got), LOG_LINE_MAX - 10, LOG_LINE_MAX);
}

/* A field without its name, or an empty one, would end the journal's entry. */
static void
a_field_without_room_is_left_out_whole(void **state)
{
	static const char *const keys[] = { "a", "b", "c", "d", "e", "f", "g",
		"h", "i", "j", "k", "l" };
	struct log_line l;
	char much[6000];
	const char *p;
	size_t i;

	(void)state;
	memset(much, 'x', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	log_open("none", false);
	log_begin(&l, LOG_DEFERRED, LOG_LEVEL_WARNING);
	for (i = 0; i < COUNT(keys); i++)
		log_add(&l, keys[i], "%s", much);
	log_add(&l, "dsn", "2.0.0");
	log_add(&l, "size", "241");
	for (p = l.fields.data; p < l.fields.data + l.fields.len;
	     p += strlen(p) + 1)
		assert_true(strspn(p, "ABCDEFGHIJKLDSNIZE") > 0 &&
			    strchr(p, '=') != NULL);
	assert_memory_equal(l.fields.data + l.fields.len - 19,
	    "DSN=2.0.0\0SIZE=241", 19);
	assert_in_range(l.fields.len, LOG_FIELDS_MAX - 6100, LOG_FIELDS_MAX);
	log_end(&l);
}

static void
nothing_is_written_where_none_is_wanted(void **state)
{
	(void)state;
	log_open("none", false);
	log_text(LOG_LOST, LOG_LEVEL_INFO, "x");
	assert_string_equal(received(), "");
	/* Nobody listens: the line is dropped, the next target works. */
	log_open("postlog:/nonexistent/log", false);
	log_text(LOG_LOST, LOG_LEVEL_INFO, "x");
	log_open(target, false);
	log_text(LOG_LOST, LOG_LEVEL_INFO, "y");
	assert_string_equal(received(), "lost: y");
}

static void
targets_are_those_of_the_manual(void **state)
{
	static const char *const good[] = { "auto", "journal", "syslog",
		"stderr", "none", "postlog:/x", "json:stderr",
		"json:postlog:/x" };
	static const char *const bad[] = { "", "postlog:", "postlog", "file",
		"Journal", "syslog ", "json:", "json", "json:postlog:",
		"json:none", "json:journal", "json:json:stderr", "JSON:stderr",
		"json:stderr " };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(good); i++)
		unit_number(good[i], log_is_target(good[i]), 1);
	for (i = 0; i < COUNT(bad); i++)
		unit_number(bad[i], log_is_target(bad[i]), 0);
}

static void
what_a_peer_chose_cannot_end_a_value(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "plain", "a b@c=d;'()[]", "a b@c=d;'()[]" },
		{ "ours", "<>\",\\", "\\074\\076\\042\\054\\134" },
		{ "C0", "\x01\x1f\x7f", "\\001\\037\\177" },
		{ "C1", "\xc2\x80\xc2\x9b\xc2\x9f",
		    "\\302\\200\\302\\233\\302\\237" },
		{ "no control", "\xc2\xa0\xc3\xbc\xe2\x82\xac\xf0\x9f\x92\xa9",
		    "\xc2\xa0\xc3\xbc\xe2\x82\xac\xf0\x9f\x92\xa9" },
		{ "Arabic letter mark", "\xd8\x9c", "\\330\\234" },
		{ "left to right mark", "\xe2\x80\x8e", "\\342\\200\\216" },
		{ "joiner", "\xe2\x80\x8d", "\xe2\x80\x8d" },
		{ "line separator", "\xe2\x80\xa8", "\\342\\200\\250" },
		{ "override", "\xe2\x80\xae", "\\342\\200\\256" },
		{ "behind them", "\xe2\x80\xaf", "\xe2\x80\xaf" },
		{ "isolate", "\xe2\x81\xa6\xe2\x81\xa9",
		    "\\342\\201\\246\\342\\201\\251" },
		{ "not UTF-8", "a\xe4z\xc3", "a\\344z\\303" },
		{ "overlong", "\xc0\xbc", "\\300\\274" },
		{ "long", "0123456789012345678901234567890123456789x",
		    "0123456789012345678901234567890123456789..." },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(out, 200);

		log_escape(&out, rows[i].in, strlen(rows[i].in), 40);
		unit_text(rows[i].name, buf_text(&out), rows[i].want);
	}
}

static void
values_of_one_key_are_a_list(void **state)
{
	struct log_line l;
	char want[LOG_LINE_MAX];
	int i;

	(void)state;
	log_open(target, false);
	log_begin(&l, LOG_STORED, LOG_LEVEL_INFO);
	log_add(&l, "to", "<%s>", "a");
	log_add(&l, "to", "<%s>", "b");
	log_add(&l, "dsn", "2.0.0");
	assert_memory_equal(l.fields.data, "TO=<a>\0TO=<b>\0DSN=2.0.0", 24);
	log_end(&l);
	unit_text("list", received(), "stored: to=<a>,<b>, dsn=2.0.0");
	/* Of many as many as leave room for what follows. */
	log_begin(&l, LOG_STORED, LOG_LEVEL_INFO);
	for (i = 0; i < 100000; i++)
		log_add(&l, "to", "<%05d>", i);
	log_add(&l, "dsn", "2.0.0");
	log_end(&l);
	(void)snprintf(want, sizeof(want), "%s", received());
	assert_in_range(strlen(want), LOG_LIST_MAX - 10, LOG_LIST_MAX + 20);
	unit_text("end", want + strlen(want) - 11, ", dsn=2.0.0");
}

static void
what_is_not_printable_is_a_question_mark(void **state)
{
	BUF(out, 100);

	(void)state;
	log_printable(&out, "a\0\r\n\xff~ b", 8, 100);
	assert_string_equal(buf_text(&out), "a????~ b");
	buf_reset(&out);
	log_printable(&out, "abcdef", 6, 3);
	assert_string_equal(buf_text(&out), "abc");
}

/* The newest line as a JSON object, NULL if none came. */
static json_t *
received_json(void)
{
	static char line[8192];
	json_error_t error;
	json_t *object;
	ssize_t n;

	n = recv(server, line, sizeof(line), MSG_DONTWAIT);
	if (n == -1)
		return NULL;
	assert_in_range(n, 1, 3999);
	object = json_loadb(line, (size_t)n, JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(object))
		fail_msg("%s: %.*s", error.text, (int)n, line);
	return object;
}

static const char *
member(const json_t *object, const char *name)
{
	const char *text;

	text = json_string_value(json_object_get(object, name));
	return text == NULL ? "(none)" : text;
}

static void
a_json_line_has_the_fields_of_the_journal(void **state)
{
	struct log_line l;
	json_t *object, *to;
	char pid[32];

	(void)state;
	log_open(json_target, false);
	log_begin(&l, LOG_STORED, LOG_LEVEL_INFO);
	log_add(&l, "from", "<%s>", "s@x");
	log_add(&l, "to", "<%s>", "a@x");
	log_add(&l, "to", "<%s>", "b@x");
	log_add(&l, "token_file", "/t");
	log_add_quoted(&l, "reason", "two \\ words");
	log_end(&l);
	object = received_json();
	assert_non_null(object);
	(void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	unit_text("from", member(object, "FROM"), "<s@x>");
	unit_text("file", member(object, "TOKEN_FILE"), "/t");
	unit_text("reason", member(object, "REASON"), "two \\ words");
	unit_text("level", member(object, "PRIORITY"), "6");
	unit_text("facility", member(object, "SYSLOG_FACILITY"), "2");
	unit_text("program", member(object, "SYSLOG_IDENTIFIER"), "swiftdrop");
	unit_text("process", member(object, "SYSLOG_PID"), pid);
	unit_text("id", member(object, "MESSAGE_ID"),
	    "2736259afce744e692a99f018a0055d2");
	unit_text("message", member(object, "MESSAGE"),
	    "stored: from=<s@x>, to=<a@x>,<b@x>, token_file=/t, "
	    "reason=\"two \\ words\"");
	to = json_object_get(object, "TO");
	assert_int_equal(json_array_size(to), 2);
	unit_text("first", json_string_value(json_array_get(to, 0)), "<a@x>");
	unit_text("last", json_string_value(json_array_get(to, 1)), "<b@x>");
	assert_null(json_object_get(object, "truncated"));
	assert_int_equal(json_object_size(object), 11);
	json_decref(object);
	log_text(LOG_CONFIG, LOG_LEVEL_ERROR, "%s", "a \"b\"\n\xff");
	object = received_json();
	unit_text("text", member(object, "MESSAGE"),
	    "config: a \"b\"\\012\\377");
	unit_text("level", member(object, "PRIORITY"), "3");
	json_decref(object);
}

/* Microseconds of now, as the journal has them. */
static void
a_json_line_has_its_time(void **state)
{
	struct timespec now;
	const char *text;
	json_t *object;
	char *end;

	(void)state;
	log_open(json_target, false);
	log_text(LOG_LOST, LOG_LEVEL_INFO, "x");
	(void)clock_gettime(CLOCK_REALTIME, &now);
	object = received_json();
	text = member(object, "__REALTIME_TIMESTAMP");
	assert_int_equal(strlen(text), 16);
	assert_in_range(strtoll(text, &end, 10), (now.tv_sec - 60) * 1000000,
	    (now.tv_sec + 1) * 1000000);
	assert_int_equal(*end, '\0');
	json_decref(object);
}

/* Of whatever length a value is, and whatever is in it. */
static void
a_json_line_is_valid_and_whole_or_says_so(void **state)
{
	static const char *const pieces[] = { "x", "\"", "\xc3\xbc", "\xff",
		"\\", "\x01", "\xe2\x82\xac" };
	static const char *const shown[] = { "x", "\"", "\xc3\xbc", "\\377",
		"\\", "\\001", "\xe2\x82\xac" };
	BUF(value, 8000);
	BUF(want, 32000);
	struct log_line l;
	json_t *object;
	size_t i, k, n;
	bool whole = true;

	(void)state;
	log_open(json_target, false);
	for (i = 0; i < COUNT(pieces); i++) {
		buf_reset(&value);
		buf_reset(&want);
		for (n = 0; n < 2000; n += 3) {
			log_begin(&l, LOG_LOST, LOG_LEVEL_INFO);
			log_add(&l, "from", "%s", buf_text(&value));
			log_add(&l, "dsn", "2.0.0");
			log_end(&l);
			object = received_json();
			assert_non_null(object);
			whole = strcmp(member(object, "FROM"),
				    buf_text(&want)) == 0;
			assert_true(whole ||
				    json_is_true(json_object_get(object,
					"truncated")));
			assert_true(whole || n > 200);
			unit_text("dsn", member(object, "DSN"), "2.0.0");
			assert_true(strncmp(member(object, "MESSAGE"),
					"lost: from=", 11) == 0);
			json_decref(object);
			for (k = 0; k < 3; k++) {
				buf_adds(&value, pieces[i]);
				buf_adds(&want, shown[i]);
			}
		}
		assert_false(whole);
	}
}

static void
a_long_json_line_has_something_of_everything(void **state)
{
	static const char *const keys[] = { "client", "from", "to", "account",
		"object", "trans", "reason" };
	char much[3000], name[16];
	struct log_line l;
	json_t *object;
	size_t i, k;

	(void)state;
	memset(much, '\\', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	log_open(json_target, false);
	log_begin(&l, LOG_DEFERRED, LOG_LEVEL_WARNING);
	for (i = 0; i < COUNT(keys); i++)
		log_add(&l, keys[i], "%s", much);
	log_add(&l, "status", "503");
	log_end(&l);
	object = received_json();
	assert_true(json_is_true(json_object_get(object, "truncated")));
	for (i = 0; i < COUNT(keys); i++) {
		for (k = 0; k <= strlen(keys[i]); k++)
			name[k] = ascii_upper(keys[i][k]);
		assert_in_range(strspn(member(object, name), "\\"), 1, 2000);
	}
	json_decref(object);
	/* Recipients without number leave room for the rest. */
	log_begin(&l, LOG_STORED, LOG_LEVEL_INFO);
	for (i = 0; i < 100000; i++)
		log_add(&l, "to", "<user.%zu@example.org>", i);
	log_add(&l, "object", "%0200d", 0);
	log_add(&l, "dsn", "2.0.0");
	log_end(&l);
	object = received_json();
	assert_true(json_is_true(json_object_get(object, "truncated")));
	assert_in_range(json_array_size(json_object_get(object, "TO")), 50,
	    100);
	assert_int_equal(strlen(member(object, "OBJECT")), 200);
	unit_text("dsn", member(object, "DSN"), "2.0.0");
	json_decref(object);
}

/* Half of an object would be no JSON. */
static void
a_json_line_without_memory_is_whole_or_none(void **state)
{
	struct log_line l;
	unsigned int lines, n;
	json_t *object;

	(void)state;
	lines = 0;
	for (n = 1;; n++) {
		log_open(json_target, false);
		left = n;
		log_begin(&l, LOG_STORED, LOG_LEVEL_INFO);
		log_add(&l, "from", "<%0200d>", 0);
		log_add(&l, "to", "<%0200d>", 0);
		log_add(&l, "to", "<%0200d>", 1);
		log_end(&l);
		object = received_json();
		lines += object == NULL ? 0 : 1;
		if (left != 0)
			break;
		json_decref(object);
	}
	left = 0;
	assert_non_null(object);
	json_decref(object);
	assert_in_range(lines, 2, n - 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_a_verb_and_pairs),
		cmocka_unit_test(verbs_are_those_of_the_manual),
		cmocka_unit_test(control_characters_are_escaped),
		cmocka_unit_test(a_long_line_is_cut_not_lost),
		cmocka_unit_test(a_field_without_room_is_left_out_whole),
		cmocka_unit_test(nothing_is_written_where_none_is_wanted),
		cmocka_unit_test(targets_are_those_of_the_manual),
		cmocka_unit_test(what_a_peer_chose_cannot_end_a_value),
		cmocka_unit_test(values_of_one_key_are_a_list),
		cmocka_unit_test(what_is_not_printable_is_a_question_mark),
		cmocka_unit_test(a_json_line_has_the_fields_of_the_journal),
		cmocka_unit_test(a_json_line_has_its_time),
		cmocka_unit_test(a_json_line_is_valid_and_whole_or_says_so),
		cmocka_unit_test(a_long_json_line_has_something_of_everything),
		cmocka_unit_test(a_json_line_without_memory_is_whole_or_none),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
