#include "common/dialect/resume.h"

#include "common/dialect/back.h"
#include "common/dialect/front.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* One place of the body that changes; what is put there is a span of the changes' own text. */
struct change {
	struct slice cut; /* replaced; empty: a place to insert at */
	size_t from, to;
};

/* The message, three limits, thinking. */
#define MAX_CHANGES 6

struct changes {
	struct change list[MAX_CHANGES];
	size_t count;
	struct buf text;
};

static const char *end_of(struct slice s)
{
	return s.p + s.n;
}

static void change_begin(struct changes *c, struct slice cut)
{
	c->list[c->count].cut = cut;
	c->list[c->count].from = c->text.n;
}

static void change_end(struct changes *c)
{
	c->list[c->count].to = c->text.n;
	c->count++;
}

static void change_put(struct changes *c, struct slice cut, struct slice put)
{
	change_begin(c, cut);
	buf_add_slice(&c->text, put);
	change_end(c);
}

static int by_place(const void *a, const void *b)
{
	const struct change *x = a, *y = b;
	return (x->cut.p > y->cut.p) - (x->cut.p < y->cut.p);
}

static int changes_apply(struct changes *c, struct slice body, struct buf *out)
{
	const char *at = body.p;
	int rc = buf_error(&c->text);
	qsort(c->list, c->count, sizeof(c->list[0]), by_place);
	for (size_t i = 0; i < c->count && rc == 0; i++) {
		const struct change *one = &c->list[i];
		buf_add(out, at, (size_t)(one->cut.p - at));
		buf_add(out, c->text.p + one->from, one->to - one->from);
		at = end_of(one->cut);
	}
	buf_add(out, at, (size_t)(end_of(body) - at));
	return rc ? rc : buf_error(out);
}

/* --- what can be gone on with --- */

/* The client's own beginning of the answer, which the text lengthens. */
static bool ends_with_answer(const struct chat_request *r)
{
	return r->count && r->messages[r->count - 1].role == CHAT_ASSISTANT;
}

/* What a front refuses is above all a prescribed form: a grammar begins anew with the first token that
 * is generated, so the half of a JSON object would get a whole one behind it. */
const char *resume_refused(const struct chat_request *r)
{
	const struct front_resume *front = &front_of(r->dialect)->resume;
	const char *why = front->refused ? front->refused(r) : NULL;
	if (r->is_load || r->count == 0)
		return "no answer is asked for";
	if (why)
		return why;
	if (ends_with_answer(r)) {
		const struct chat_message *last = &r->messages[r->count - 1];
		if (last->content.type != JSON_STRING || value_filled(last->tool_calls))
			return "the request's own beginning of the answer is not plain text";
	}
	return NULL;
}

/* --- the limit of output tokens --- */

/* The number that is left of a limit; false where v is none. */
static bool limit_left(struct json_value v, int64_t tokens, int64_t *left, bool *spent)
{
	int64_t limit;
	if (!json_to_int(v, &limit) || limit <= 0)
		return false;
	*left = limit > tokens ? limit - tokens : 1;
	*spent = *spent || limit <= tokens;
	return true;
}

static void put_limits(struct changes *c, const struct chat_request *r, int64_t tokens, bool *spent)
{
	const struct front_resume *front = &front_of(r->dialect)->resume;
	struct json_value holder = front->limits_in ? json_get(r->root, front->limits_in) : r->root;
	for (size_t i = 0; front->limits[i] && json_is(holder, JSON_OBJECT); i++) {
		struct json_value limit = json_get(holder, front->limits[i]);
		int64_t left;
		if (!limit_left(limit, tokens, &left, spent))
			continue;
		change_begin(c, limit.raw);
		buf_printf(&c->text, "%" PRId64, left);
		change_end(c);
	}
}

/* --- thinking: a model that may think is not given the beginning of an answer --- */

