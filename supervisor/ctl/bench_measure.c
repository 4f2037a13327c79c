/*
 * How fast a device is by depth. Each depth is a cold prompt that begins like no other (reading,
 * first token cold), then the next turn of that conversation (first token warm, writing). Depths
 * double until the window's end, as long as the next one should be done in time, by the speed of
 * those before.
 */
#include "supervisor/ctl/bench.h"

#include <math.h>

#define LOAD_TOKENS 192 /* of the first prompt, which only has the model loaded */
#define FIRST_TOKENS 512
#define RESERVE_TOKENS 256 /* of the window: what a template adds, the next turn, the answer */
#define BLIND_TOKENS 8192  /* where no window is known */
#define WRITE_TOKENS 48
#define WRITE_MIN 8    /* fewer say nothing about speed */
#define GROWS 1.35     /* twice the tokens take 2 ** GROWS of the time: attention */
#define SPAN_SHARE 0.1 /* of a time: differences below it are noise */
#define AHEAD 1.25     /* the last depth is worth its time when it is so much deeper */
#define PROMPT_BYTES (64u << 20)

struct measuring {
	struct benching *b;
	struct bench_prompt prompt;
	struct buf body;
	struct bench_answer answer;
};

static void put_options(struct buf *body, int output)
{
	buf_printf(body, ",\"stream\":true,\"options\":{\"temperature\":0,\"num_predict\":%d}}",
		output);
}

static enum bench_end ask_turn(struct measuring *m, int turns, int output)
{
	bench_body_begin(m->b, &m->body);
	bench_prompt_put(&m->prompt, turns, &m->body);
	put_options(&m->body, output);
	return bench_ask(m->b, "/api/chat", &m->body, false, &m->answer);
}

static double read_ms(const struct bench_answer *a)
{
	return a->prompt_ms > 0 ? a->prompt_ms : a->first_ms;
}

static double write_tok_s(const struct bench_answer *a)
{
	double ms = a->output_ms > 0 ? a->output_ms : a->total_ms - a->first_ms;
	double tokens = (double)a->output_tokens - (a->output_ms > 0 ? 0 : 1);
	return a->output_tokens >= WRITE_MIN && ms > 0 ? tokens * 1000 / ms : -1;
}

/* --- one depth --- */

static enum bench_end measure_cold(struct measuring *m, int64_t tokens, struct bench_row *row)
{
	struct benching *b = m->b;
	bench_prompt_make(b, &m->prompt, tokens);
	enum bench_end end = ask_turn(m, 1, 1);
	if (end != BENCH_DONE)
		return end;
	const struct bench_answer *a = &m->answer;
	if (a->prompt_tokens <= 0) {
		snprintf(m->answer.error, sizeof(m->answer.error),
			"the backend of %s does not count its tokens", b->device);
		return BENCH_FAILED;
	}
	row->tokens = a->prompt_tokens;
	row->prompt_ms = read_ms(a);
	row->first_ms = a->first_ms >= 0 ? a->first_ms : a->total_ms;
	b->chars_a_token = fmin(fmax((double)m->prompt.chars / (double)a->prompt_tokens, 1), 16);
	return BENCH_DONE;
}

/* As tandemd would predict the next turn now that the first one is cached. */
static void foretell(struct measuring *m, struct bench_row *row)
{
	struct json_value root, c;
	if (!m->b->main)
		return;
	bench_body_begin(m->b, &m->body);
	bench_prompt_put(&m->prompt, 2, &m->body);
	put_options(&m->body, WRITE_TOKENS);
	if (bench_ask(m->b, "/api/chat", &m->body, true, &m->answer) != BENCH_DONE ||
		json_parse(buf_slice(&m->answer.body), JSON_MAX_DEPTH, &root, NULL))
		return;
	struct json_iter it = json_iter(json_get(root, "candidates"));
	while (json_array_next(&it, &c))
		if (json_string_is(json_get(c, "form"), "original"))
			json_to_double(json_get(c, "ms"), &row->foretold_ms);
}

static enum bench_end measure_warm(struct measuring *m, struct bench_row *row)
{
	foretell(m, row);
	enum bench_end end = ask_turn(m, 2, WRITE_TOKENS);
	if (end != BENCH_DONE)
		return end;
	const struct bench_answer *a = &m->answer;
	row->warm_new = a->prompt_tokens - row->tokens;
	row->warm_ms = a->first_ms >= 0 ? a->first_ms : a->total_ms;
	row->write_tok_s = write_tok_s(a);
	return BENCH_DONE;
}

