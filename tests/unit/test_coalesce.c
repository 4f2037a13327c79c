/* Who may join whom, whose credit counts, and what becomes of them. The exchanges are bare: no
 * socket, no headers. */
#include "common/base/log.h"
#include "supervisor/front/internal.h"
#include "supervisor/requests/audience.h"
#include "supervisor/requests/chat_reply.h"
#include "supervisor/requests/join.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MEMBERS 8
#define BODY "{\"model\":\"m\",\"messages\":[]}"

struct member {
	struct chat c;
	struct exchange x;
	struct connection connection;
	struct head head;
};

struct fixture {
	uv_loop_t loop;
	struct config config;
	struct requests requests;
	struct front front;
	struct member m[MEMBERS];
};

static void on_tick(uv_timer_t *t)
{
	(void)t;
}

static struct chat *member(struct fixture *f, int i)
{
	struct member *m = &f->m[i];
	struct chat *c = &m->c;
	snprintf(m->connection.peer, sizeof(m->connection.peer), "127.0.0.1:%d", 1000 + i);
	m->x.connection = &m->connection;
	m->x.front = &f->front;
	m->head = (struct head){.target = "/api/chat", .method = "POST"};
	m->x.head = &m->head;
	m->x.body_bytes = -1;
	c->base.all = &f->requests;
	c->base.exchange = &m->x;
	c->base.begun_ms = now_ms();
	snprintf(c->base.id, sizeof(c->base.id), "id-%d", i);
	c->state = CHAT_PARSING;
	audience_init(c);
	exchange_set_context(&m->x, c);
	uv_timer_init(&f->loop, &c->tick);
	uv_timer_init(&f->loop, &c->wait);
	uv_timer_start(&c->tick, on_tick, 1000 + (uint64_t)i, 1000);
	assert_int_equal(buf_add_str(&c->body, BODY), 0);
	c->held = c->body.n;
	f->requests.held_bytes += c->body.n;
	return c;
}

static struct fixture *setup(void)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	log_init("test", NULL, LOG_ERROR, LOG_LOGFMT, false);
	uv_loop_init(&f->loop);
	f->requests.config = &f->config;
	TAILQ_INIT(&f->requests.chats);
	f->front.stream_bytes = 1 << 16;
	f->config.limits.coalesce = true;
	f->config.deadlines.heartbeat_ms = 1000;
	for (int i = 0; i < MEMBERS; i++)
		member(f, i);
	return f;
}

static void teardown(struct fixture *f)
{
	for (int i = 0; i < MEMBERS; i++) {
		struct chat *c = &f->m[i].c;
		c->answer = NULL;
		chat_finish(c);
		uv_close((uv_handle_t *)&c->tick, NULL);
		uv_close((uv_handle_t *)&c->wait, NULL);
		buf_free(&c->body);
		free(c->base.forwarded);
		buf_free(&f->m[i].x.out);
	}
	assert_true(TAILQ_EMPTY(&f->requests.chats));
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	free(f);
}

static void test_who_may_join(void **state)
{
	(void)state;
	enum difference {
		NONE,
		BODY_BYTE,
		BODY_LENGTH,
		TARGET,
		HOST,
		CLIENT,
		TOO_YOUNG,
		ANSWERED,
		ANSWERING,
		OVER,
		SWITCHED_OFF,
		DIFFERENCES
	};
	for (int d = NONE; d < DIFFERENCES; d++) {
		struct fixture *f = setup();
		struct chat *lead = &f->m[0].c, *c = &f->m[1].c;
		f->config.limits.coalesce = d != SWITCHED_OFF;
		f->config.limits.coalesce_after_ms = d == TOO_YOUNG ? 60000 : 0;
		assert_false(join_try(lead));
		lead->state = d == ANSWERING ? CHAT_ANSWERING : CHAT_WAITING;
		lead->bytes_out = d == ANSWERED;
		if (d == BODY_BYTE)
			c->body.p[c->body.n - 2]++;
		if (d == BODY_LENGTH)
			buf_add_char(&c->body, ' ');
		if (d == TARGET)
			f->m[1].head.target = "/api/chat?x";
		if (d == HOST)
			f->m[1].connection.peer[0] = '2';
		if (d == CLIENT)
			c->base.client++;
		if (d == OVER)
			chat_finish(lead);
		size_t held = f->requests.held_bytes;
		assert_int_equal(join_try(c), d == NONE);
		assert_int_equal(c->state, d == NONE ? CHAT_JOINED : CHAT_PARSING);
		assert_int_equal(f->requests.count.coalesced, d == NONE);
		assert_int_equal(f->requests.held_bytes, d == NONE ? held - strlen(BODY) : held);
		assert_string_equal(c->joined_to, d == NONE ? "id-0" : "");
		teardown(f);
	}
}

