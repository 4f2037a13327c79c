/* OpenAI's /v1/responses: made-up conversations, whose every text occurs once (test_dialect_round.c has the others). */
#include "tests/unit/test_responses.h"

#define ROUNDS 300

struct maker {
	uint64_t state;
	unsigned atoms;
	struct buf out;
};

static unsigned pick(struct maker *m, unsigned n)
{
	m->state = m->state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(m->state >> 33) % n;
}

static void put_string(struct maker *m)
{
	static const char *const around[] = {
		"", " ", "\\n", "\\u2028", "\\\"", "\xc3\xa9", "\\ud83d\\ude00", "\\/", "\\\\"};
	const char *edge = around[pick(m, COUNT(around))];
	buf_printf(&m->out, "\"%sa%ux%s\"", edge, m->atoms++, edge);
}

/* n parts, the last one a picture now and then. */
static void put_parts(struct maker *m, const char *type)
{
	unsigned n = 1 + pick(m, 3);
	buf_add_char(&m->out, '[');
	for (unsigned i = 0; i < n; i++) {
		buf_printf(&m->out, "%s{\"type\":\"%s\",\"text\":", i ? "," : "", type);
		put_string(m);
		buf_add_char(&m->out, '}');
	}
	if (type[0] == 'i' && pick(m, 3) == 0)
		buf_printf(&m->out,
			",{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,iVBOR/"
			"a%ux\"}",
			m->atoms++);
	buf_add_char(&m->out, ']');
}

static void put_message(struct maker *m, const char *role, const char *type)
{
	buf_printf(&m->out, ",{\"role\":\"%s\",\"content\":", role);
	if (pick(m, 2))
		put_string(m);
	else
		put_parts(m, type);
	buf_add_char(&m->out, '}');
}

static void put_call(struct maker *m, unsigned round, unsigned call)
{
	if (pick(m, 2)) {
		buf_printf(&m->out,
			",{\"type\":\"custom_tool_call\",\"call_id\":\"c%u_%u\",\"name\":\"p\","
			"\"input\":",
			round, call);
		put_string(m);
	} else {
		buf_printf(&m->out,
			",{\"type\":\"function_call\",\"call_id\":\"c%u_%u\",\"name\":\"f\","
			"\"arguments\":\"{\\\"a%ux\\\": 1.%u0}\"",
			round, call, m->atoms, pick(m, 9));
		m->atoms++;
	}
	buf_add_char(&m->out, '}');
}

static void put_round(struct maker *m, unsigned round)
{
	unsigned calls = pick(m, 3);
	if (pick(m, 2)) {
		buf_add_str(&m->out, ",{\"type\":\"reasoning\",\"summary\":");
		put_parts(m, "summary_text");
		buf_add_char(&m->out, '}');
	}
	put_message(m, "assistant", "output_text");
	for (unsigned i = 0; i < calls; i++)
		put_call(m, round, i);
	for (unsigned i = 0; i < calls; i++) {
		buf_printf(&m->out,
			",{\"type\":\"function_call_output\",\"call_id\":\"c%u_%u\",\"output\":",
			round, i);
		if (pick(m, 2))
			put_string(m);
		else
			put_parts(m, "input_text");
		buf_add_char(&m->out, '}');
	}
	if (pick(m, 4) == 0)
		put_message(m, "developer", "text");
	put_message(m, "user", "input_text");
}

static void make_request(struct maker *m)
{
	unsigned rounds = pick(m, 4);
	buf_add_str(&m->out, "{\"model\":\"m\",\"instructions\":");
	put_string(m);
	buf_add_str(&m->out, ",\"tools\":[{\"type\":\"custom\",\"name\":\"p\",\"description\":");
	put_string(m);
	buf_add_str(&m->out, "},{\"type\":\"function\",\"name\":\"f\",\"parameters\":{\"z\":");
	put_string(m);
	buf_add_str(&m->out, "}}],\"input\":[{\"role\":\"developer\",\"content\":");
	put_string(m);
	buf_add_char(&m->out, '}');
	put_message(m, "user", "input_text");
	for (unsigned i = 0; i < rounds; i++)
		put_round(m, i);
	buf_add_str(&m->out, "]}");
}

static void build_for(enum backend_api api, const struct chat_request *r, struct buf *out)
{
	struct backend_call call;
	struct dialect_error error;
	buf_init(out, 0);
	if (backend_call_build(api, r, 0, &call, out, &error))
		fail_msg("%s: %.*s", error.text, (int)r->body.n, r->body.p);
}

/* Each text is behind both translations, and what comes out for one backend is what comes out for it
 * by way of the other one's words. */
static void check_made(struct maker *m)
{
	struct chat_request r, again;
	struct dialect_error error;
	struct buf llama, ollama, by_way;
	if (chat_request_take(R, &m->out, &r, &error))
		fail_msg("%s: %.*s", error.text, (int)m->out.n, m->out.p);
	build_for(BACKEND_LLAMA_SERVER, &r, &llama);
	build_for(BACKEND_OLLAMA, &r, &ollama);
	for (unsigned i = 0; i < m->atoms; i++) {
		char atom[24];
		snprintf(atom, sizeof(atom), "a%ux", i);
		if (!strstr(buf_cstr(&llama), atom) || !strstr(buf_cstr(&ollama), atom))
			fail_msg("%s is lost of %.*s", atom, (int)m->out.n, m->out.p);
	}
	assert_int_equal(
		chat_request_parse(DIALECT_OPENAI_CHAT, buf_slice(&llama), &again, &error), 0);
	build_for(BACKEND_OLLAMA, &again, &by_way);
	assert_string_equal(buf_cstr(&ollama), buf_cstr(&by_way));
	chat_request_fini(&again);
	chat_request_fini(&r);
	buf_free(&llama);
	buf_free(&ollama);
	buf_free(&by_way);
}

static void requests_lose_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct maker m = {.state = i};
		buf_init(&m.out, 0);
		make_request(&m);
		check_made(&m);
		buf_free(&m.out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_lose_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
