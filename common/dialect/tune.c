#include "common/dialect/tune.h"

#include "common/dialect/pieces.h"

/* What comes before the client's members, and what the value of options becomes. */
struct tuning {
	bool truncate;		   /* add "truncate": false */
	bool window;		   /* change the window in `options` */
	struct json_value options; /* NONE: there is none to change */
};

static bool says_window(struct json_value options, int64_t num_ctx)
{
	int64_t n;
	struct json_iter it = json_iter(options);
	struct json_value key, value;
	size_t said = 0;
	bool right = true;
	while (json_object_next(&it, &key, &value)) {
		if (!json_string_is(key, "num_ctx"))
			continue;
		said++;
		right = right && json_to_int(value, &n) && n == num_ctx;
	}
	return num_ctx > 0 ? said > 0 && right : said == 0;
}

static struct tuning look(const struct chat_request *r, int64_t num_ctx)
{
	struct json_value truncate;
	struct tuning t = {0};
	FIELDS_GET(r->root, {"truncate", &truncate}, {"options", &t.options});
	t.truncate = truncate.type == JSON_NONE && !r->is_load;
	/* Options of another type are the client's mistake, and Ollama's to name. */
	if (t.options.type == JSON_OBJECT || is_absent(t.options))
		t.window = !says_window(t.options, num_ctx);
	return t;
}

/* The members but the window as they stand, spacing included. */
static void put_options(struct buf *out, struct json_value options, int64_t num_ctx)
{
	struct json_iter it = json_iter(options);
	struct json_value key, value;
	buf_add_char(out, '{');
	if (num_ctx > 0) {
		json_put_key(out, "num_ctx");
		json_put_int(out, num_ctx);
	}
	while (json_object_next(&it, &key, &value)) {
		if (json_string_is(key, "num_ctx"))
			continue;
		if (out->n && out->p[out->n - 1] != '{')
			buf_add_char(out, ',');
		buf_add(out, key.raw.p, (size_t)(value.raw.p + value.raw.n - key.raw.p));
	}
	buf_add_char(out, '}');
}

int chat_request_tune(const struct chat_request *r, int64_t num_ctx, struct buf *out)
{
	if (!dialect_has_num_ctx(r->dialect) || r->is_unload)
		return 0;
	struct tuning t = look(r, num_ctx);
	if (!t.truncate && !t.window)
		return 0;
	const char *at = r->root.raw.p + 1, *end = r->body.p + r->body.n;
	bool in_place = t.window && t.options.type != JSON_NONE;
	buf_add(out, r->body.p, (size_t)(at - r->body.p));
	if (t.truncate)
		buf_add_str(out, "\"truncate\":false");
	if (t.window && !in_place) {
		json_put_key(out, "options");
		put_options(out, t.options, num_ctx);
	}
	if (out->n && out->p[out->n - 1] != '{' && value_filled(r->root))
		buf_add_char(out, ',');
	if (in_place) {
		buf_add(out, at, (size_t)(t.options.raw.p - at));
		put_options(out, t.options, num_ctx);
		at = t.options.raw.p + t.options.raw.n;
	}
	buf_add(out, at, (size_t)(end - at));
	return buf_error(out);
}