static void put_member(
	struct changes *c, struct json_value object, const char *name, struct slice value)
{
	struct json_value old = json_get(object, name);
	if (old.type != JSON_NONE) {
		change_put(c, old.raw, value);
		return;
	}
	change_begin(c, (struct slice){object.raw.p + 1, 0});
	buf_printf(&c->text, "\"%s\":", name);
	buf_add_slice(&c->text, value);
	if (value_filled(object))
		buf_add_char(&c->text, ',');
	change_end(c);
}

static void put_no_thinking(struct changes *c, const struct chat_request *r, enum backend_api api)
{
	const struct front_dialect *front = front_of(r->dialect);
	const char *in = front->resume.thinking_in, *name = front->resume.thinking;
	if (!in || front->api != back_of(api)->api) {
		put_member(c, r->root, "think", SLICE("false"));
		return;
	}
	struct json_value holder = json_get(r->root, in);
	if (holder.type == JSON_OBJECT) {
		put_member(c, holder, name, SLICE("false"));
		return;
	}
	struct buf whole;
	buf_init(&whole, 0);
	buf_printf(&whole, "{\"%s\":false}", name);
	put_member(c, r->root, in, buf_slice(&whole));
	buf_free(&whole);
}

/* --- the text --- */

static void put_answer(struct buf *out, struct slice text)
{
	buf_add_str(out, ",{\"role\":\"assistant\",\"content\":");
	json_put_string(out, text);
	buf_add_char(out, '}');
}

/* Behind the characters of a string, before its quote. */
static void lengthen(struct changes *c, struct json_value string, struct slice text)
{
	change_begin(c, (struct slice){end_of(string.raw) - 1, 0});
	json_put_escaped(&c->text, text);
	change_end(c);
}

/* What the text has beyond the client's own beginning, where the backend said that first. */
static struct slice beyond(const struct chat_message *own, struct slice text)
{
	struct buf given;
	buf_init(&given, 0);
	size_t n = json_string_decode(own->content, &given)
			   ? 0
			   : resume_echo(buf_slice(&given), 2, text);
	buf_free(&given);
	return (struct slice){text.p + n, text.n - n};
}

static void put_text(struct changes *c, const struct chat_request *r, struct slice text)
{
	const struct chat_message *last = &r->messages[r->count - 1];
	if (ends_with_answer(r))
		text = beyond(last, text);
	if (r->messages_array.type == JSON_NONE || ends_with_answer(r)) {
		lengthen(c, last->content, text);
		return;
	}
	/* Behind the client's last one, of which the view's may be but a part. */
	const char *place = end_of(r->messages_array.raw) - 1;
	while (strchr(" \t\r\n", place[-1]))
		place--;
	change_begin(c, (struct slice){place, 0});
	put_answer(&c->text, text);
	change_end(c);
}

/* --- /api/generate as a chat: its prompt has no place for an answer's beginning --- */

static void put_messages(const struct chat_request *r, struct slice text, struct buf *out)
{
	struct json_value images = json_get(r->root, "images");
	buf_add_str(out, "\"messages\":[");
	for (size_t i = 0; i < r->count; i++) {
		bool system = r->messages[i].role == CHAT_SYSTEM;
		buf_add_str(out, i ? ",{\"role\":" : "{\"role\":");
		buf_add_str(out, system ? "\"system\"" : "\"user\"");
		member_copy(out, "content", r->messages[i].content);
		if (!system && array_count(images))
			member_copy(out, "images", images);
		buf_add_char(out, '}');
	}
	put_answer(out, text);
	buf_add_char(out, ']');
}

