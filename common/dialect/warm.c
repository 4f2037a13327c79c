/* A call that only fills the backend's prefix cache. */
#include "common/dialect/backend.h"

/* Copies the members of an object but those of these names. The object stays open. */
static void put_others(struct buf *out, struct json_value object, const char *const *names)
{
	struct json_iter it = json_iter(object);
	struct json_value key, value;
	buf_add_char(out, '{');
	while (json_object_next(&it, &key, &value)) {
		bool named = false;
		for (const char *const *n = names; *n && !named; n++)
			named = json_string_is(key, *n);
		if (named)
			continue;
		if (out->n && out->p[out->n - 1] != '{')
			buf_add_char(out, ',');
		buf_add_slice(out, key.raw);
		buf_add_char(out, ':');
		buf_add_slice(out, value.raw);
	}
}

int backend_warm_build(enum backend_api api, struct slice body, struct buf *out)
{
	static const char *const llama[] = {"stream", "stream_options", "n_predict", "max_tokens",
		"max_completion_tokens", "cache_prompt", "n", NULL};
	static const char *const ollama[] = {"stream", "options", NULL};
	static const char *const options[] = {"num_predict", NULL};
	struct json_value root = json_object_in(body);
	put_others(out, root, api == BACKEND_OLLAMA ? ollama : llama);
	json_put_key(out, "stream");
	buf_add_str(out, "false");
	if (api == BACKEND_OLLAMA) {
		json_put_key(out, "options");
		put_others(out, json_get(root, "options"), options);
		json_put_key(out, "num_predict");
		buf_add_str(out, "1}");
	} else {
		json_put_key(out, "n_predict");
		buf_add_str(out, "0");
		json_put_key(out, "cache_prompt");
		buf_add_str(out, "true");
	}
	return buf_add_char(out, '}');
}
