/*
 * Compaction as OpenAI's /v1/responses has it (docs/responses.md#compaction): an item, whose encrypted_content is
 * the signature on a line of its own, and the text. Bodies are those that responses_mend() made: a compaction item
 * is a user's message with one part there.
 *
 * Clients send a person's messages once more before the item (POST /v1/responses/compact gives them back, and says to),
 * and what their own state is now. Of what stands before the item that is left out which the text stands for: it has
 * their hashes, since a long message is shorter in it.
 */
#include "common/dialect/compaction_form.h"

#include "common/base/hash.h"
#include "common/base/hex.h"
#include "common/dialect/front_responses.h"
#include "common/dialect/pieces.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SEAL_BEGIN "[tandem compaction "
#define SEAL_END "]\n"
#define STOOD "stands"
#define HASH_DIGITS 16

/* --- what is wished --- */

static int wished_alone(
	const struct chat_request *r, struct dialect_error *error, const char **code)
{
	if (!compaction_has_words(r))
		return compaction_refuse(error, code, NULL, "input: holds nothing to compact");
	if (compaction_is_incomplete(r))
		return compaction_refuse(
			error, code, NULL, "input: the last call has no output yet");
	return 0;
}

static int wished_entry(struct json_value entry, struct compaction_wish *out,
	struct dialect_error *error, const char **code)
{
	struct json_value threshold = json_get(entry, "compact_threshold");
	if (!json_string_is(json_get(entry, "type"), "compaction"))
		return compaction_refuse(
			error, code, NULL, "context_management: type must be \"compaction\"");
	out->edit = true;
	out->trigger = 0;
	if (is_absent(threshold) || (json_to_int(threshold, &out->trigger) && out->trigger >= 1))
		return 0;
	return compaction_refuse(error, code, NULL,
		"context_management: compact_threshold must be a number of tokens");
}

static int wished(const struct chat_request *r, struct compaction_wish *out,
	struct dialect_error *error, const char **code)
{
	struct json_value management, trigger, entry;
	int rc = 0;
	FIELDS_GET(r->root, {"context_management", &management}, {RESPONSES_TRIGGER, &trigger});
	out->alone = out->alone || trigger.type == JSON_TRUE;
	if (out->alone)
		return wished_alone(r, error, code);
	if (!is_absent(management) && management.type != JSON_ARRAY)
		return compaction_refuse(error, code, NULL, "context_management: must be a list");
	struct json_iter it = json_iter(management);
	while (rc == 0 && json_array_next(&it, &entry))
		rc = wished_entry(entry, out, error, code);
	return rc;
}

/* --- an item that is there --- */

static struct json_value item_of(const struct chat_message *m)
{
	struct json_iter it = json_iter(m->content);
	struct json_value part = {.type = JSON_NONE};
	if (m->content.type == JSON_ARRAY)
		json_array_next(&it, &part);
	return json_string_is(json_get(part, "type"), "compaction")
		       ? json_get(part, "encrypted_content")
		       : (struct json_value){.type = JSON_NONE};
}

static bool find(const struct chat_request *r, struct compaction_found *out, int *rc,
	struct dialect_error *error, const char **code)
{
	(void)rc; /* responses_mend() has refused what is none */
	(void)error;
	(void)code;
	for (size_t i = r->count; i-- > 0;) {
		out->content = item_of(&r->messages[i]);
		out->at = i;
		if (out->content.type == JSON_STRING)
			return true;
	}
	return false;
}

/* What has no such line has no signature. */
static int open_item(const struct compaction_found *f, struct buf *content, struct slice *text,
	struct buf *signature)
{
	size_t begin = strlen(SEAL_BEGIN);
	json_string_decode(f->content, content);
	*text = buf_slice(content);
	if (content->n < begin || memcmp(content->p, SEAL_BEGIN, begin) != 0)
		return buf_error(content);
	struct slice rest = {content->p + begin, content->n - begin};
	const char *end = memmem(rest.p, rest.n, SEAL_END, strlen(SEAL_END));
	if (!end)
		return buf_error(content);
	buf_add(signature, rest.p, (size_t)(end - rest.p));
	end += strlen(SEAL_END);
	*text = (struct slice){end, (size_t)(content->p + content->n - end)};
	return buf_error(content) ? buf_error(content) : buf_error(signature);
}

