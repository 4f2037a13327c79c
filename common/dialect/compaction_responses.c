/*
 * Compaction as OpenAI's /v1/responses has it (docs/responses.md#compaction): an item, whose encrypted_content is
 * the signature on a line of its own, and the text. Bodies are those that responses_mend() made: a compaction item
 * is a user's message with one part there.
 *
 * Clients send a person's messages once more before the item (POST /v1/responses/compact gives them back, and says to),
 * and what their own state is now. Of what stands before the item that is left out which the text stands for: it has
 * their hashes, since a long message is shorter in it.
 */
#include "common/dialect/compaction_responses.h"

#include "common/dialect/front_responses.h"
#include "common/dialect/pieces.h"

#define SEAL_BEGIN "[tandem compaction "
#define SEAL_END "]\n"

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

struct json_value responses_item_of(const struct chat_message *m)
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
		out->content = responses_item_of(&r->messages[i]);
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

/* --- bodies --- */

static void put_raw(struct compaction_messages *m, struct json_value message)
{
	responses_close_message(m);
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
		responses_begin_message(m, "system");
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
	int rc = responses_stand_for(r, f, text, &kept, out);
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
	responses_close_message(&m);
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
	.put_message = responses_put_message,
	.put_stood = responses_put_stood,
	.put_block = put_block,
	.put_head = put_head,
	.words = responses_put_words,
	.call = responses_put_call,
	.result = responses_put_result,
	.close = responses_close_message,
};
