/*
 * What each route would cost: tandemd explains made-up requests of a few sizes, with the very
 * functions it decides with (weigh.h, choose.h, predict.h) and the rates as they are by now. No
 * device is asked, and nothing of them counts as cached.
 */
#include "supervisor/ctl/bench.h"

#include <math.h>

#define BODY_BYTES (16u << 20)
#define SIZE_OFF 0.05 /* a size that is off by more is corrected once */

static const int64_t sizes[BENCH_SIZES] = {2048, 8192, 32768};

/* A number that is there and no null; else -1. */
static double number(struct json_value object, const char *name)
{
	double v;
	return json_to_double(json_get(object, name), &v) ? v : -1;
}

static struct json_value candidate(struct json_value root, const char *form)
{
	struct json_iter it = json_iter(json_get(root, "candidates"));
	struct json_value c;
	while (json_array_next(&it, &c))
		if (json_string_is(json_get(c, "form"), form))
			return c;
	return (struct json_value){0};
}

/* "original", "layout", "cut"; "too long": nothing that fits can be made of it. */
static void read_way(struct json_value root, struct bench_route *r)
{
	char outcome[24], form[24];
	ctl_text(root, "outcome", outcome, sizeof(outcome));
	ctl_text(root, "form", form, sizeof(form));
	bool condensed = strcmp(outcome, "condensed") == 0, weighed = strcmp(form, "-") != 0;
	bool too_long = strcmp(outcome, "overflow") == 0 || (!condensed && !r->fits);
	snprintf(r->goes, sizeof(r->goes), "%s",
		too_long	       ? "too long"
		: condensed && weighed ? form
				       : outcome);
}

static void read_route(struct json_value root, struct bench_route *r)
{
	struct json_value times = json_get(root, "predicted_ms");
	struct json_value original = candidate(root, "original");
	char form[24];
	ctl_text(root, "form", form, sizeof(form));
	bool weighed = strcmp(form, "-") != 0;
	r->tokens = number(root, "tokens_in");
	r->sent = number(root, "tokens_sent");
	r->fits = weighed ? json_is(json_get(original, "fits"), JSON_TRUE)
			  : r->tokens <= number(root, "room_tokens");
	read_way(root, r);
	ctl_text(root, "reason", r->why, sizeof(r->why));
	double whole = weighed ? number(original, "ms") : number(times, "original_cold");
	r->original_ms = r->fits ? whole : -1;
	r->sent_ms = weighed ? number(candidate(root, form), "ms") : number(times, "sent_cold");
	if (strcmp(r->goes, "too long") == 0)
		r->sent = r->sent_ms = -1;
}

static void put_body(
	struct benching *b, const struct bench_route *r, int64_t tokens, struct buf *body)
{
	struct bench_prompt p;
	bench_body_begin(b, body);
	buf_init(&p.text, BODY_BYTES);
	if (r->session) {
		bench_session_put(b, tokens, body);
	} else {
		bench_prompt_make(b, &p, tokens);
		bench_prompt_put(&p, 1, body);
	}
	buf_free(&p.text);
	buf_add_str(body, ",\"stream\":true}");
}

static enum bench_end explain(struct benching *b, struct bench_route *r, int64_t tokens,
	struct buf *body, struct bench_answer *a)
{
	struct json_value root;
	put_body(b, r, tokens, body);
	enum bench_end end = bench_ask(b, "/api/chat", body, true, a);
	if (end != BENCH_DONE)
		return end;
	if (json_parse(buf_slice(&a->body), JSON_MAX_DEPTH, &root, NULL)) {
		snprintf(a->error, sizeof(a->error), "an explanation that is no JSON");
		return BENCH_FAILED;
	}
	read_route(root, r);
	return BENCH_DONE;
}

/* tandemd decides by its own estimate of tokens, which may be another one for a model that it hardly
 * knows: the prompt is made as long as it should be by that. */
static enum bench_end ask_route(
	struct benching *b, struct bench_route *r, struct buf *body, struct bench_answer *a)
{
	enum bench_end end = explain(b, r, r->size, body, a);
	double size = (double)r->size;
	if (end == BENCH_DONE && r->tokens > 0 && fabs(r->tokens / size - 1) > SIZE_OFF)
		end = explain(b, r, (int64_t)(size * size / r->tokens), body, a);
	return end;
}

enum bench_end bench_routes(struct benching *b)
{
	struct bench_answer a;
	struct buf body;
	enum bench_end end = BENCH_DONE;
	buf_init(&body, BODY_BYTES);
	buf_init(&a.body, BODY_BYTES);
	for (size_t i = 0; i < BENCH_ROUTES && end == BENCH_DONE; i++) {
		struct bench_route *r = &b->route[i];
		*r = (struct bench_route){.size = sizes[i / 2], .session = i % 2};
		end = ask_route(b, r, &body, &a);
		b->routes += end == BENCH_DONE;
	}
	if (end == BENCH_FAILED)
		snprintf(b->stopped, sizeof(b->stopped), "%s", a.error);
	buf_free(&body);
	buf_free(&a.body);
	return end;
}