static int disown(bool altered, struct dialect_error *error, const char **code)
{
	return compaction_refuse(error, code, COMPACTION_CONTENT_INVALID,
		altered ? "The encrypted content of a compaction item could not be verified: it "
			  "was altered since it was made here."
			: "The encrypted content of a compaction item could not be verified: it "
			  "was not made here, or its key is gone.");
}

/* --- messages as sections --- */

/* The instructions stand in front of what else the system says, and come with each request. */
static void put_developer(const struct chat_request *r, const struct chat_message *m,
	struct buf *out, struct buf *scratch)
{
	struct slice inner = string_inner(m->content);
	int64_t skip = 0;
	json_to_int(json_get(r->root, RESPONSES_INSTRUCTIONS), &skip);
	if (skip > 0)
		skip += 2; /* \n */
	if (skip < 0 || (size_t)skip >= inner.n)
		return;
	struct buf quoted;
	buf_init(&quoted, 0);
	buf_add_char(&quoted, '"');
	buf_add(&quoted, inner.p + skip, inner.n - (size_t)skip);
	buf_add_char(&quoted, '"');
	buf_clear(scratch);
	json_string_decode((struct json_value){JSON_STRING, buf_slice(&quoted)}, scratch);
	if (buf_error(&quoted))
		scratch->error = buf_error(&quoted);
	compaction_put_section(out, "system", buf_slice(scratch));
	buf_free(&quoted);
}

static void put_turn(const struct chat_message *m, struct buf *out, struct buf *scratch)
{
	struct json_iter it = json_iter(m->tool_calls);
	struct chat_call call;
	buf_clear(scratch);
	chat_content_text(m->content, scratch);
	if (scratch->n)
		compaction_put_section(out, "assistant", buf_slice(scratch));
	while (m->tool_calls.type == JSON_ARRAY && chat_call_next(&it, &call)) {
		buf_clear(scratch);
		if (call.arguments.type == JSON_STRING)
			json_string_decode(call.arguments, scratch);
		compaction_put_call(out, call.id, call.name, buf_slice(scratch));
	}
}

static void put_message(
	const struct chat_request *r, size_t i, struct buf *out, struct buf *scratch)
{
	const struct chat_message *m = &r->messages[i];
	if (m->role == CHAT_SYSTEM) {
		put_developer(r, m, out, scratch);
	} else if (m->role == CHAT_ASSISTANT) {
		put_turn(m, out, scratch);
	} else if (m->role == CHAT_TOOL) {
		compaction_put_result(out, m, scratch);
	} else {
		buf_clear(scratch);
		chat_content_text(m->content, scratch);
		compaction_put_pictures(scratch, m->images + m->others);
		compaction_put_section(out, "user", buf_slice(scratch));
	}
}

/* --- what a text stands for --- */

/* Of what a person sees of it: the same however a client writes its JSON. */
static uint64_t hash_of(const struct chat_message *m, struct buf *scratch)
{
	buf_clear(scratch);
	chat_content_text(m->content, scratch);
	uint64_t h = hash_fnv(HASH_FNV_START, scratch->p, scratch->n);
	return hash_fnv(h, &(unsigned char){(unsigned char)m->images}, 1);
}

static bool is_plain_user(const struct chat_message *m)
{
	return m->role == CHAT_USER && item_of(m).type == JSON_NONE;
}

static void put_stood(const struct chat_request *whole, struct buf *out, struct buf *scratch)
{
	buf_add_str(out, "## " STOOD " for\n");
	buf_clear(scratch);
	json_string_decode(json_get(whole->root, RESPONSES_STOOD), scratch);
	buf_add_slice(out, buf_slice(scratch));
	for (size_t i = 0; i < whole->count; i++)
		if (is_plain_user(&whole->messages[i]))
			buf_printf(out, "%016" PRIx64 "\n", hash_of(&whole->messages[i], scratch));
	buf_add_char(out, '\n');
}