static void test_header_values(void **state)
{
	(void)state;
	assert_true(join_same_value(NULL, NULL));
	assert_true(join_same_value("a", "a"));
	assert_false(join_same_value("a", "A"));
	assert_false(join_same_value("a", NULL));
	assert_false(join_same_value(NULL, ""));
}

/* JOIN_MAX join one; the next one leads by itself, and may be joined in turn. */
static void test_how_many(void **state)
{
	(void)state;
	struct fixture *f = setup();
	for (int i = 0; i < MEMBERS; i++) {
		struct chat *c = &f->m[i].c;
		bool leads = i % (JOIN_MAX + 1) == 0;
		assert_int_equal(join_try(c), !leads);
		assert_ptr_equal(c->lead, leads ? NULL : &f->m[i / (JOIN_MAX + 1) * 5].c);
	}
	/* One that leaves makes room for one more. */
	struct chat *first = &f->m[0].c, *gone = &f->m[2].c, *last = &f->m[MEMBERS - 1].c;
	chat_finish(gone);
	assert_int_equal(first->joined_count, JOIN_MAX - 1);
	chat_finish(last);
	last->state = CHAT_PARSING;
	buf_add_str(&last->body, BODY);
	last->held = last->body.n;
	f->requests.held_bytes += last->held;
	assert_true(join_try(last));
	assert_ptr_equal(last->lead, first);
	teardown(f);
}

static void test_the_slowest_gives_credit(void **state)
{
	(void)state;
	struct fixture *f = setup();
	struct chat *lead = &f->m[0].c, *a = &f->m[1].c, *b = &f->m[2].c;
	struct job job = {0}; /* not running: it only adds up what it is given */
	join_try(lead);
	join_try(a);
	join_try(b);
	lead->answer = &job;
	audience_sent(a, 5); /* heartbeats, before the answer */
	assert_int_equal(job.credit_due, 0);
	lead->state = CHAT_ANSWERING;
	audience_sent(lead, 100);
	assert_int_equal(job.credit_due, 0);
	audience_sent(a, 70);
	assert_int_equal(job.credit_due, 0);
	audience_sent(b, 30);
	assert_int_equal(job.credit_due, 30);
	audience_sent(b, 30);
	assert_int_equal(job.credit_due, 60);
	audience_sent(b, 30);
	assert_int_equal(job.credit_due, 70); /* now a is the slowest */
	chat_finish(a);
	assert_int_equal(job.credit_due, 90);
	audience_sent(b, 500);
	assert_int_equal(job.credit_due, 100);
	chat_finish(b);
	audience_sent(lead, 1);
	assert_int_equal(job.credit_due, 101);
	/* Another job, another window: what was taken of the first one's bytes is no credit for it.
	 */
	struct chat *d = &f->m[3].c;
	struct job next = {0};
	lead->state = CHAT_WAITING;
	join_try(d);
	lead->answer = &next;
	audience_submitted(lead);
	lead->state = CHAT_ANSWERING;
	audience_sent(lead, 10);
	audience_sent(d, 8);
	assert_int_equal(next.credit_due, 8);
	teardown(f);
}

