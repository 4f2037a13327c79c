/*
 * Golden vectors of every translation: what each backend is asked for each client's request
 * (vectors/requests.json), and what each client gets of each backend's answer (vectors/answers.json).
 *
 * A new row needs its request (front, body) or its answer (format, stream, said); with
 * TANDEM_VECTORS=write this program fills in the rest, in the root of the repository, and a person
 * reads the difference. A new dialect or kind of backend is in every row by itself.
 */
#include "tests/unit/vectors.h"

/* --- requests --- */

/* One backend's side of a row as JSON: {"refused": words}, {"raw": true} with a body only where
 * something is put beside the client's own, or {"path", "body"}. */
static void put_side(struct slice text, enum dialect d, enum backend_api api, struct buf *out)
{
	struct chat_request r;
	struct dialect_error error = {0};
	struct backend_call call;
	struct buf body, taken;
	buf_init(&body, 0);
	buf_init(&taken, 0);
	buf_add_slice(&taken, text);
	int rc = chat_request_take(d, &taken, &r, &error);
	bool read = rc == 0;
	if (read)
		rc = backend_call_build(api, &r, 0, &call, &body, &error);
	assert_true(rc == 0 || (rc == -EINVAL && error.status == 400));
	buf_add_char(out, '{');
	if (rc) {
		json_put_key(out, "refused");
		json_put_string(out, slice_str(error.text));
	} else if (call.raw) {
		buf_add_str(out, "\"raw\":true");
	} else {
		json_put_key(out, "path");
		json_put_string(out, slice_str(call.path));
		if (call.must_call)
			buf_add_str(out, ",\"must_call\":true");
	}
	if (rc == 0 && body.n) {
		vectors_parse(buf_slice(&body));
		json_put_key(out, "body");
		buf_add_slice(out, buf_slice(&body));
	}
	buf_add_char(out, '}');
	if (read)
		chat_request_fini(&r);
	buf_free(&body);
	buf_free(&taken);
}

/* --- answers --- */

static const struct {
	const char *name;
	enum answer_format format;
	bool bare; /* of a prompt for no template */
} formats[] = {
	{"ollama chat", ANSWER_OLLAMA_CHAT, false},
	{"openai chat", ANSWER_OPENAI_CHAT, false},
	{"ollama generate", ANSWER_OLLAMA_GENERATE, true},
	{"openai text", ANSWER_OPENAI_TEXT, true},
	{"llama infill", ANSWER_LLAMA_INFILL, true},
};

/* What the backend's side says, as its bytes. */
static void put_bytes(
	struct json_value said, enum answer_format format, bool stream, struct buf *out)
{
	struct json_iter it = json_iter(said);
	struct json_value one;
	bool sse = answer_format_is_sse(format);
	if (!stream) {
		buf_add_slice(out, said.raw);
		return;
	}
	while (json_array_next(&it, &one)) {
		buf_add_str(out, sse ? "data: " : "");
		if (json_is(one, JSON_STRING))
			json_string_decode(one, out);
		else
			buf_add_slice(out, one.raw);
		buf_add_str(out, sse ? "\n\n" : "\n");
	}
}

/* One event's data; its name is the type of the object, or it has none. */
static void put_event(struct slice event, struct buf *out)
{
	char *text = strndup(event.p, event.n), name[64] = "", *data = text;
	assert_non_null(text);
	if (sscanf(text, "event: %63s\n", name) == 1)
		data = strchr(text, '\n') + 1;
	assert_memory_equal(data, "data: ", 6);
	data += 6;
	if (data[0] == '{') {
		struct json_value type = json_get(vectors_parse(slice_str(data)), "type");
		assert_true(name[0] == '\0' || json_string_is(type, name));
		buf_add_str(out, data);
	} else {
		json_put_string(out, slice_str(data));
	}
	free(text);
}

/* A stream as the array of its objects. */
static void put_units(struct slice stream, bool sse, struct buf *out)
{
	const char *end = sse ? "\n\n" : "\n";
	char *text = strndup(stream.p, stream.n);
	assert_non_null(text);
	buf_add_char(out, '[');
	for (const char *at = text; *at;) {
		const char *next = strstr(at, end);
		assert_non_null(next);
		struct slice unit = {at, (size_t)(next - at)};
		buf_add_str(out, at == text ? "\n  " : ",\n  ");
		if (sse)
			put_event(unit, out);
		else
			buf_add_slice(out, unit);
		at = next + strlen(end);
	}
	buf_add_char(out, ']');
	free(text);
}

struct carried {
	struct answer_writer *w;
	struct buf out;
};

static void on_event(void *ctx, const struct answer_event *event)
{
	struct carried *c = ctx;
	assert_int_equal(answer_writer_put(c->w, event, &c->out), 0);
}

