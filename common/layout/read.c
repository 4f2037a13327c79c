/*
 * Reading a request for the layout: chains, groups, who wrote what.
 */
#include "common/layout/parts.h"

#include "common/text/piece.h"
#include "common/text/speaker.h"
#include "common/tokens.h"

#include <errno.h>
#include <stdlib.h>

/* --- chains and groups --- */

static uint64_t mix_value(uint64_t h, struct json_value v)
{
	return hash_mix(h ^ hash_bytes(v.raw.p, v.raw.n) ^ (uint64_t)v.type);
}

uint64_t layout_message_hash(const struct chat_message *m)
{
	uint64_t h = mix_value((uint64_t)m->role + 1, m->content);
	struct json_iter it = json_iter(m->tool_calls);
	struct chat_call call;
	while (chat_call_next(&it, &call)) {
		h = mix_value(h, call.id);
		h = mix_value(h, call.name);
		h = mix_value(h, call.arguments);
	}
	h = mix_value(h, m->call_id);
	if (m->images && json_is(m->raw, JSON_OBJECT))
		h = mix_value(h, json_get(m->raw, "images"));
	return h;
}

uint32_t layout_chains(const struct chat_request *r, uint64_t *chains, uint32_t *groups)
{
	uint64_t chain = 0;
	uint32_t group = 0;
	for (size_t i = 0; i < r->count; i++) {
		const struct chat_message *m = &r->messages[i];
		if (chains)
			chains[i] = chain = hash_mix(chain ^ layout_message_hash(m));
		group += m->role == CHAT_ASSISTANT;
		if (groups)
			groups[i] = group;
	}
	return group + 1;
}

/* The newest call of each id. */
struct callers {
	struct vocab ids;
	struct caller {
		uint32_t message; /* 1 + its place */
		struct slice name;
	} * of;
	uint32_t cap;
};

/* A name as text; empty where it is none, or one with escapes. */
static struct slice name_text(struct json_value name)
{
	if (!json_is(name, JSON_STRING) || memchr(name.raw.p, '\\', name.raw.n))
		return (struct slice){0};
	return (struct slice){name.raw.p + 1, name.raw.n - 2};
}

static int note_caller(struct callers *c, const struct chat_call *call, size_t message)
{
	int error = 0;
	uint32_t id = vocab_add(&c->ids, call->id.raw.p, call->id.raw.n, &error);
	if (id == VOCAB_NONE)
		return error;
	if (id >= c->cap) {
		uint32_t cap = c->cap ? c->cap * 2 : 64;
		struct caller *grown = reallocarray(c->of, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		c->of = grown;
		c->cap = cap;
	}
	c->of[id] = (struct caller){(uint32_t)message + 1, name_text(call->name)};
	return 0;
}

/* Results and their calls, by id. The newest call of an id counts. */
static int match_calls(struct layout *l)
{
	const struct chat_request *r = l->request;
	struct callers c = {0};
	int rc = 0;
	for (size_t i = 0; i < r->count && rc == 0; i++) {
		const struct chat_message *m = &r->messages[i];
		struct json_iter it = json_iter(m->tool_calls);
		struct chat_call call;
		if (m->role == CHAT_TOOL && json_is(m->call_id, JSON_STRING)) {
			uint32_t id = vocab_find(&c.ids, m->call_id.raw.p, m->call_id.raw.n);
			if (id != VOCAB_NONE) {
				/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): an id that is found has its place */
				l->owner[i] = c.of[id].message;
				l->text[i].call = c.of[id].name;
			}
		}
		while (rc == 0 && m->role == CHAT_ASSISTANT && chat_call_next(&it, &call))
			if (json_is(call.id, JSON_STRING))
				rc = note_caller(&c, &call, i);
	}
	free(c.of);
	vocab_fini(&c.ids);
	return rc;
}

int layout_read(struct layout *l)
{
	size_t n = l->count = l->request->count;
	l->messages = calloc(n + 1, sizeof(*l->messages));
	l->texts = calloc(n + 1, sizeof(*l->texts));
	l->text = calloc(n + 1, sizeof(*l->text));
	l->out = calloc(n + 1, sizeof(*l->out));
	l->edits = calloc(n + 1, sizeof(*l->edits));
	l->owner = calloc(n + 1, sizeof(*l->owner));
	l->open = calloc(n + 2, sizeof(*l->open));
	uint64_t *chains = calloc(n + 1, sizeof(*chains));
	uint32_t *groups = calloc(n + 1, sizeof(*groups));
	int rc = -ENOMEM;
	if (l->messages && l->texts && l->text && l->out && l->edits && l->owner && l->open &&
		chains && groups)
		rc = match_calls(l);
	if (rc == 0) {
		l->groups = layout_chains(l->request, chains, groups);
		for (size_t i = 0; i < n; i++) {
			l->messages[i].chain = chains[i];
			l->messages[i].group = groups[i];
		}
	}
	free(chains);
	free(groups);
	l->first_human = l->newest_human = l->newest_files = n;
	return rc;
}