static void test_all_get_the_bytes(void **state)
{
	(void)state;
	struct fixture *f = setup();
	struct chat *lead = &f->m[0].c, *a = &f->m[1].c, *b = &f->m[2].c;
	join_try(lead);
	join_try(a);
	join_try(b);
	f->m[2].x.front = &f->front;
	assert_int_equal(chat_answer_pieces(lead, SLICE("hello ")), 0);
	/* One that has no room for more gets a broken stream; the others do not notice. */
	struct front full = {.stream_bytes = 8};
	f->m[2].x.front = &full;
	assert_int_equal(chat_answer_pieces(lead, SLICE("world")), 0);
	assert_true(f->m[2].x.aborted);
	assert_int_equal(b->state, CHAT_OVER);
	assert_int_equal(f->requests.count.failed, 1);
	assert_int_equal(lead->joined_count, 1);
	assert_true(slice_eq(buf_slice(&f->m[0].x.out), SLICE("hello world")));
	assert_true(slice_eq(buf_slice(&f->m[1].x.out), SLICE("hello world")));
	assert_true(slice_eq(buf_slice(&f->m[2].x.out), SLICE("hello ")));
	assert_int_equal(audience_backlog(lead), strlen("hello world"));
	f->m[1].x.answered = true;
	chat_end_joined(lead);
	assert_true(f->m[1].x.ended && !f->m[1].x.aborted);
	assert_int_equal(a->state, CHAT_OVER);
	assert_false(f->m[0].x.ended); /* the lead ends its own */
	teardown(f);
}

/* The first client leaves: another one's exchange is the lead's from then on, with all that is its
 * own. */
static void test_hand_over(void **state)
{
	(void)state;
	struct fixture *f = setup();
	struct chat *lead = &f->m[0].c, *a = &f->m[1].c, *b = &f->m[2].c;
	struct job job = {0};
	assert_false(chat_hand_over(lead));
	join_try(lead);
	join_try(a);
	join_try(b);
	lead->head_sent = true;
	lead->answer = &job;
	lead->state = CHAT_ANSWERING;
	audience_sent(a, 40);
	audience_sent(b, 90);
	audience_sent(lead, 20);
	assert_int_equal(job.credit_due, 20);
	uint64_t begun = lead->base.begun_ms;
	a->base.begun_ms = begun + 77;

	assert_true(chat_hand_over(lead));
	assert_ptr_equal(lead->base.exchange, &f->m[1].x);
	assert_ptr_equal(exchange_context(&f->m[1].x), lead);
	assert_ptr_equal(a->base.exchange, &f->m[0].x);
	assert_ptr_equal(exchange_context(&f->m[0].x), a);
	assert_string_equal(lead->base.id, "id-1");
	assert_string_equal(lead->joined_to, "id-0");
	assert_string_equal(a->base.id, "id-0");
	assert_int_equal(lead->base.begun_ms, begun);
	assert_false(lead->head_sent);
	assert_int_equal(a->state, CHAT_OVER);
	assert_int_equal(lead->state, CHAT_ANSWERING);
	assert_int_equal(lead->joined_count, 1);
	assert_int_equal(job.credit_due, 40); /* the slow one has left */

	assert_true(chat_hand_over(lead));
	assert_ptr_equal(lead->base.exchange, &f->m[2].x);
	assert_int_equal(job.credit_due, 90);
	assert_false(chat_hand_over(lead));
	teardown(f);
}

/* A lead that is over without a word leaves nobody waiting. */
static void test_nobody_is_left(void **state)
{
	(void)state;
	struct fixture *f = setup();
	struct chat *lead = &f->m[0].c, *a = &f->m[1].c;
	join_try(lead);
	join_try(a);
	chat_finish(lead);
	assert_int_equal(a->state, CHAT_OVER);
	assert_true(f->m[1].x.aborted);
	teardown(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_may_join),
		cmocka_unit_test(test_header_values),
		cmocka_unit_test(test_how_many),
		cmocka_unit_test(test_the_slowest_gives_credit),
		cmocka_unit_test(test_all_get_the_bytes),
		cmocka_unit_test(test_hand_over),
		cmocka_unit_test(test_nobody_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
