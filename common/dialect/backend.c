#include "common/dialect/backend.h"

#include "common/dialect/back.h"
#include "common/dialect/front.h"
#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>

/* --- the table --- */

static const struct back_dialect *const backs[BACKEND_APIS] = {
	[BACKEND_OLLAMA] = &back_ollama,
	[BACKEND_LLAMA_SERVER] = &back_llama,
	[BACKEND_OPENAI] = &back_openai,
};

const struct back_dialect *back_of(enum backend_api api)
{
	return (unsigned)api < BACKEND_APIS ? backs[api] : &back_llama;
}

/* --- calls --- */

int chat_order_make(
	const struct chat_request *r, struct chat_order *out, struct dialect_error *error)
{
	*out = (struct chat_order){.request = r, .choices = 1};
	int rc = front_of(r->dialect)->order(r, out, error);
	if (rc == 0)
		rc = order_check(out, error);
	if (rc)
		chat_order_fini(out);
	return rc;
}

static int build(const struct back_dialect *back, const struct chat_request *r, int64_t num_ctx,
	struct backend_call *call, struct buf *body, struct dialect_error *error)
{
	struct chat_order o;
	struct back_work w = {
		.o = &o, .num_ctx = num_ctx, .call = call, .out = body, .error = error};
	int rc = chat_order_make(r, &o, error);
	if (rc)
		return rc;
	buf_init(&w.scratch, 0);
	rc = back->build(&w);
	buf_free(&w.scratch);
	chat_order_fini(&o);
	return rc ? rc : buf_error(body);
}

int backend_call_build(enum backend_api api, const struct chat_request *r, int64_t num_ctx,
	struct backend_call *call, struct buf *body, struct dialect_error *error)
{
	const struct front_dialect *front = front_of(r->dialect);
	const struct back_dialect *back = back_of(api);
	*call = (struct backend_call){
		.path = front->path, .format = front->answer, .stream = r->stream};
	if (!dialect_is_chat(r->dialect)) {
		error->status = 404;
		snprintf(error->text, sizeof(error->text), "no chat request");
		return -EINVAL;
	}
	call->loads = back->loads;
	call->raw = front->api == back->api && !(front->needs && front->needs(r) & back->lacks);
	if (call->raw) {
		int rc = back->tune ? back->tune(r, num_ctx, body) : 0;
		call->hides_usage = back->asks_usage && body->n > 0;
		return rc;
	}
	if (r->is_load) {
		call->path = NULL;
		return 0;
	}
	return build(back, r, num_ctx, call, body, error);
}

int backend_notes_build(enum backend_api api, struct slice model, struct slice instruction,
	struct slice data, int64_t max_tokens, int64_t num_ctx, struct backend_call *call,
	struct buf *body)
{
	const struct back_dialect *back = back_of(api);
	*call = (struct backend_call){
		.path = back->chat.path, .format = back->chat.format, .loads = back->loads};
	buf_add_str(body, "{\"model\":");
	json_put_string(body, model);
	buf_add_str(body, ",\"messages\":[{\"role\":\"system\",\"content\":");
	json_put_string(body, instruction);
	buf_add_str(body, "},{\"role\":\"user\",\"content\":");
	json_put_string(body, data);
	buf_add_str(body, "}],\"stream\":false");
	back->notes(max_tokens, num_ctx, body);
	return buf_add_char(body, '}');
}

int backend_warm_build(enum backend_api api, struct slice body, struct buf *out)
{
	back_of(api)->warm(json_object_in(body), out);
	return buf_add_char(out, '}');
}
