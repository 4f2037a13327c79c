/* The answer as its client will send it back, where the supervisor wants it: it may have the next
 * prompt read before that is asked for. */
#include "common/dialect/follow.h"
#include "workers/tasks/chat_task.h"

#define WRAP_BYTES                                                                                 \
	8192 /* what stands around the message in its object: name of the model, counts */

static void forget(struct chat_task *c)
{
	answer_writer_destroy(c->reply_writer);
	c->reply_writer = NULL;
	buf_free(&c->reply_object);
}

void chat_reply_begin(
	struct chat_task *c, const struct chat_request *r, struct slice model, const char *id)
{
	const struct proto_job *spec = &c->ask.task.spec;
	size_t most = (size_t)spec->reply_bytes;
	if (most == 0 || spec->resume) /* one that goes on has but its own part */
		return;
	buf_init(&c->reply_object, most + WRAP_BYTES);
	buf_init(&c->reply, most);
	c->reply_writer = answer_writer_create(r->dialect, false, model, id, false, most);
	if (c->reply_writer && answer_writer_read(c->reply_writer, r))
		forget(c);
	if (c->reply_writer)
		answer_writer_bare(c->reply_writer);
}

void chat_reply_event(struct chat_task *c, const struct answer_event *e)
{
	struct answer_event plain = *e;
	bool unwanted = e->kind == ANSWER_THINKING && !c->ask.task.spec.reply_thinking;
	plain.logprobs = (struct slice){0};
	if (!c->reply_writer || unwanted)
		return;
	if (e->kind == ANSWER_ERROR || answer_writer_put(c->reply_writer, &plain, &c->reply_object))
		forget(c);
}

struct slice chat_reply_end(struct chat_task *c)
{
	if (!c->reply_writer || follow_message(buf_slice(&c->reply_object), &c->reply))
		buf_free(&c->reply);
	forget(c);
	return buf_slice(&c->reply);
}

void chat_reply_fini(struct chat_task *c)
{
	forget(c);
	buf_free(&c->reply);
}
