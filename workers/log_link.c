#include "workers/log_link.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "workers/worker.h"

/* Cut to what a record takes, between characters. */
static struct slice fit(struct slice text)
{
	if (text.n <= PROTO_LOG_TEXT_BYTES)
		return text;
	return (struct slice){
		text.p, utf8_valid_prefix((struct slice){text.p, PROTO_LOG_TEXT_BYTES})};
}

static void fill(struct proto_log_field *to, const struct log_field *f)
{
	*to = (struct proto_log_field){.key = slice_str(f->key)};
	switch (f->type) {
	case LOG_F_INT:
		to->kind = PROTO_LOG_NUMBER;
		to->number = f->number;
		break;
	case LOG_F_MS:
		to->kind = PROTO_LOG_REAL;
		to->real = f->real;
		break;
	default:
		to->text = fit(f->text);
	}
}

/* A link that is full, or ends, has no room for what is only told: nothing is said of it, since
 * that would come here again. */
static void on_line(
	void *ctx, enum log_level level, const char *event, const struct log_field *fields)
{
	struct worker_self *w = ctx;
	struct proto_record r = {.type = PROTO_LOG};
	if (!w->channel || w->link_gone || w->said_bye || channel_full(w->channel))
		return;
	r.u.log.level = (uint32_t)level;
	r.u.log.event = slice_str(event);
	for (const struct log_field *f = fields;
		f->type != LOG_F_END && r.u.log.field_count < PROTO_LOG_FIELDS_MAX; f++)
		fill(&r.u.log.fields[r.u.log.field_count++], f);
	channel_put(w->channel, &r);
}

void log_link_start(struct worker_self *w)
{
	log_set_sink(on_line, w);
}

void log_link_stop(void)
{
	log_set_sink(NULL, NULL);
}
