#include "common/dialect/backend.h"

#include "common/dialect/translate.h"
#include "common/dialect/tune.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

int translate_refuse(struct translation *t, const char *text)
{
	t->error->status = 400;
	snprintf(t->error->text, sizeof(t->error->text), "%s", text);
	return -EINVAL;
}

void translate_numbers(
	struct buf *out, struct json_value object, const struct rename *names, size_t n)
{
	struct json_value values[MAX_RENAMES];
	struct field fields[MAX_RENAMES] = {0};
	for (size_t i = 0; i < n; i++)
		fields[i] = (struct field){names[i].from, &values[i]};
	fields_get(object, fields, n);
	for (size_t i = 0; i < n; i++) {
		if (values[i].type == JSON_NUMBER)
			member_copy(out, names[i].to, values[i]);
	}
}

static int translate(enum backend_api api, const struct chat_request *r, int64_t num_ctx,
	struct backend_call *call, struct buf *body, struct dialect_error *error)
{
	struct translation t = {.r = r, .out = body, .error = error};
	buf_init(&t.scratch, 0);
	int rc = api == BACKEND_OLLAMA ? translate_to_ollama(&t, num_ctx)
				       : translate_to_llama(&t, call);
	buf_free(&t.scratch);
	return rc ? rc : buf_error(body);
}

int backend_call_build(enum backend_api api, const struct chat_request *r, int64_t num_ctx,
	struct backend_call *call, struct buf *body, struct dialect_error *error)
{
	*call = (struct backend_call){.stream = r->stream};
	switch (r->dialect) {
	case DIALECT_OLLAMA_CHAT:
		call->path = "/api/chat";
		call->format = ANSWER_OLLAMA_CHAT;
		call->raw = api == BACKEND_OLLAMA;
		break;
	case DIALECT_OLLAMA_GENERATE:
		call->path = "/api/generate";
		call->format = ANSWER_OLLAMA_GENERATE;
		call->raw = api == BACKEND_OLLAMA;
		break;
	case DIALECT_OPENAI_CHAT:
		call->path = api == BACKEND_OLLAMA ? "/api/chat" : "/v1/chat/completions";
		call->format = api == BACKEND_OLLAMA ? ANSWER_OLLAMA_CHAT : ANSWER_OPENAI_CHAT;
		call->raw = api == BACKEND_LLAMA_SERVER;
		break;
	default:
		error->status = 404;
		snprintf(error->text, sizeof(error->text), "no chat request");
		return -EINVAL;
	}
	if (call->raw)
		return api == BACKEND_OLLAMA ? chat_request_tune(r, num_ctx, body) : 0;
	if (r->is_load) {
		call->path = NULL;
		return 0;
	}
	return translate(api, r, num_ctx, call, body, error);
}

int backend_notes_build(enum backend_api api, struct slice model, struct slice instruction,
	struct slice data, int64_t max_tokens, int64_t num_ctx, struct backend_call *call,
	struct buf *body)
{
	bool ollama = api == BACKEND_OLLAMA;
	*call = (struct backend_call){
		.path = ollama ? "/api/chat" : "/v1/chat/completions",
		.format = ollama ? ANSWER_OLLAMA_CHAT : ANSWER_OPENAI_CHAT,
	};
	buf_add_str(body, "{\"model\":");
	json_put_string(body, model);
	buf_add_str(body, ",\"messages\":[{\"role\":\"system\",\"content\":");
	json_put_string(body, instruction);
	buf_add_str(body, "},{\"role\":\"user\",\"content\":");
	json_put_string(body, data);
	buf_add_str(body, "}],\"stream\":false");
	if (!ollama)
		return buf_printf(body,
			",\"temperature\":0,\"seed\":0,\"max_tokens\":%" PRId64
			",\"chat_template_kwargs\":{\"enable_thinking\":false}}",
			max_tokens);
	/* Only "think": true is refused by models that can't. */
	buf_printf(body,
		",\"truncate\":false,\"think\":false,\"options\":{\"temperature\":0,\"seed\":0,"
		"\"num_predict\":"
		"%" PRId64,
		max_tokens);
	if (num_ctx > 0)
		buf_printf(body, ",\"num_ctx\":%" PRId64, num_ctx);
	return buf_add_str(body, "}}");
}
