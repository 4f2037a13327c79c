/*
 * GET /v1/models of both backends: docs/protocols.md.
 */
#include "tests/fake/dialect.h"

static void put_model(struct buf *out, const struct model *m)
{
	static const char *const owners[] = {
		[TYPE_OLLAMA] = "library", [TYPE_LLAMA] = "llamacpp", [TYPE_OPENAI] = "vllm"};
	buf_add_str(out, "{\"id\":");
	json_put_string(out, slice_str(m->name));
	buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"%s\"",
		(long long)m->engine->fake->started_at, owners[m->engine->fake->options.type]);
	if (m->engine->fake->options.type == TYPE_OPENAI) {
		buf_add_str(out, ",\"root\":");
		json_put_string(out, slice_str(m->name));
		buf_printf(out, ",\"parent\":null,\"max_model_len\":%u", m->num_ctx);
	}
	if (m->engine->fake->options.type == TYPE_LLAMA)
		buf_printf(out,
			",\"aliases\":[],\"tags\":[],\"meta\":{\"vocab_type\":2,\"n_vocab\":151936,"
			"\"n_ctx\":%u,"
			"\"n_ctx_train\":%d,\"n_embd\":%d,\"n_params\":1235814432,\"size\":"
			"%.0f}",
			m->num_ctx, TRAIN_CTX, EMBED_DIMS, m->engine->fake->options.model_bytes);
	buf_add_char(out, '}');
}

void openai_models(struct request *r)
{
	bool llama = r->fake->options.type == TYPE_LLAMA, first = true;
	const struct model *all = r->fake->engine->models;
	struct buf out;

	buf_init(&out, 1u << 20);
	buf_add_char(&out, '{');
	if (llama) { /* an Ollama-like list besides OpenAI's */
		buf_add_str(&out, "\"models\":[{\"name\":");
		json_put_string(&out, slice_str(all->name));
		json_put_key(&out, "model");
		json_put_string(&out, slice_str(all->name));
		buf_add_str(&out, ",\"modified_at\":\"\",\"size\":\"\",\"digest\":\"\",\"type\":"
				  "\"model\",\"description\":\"\","
				  "\"tags\":[\"\"],\"capabilities\":[\"completion\"],"
				  "\"parameters\":\"\",\"details\":{"
				  "\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"\","
				  "\"families\":[\"\"],"
				  "\"parameter_size\":\"\",\"quantization_level\":\"\"}}],");
	}
	buf_add_str(&out, "\"object\":\"list\",\"data\":[");
	for (const struct model *m = all; m; m = m->next) {
		if (!m->listed)
			continue;
		if (!first)
			buf_add_char(&out, ',');
		first = false;
		put_model(&out, m);
	}
	buf_add_str(&out, "]}");
	api_reply(r, 200, &out);
}

void openai_model(struct request *r)
{
	struct slice name = {r->x->path.p + 11, r->x->path.n - 11}; /* past "/v1/models/" */
	struct model *m = engine_model(r->fake->engine, name);
	struct buf out;

	if (!m) {
		api_errorf(r, 404, "model '%.*s' not found", (int)name.n, name.p);
		return;
	}
	buf_init(&out, 1u << 16);
	put_model(&out, m);
	api_reply(r, 200, &out);
}