/* Whatever the pieces that the bytes come in, it is the same. */
static void put_answer(struct slice bytes, enum answer_format format, bool stream, enum dialect d,
	size_t piece, struct buf *out)
{
	struct carried c = {.w = answer_writer_create(d, stream, SLICE("m"), "i", true, 0)};
	buf_init(&c.out, 0);
	struct answer_parser *p = answer_parser_create(format, stream, 1 << 20, on_event, &c);
	assert_non_null(c.w);
	assert_non_null(p);
	for (size_t at = 0; at < bytes.n; at += piece) {
		size_t n = bytes.n - at < piece ? bytes.n - at : piece;
		assert_int_equal(answer_parser_feed(p, (struct slice){bytes.p + at, n}), 0);
	}
	assert_int_equal(answer_parser_finish(p), 0);
	if (stream)
		put_units(buf_slice(&c.out), dialect_is_sse(d), out);
	else
		buf_add_slice(out, buf_slice(&c.out));
	answer_parser_destroy(p);
	answer_writer_destroy(c.w);
	buf_free(&c.out);
}

/* --- the tables --- */

/* Appends a row's own members, as they stand. */
static void put_given(struct json_value row, const char *const *names, struct buf *out)
{
	for (const char *const *n = names; *n; n++) {
		struct json_value v = json_get(row, *n);
		if (json_is(v, JSON_NONE))
			continue;
		buf_add_str(out, n == names ? "{\"" : ",\n \"");
		buf_add_str(out, *n);
		buf_add_str(out, "\": ");
		buf_add_slice(out, v.raw);
	}
}

/* One member that is to be found in the row as well. */
static void check_side(struct json_value row, const char *name, struct buf *got, struct buf *out)
{
	char *ours = compacted(buf_slice(got)), *theirs;
	mask_times(ours);
	theirs = compacted(json_get(row, name).raw);
	mask_times(theirs);
	if (!vectors_are_written() && strcmp(ours, theirs) != 0)
		fail_msg("%.*s, %s:\n%s\nand not\n%s", (int)json_get(row, "about").raw.n,
			json_get(row, "about").raw.p, name, ours, theirs);
	buf_add_str(out, ",\n \"");
	buf_add_str(out, name);
	buf_add_str(out, "\": ");
	buf_add_slice(out, buf_slice(got));
	free(ours);
	free(theirs);
	buf_clear(got);
}

static void check_request(struct json_value row, struct buf *out)
{
	static const char *const given[] = {"about", "front", "body", NULL};
	enum dialect d = dialect_named(json_get(row, "front"));
	struct buf got;
	buf_init(&got, 0);
	put_given(row, given, out);
	for (enum backend_type b = 0; b < BACKEND_TYPES; b++) {
		put_side(json_get(row, "body").raw, d, backend_profile(b)->api, &got);
		check_side(row, backend_type_name(b), &got, out);
	}
	buf_add_char(out, '}');
	buf_free(&got);
}

static void check_answer(struct json_value row, struct buf *out)
{
	static const char *const given[] = {"about", "format", "said", NULL};
	struct json_value said = json_get(row, "said");
	bool stream = json_is(said, JSON_ARRAY);
	struct buf got, again, bytes;
	size_t f = 0;
	while (f < COUNT(formats) && !json_string_is(json_get(row, "format"), formats[f].name))
		f++;
	assert_true(f < COUNT(formats));
	buf_init(&got, 0);
	buf_init(&again, 0);
	buf_init(&bytes, 0);
	put_bytes(said, formats[f].format, stream, &bytes);
	put_given(row, given, out);
	for (enum dialect d = 0; d < DIALECTS; d++) {
		bool bare = d == DIALECT_OPENAI_TEXT || d == DIALECT_OLLAMA_GENERATE;
		if (!dialect_is_chat(d) || dialect_counts(d) || dialect_compacts_only(d) ||
			(formats[f].bare ? !bare : d == DIALECT_OPENAI_TEXT))
			continue;
		put_answer(buf_slice(&bytes), formats[f].format, stream, d, bytes.n, &got);
		put_answer(buf_slice(&bytes), formats[f].format, stream, d, 1, &again);
		char *once = compacted(buf_slice(&got)), *twice = compacted(buf_slice(&again));
		mask_times(once);
		mask_times(twice);
		assert_string_equal(once, twice);
		free(twice);
		buf_clear(&again);
		buf_clear(&got);
		buf_add_str(&got, once);
		free(once);
		check_side(row, dialect_name(d), &got, out);
	}
	buf_add_char(out, '}');
	buf_free(&got);
	buf_free(&again);
	buf_free(&bytes);
}

static void check_table(const char *file, void (*check)(struct json_value row, struct buf *out))
{
	struct buf text, out;
	struct json_value row;
	size_t n = 0;
	vectors_read(file, &text);
	buf_init(&out, 0);
	buf_add_str(&out, "[\n");
	struct json_iter it = json_iter(vectors_parse(buf_slice(&text)));
	for (; json_array_next(&it, &row); n++) {
		buf_add_str(&out, n ? ",\n" : "");
		check(row, &out);
	}
	buf_add_str(&out, "\n]\n");
	assert_true(n > 0);
	if (vectors_are_written())
		vectors_write(file, &out);
	buf_free(&text);
	buf_free(&out);
}

static void each_request_before_each_backend(void **state)
{
	(void)state;
	check_table("requests.json", check_request);
}

static void each_answer_in_each_dialect(void **state)
{
	(void)state;
	check_table("answers.json", check_answer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_request_before_each_backend),
		cmocka_unit_test(each_answer_in_each_dialect),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
