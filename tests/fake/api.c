#include "tests/fake/api.h"

#include "common/dialect/request.h"
#include "tests/fake/ask.h"
#include "tests/fake/engine.h"
#include "tests/fake/mem.h"
#include "tests/fake/stats.h"
#include "tests/fake/streams.h"

#include <stdarg.h>
#include <stdio.h>

static const struct route *find_route(
	const struct route *routes, const struct http_exchange *x, bool *other_verb)
{
	for (; routes->method; routes++) {
		size_t n = strlen(routes->path);
		bool any = routes->path[n - 1] == '*';
		bool fits = any ? x->path.n >= n && memcmp(x->path.p, routes->path, n - 1) == 0
				: slice_eq(x->path, slice_str(routes->path));

		if (fits && slice_eq(x->method, slice_str(routes->method)))
			return routes;
		*other_verb |= fits;
	}
	return NULL;
}

static const struct route *const routes_of[] = {
	[TYPE_OLLAMA] = ollama_routes, [TYPE_LLAMA] = llama_routes, [TYPE_OPENAI] = compat_routes};

static const struct route *route_of(
	const struct fake *f, const struct http_exchange *x, bool *other_verb)
{
	const struct route *route = NULL;

	*other_verb = false;
	if (f->options.control)
		route = find_route(control_routes, x, other_verb);
	if (!route)
		route = find_route(routes_of[f->options.type], x, other_verb);
	return route;
}

static bool is_control(const struct request *r)
{
	return r->fake->options.control && r->x->path.n >= 6 &&
	       memcmp(r->x->path.p, "/fake/", 6) == 0;
}

const char *api_json_type(const struct request *r)
{
	(void)r;
	return "application/json; charset=utf-8"; /* both say it with the charset */
}

void api_error(struct request *r, int status, struct slice message)
{
	if (r->fake->options.type == TYPE_OLLAMA)
		ollama_error(r, status, message);
	else if (r->fake->options.type == TYPE_OPENAI)
		compat_error(r, status, message);
	else
		llama_error(r, status, message);
}

void api_errorf(struct request *r, int status, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	api_error(r, status,
		(struct slice){text, n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1});
}

void api_reply(struct request *r, int status, struct buf *body)
{
	const struct script *s = &r->script;
	struct http_exchange *x = r->x;
	bool broken =
		status == 200 && (s->hang_after >= 0 || s->cut_after >= 0 || s->end_after >= 0);

	http_begin(x, status, api_json_type(r), (int64_t)body->n);
	http_data(x, (struct slice){body->p, broken ? body->n / 2 : body->n});
	buf_free(body);
	if (!broken)
		http_end(x);
	else if (s->hang_after >= 0)
		http_flush(x);
	else
		http_cut(x); /* short of its Content-Length */
}

bool api_object(struct request *r)
{
	struct json_error err;

	if (json_is(r->json, JSON_OBJECT))
		return true;
	if (!r->body.n)
		api_error(r, 400, SLICE("missing request body"));
	else if (json_parse(buf_slice(&r->body), JSON_MAX_DEPTH, &r->json, &err) < 0)
		api_errorf(r, 400, "invalid JSON at offset %zu: %s", err.offset, err.what);
	else
		api_error(r, 400, SLICE("json: cannot unmarshal into an object"));
	return false;
}

/* It asks for an answer, not only for what a template makes of it. */
static bool wants_answer(const struct request *r)
{
	bool renders = false;

	json_to_bool(json_get(r->json, "_debug_render_only"), &renders);
	return r->route && (r->route->flags & ROUTE_GENERATES) && !renders;
}

static void dispatch(struct request *r)
{
	const struct fake *f = r->fake;
	bool other_verb;

	if (!is_control(r) && f->options.type == TYPE_OLLAMA && ollama_redirects(r))
		return;
	if (!is_control(r) && f->options.type == TYPE_OLLAMA && !ollama_admits(r)) {
		http_reply(r->x, 403, NULL, SLICE(""));
		return;
	}
	if (!is_control(r) && f->options.type == TYPE_OPENAI && !compat_admits(r))
		return;
	if (!is_control(r) && f->options.type == TYPE_LLAMA && !f->engine->ready) {
		llama_error(r, 503, SLICE("Loading model"));
		return;
	}
	if (r->route) {
		if (wants_answer(r))
			streams_keep(r);
		r->route->run(r);
		return;
	}
	route_of(f, r->x, &other_verb);
	if (f->options.type == TYPE_LLAMA)
		llama_error(r, 404, SLICE("File Not Found")); /* also for another verb: its HTTP
								 library knows no 405 */
	else if (f->options.type == TYPE_OPENAI)
		compat_error(r, other_verb ? 405 : 404, SLICE(""));
	else if (other_verb)
		http_reply(r->x, 405, "text/plain", SLICE("405 method not allowed"));
	else
		http_reply(r->x, 404, "text/plain", SLICE("404 page not found"));
}

static void send_garbage(struct request *r)
{
	bool sse = r->fake->options.type != TYPE_OLLAMA || r->x->path.p[1] == 'v';
	bool stream = ask_streams(r);

	http_begin(r->x, 200,
		!stream ? api_json_type(r)
		: sse	? "text/event-stream"
			: "application/x-ndjson",
		-1);
	http_data(r->x, sse && stream ? SLICE("data: {]\xff\xfe not JSON\n\n")
				      : SLICE("{]\xff\xfe not JSON\n"));
	http_end(r->x);
}

