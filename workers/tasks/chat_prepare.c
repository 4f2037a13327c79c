/* What a chat asks its backend, made of the client's request. */
#include "workers/tasks/chat_task.h"
#include "workers/tasks/replay.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

/* The client's own bytes need no writer. */
static int make_writer(struct chat_task *c, struct slice model, const char *id)
{
	const struct chat_request *r = &c->request;
	if (c->ask.call.raw)
		return 0;
	c->writer = answer_writer_create(r->dialect, r->stream, model, id, false, c->line_bytes);
	if (!c->writer)
		return -ENOMEM;
	const struct proto_job *spec = &c->ask.task.spec;
	int rc = answer_writer_read(c->writer, r);
	if (rc == 0 && !spec->resume)
		rc = answer_writer_rename(c->writer, spec->identity);
	else if (rc == 0)
		rc = answer_writer_resume(
			c->writer, &(struct answer_begun){.identity = spec->identity,
					   .text = c->said,
					   .tokens = spec->resume_tokens});
	return rc ? rc : buf_add_slice(&c->identity, answer_writer_identity(c->writer));
}

/* What objects of ours are called: the same in each job for a stream. */
static int name_objects(const struct proto_job *spec, char id[REPLAY_NAME_BYTES + 1])
{
	unsigned char random[REPLAY_NAME_BYTES / 2];
	if (spec->stream_id.n >= REPLAY_NAME_BYTES) {
		memcpy(id, spec->stream_id.p, REPLAY_NAME_BYTES);
		id[REPLAY_NAME_BYTES] = '\0';
		return 0;
	}
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(id + 2 * i, 3, "%02x", random[i]);
	return 0;
}

static int make_writers(struct chat_task *c)
{
	const struct chat_request *r = &c->request;
	char id[REPLAY_NAME_BYTES + 1];
	if (c->ask.call.raw && c->ask.task.spec.reply_bytes == 0)
		return 0;
	if (name_objects(&c->ask.task.spec, id))
		return -EIO;
	struct buf model;
	buf_init(&model, 0);
	if (c->ask.task.spec.asked.n)
		buf_add_slice(&model, c->ask.task.spec.asked);
	else if (json_is(r->model, JSON_STRING))
		json_string_decode(r->model, &model);
	int rc = make_writer(c, buf_slice(&model), id);
	chat_reply_begin(c, r, buf_slice(&model), id);
	buf_free(&model);
	return rc;
}

/* The call that goes on where `said` ends; its answer comes through a writer whatever
 * the dialect. */
static int build_resumed(struct chat_task *c, struct slice said)
{
	struct ask *a = &c->ask;
	struct task *t = &a->task;
	struct chat_request again;
	struct buf body;
	enum dialect d;
	const char *why = c->continues ? resume_refused(&c->request) : "the backend has no way to";
	if (why) {
		c->error.status = 400;
		snprintf(c->error.text, sizeof(c->error.text), "cannot go on: %s", why);
		return -EINVAL;
	}
	buf_init(&body, c->body_bytes * 2); /* escaping may double the text */
	int rc = resume_request(
		&c->request, c->api, said, t->spec.resume_tokens, &d, &c->spent, &body);
	if (rc == 0)
		rc = chat_request_scan(d, buf_slice(&body), &again, &c->error);
	if (rc) {
		buf_free(&body);
		return rc;
	}
	rc = backend_call_build(c->api, &again, t->spec.num_ctx, &a->call, &a->request, &c->error);
	c->said = said;
	c->rendering = said.n > 0 && !again.bare;
	c->plain = json_get(again.root, "tools").raw.n <= 2; /* absent, or an empty array */
	for (size_t i = 0; i < again.count; i++)
		c->plain =
			c->plain && again.messages[i].images == 0 && again.messages[i].others == 0;
	chat_request_fini(&again);
	if (rc == 0 && a->request.n == 0) {
		a->request = body;
		body = (struct buf){0};
	}
	a->call.raw = false;
	buf_free(&body);
	return rc;
}

/* Who asked is told a count at once (write_anthropic.c), or only the backend's. */
static int read_body(enum dialect dialect, struct slice body, struct chat_request *out,
	struct dialect_error *error)
{
	return dialect == DIALECT_ANTHROPIC ? chat_request_parse(dialect, body, out, error)
					    : chat_request_scan(dialect, body, out, error);
}

void chat_prepare(struct chat_task *c)
{
	struct ask *a = &c->ask;
	struct task *t = &a->task;
	struct slice body = buf_slice(&t->body), said = {body.p + body.n, 0};
	if (t->spec.resume) {
		said.n = (size_t)t->spec.resume_bytes; /* at most body_bytes */
		body.n -= said.n < body.n ? said.n : body.n;
		said.p = body.p + body.n;
	}
	if (c->strict)
		json_mend_surrogates(t->body.p, body.n);
	c->rc = read_body(a->dialect, body, &c->request, &c->error);
	if (c->rc)
		return;
	c->stream = c->request.stream;
	c->unload = c->request.is_unload;
	t->opaque = !c->continues || resume_refused(&c->request);
	c->rc = t->spec.resume ? build_resumed(c, said)
			       : backend_call_build(c->api, &c->request, t->spec.num_ctx, &a->call,
					 &a->request, &c->error);
	if (c->rc == 0)
		c->rc = make_writers(c);
	if (c->rc == 0 && a->call.raw && t->spec.asked.n)
		c->rc = naming_init(&c->naming, t->spec.asked, c->stream);
	if (c->rc == 0 && a->call.path)
		ask_prepare(a);
	chat_request_fini(&c->request);
}