static int generate_as_chat(const struct chat_request *r, struct slice text, int64_t tokens,
	bool *spent, struct buf *out)
{
	static const char *const taken[] = {
		"prompt", "system", "images", "suffix", "template", "context", "raw", "think"};
	struct json_iter it = json_iter(r->root);
	struct json_value key, value, limit;
	int64_t left;
	buf_add_char(out, '{');
	put_messages(r, text, out);
	buf_add_str(out, ",\"think\":false");
	while (json_object_next(&it, &key, &value)) {
		bool skip = json_string_is(key, "messages");
		for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
			skip = skip || json_string_is(key, taken[i]);
		if (skip)
			continue;
		buf_add_char(out, ',');
		buf_add_slice(out, key.raw);
		buf_add_char(out, ':');
		limit = value.type == JSON_OBJECT && json_string_is(key, "options")
				? json_get(value, "num_predict")
				: (struct json_value){.type = JSON_NONE};
		if (!limit_left(limit, tokens, &left, spent)) {
			buf_add_slice(out, value.raw);
			continue;
		}
		buf_add(out, value.raw.p, (size_t)(limit.raw.p - value.raw.p));
		buf_printf(out, "%" PRId64, left);
		buf_add(out, end_of(limit.raw), (size_t)(end_of(value.raw) - end_of(limit.raw)));
	}
	return buf_add_char(out, '}');
}

int resume_request(const struct chat_request *r, enum backend_api api, struct slice text,
	int64_t tokens, enum dialect *dialect, bool *spent, struct buf *out)
{
	const struct front_resume *front = &front_of(r->dialect)->resume;
	const struct front_dialect *other = front->becomes ? front->becomes(r) : NULL;
	struct changes c = {.count = 0};
	*spent = false;
	*dialect = r->dialect;
	if (resume_refused(r))
		return -EINVAL;
	if (text.n == 0)
		return buf_add_slice(out, r->body);
	if (other) {
		*dialect = other->number;
		return generate_as_chat(r, text, tokens, spent, out);
	}
	buf_init(&c.text, 0); /* the text, escaped */
	put_text(&c, r, text);
	put_limits(&c, r, tokens, spent);
	if (!r->bare)
		put_no_thinking(&c, r, api);
	int rc = changes_apply(&c, r->body, out);
	buf_free(&c.text);
	return rc;
}

/* --- the stream's identity --- */

int resume_identity(struct slice events, struct buf *out)
{
	static const char mark[] = "data: {";
	struct json_value root, v[5];
	const char *at = events.n ? memmem(events.p, events.n, mark, sizeof(mark) - 1) : NULL;
	if (!at)
		return 0;
	at += sizeof(mark) - 2; /* the brace */
	const char *end = memchr(at, '\n', (size_t)(end_of(events) - at));
	struct slice line = {at, (size_t)((end ? end : end_of(events)) - at)};
	if (json_parse(line, JSON_MAX_DEPTH, &root, NULL) || root.type != JSON_OBJECT)
		return 0;
	static const char *const names[] = {
		"id", "object", "created", "model", "system_fingerprint"};
	FIELDS_GET(root, {names[0], &v[0]}, {names[1], &v[1]}, {names[2], &v[2]}, {names[3], &v[3]},
		{names[4], &v[4]});
	size_t start = out->n;
	if (v[0].type != JSON_STRING)
		return 0;
	buf_add_str(out, "\"id\":");
	buf_add_slice(out, v[0].raw);
	for (size_t i = 1; i < sizeof(names) / sizeof(names[0]); i++)
		member_copy(out, names[i], v[i]);
	if (out->n - start > RESUME_IDENTITY_BYTES)
		out->n = start;
	return buf_error(out);
}

/* --- counts --- */

struct answer_usage resume_usage(struct answer_usage u, int64_t tokens, bool spent)
{
	int64_t last = u.output_tokens > 0 && !spent ? u.output_tokens : 0;
	if (u.prompt_tokens >= 0)
		u.prompt_tokens = u.prompt_tokens > tokens ? u.prompt_tokens - tokens : 0;
	if (u.cached_tokens > u.prompt_tokens)
		u.cached_tokens = u.prompt_tokens;
	/* How long the first part took is not known: as long for each token as the last one. */
	if (last > 0 && u.output_ms > 0)
		u.output_ms *= (double)(last + tokens) / (double)last;
	u.output_tokens = last + tokens;
	return u;
}