static bool read_hash(const char *p, uint64_t *out)
{
	*out = 0;
	for (int i = 0; i < HASH_DIGITS; i++) {
		int digit = hex_digit(p[i]);
		if (digit < 0)
			return false;
		*out = *out << 4 | (uint64_t)digit;
	}
	return true;
}

static int compare(const void *a, const void *b)
{
	uint64_t x, y;
	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

/* Sorted: clients choose the messages, and so where a table would have them. */
static void read_stood(struct slice text, struct buf *hashes)
{
	struct buf lines;
	uint64_t h;
	buf_init(&lines, 0);
	compaction_take(text, STOOD, false, &lines);
	for (size_t at = 0; at + HASH_DIGITS <= lines.n; at += HASH_DIGITS + 1)
		if (read_hash(lines.p + at, &h))
			buf_add(hashes, &h, sizeof(h));
	if (buf_error(&lines))
		hashes->error = buf_error(&lines);
	buf_free(&lines);
	if (hashes->n)
		qsort(hashes->p, hashes->n / sizeof(h), sizeof(h), compare);
}

/* --- sections as messages --- */

static void close_message(struct compaction_messages *m)
{
	if (m->blocks)
		buf_add_char(m->out, ']');
	if (m->role[0])
		buf_add_char(m->out, '}');
	m->blocks = false;
	m->role[0] = '\0';
}

/* Up to its content. */
static void begin_message(struct compaction_messages *m, const char *role)
{
	close_message(m);
	buf_printf(m->out, "%s{\"role\":\"%s\",\"content\":", m->some ? "," : "", role);
	snprintf(m->role, sizeof(m->role), "%s", role);
	m->some = true;
}

/* What the system says first is in the message at the beginning. */
static void words(struct compaction_messages *m, const char *role, struct slice body)
{
	bool system = strcmp(role, "system") == 0;
	if (system && !m->begun)
		return;
	begin_message(m, system ? "user" : role);
	buf_add_str(m->out, system ? "\"<system-reminder>\\n" : "\"");
	json_put_escaped(m->out, body);
	buf_add_str(m->out, system ? "\\n</system-reminder>\"" : "\"");
}

static void call(
	struct compaction_messages *m, struct slice id, struct slice name, struct slice body)
{
	if (strcmp(m->role, "assistant") != 0) {
		begin_message(m, "assistant");
		buf_add_str(m->out, "\"\"");
	}
	buf_add_str(m->out, m->blocks ? ",{\"id\":" : ",\"tool_calls\":[{\"id\":");
	m->blocks = true;
	compaction_put_json(m->out, id, JSON_STRING, "\"\"");
	buf_add_str(m->out, ",\"type\":\"function\",\"function\":{\"name\":");
	compaction_put_json(m->out, name, JSON_STRING, "\"\"");
	buf_add_str(m->out, ",\"arguments\":");
	json_put_string(m->out, body);
	buf_add_str(m->out, "}}");
}

static void result(struct compaction_messages *m, struct slice id, struct slice body, bool failed)
{
	(void)failed; /* Anthropic's; its text says it */
	begin_message(m, "tool");
	json_put_string(m->out, body);
	json_put_key(m->out, "tool_call_id");
	compaction_put_json(m->out, id, JSON_STRING, "\"\"");
}

/* --- bodies --- */

static void put_raw(struct compaction_messages *m, struct json_value message)
{
	close_message(m);
	buf_add_str(m->out, m->some ? "," : "");
	buf_add_slice(m->out, message.raw);
	m->some = true;
}

static const struct chat_message *system_of(const struct chat_request *r)
{
	return r->count && r->messages[0].role == CHAT_SYSTEM ? &r->messages[0] : NULL;
}

static void put_head(const struct chat_request *r, struct compaction_messages *m)
{
	if (system_of(r))
		put_raw(m, system_of(r)->raw);
}

static void put_block(struct slice text, struct slice signature, struct buf *out)
{
	json_put_key(out, "encrypted_content");
	buf_add_str(out, "\"" SEAL_BEGIN);
	json_put_escaped(out, signature);
	json_put_escaped(out, SLICE(SEAL_END));
	json_put_escaped(out, text);
	buf_add_char(out, '"');
}

/* The system's words of now, and behind them what the text has of it besides. */
static void apply_system(
	const struct chat_request *r, struct slice text, struct compaction_messages *m)
{
	const struct chat_message *system = system_of(r);
	struct buf before, now;
	buf_init(&before, 0);
	buf_init(&now, 0);
	compaction_take(text, "system", true, &before);
	if (system)
		json_string_decode(system->content, &now);
	bool more = before.n && (now.n == 0 || !memmem(now.p, now.n, before.p, before.n));
	if (system && !more) {
		put_raw(m, system->raw);
	} else if (more) {
		begin_message(m, "system");
		buf_add_char(m->out, '"');
		if (system) {
			buf_add_slice(m->out, string_inner(system->content));
			buf_add_str(m->out, "\\n");
		}
		json_put_escaped(m->out, buf_slice(&before));
		buf_add_char(m->out, '"');
	}
	if (buf_error(&before) || buf_error(&now))
		m->out->error = buf_error(&before) ? buf_error(&before) : buf_error(&now);
	buf_free(&before);
	buf_free(&now);
}

/* What of the messages before the item the text stands for; kept: set for the others. */
static int stand_for(const struct chat_request *r, const struct compaction_found *f,
	struct slice text, struct buf *kept, struct buf *out)
{
	struct buf scratch, hashes;
	buf_init(&scratch, 0);
	buf_init(&hashes, 0);
	read_stood(text, &hashes);
	for (size_t i = 0; i < f->at; i++) {
		if (!is_plain_user(&r->messages[i]))
			continue;
		uint64_t h = hash_of(&r->messages[i], &scratch);
		if (hashes.n && bsearch(&h, hashes.p, hashes.n / sizeof(h), sizeof(h), compare))
			buf_printf(out, "%016" PRIx64 "\\n", h);
		else
			buf_add(kept, &i, sizeof(i));
	}
	int rc = buf_error(&scratch)  ? buf_error(&scratch)
		 : buf_error(&hashes) ? buf_error(&hashes)
				      : buf_error(kept);
	buf_free(&scratch);
	buf_free(&hashes);
	return rc;
}

static int apply(const struct chat_request *r, const struct compaction_found *f, struct slice text,
	struct buf *out)
{
	struct slice list = r->messages_array.raw;
	struct compaction_messages m = {.form = &compaction_responses, .out = out};
	struct buf kept; /* indexes */
	const char *at = r->root.raw.p + 1;
	buf_init(&kept, 0);
	buf_add(out, r->body.p, (size_t)(at - r->body.p));
	json_put_key(out, RESPONSES_STOOD);
	buf_add_char(out, '"');
	int rc = stand_for(r, f, text, &kept, out);
	buf_add_str(out, "\",");
	buf_add(out, at, (size_t)(list.p + 1 - at));
	apply_system(r, text, &m);
	compaction_expand(&m, text);
	for (size_t n = 0, i; n < kept.n; n += sizeof(i)) {
		memcpy(&i, kept.p + n, sizeof(i));
		put_raw(&m, r->messages[i].raw);
	}
	for (size_t i = f->at + 1; i < r->count; i++)
		put_raw(&m, r->messages[i].raw);
	close_message(&m);
	buf_add_char(out, ']');
	const char *behind = list.p + list.n;
	buf_add(out, behind, (size_t)(r->body.p + r->body.n - behind));
	buf_free(&kept);
	return rc ? rc : buf_error(out);
}

/* {"error":{...,"param":null,"code":null}} */
static int name_error(const char *code, struct buf *out)
{
	static const char ends[] = "\"param\":null,\"code\":null}}";
	out->n -= strlen(ends);
	return buf_printf(out, "\"param\":\"input\",\"code\":\"%s\"}}", code);
}

const struct compaction_form compaction_responses = {
	.wished = wished,
	.find = find,
	.open = open_item,
	.disown = disown,
	.apply = apply,
	.name_error = name_error,
	.put_message = put_message,
	.put_stood = put_stood,
	.put_block = put_block,
	.put_head = put_head,
	.words = words,
	.call = call,
	.result = result,
	.close = close_message,
};
