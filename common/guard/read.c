/* The fingerprint of a prompt. */
#include "common/guard/lines.h"

#include "common/base/hash.h"
#include "common/base/sip.h"

#include <errno.h>
#include <stdlib.h>

#define MESSAGE_CHARS 24 /* what a template puts around one message */
#define IMAGE_CHARS (TOKENS_PER_IMAGE * 4)
#define FIRST_LINES 256
#define OWN "\"tandem_" /* a key of the gateway's own begins so */
#define OWN_BYTES (sizeof(OWN) - 1)

const char *guard_kind_name(enum guard_kind kind)
{
	static const char *const names[GUARD_KINDS] = {"new", "kept", "branched", "compacted",
		"clock", "counter", "attribution", "tools-order", "tools-spelling", "tools",
		"edited", "dropped", "num_ctx"};
	return kind < GUARD_KINDS ? names[kind] : "?";
}

bool guard_can(const struct chat_request *r)
{
	return json_is(r->messages_array, JSON_ARRAY) && r->count > 0 && !r->bare && !r->is_load;
}

/* --- hashes --- */

static uint64_t hash_value(uint64_t h, struct json_value v)
{
	return hash_mix(h ^ hash_bytes(v.raw.p, v.raw.n) ^ (uint64_t)v.type);
}

static uint64_t hash_keyed(const uint64_t key[2], uint64_t before, struct slice bytes)
{
	struct sip s;
	sip_init(&s, key);
	sip_add(&s, &before, sizeof(before));
	sip_add(&s, bytes.p, bytes.n);
	return sip_end(&s);
}

/* Of the JSON that a value is, however it is spaced and whatever order its keys have. Strings and
 * numbers as they are written. */
static uint64_t hash_meaning(const uint64_t key[2], struct json_value v)
{
	struct json_iter it = json_iter(v);
	struct json_value name, value;
	uint64_t h = 0;
	if (v.type == JSON_OBJECT) {
		while (json_object_next(&it, &name, &value))
			h += hash_keyed(key, hash_meaning(key, value), name.raw);
		return hash_keyed(key, h, SLICE("{}"));
	}
	if (v.type != JSON_ARRAY)
		return hash_keyed(key, 0, v.raw);
	while (json_array_next(&it, &value))
		h = hash_keyed(key, h ^ hash_meaning(key, value), SLICE(","));
	return hash_keyed(key, h, SLICE("[]"));
}

/* Beside the text: calls, the call that a result answers, pictures. */
static uint64_t hash_rest(const struct chat_message *m, uint64_t h)
{
	struct json_iter it = json_iter(m->tool_calls);
	struct chat_call call;
	while (chat_call_next(&it, &call)) {
		h = hash_value(h, call.id);
		h = hash_value(h, call.name);
		h = hash_value(h, call.arguments);
	}
	h = hash_value(h, m->call_id);
	if ((m->images || m->others) && json_is(m->content, JSON_ARRAY))
		h = hash_value(h, m->content);
	else if (m->images && json_is(m->raw, JSON_OBJECT))
		h = hash_value(
			h, m->content.type == JSON_NONE ? m->raw : json_get(m->raw, "images"));
	return h;
}

/* --- lines --- */

