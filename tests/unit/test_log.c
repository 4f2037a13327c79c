/* common/log: the line itself in both formats, escaping, the cut of long lines, levels, content. */
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/log_out.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char text[4 * LOG_LINE_BYTES];
static int pipe_fd[2], saved;

static void capture(void)
{
	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK), 0);
	saved = dup(STDERR_FILENO);
	assert_int_equal(dup2(pipe_fd[1], STDERR_FILENO), STDERR_FILENO);
}

/* What was logged since capture(). */
static const char *captured(void)
{
	dup2(saved, STDERR_FILENO);
	close(saved);
	ssize_t n = read(pipe_fd[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	return text;
}

/* What follows the time stamp and the pid. */
static const char *after_pid(const char *line)
{
	const char *p = strstr(line, "pid=");
	assert_non_null(p);
	p = strchr(p, ' ');
	assert_non_null(p);
	return p + 1;
}

static void writes_logfmt(void **state)
{
	char head[64];
	int y, mo, d, h, mi, s, ms;
	(void)state;
	log_init("tandemd", "gpu0", LOG_INFO, LOG_LOGFMT, false);
	capture();
	errno = ENOTTY;
	log_line(LOG_WARN, "job_end", LOG_STR("req", "r-1"), LOG_INT("n", INT64_MIN),
		LOG_MS("ms", 12.34), LOG_STR("none", NULL),
		LOG_SLICE("slice", ((struct slice){"abcdef", 3})), LOG_END);
	assert_int_equal(errno, ENOTTY);
	const char *line = captured();
	assert_int_equal(
		sscanf(line, "ts=%d-%d-%dT%d:%d:%d.%dZ ", &y, &mo, &d, &h, &mi, &s, &ms), 7);
	snprintf(head, sizeof(head),
		"Z level=warn proc=tandemd pid=%d device=gpu0 ev=", (int)getpid());
	assert_non_null(strstr(line, head));
	assert_string_equal(after_pid(line),
		"device=gpu0 ev=job_end req=r-1 n=-9223372036854775808 ms=12.3 "
		"none=\"\" slice=abc\n");
}

static void quotes_and_escapes(void **state)
{
	static const struct {
		struct slice value;
		const char *form;
	} cases[] = {
		{SLICE("plain/1:2,[x]"), "plain/1:2,[x]"},
		{SLICE("two words"), "\"two words\""},
		{SLICE("a=b"), "\"a=b\""},
		{SLICE("say \"x\" \\"), "\"say \\\"x\\\" \\\\\""},
		{SLICE("a\nb\r\tc"), "\"a\\nb\\r\\tc\""},
		{SLICE("\0\x1b[31m\x7f"), "\"\\u0000\\u001b[31m\\u007f\""},
		{SLICE("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
			"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
		{SLICE("\xc2\x9b"), "\"\\u009b\""},
		{SLICE("a\xff\xc3"), "\"a\xef\xbf\xbd\xef\xbf\xbd\""},
		{SLICE("\xe2\x28\xa1"), "\"\xef\xbf\xbd(\xef\xbf\xbd\""},
	};
	(void)state;
	log_init("t", NULL, LOG_INFO, LOG_LOGFMT, false);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char want[128];
		capture();
		log_line(LOG_INFO, "e", LOG_SLICE("v", cases[i].value), LOG_END);
		snprintf(want, sizeof(want), "ev=e v=%s\n", cases[i].form);
		assert_string_equal(after_pid(captured()), want);
	}
}

static struct json_value parse_line(const char *line)
{
	struct json_value root;
	struct json_error err;
	size_t n = strlen(line);
	assert_true(n > 0 && line[n - 1] == '\n' && !memchr(line, '\n', n - 1));
	if (json_parse((struct slice){line, n - 1}, JSON_MAX_DEPTH, &root, &err))
		fail_msg("at %zu: %s in %s", err.offset, err.what, line);
	return root;
}

static void writes_json(void **state)
{
	int64_t n;
	double ms;
	(void)state;
	log_init("tandem-worker", "gpu1", LOG_INFO, LOG_JSON, false);
	capture();
	log_line(LOG_INFO, "job \"x\"", LOG_SLICE("v", SLICE("a\0\"\n\xff\xc2\x85")),
		LOG_INT("n", -7), LOG_MS("ms", 0.25), LOG_MS("inf", INFINITY), LOG_MS("nan", NAN),
		LOG_END);
	struct json_value root = parse_line(captured());
	assert_true(json_string_is(json_get(root, "level"), "info"));
	assert_true(json_string_is(json_get(root, "proc"), "tandem-worker"));
	assert_true(json_string_is(json_get(root, "device"), "gpu1"));
	assert_true(json_string_is(json_get(root, "ev"), "job \"x\""));
	assert_true(json_to_int(json_get(root, "pid"), &n) && n == getpid());
	assert_true(json_to_int(json_get(root, "n"), &n) && n == -7);
	assert_true(json_to_double(json_get(root, "ms"), &ms) && ms == 0.2);
	assert_true(json_is(json_get(root, "inf"), JSON_NULL));
	assert_true(json_is(json_get(root, "nan"), JSON_NULL));
	assert_true(
		slice_eq(json_get(root, "v").raw, SLICE("\"a\\u0000\\\"\\n\xef\xbf\xbd\\u0085\"")));
}

/* Whatever the lengths, a line stays whole: under the limit, ended, and valid JSON. */
static void cuts_long_lines(void **state)
{
	static char big[3 * LOG_LINE_BYTES];
	(void)state;
	memset(big, 'x', sizeof(big));
	for (int json = 0; json < 2; json++) {
		for (size_t n = LOG_LINE_BYTES - 400; n < LOG_LINE_BYTES + 100; n++) {
			log_init("t", "d", LOG_INFO, json ? LOG_JSON : LOG_LOGFMT, false);
			big[n - 1] = n % 2 ? '\n' : 'x';
			capture();
			log_line(LOG_INFO, "e", LOG_SLICE("v", ((struct slice){big, n})),
				LOG_INT("a", INT64_MIN), LOG_SLICE("w", ((struct slice){big, 40})),
				LOG_MS("ms", 1e14), LOG_END);
			big[n - 1] = 'x';
			const char *line = captured();
			size_t len = strlen(line);
			assert_true(len <= LOG_LINE_BYTES);
			assert_true(line[len - 1] == '\n' && !memchr(line, '\n', len - 1));
			if (json)
				parse_line(line);
			if (n > LOG_LINE_BYTES) {
				assert_non_null(strstr(line, "bytes"));
				assert_non_null(strstr(line, json ? ",\"cut\":1}\n" : " cut=1\n"));
			}
		}
	}
	log_init("t", NULL, LOG_INFO, LOG_LOGFMT, false);
	capture();
	log_line(LOG_INFO, "e", LOG_SLICE("v", ((struct slice){big, sizeof(big)})), LOG_END);
	assert_non_null(strstr(captured(), "x...["));
	assert_non_null(strstr(text, "_bytes_cut] cut=1\n"));
}

static void many_fields_end_at_the_limit(void **state)
{
	static struct log_field fields[2000];
	(void)state;
	for (size_t i = 0; i + 1 < 2000; i++)
		fields[i] = LOG_INT("k", i);
	fields[1999] = LOG_END;
	log_init("t", NULL, LOG_INFO, LOG_JSON, false);
	capture();
	log_fields(LOG_INFO, "e", fields);
	const char *line = captured();
	assert_true(strlen(line) <= LOG_LINE_BYTES);
	parse_line(line);
}

static void obeys_level_and_content(void **state)
{
	(void)state;
	log_init("t", NULL, LOG_WARN, LOG_LOGFMT, true);
	capture();
	log_line(LOG_INFO, "quiet", LOG_END);
	log_content("prompt", "r1", SLICE("secret words"));
	assert_string_equal(captured(), "");
	log_init("t", NULL, LOG_INFO, LOG_LOGFMT, false);
	capture();
	log_content("prompt", "r1", SLICE("secret words"));
	assert_string_equal(captured(), "");
	log_init("t", NULL, LOG_INFO, LOG_LOGFMT, true);
	capture();
	log_content("prompt", "r1", SLICE("secret words"));
	assert_string_equal(after_pid(captured()), "ev=prompt req=r1 content=\"secret words\"\n");
}

static struct buf heard;

static void listen_in(
	void *ctx, enum log_level level, const char *event, const struct log_field *fields)
{
	assert_ptr_equal(ctx, &heard);
	buf_printf(&heard, "%s %s", log_level_name(level), event);
	for (; fields->type != LOG_F_END; fields++)
		buf_printf(&heard, " %s", fields->key);
	buf_add_char(&heard, '\n');
}

static void the_sink_hears_what_the_level_hides_and_no_content(void **state)
{
	(void)state;
	buf_init(&heard, 0);
	log_init("t", NULL, LOG_ERROR, LOG_LOGFMT, true);
	log_set_sink(listen_in, &heard);
	capture();
	log_line(LOG_DEBUG, "small", LOG_END);
	log_line(LOG_INFO, "step", LOG_INT("n", 1), LOG_STR("s", "x"), LOG_END);
	log_line(LOG_ERROR, "bad", LOG_END);
	log_step("tiny", LOG_INT("n", 1), LOG_END);
	log_content("prompt", "r1", SLICE("secret words"));
	assert_string_equal(after_pid(captured()), "ev=bad\n");
	assert_string_equal(buf_cstr(&heard), "info step n s\nerror bad\ninfo tiny n\n");
	log_init("t", NULL, LOG_INFO, LOG_LOGFMT, true);
	capture();
	log_content("prompt", "r1", SLICE("secret words")); /* written, still not told */
	assert_non_null(strstr(captured(), "secret words"));
	assert_null(strstr(buf_cstr(&heard), "prompt"));
	log_set_sink(NULL, NULL);
	log_step("tiny", LOG_END);
	buf_free(&heard);
}

#define LINE 97

/* What a socket took while nobody read it ends with a line: the next one may be
 * another process's. */
static void tears_no_line_in_a_socket(void **state)
{
	(void)state;
	static char got[1 << 16];
	char line[LINE];
	int ends[2], small = 4096;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	memset(line, 'x', sizeof(line));
	line[LINE - 1] = '\n';
	pid_t child = fork();
	if (child == 0) {
		dup2(ends[1], STDERR_FILENO);
		log_out_size(sizeof(got));
		log_out_defer(true);
		for (int i = 0; i < 400; i++)
			log_out_put(line, sizeof(line));
		_exit(log_out_flush() ? 1 : 0); /* it cannot have taken all */
	}
	int status = -1;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(ends[1]);
	size_t n = 0;
	for (ssize_t more; (more = read(ends[0], got + n, sizeof(got) - n)) > 0;)
		n += (size_t)more;
	close(ends[0]);
	assert_true(n > 0);
	assert_int_equal(n % LINE, 0);
}

/* A process whose reader comes at its end only has no turn left in which to tell of the loss. */
static void an_exit_tells_what_was_lost(void **state)
{
	(void)state;
	static char got[1 << 16];
	int out[2], ready[2];
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(fcntl(out[1], F_SETPIPE_SZ, 4096), 4096);
	pid_t child = fork();
	if (child == 0) {
		dup2(out[1], STDERR_FILENO);
		close(out[1]);
		close(out[0]);
		log_init("t", NULL, LOG_INFO, LOG_LOGFMT, false);
		log_out_size(LOG_BUFFER_LEAST);
		log_defer(true);
		for (int i = 0; i < 400; i++)
			log_line(LOG_INFO, "step", LOG_INT("n", i), LOG_END);
		exit(write(ready[1], "x", 1) == 1 ? 0 : 1);
	}
	close(out[1]);
	assert_int_equal(read(ready[0], got, 1), 1);
	size_t n = 0;
	for (ssize_t more; (more = read(out[0], got + n, sizeof(got) - 1 - n)) > 0;)
		n += (size_t)more;
	got[n] = '\0';
	int status = -1;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_non_null(strstr(got, "ev=log_lost lines="));
	close(out[0]);
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_logfmt),
		cmocka_unit_test(quotes_and_escapes),
		cmocka_unit_test(writes_json),
		cmocka_unit_test(cuts_long_lines),
		cmocka_unit_test(many_fields_end_at_the_limit),
		cmocka_unit_test(obeys_level_and_content),
		cmocka_unit_test(tears_no_line_in_a_socket),
		cmocka_unit_test(an_exit_tells_what_was_lost),
		cmocka_unit_test(the_sink_hears_what_the_level_hides_and_no_content),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
