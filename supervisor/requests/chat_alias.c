/* A chat whose model is an alias: the body is made one that names the real model, and read again. */
#include "supervisor/requests/aliases.h"
#include "supervisor/requests/chat.h"
#include "supervisor/requests/chat_reply.h"

#include "common/base/log.h"

#include <stdio.h>

/* The body names the model, which c->model says, and is read anew. */
static void rename_work(struct chat *c)
{
	struct buf model = c->model;
	c->model = (struct buf){.max = model.max};
	c->parse_result = buf_error(&model);
	if (c->parse_result == 0)
		c->parse_result =
			json_replace_string(&c->body, c->view.model.raw, buf_slice(&model));
	buf_free(&model);
	chat_reread(c);
	if (c->parse_result == 0)
		chat_parse_again(c);
}

void chat_rename(struct chat *c, struct slice model)
{
	size_t max = c->model.max;
	buf_free(&c->model);
	buf_init(&c->model, max);
	buf_add_slice(&c->model, model);
	chat_work(c, rename_work, CHAT_PARSED, c->body.n <= CHAT_INLINE_BYTES);
}

bool chat_alias(struct chat *c)
{
	struct alias a;
	char text[ALIAS_TEXT_BYTES];
	if (c->parse_result || c->alias.n || !alias_find(c->base.all, buf_slice(&c->model), &a))
		return false;
	if (!a.model[0]) {
		alias_unknown(&a, text);
		chat_answer_error(c, 503, slice_str(text), (struct slice){0}, (struct slice){0},
			CHAT_RETRY_AFTER_S);
		return true;
	}
	c->alias = c->model;
	c->model = (struct buf){.max = c->alias.max};
	if (a.device)
		snprintf(c->pinned, sizeof(c->pinned), "%s", a.device->conf->name);
	log_line(LOG_INFO, "alias", LOG_STR("req", c->base.id),
		LOG_SLICE("asked", buf_slice(&c->alias)), LOG_STR("model", a.model),
		LOG_STR("device", c->pinned), LOG_END);
	chat_rename(c, slice_str(a.model));
	return true;
}

struct device *chat_alias_device(const struct chat *c)
{
	struct devices *s = c->base.all->devices;
	struct device *d = c->pinned[0] ? device_find(s, c->pinned) : NULL;
	return d && !device_hopeless(d) ? d : pick_model(s, buf_slice(&c->model));
}
