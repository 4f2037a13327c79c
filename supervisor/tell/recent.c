#include "supervisor/tell/recent.h"

#include "common/base/json.h"

#include <stdlib.h>

struct recent_event {
	TAILQ_ENTRY(recent_event) link;
	size_t n;
	char text[];
};

void recent_init(struct recent *r, size_t max_bytes)
{
	*r = (struct recent){.max_bytes = max_bytes};
	TAILQ_INIT(&r->list);
}

static void drop_oldest(struct recent *r)
{
	struct recent_event *e = TAILQ_FIRST(&r->list);
	TAILQ_REMOVE(&r->list, e, link);
	r->bytes -= e->n;
	free(e);
}

void recent_limit(struct recent *r, size_t max_bytes)
{
	r->max_bytes = max_bytes;
	while (r->bytes > max_bytes)
		drop_oldest(r);
}

void recent_fini(struct recent *r)
{
	recent_limit(r, 0);
}

void recent_add(struct recent *r, struct slice event)
{
	if (event.n == 0 || event.n > r->max_bytes)
		return;
	struct recent_event *e = malloc(sizeof(*e) + event.n);
	if (!e)
		return;
	e->n = event.n;
	memcpy(e->text, event.p, event.n);
	TAILQ_INSERT_TAIL(&r->list, e, link);
	r->bytes += e->n;
	recent_limit(r, r->max_bytes);
}

void recent_put(const struct recent *r, const char *request, struct buf *out)
{
	/* In a text a quote is escaped: this cannot stand in the middle of one. */
	struct buf mark;
	const struct recent_event *e;
	const char *before = "";
	buf_init(&mark, 0);
	if (request) {
		buf_add_str(&mark, "\"req\":");
		json_put_string(&mark, slice_str(request));
	}
	TAILQ_FOREACH(e, &r->list, link) {
		if (mark.n && !memmem(e->text, e->n, mark.p, mark.n))
			continue;
		buf_add_str(out, before);
		buf_add(out, e->text, e->n);
		before = ",";
	}
	out->error = out->error ? out->error : buf_error(&mark);
	buf_free(&mark);
}