static int add_line(struct guard_prompt *p, const struct guard_line *line)
{
	if (p->line_count == p->line_room) {
		size_t room = p->line_room ? p->line_room * 2 : FIRST_LINES;
		struct guard_line *grown = reallocarray(p->lines, room, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		p->lines = grown;
		p->line_room = room;
	}
	p->lines[p->line_count++] = *line;
	return 0;
}

static int take_line(struct guard_prompt *p, struct guard_message *to, struct slice text,
	uint64_t hash, size_t at, unsigned options)
{
	struct guard_line line = {.exact = (uint32_t)hash,
		.at = (uint32_t)at,
		.bytes = (uint32_t)text.n,
		.kept = GUARD_NOT_KEPT};
	if (p->line_count == GUARD_LINES_MAX) {
		to->lines = 0; /* half of a message would be another one */
		return 0;
	}
	guard_line_look(text, &line);
	if ((options & GUARD_KEEP) && line.kind) {
		line.kept = (uint32_t)p->kept.n;
		if (buf_add_slice(&p->kept, text))
			return -ENOMEM;
	}
	to->lines++;
	return add_line(p, &line);
}

/* What a text says is the same as one string and as a list of one. */
static int take_texts(
	struct guard_prompt *p, const struct chat_message *m, unsigned options, uint64_t *h)
{
	struct guard_message *to = &p->messages[p->count];
	bool alone;
	struct slice skip = guard_attribution(m, &alone);
	struct guard_walk w = guard_walk(m);
	size_t at = 0;
	int rc = 0;
	if (skip.n)
		p->attribution = hash_bytes(skip.p, skip.n);
	while (rc == 0 && guard_walk_next(&w)) {
		if (skip.n && w.line.p == skip.p)
			continue;
		if (w.first)
			to->summarises |= guard_summarises(
				(struct slice){w.line.p, (size_t)(w.end - w.line.p)});
		uint64_t hash = hash_bytes(w.line.p, w.line.n);
		*h = hash_mix(*h ^ hash);
		rc = take_line(p, to, w.line, hash, at, options);
		at += w.line.n + 2;
	}
	return rc;
}

static int take_message(struct guard_prompt *p, const struct chat_message *m, unsigned options)
{
	struct guard_message *to = &p->messages[p->count];
	uint64_t h = (uint64_t)m->role + 1;
	*to = (struct guard_message){.role = m->role,
		.line = p->line_count,
		.weight = MESSAGE_CHARS + (double)m->chars + (double)m->images * IMAGE_CHARS};
	int rc = take_texts(p, m, options, &h);
	to->hash = hash_rest(m, h);
	to->chain = hash_mix((p->count ? p->messages[p->count - 1].chain : 0) ^ to->hash);
	if (m->role == CHAT_TOOL && json_is(m->call_id, JSON_STRING))
		to->call = (uint32_t)hash_bytes(m->call_id.raw.p, m->call_id.raw.n) | 1;
	if (m->role == CHAT_USER && !p->first_human)
		p->first_human = to->hash;
	p->count++;
	return rc;
}

/* --- tools --- */

/* What these are equal to goes in their place: the hashes are keyed, so that nobody makes two of one. */
static void take_tools(struct guard_prompt *p, const struct chat_request *r, const uint64_t key[2])
{
	struct json_iter it = json_iter(r->tools);
	struct json_value tool;
	p->tools_weight = (double)r->tools_bytes;
	while (json_array_next(&it, &tool)) {
		uint64_t meaning = hash_meaning(key, tool);
		p->tools_set += meaning;
		p->tools_row = hash_keyed(key, p->tools_row ^ meaning, SLICE(",")) | 1;
	}
	if (p->tools_row)
		p->tools_bytes = hash_keyed(key, 0, r->tools.raw) | 1;
}

/* --- the whole --- */

static int by_hash(const void *a, const void *b, void *of)
{
	const struct guard_message *m = of;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	if (m[x].hash != m[y].hash)
		return m[x].hash < m[y].hash ? -1 : 1;
	return (x > y) - (x < y);
}

static int take_all(const struct chat_request *r, unsigned options, const uint64_t key[2],
	struct guard_prompt *p)
{
	int rc = 0;
	p->messages = calloc(r->count, sizeof(*p->messages));
	p->by_hash = calloc(r->count, sizeof(*p->by_hash));
	if (!p->messages || !p->by_hash)
		return -ENOMEM;
	for (size_t i = 0; i < r->count && rc == 0; i++) {
		p->by_hash[i] = (uint32_t)i;
		rc = take_message(p, &r->messages[i], options);
	}
	take_tools(p, r, key);
	qsort_r(p->by_hash, p->count, sizeof(*p->by_hash), by_hash, p->messages);
	return rc;
}

/* The line that was left out when the body was read: the gateway's own members stand in front. */
static void take_left_out(struct guard_prompt *p, const struct chat_request *r)
{
	struct json_iter it = json_iter(r->root);
	struct json_value key, value;
	while (!p->attribution && json_object_next(&it, &key, &value) && key.raw.n > OWN_BYTES &&
		memcmp(key.raw.p, OWN, OWN_BYTES) == 0) {
		p->left_out = json_string_is(key, CHAT_ATTRIBUTION);
		if (p->left_out)
			p->attribution = hash_bytes(value.raw.p, value.raw.n);
	}
}

int guard_read(const struct chat_request *r, unsigned options, const uint64_t key[2],
	struct guard_prompt *p)
{
	buf_init(&p->kept, 0);
	p->num_ctx = r->num_ctx;
	int rc = take_all(r, options, key, p);
	take_left_out(p, r);
	if (rc)
		guard_prompt_fini(p);
	return rc;
}

void guard_prompt_fini(struct guard_prompt *p)
{
	free(p->messages);
	free(p->by_hash);
	free(p->lines);
	buf_free(&p->kept);
	*p = (struct guard_prompt){0};
}

size_t guard_prompt_bytes(const struct guard_prompt *p)
{
	return p->count * (sizeof(*p->messages) + sizeof(*p->by_hash)) +
	       p->line_room * sizeof(*p->lines) + p->kept.n;
}

void guard_prompt_thin(struct guard_prompt *p)
{
	free(p->lines);
	buf_free(&p->kept);
	p->lines = NULL;
	p->line_count = p->line_room = 0;
	for (size_t i = 0; i < p->count; i++)
		p->messages[i].lines = 0;
}

double guard_weight(const struct guard_prompt *p)
{
	double all = p->tools_weight;
	for (size_t i = 0; i < p->count; i++)
		all += p->messages[i].weight;
	return all;
}
