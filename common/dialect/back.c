/* What the rows of back dialects share. */
#include "common/dialect/back.h"

#include "common/dialect/pieces.h"

#include <errno.h>
#include <stdio.h>

int back_refuse(struct back_work *w, const char *text)
{
	w->error->status = 400;
	snprintf(w->error->text, sizeof(w->error->text), "%s", text);
	return -EINVAL;
}

void back_put_samplers(struct back_work *w, const struct back_sampler *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct json_value v = w->o->sampling[names[i].sampler];
		if (v.type == JSON_NUMBER)
			member_copy(w->out, names[i].name, v);
	}
}

void back_put_others(struct buf *out, struct json_value object, const char *const *names)
{
	buf_add_char(out, '{');
	back_put_members(out, object, names);
}

void back_put_members(struct buf *out, struct json_value object, const char *const *names)
{
	struct json_iter it = json_iter(object);
	struct json_value key, value;
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

int back_put_messages(struct back_work *w, int (*put)(struct back_work *w, size_t message))
{
	int rc = 0;
	json_put_key(w->out, "messages");
	buf_add_char(w->out, '[');
	for (size_t i = 0; i < w->o->count && rc == 0; i++) {
		if (i)
			buf_add_char(w->out, ',');
		rc = put(w, i);
	}
	buf_add_char(w->out, ']');
	return rc;
}