/* Both, again from the beginning whenever other work came between: what was read is then partly
 * cached. */
static enum bench_end measure_depth(struct measuring *m, int64_t tokens, struct bench_row *row)
{
	enum bench_end end;
	do {
		*row = (struct bench_row){.prompt_ms = -1,
			.span_tok_s = -1,
			.first_ms = -1,
			.warm_ms = -1,
			.foretold_ms = -1,
			.write_tok_s = -1};
		end = measure_cold(m, tokens, row);
		if (end == BENCH_DONE)
			end = measure_warm(m, row);
	} while (end == BENCH_BUSY && bench_wait(m->b));
	return end;
}

/* --- which depths --- */

/* What the row adds to the one before, where the difference is more than noise. */
static void fill_span(struct bench_row *row, const struct bench_row *before)
{
	double ms = row->prompt_ms - (before ? before->prompt_ms : 0);
	int64_t tokens = row->tokens - (before ? before->tokens : 0);
	if (tokens > 0 && ms > SPAN_SHARE * row->prompt_ms)
		row->span_tok_s = (double)tokens * 1000 / ms;
}

static double expected_ms(const struct bench_row *last, int64_t tokens)
{
	double times = (double)tokens / (double)last->tokens;
	double write = last->write_tok_s > 0 ? WRITE_TOKENS * 1000.0 / last->write_tok_s : 0;
	return last->first_ms * pow(times, GROWS) + last->warm_ms + write;
}

/* The next depth; 0: there is none. */
static int64_t next_depth(const struct benching *b)
{
	int64_t limit = b->window > 0 ? b->window - RESERVE_TOKENS : BLIND_TOKENS;
	if (limit < RESERVE_TOKENS)
		limit = b->window / 2;
	int64_t last = b->rows ? b->row[b->rows - 1].tokens : 0;
	int64_t next = FIRST_TOKENS;
	while (b->rows && next < last * 3 / 2)
		next *= 2;
	if (next > limit && (double)limit > AHEAD * (double)last)
		next = limit;
	return next <= limit && b->rows < BENCH_ROWS_MAX ? next : 0;
}

static bool fits_time(struct benching *b, int64_t tokens)
{
	double ms = b->rows ? expected_ms(&b->row[b->rows - 1], tokens) : 0;
	if (ms <= (double)bench_left_ms(b))
		return true;
	snprintf(b->stopped, sizeof(b->stopped),
		"%lld tokens would take another %.0f s: --seconds gives more time",
		(long long)tokens, ceil(ms / 1000));
	return false;
}

static void tell_end(struct benching *b, enum bench_end end, const struct bench_answer *a)
{
	if (end == BENCH_LATE || end == BENCH_BUSY)
		snprintf(b->stopped, sizeof(b->stopped), "%s",
			b->told_wait ? "the time was over; other work came first"
				     : "the time was over");
	else if (end == BENCH_FAILED)
		snprintf(b->stopped, sizeof(b->stopped), "%s", a->error);
}

/* A model that has to be loaded first is no slow one; and how many characters a token has. */
static enum bench_end have_it_loaded(struct measuring *m)
{
	struct bench_row unused;
	enum bench_end end;
	bench_progress(m->b, "loading");
	do
		end = measure_cold(m, LOAD_TOKENS, &unused);
	while (end == BENCH_BUSY && bench_wait(m->b));
	return end;
}

enum bench_end bench_measure(struct benching *b)
{
	struct measuring m = {.b = b};
	int64_t tokens;
	buf_init(&m.prompt.text, PROMPT_BYTES);
	buf_init(&m.body, 2 * PROMPT_BYTES);
	buf_init(&m.answer.body, PROMPT_BYTES);
	enum bench_end end = have_it_loaded(&m);
	while (end == BENCH_DONE && (tokens = next_depth(b)) > 0 && fits_time(b, tokens)) {
		struct bench_row *row = &b->row[b->rows];
		bench_progress(b, "reading %lld tokens", (long long)tokens);
		end = measure_depth(&m, tokens, row);
		if (end != BENCH_DONE)
			continue;
		fill_span(row, b->rows ? row - 1 : NULL);
		b->rows++;
	}
	tell_end(b, end, &m.answer);
	buf_free(&m.prompt.text);
	buf_free(&m.body);
	buf_free(&m.answer.body);
	return end;
}
