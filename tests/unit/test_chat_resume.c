/* What the supervisor keeps of an answer whose bytes it holds back: forgotten with them. */
#include "supervisor/requests/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct proto_record piece(struct slice bytes, struct slice text)
{
	struct proto_record r = {.type = PROTO_DELTA, .job = 1};
	r.u.delta.bytes = bytes;
	r.u.delta.text = text;
	return r;
}

static void test_what_was_held_is_forgotten_before_the_next_try(void **state)
{
	(void)state;
	static struct config config;
	static struct requests requests = {.config = &config};
	static struct chat c;
	struct job_spec spec = {.body = SLICE("{}")};
	assert_int_equal(config_defaults(&config), 0);
	c.base.all = &requests;
	c.view.stream = true;
	chat_resume_init(&c);
	/* Half of a long event, then its worker dies: nothing has left. */
	struct proto_record r = piece(SLICE("data: {\"half"), SLICE("half"));
	chat_resume_delta(&c, &r);
	assert_int_equal(c.resume.held.n, r.u.delta.bytes.n);
	assert_int_equal(c.resume.text.n, 4);
	assert_false(chat_begun(&c));
	assert_int_equal(chat_resume_spec(&c, &spec), 0);
	assert_int_equal(c.resume.held.n, 0);
	assert_int_equal(c.resume.text.n, 0);
	assert_false(spec.message.resume);
	/* In mid-stream: what the client has stays. */
	r = piece(SLICE("data: {\"half"), SLICE("more"));
	buf_add_str(&c.resume.text, "said");
	c.resume.said = 4;
	c.resume.tokens = 1;
	c.bytes_out = 100;
	chat_resume_delta(&c, &r);
	assert_int_equal(c.resume.text.n, 8);
	assert_int_equal(chat_resume_spec(&c, &spec), 0);
	assert_int_equal(c.resume.text.n, 4);
	assert_true(spec.message.resume);
	assert_int_equal(spec.message.resume_bytes, 4);
	assert_int_equal(spec.message.resume_tokens, 1);
	assert_true(slice_eq(spec.body, SLICE("{}said")));
	assert_int_equal(requests.held_bytes, 6);
	chat_resume_fini(&c);
	config_free(&config);
}

static void test_more_text_than_the_cap_is_opaque(void **state)
{
	(void)state;
	static struct config config;
	static struct requests requests = {.config = &config};
	static struct chat c;
	assert_int_equal(config_defaults(&config), 0);
	for (config.limits.resume_bytes = 0; config.limits.resume_bytes < 6;
		config.limits.resume_bytes++) {
		memset(&c, 0, sizeof(c));
		c.base.all = &requests;
		chat_resume_init(&c);
		struct proto_record r = piece(SLICE("x"), SLICE("text"));
		chat_resume_delta(&c, &r);
		assert_int_equal(c.resume.opaque, config.limits.resume_bytes < 4);
		assert_int_equal(c.resume.text.n, c.resume.opaque ? 0 : 4);
		chat_resume_fini(&c);
	}
	config_free(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_held_is_forgotten_before_the_next_try),
		cmocka_unit_test(test_more_text_than_the_cap_is_opaque),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
