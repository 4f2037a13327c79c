#include "supervisor/requests/pass.h"

#include "common/dialect/request.h"

#include <stdio.h>

#define PASS_INLINE_BYTES (96u << 10) /* a body up to this is looked at in the loop */

void pass_recount(struct pass *p)
{
	p->base.all->held_bytes += p->body.n;
	p->base.all->held_bytes -= p->held;
	p->held = p->body.n;
}

/* What is Ollama's alone is answered or translated before a llama-server, by its usual keys. */
static void lower_keys(struct buf *body)
{
	struct json_value root;
	if (json_parse(buf_slice(body), JSON_MAX_DEPTH, &root, NULL) == 0)
		chat_body_lower_keys(body, root);
}

/* Only touches what is the request's own: any thread. */
static void look_into(struct pass *p)
{
	if (p->coding != UNPACK_NONE) {
		p->unpack_result = unpack(p->coding, buf_slice(&p->body), &p->unpacked);
		if (p->unpack_result)
			return;
		buf_free(&p->body);
		p->body = p->unpacked;
		p->unpacked = (struct buf){0};
	}
	if (p->mend) {
		json_mend_surrogates(p->body.p, p->body.n);
		json_mend_body(&p->body);
		json_mend_tail(&p->body);
		if (dialect_any_case(p->base.dialect))
			lower_keys(&p->body);
	}
	pass_peek(&p->peek, buf_slice(&p->body));
}

static void read_work(uv_work_t *w)
{
	look_into(w->data);
}

static void read_over(uv_work_t *w, int status)
{
	struct pass *p = w->data;
	(void)status;
	pass_recount(p);
	p->read_done(p);
	request_release(&p->base);
}

/* Ollama takes what others do not; which of them gets it is known later. */
static bool any_strict(const struct requests *s)
{
	for (size_t i = 0; i < s->devices->count; i++)
		if (device_has(s->devices->of[i], TRAIT_STRICT_JSON))
			return true;
	return false;
}

void pass_read(struct pass *p, void (*done)(struct pass *p))
{
	struct request *r = &p->base;
	r->unpacked = p->coding != UNPACK_NONE;
	p->mend = any_strict(r->all);
	buf_init(&p->unpacked, packed_room(r->all));
	p->work.data = p;
	p->read_done = done;
	if ((r->unpacked || p->body.n > PASS_INLINE_BYTES) &&
		uv_queue_work(r->all->loop, &p->work, read_work, read_over) == 0) {
		request_hold(r);
		return;
	}
	look_into(p);
	pass_recount(p);
	done(p);
}

/* The real name stands in body and peek from now on. */
static int put_name(struct pass *p, const struct alias *a)
{
	p->asked = p->peek.model;
	buf_init(&p->peek.model, p->asked.max);
	buf_add_str(&p->peek.model, a->model);
	int rc = buf_error(&p->peek.model);
	if (rc == 0)
		rc = json_replace_string(&p->body, p->peek.named, buf_slice(&p->peek.model));
	pass_recount(p);
	return rc;
}

struct device *pass_model(struct pass *p, char text[ALIAS_TEXT_BYTES])
{
	struct requests *s = p->base.all;
	struct slice model = buf_slice(&p->peek.model);
	struct alias a;
	bool asks = dialect_only_asks(
		slice_str(exchange_method(p->base.exchange)), slice_str(p->route.path));
	if (!asks || !alias_find(s, model, &a))
		return pick_model(s->devices, model);
	if (!a.model[0]) {
		alias_unknown(&a, text);
		return NULL;
	}
	if (put_name(p, &a)) {
		snprintf(text, ALIAS_TEXT_BYTES, "out of memory");
		return NULL;
	}
	return a.device ? a.device : pick_model(s->devices, buf_slice(&p->peek.model));
}