/* The faults that come instead of an answer. */
static void answer(struct request *r)
{
	switch (r->script.fault) {
	case FAULT_REFUSE:
		http_reset(r->x);
		break;
	case FAULT_STATUS:
		api_error(r, r->script.status, buf_slice(&r->script.error));
		break;
	case FAULT_HANG:
		break;
	case FAULT_GARBAGE:
		send_garbage(r);
		break;
	case FAULT_BADHTTP:
		http_raw(r->x, SLICE("\x16\x03\x01 this is no HTTP\r\n\r\n"));
		http_cut(r->x);
		break;
	case FAULT_NONE:
	case FAULT_EMPTY:
		dispatch(r);
		break;
	}
}

static void on_delay(struct clock_task *task)
{
	answer((struct request *)((char *)task - offsetof(struct request, delay)));
}

/* The script of r from its own directive and the rules. False: a bad directive, replied. */
static bool read_script(struct request *r)
{
	struct http_exchange *x = r->x;
	bool generates = wants_answer(r);
	int err = 0;

	if (is_control(r))
		return true;
	if (generates) {
		struct buf text;

		buf_init(&text, FAKE_BODY_MAX);
		ask_last_user_text(r->json, &text);
		err = script_directive(&r->script, buf_slice(&text));
		buf_free(&text);
	}
	rules_apply(&r->fake->rules, x->path, buf_slice(&r->body), generates, &r->script);
	if (err) {
		http_reply(
			x, 400, "text/plain", SLICE("fake-backend: bad [[fake ...]] directive\n"));
		return false;
	}
	x->misdeed.drip_ms = r->script.drip_ms;
	x->misdeed.head_ms = r->script.head_ms;
	x->misdeed.chunk_bytes = r->script.chunk_bytes;
	x->misdeed.ctype = r->script.wrong_ctype ? "text/html; charset=utf-8" : NULL;
	x->misdeed.close_silently = r->script.close_after;
	x->misdeed.retry_after = r->script.retry_after.n ? buf_cstr(&r->script.retry_after) : NULL;
	x->misdeed.header_bytes = r->script.header_bytes;
	x->misdeed.type_bytes = r->script.type_bytes;
	return true;
}

static void on_open(struct http_exchange *x, void *arg)
{
	struct request *r = mem_zalloc(sizeof(*r));
	bool other_verb;

	r->fake = arg;
	r->x = x;
	r->route = route_of(arg, x, &other_verb);
	r->discard_body = r->route && r->route->flags & ROUTE_DISCARD;
	r->started_ns = clock_now();
	r->facts = (struct facts){-1, -1, -1, -1, -1, -1, -1};
	r->delay.run = on_delay;
	buf_init(&r->body, FAKE_BODY_MAX);
	script_init(&r->script);
	x->user = r;
	stats_open(r, is_control(r));
}

static void on_body(struct http_exchange *x, struct slice piece, void *arg)
{
	struct request *r = x->user;

	(void)arg;
	stats_body(r, piece);
	if (!r->discard_body)
		buf_add_slice(&r->body, piece);
}

/* nlohmann's parser refuses them. */
static bool lone_surrogates(const struct buf *body)
{
	struct buf copy;
	buf_init(&copy, 0);
	buf_add_slice(&copy, buf_slice(body));
	size_t n = json_mend_surrogates(copy.p, copy.n);
	buf_free(&copy);
	return n > 0;
}

static void on_ready(struct http_exchange *x, void *arg)
{
	struct request *r = x->user;

	(void)arg;
	if (buf_error(&r->body)) {
		api_error(r, 413, SLICE("request body too large"));
		return;
	}
	if (r->fake->options.type != TYPE_OLLAMA && lone_surrogates(&r->body)) {
		api_error(r, r->fake->options.type == TYPE_LLAMA ? 500 : 400,
			SLICE("[json.exception.parse_error.101] parse error: syntax error while "
			      "parsing value - invalid string: surrogate U+D800..U+DBFF must be "
			      "followed by U+DC00..U+DFFF"));
		return;
	}
	if (r->fake->options.type == TYPE_OLLAMA) { /* as Go's decoder does */
		json_mend_body(&r->body);
		json_mend_tail(&r->body);
	}
	if (r->body.n && json_parse(buf_slice(&r->body), JSON_MAX_DEPTH, &r->json, NULL) < 0)
		r->json = (struct json_value){0};
	if (r->fake->options.type == TYPE_OLLAMA && !is_control(r))
		chat_body_lower_keys(&r->body, r->json); /* it reads them in any case */
	if (!read_script(r))
		return;
	if (r->script.delay_ms)
		clock_at(&r->fake->clock, &r->delay, clock_now() + r->script.delay_ms * MS_NS);
	else
		answer(r);
}

static void on_drained(struct http_exchange *x, void *arg)
{
	struct request *r = x->user;

	(void)arg;
	if (r->gen)
		gen_resume(r->gen);
}

static void on_close(struct http_exchange *x, enum http_end end, void *arg)
{
	struct request *r = x->user;

	(void)arg;
	clock_cancel(&r->fake->clock, &r->delay);
	streams_over(r);
	stats_close(r, r->stopped ? HTTP_GONE : end);
	if (r->gen)
		engine_cancel(r->gen);
	buf_free(&r->body);
	script_fini(&r->script);
	free(r);
}

const struct http_handler api_handler = {on_open, on_body, on_ready, on_drained, on_close};
