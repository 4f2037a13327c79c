#include "supervisor/requests/small_ask.h"

#include "supervisor/requests/client.h"

#define TEXT_RAW_BYTES (64u << 10)     /* a longer text is not looked into: it is not small */
#define CONTENT_RAW_BYTES (256u << 10) /* nor are longer lists of parts walked through */

struct slice small_ask_last_text(const struct chat_request *r)
{
	struct json_value string, part;
	size_t i = r->count;
	while (i > 0 && r->messages[i - 1].role != CHAT_USER)
		i--;
	if (i == 0 || r->messages[i - 1].content.raw.n > CONTENT_RAW_BYTES)
		return (struct slice){0};
	struct chat_texts texts = chat_texts(r->messages[i - 1].content);
	return chat_texts_next(&texts, &string, &part) ? string.raw : (struct slice){0};
}

/* How the text begins, decoded; nothing of one that is too long. */
static void decode_text(struct slice raw, struct buf *out)
{
	struct json_value v = {.type = JSON_STRING, .raw = raw};
	if (raw.n < 2 || raw.n > TEXT_RAW_BYTES || json_string_decode(v, out))
		buf_clear(out);
	else if (out->n > SMALL_ASK_TEXT_BYTES)
		out->n = SMALL_ASK_TEXT_BYTES;
}

static bool has_tools(const struct chat_request *r)
{
	struct json_value first;
	struct json_iter it = json_iter(r->tools);
	return json_is(r->tools, JSON_ARRAY) && json_array_next(&it, &first);
}

void small_ask_init(
	struct small_ask *a, const struct chat_request *r, struct slice model, struct slice path)
{
	struct slice last = small_ask_last_text(r);
	buf_init(&a->text, 0);
	decode_text(last, &a->text);
	a->demanding = has_tools(r) || r->census.images > 0;
	a->facts = (struct small_facts){
		.kind = r->infills ? SMALL_AUTOCOMPLETE : client_side_task(last),
		.text = buf_slice(&a->text),
		.model = model,
		.path = path};
}

void small_ask_fini(struct small_ask *a)
{
	buf_free(&a->text);
}

const struct config_small_rule *small_ask_rule(const struct config *c, const struct small_ask *a)
{
	const struct config_small_rule *rule = small_rule(c, &a->facts);
	return rule && (rule->model || !a->demanding) ? rule : NULL;
}

const char *small_ask_what(const struct config_small_rule *rule)
{
	return rule->kind == SMALL_ANY ? "by rule" : small_kind_name(rule->kind);
}

bool small_ask_fits(uint64_t tokens, int64_t max_output, int64_t window)
{
	struct plan_facts f = {.tokens = tokens, .max_output = max_output, .main.window = window};
	return plan_fits(&f);
}