size_t layout_group_begin(const struct layout *l, uint32_t g)
{
	size_t low = 0, high = l->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (l->messages[mid].group < g)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* --- messages --- */

double layout_tokens(struct slice text, unsigned images)
{
	struct token_census census = {.images = images};
	token_census_add(&census, text);
	token_census_messages(&census, 1);
	return token_census_start(&census);
}

static bool begins(struct slice text, const char *words)
{
	size_t n = strlen(words);
	text = slice_trim(text);
	return text.n >= n && memcmp(text.p, words, n) == 0;
}

/* aider's model must give back whole files or blocks that stand in them. */
static bool are_files(struct slice text)
{
	return begins(text, "I have *added these files to the chat*");
}

/* Where the rendered tool calls begin in a message's text: behind its content. */
static size_t content_bytes(const struct chat_message *m)
{
	struct buf b;
	buf_init(&b, 0);
	chat_content_text(m->content, &b);
	size_t n = b.n;
	buf_free(&b);
	return n;
}

static enum text_role text_role_of(enum chat_role role)
{
	static const enum text_role roles[] = {[CHAT_SYSTEM] = TEXT_SYSTEM,
		[CHAT_USER] = TEXT_USER,
		[CHAT_ASSISTANT] = TEXT_ASSISTANT,
		[CHAT_TOOL] = TEXT_TOOL};
	return roles[role];
}

/* The name that a result carries, or else that of the call with its id. */
static struct slice call_of(const struct layout *l, size_t i)
{
	const struct chat_message *m = &l->request->messages[i];
	struct json_value name = {.type = JSON_NONE};
	if (m->role == CHAT_TOOL && json_is(m->raw, JSON_OBJECT)) {
		name = json_get(m->raw, "tool_name");
		if (!json_is(name, JSON_STRING))
			name = json_get(m->raw, "name");
	}
	return json_is(name, JSON_STRING) ? name_text(name) : l->text[i].call;
}

static int decode(struct layout *l, size_t i)
{
	const struct chat_message *m = &l->request->messages[i];
	struct text_message *t = &l->text[i];
	if (l->texts[i].cap)
		return 0;
	buf_reserve(&l->texts[i], 1); /* also of an empty text: it is decoded */
	if (chat_message_text(l->request, i, &l->texts[i]))
		return -ENOMEM;
	t->role = text_role_of(m->role);
	t->text = buf_slice(&l->texts[i]);
	t->group = l->messages[i].group;
	t->calls_tools = m->role == CHAT_ASSISTANT && json_is(m->tool_calls, JSON_ARRAY);
	t->calls_at = t->calls_tools ? content_bytes(m) : 0;
	t->tool_result =
		m->role == CHAT_TOOL || (m->role == CHAT_USER && text_is_tool_result(t->text));
	t->machine = m->role == CHAT_USER && m->images && speaker_is_carrier(t->text);
	if (t->tool_result)
		t->call = call_of(l, i);
	return 0;
}

static uint32_t flags_of(const struct layout *l, size_t i)
{
	const struct chat_message *m = &l->request->messages[i];
	struct text_message *t = &l->text[i];
	uint32_t flags = m->images ? PART_PICTURES : 0;
	flags |= t->calls_tools ? PART_CALLS : 0u;
	flags |= t->tool_result ? PART_RESULT : 0u;
	if (m->role == CHAT_TOOL && l->owner[i] &&
		l->messages[l->owner[i] - 1].group != l->messages[i].group)
		flags |= PART_LATE;
	if (m->role == CHAT_SYSTEM)
		return flags;
	if (m->role == CHAT_ASSISTANT) /* its calls stay, so its text does */
		return m->images && !t->calls_tools ? flags | PART_CUTTABLE : flags;
	if (m->role == CHAT_USER && are_files(t->text))
		return flags | PART_FILES | PART_CUTTABLE;
	size_t human = speaker_human_bytes(t);
	if (m->role == CHAT_USER && !t->tool_result && human > 0) {
		flags |= PART_HUMAN;
		if (t->text.n <= TEXT_HUMAN_SHORT && !m->images)
			return flags | PART_UNTOUCHED;
	}
	if (t->text.n >= LAYOUT_CUT_LEAST || m->images)
		flags |= PART_CUTTABLE;
	return flags;
}

int layout_read_message(struct layout *l, size_t i)
{
	struct layout_message *m = &l->messages[i];
	if (decode(l, i))
		return -ENOMEM;
	m->flags = flags_of(l, i);
	m->bytes_in = m->bytes_out = l->text[i].text.n;
	m->tokens_in = m->tokens_out =
		layout_tokens(l->text[i].text, l->request->messages[i].images) +
		(double)l->request->messages[i].thinking / 4;
	m->level = l->request->messages[i].role == CHAT_SYSTEM ? LAYOUT_FIXED : LAYOUT_L0;
	m->reason = m->level == LAYOUT_FIXED ? "never touched" : "as sent";
	return 0;
}

int layout_need_texts(struct layout *l)
{
	for (size_t i = 0; i < l->count && !l->has_texts; i++)
		if (decode(l, i))
			return -ENOMEM;
	l->has_texts = true;
	return 0;
}

int layout_need_corpus(struct layout *l, uint32_t g)
{
	int rc = layout_need_texts(l);
	if (rc == 0 && !l->has_corpus) {
		rc = corpus_init(&l->corpus, l->text, l->count);
		l->has_corpus = true;
	}
	size_t end = layout_group_begin(l, g + 1);
	while (rc == 0 && l->corpus.n < end)
		rc = corpus_read(&l->corpus, CORPUS_LINES);
	return rc;
}
