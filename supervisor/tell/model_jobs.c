/* Running and waiting work: jobs of devices, and chats that have none of their own at the moment. */
#include "supervisor/devices/job.h"
#include "supervisor/requests/chat.h"
#include "supervisor/tell/documents.h"

#include <stdlib.h>

/* A job, or a chat that has none: it is read, condensed, or waits for another's answer. */
struct row {
	const struct job *job;
	const struct chat *chat; /* also of the job that answers it */
	struct slice request;	 /* empty: cancelled, it waits for the worker's last word */
};

struct rows {
	struct row *row;
	size_t count, room;
	bool short_of_memory;
};

/* --- a row --- */

enum {
	JOB,
	REQUEST,
	KIND,
	DEVICE,
	CLASS,
	STATE,
	AGE,
	RUNNING,
	BODY,
	ANSWER,
	PROMPT,
	TOKENS,
	PREDICTED,
	SESSION
};

/* What is known of its prompt and of its answer. */
static void get_progress(const struct row *r, size_t which, struct field_value *out)
{
	const struct chat *c = r->chat;
	bool planned = c && c->state > CHAT_PARSING && c->state != CHAT_JOINED;
	switch (which) {
	case PROMPT:
		field_say_int_if(out, planned || r->job,
			planned ? (int64_t)c->sent_tokens
				: (int64_t)(r->job ? r->job->spec.prompt_tokens : 0));
		break;
	case TOKENS:
		field_say_int_if(out, planned && c->view.stream, planned ? c->resume.tokens : 0);
		break;
	case PREDICTED:
		field_say_int_if(out, r->job && r->job->spec.prefill_ms > 0,
			r->job ? (int64_t)r->job->spec.prefill_ms : 0);
		break;
	case SESSION:
		field_say_int_if(out, planned && c->guard.conversation,
			planned ? (int64_t)c->guard.conversation : 0);
		break;
	}
}

static void get_of_job(const struct row *r, size_t which, struct field_value *out)
{
	const struct job *j = r->job;
	switch (which) {
	case JOB:
		out->number = (int64_t)j->id;
		break;
	case KIND:
		field_say_text(out, proto_kind_name(j->spec.message.kind));
		break;
	case DEVICE:
		field_say_text(out, j->device->conf->name);
		break;
	case CLASS:
		field_say_text(out, job_class_name(j->spec.class));
		break;
	case STATE:
		field_say_text(out, !j->events ? "cancelled" : j->running ? "running" : "waiting");
		break;
	case AGE:
		out->number = (int64_t)(now_ms() - j->submitted_ms);
		break;
	case RUNNING:
		field_say_int_if(out, j->running, (int64_t)(now_ms() - j->started_ms));
		break;
	case BODY:
		field_say_int_if(out, j->spec.message.body_bytes >= 0, j->spec.message.body_bytes);
		break;
	case ANSWER:
		out->number = (int64_t)j->received;
		break;
	}
}

static void get_of_chat(const struct row *r, size_t which, struct field_value *out)
{
	static const char *const states[CHAT_STATES] = {
		"reading", "parsing", "condensing", "waiting", "answering", "joined", "over"};
	const struct chat *c = r->chat;
	bool planned = c->state > CHAT_PARSING && c->state != CHAT_JOINED;
	switch (which) {
	case JOB:
	case RUNNING:
		out->is = FIELD_UNKNOWN;
		break;
	case KIND:
		field_say_text(out, proto_kind_name(JOB_CHAT));
		break;
	case DEVICE:
		field_say_text(out, planned && c->device ? c->device->conf->name : NULL);
		break;
	case CLASS:
		field_say_text(out, planned ? job_class_name(c->class) : NULL);
		break;
	case STATE:
		field_say_text(out, states[c->state]);
		break;
	case AGE:
		out->number = (int64_t)(now_ms() - c->base.begun_ms);
		break;
	case BODY:
		out->number = (int64_t)c->body.n;
		break;
	case ANSWER:
		out->number = (int64_t)c->bytes_out;
		break;
	}
}

static void get_row(const void *of, const struct field *f, struct field_value *out)
{
	const struct row *r = of;
	if (f->which == REQUEST)
		out->text = r->request;
	else if (f->which >= PROMPT)
		get_progress(r, f->which, out);
	else if (r->job)
		get_of_job(r, f->which, out);
	else
		get_of_chat(r, f->which, out);
}

#define ROW(name_, type_, unit_, which_)                                                           \
	{                                                                                          \
		.name = (name_), .type = (type_), .unit = (unit_), .get = get_row,                 \
		.which = (which_)                                                                  \
	}

static const struct field row[] = {
	ROW("job", FIELD_INT, NULL, JOB),
	ROW("request", FIELD_TEXT, NULL, REQUEST),
	ROW("kind", FIELD_TEXT, NULL, KIND),
	ROW("device", FIELD_TEXT, NULL, DEVICE),
	ROW("class", FIELD_TEXT, NULL, CLASS),
	ROW("state", FIELD_TEXT, NULL, STATE),
	ROW("age_ms", FIELD_INT, "ms", AGE),
	ROW("running_ms", FIELD_INT, "ms", RUNNING),
	ROW("body_bytes", FIELD_INT, "bytes", BODY),
	ROW("answer_bytes", FIELD_INT, "bytes", ANSWER),
	ROW("prompt_tokens", FIELD_INT, "tokens", PROMPT),
	ROW("answer_tokens", FIELD_INT, "tokens", TOKENS),
	ROW("predicted_ms", FIELD_INT, "ms", PREDICTED),
	ROW("session", FIELD_INT, NULL, SESSION),
};
static const struct fields row_members = FIELDS(row);

/* --- the list --- */

static void add_row(struct rows *rows, struct row r)
{
	if (rows->count == rows->room) {
		size_t room = rows->room ? rows->room * 2 : 64;
		struct row *grown = realloc(rows->row, room * sizeof(*grown));
		if (!grown) {
			rows->short_of_memory = true;
			return;
		}
		rows->row = grown;
		rows->room = room;
	}
	rows->row[rows->count++] = r;
}

static void add_job(struct rows *rows, const struct job *j)
{
	add_row(rows, (struct row){.job = j, .request = j->spec.message.request_id});
}

static void add_device(struct rows *rows, const struct device *d)
{
	const struct job *j;
	struct queue_entry *e;
	TAILQ_FOREACH(j, &d->running, link)
		add_job(rows, j);
	TAILQ_FOREACH(j, &d->passing, link)
		add_job(rows, j);
	TAILQ_FOREACH(e, &d->queue.all, in_all)
		add_job(rows, job_of_place(e));
}

/* Requests as they came (ids count up), each one's own line before those of its notes; at the end
 * what belongs to nobody any more. */
static int by_request(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	if (!x->request.n != !y->request.n)
		return x->request.n ? -1 : 1;
	if (x->request.n != y->request.n)
		return x->request.n < y->request.n ? -1 : 1;
	int order = x->request.n ? memcmp(x->request.p, y->request.p, x->request.n) : 0;
	bool note_x = x->job && x->job->spec.message.kind == JOB_NOTES,
	     note_y = y->job && y->job->spec.message.kind == JOB_NOTES;
	if (order || note_x != note_y)
		return order ? order : note_x - note_y;
	uint64_t id_x = x->job ? x->job->id : 0, id_y = y->job ? y->job->id : 0;
	return (id_x > id_y) - (id_x < id_y);
}

/* The job of that chat is there: the row tells of both. */
static void set_chat(struct rows *rows, const struct chat *c)
{
	for (size_t i = 0; i < rows->count; i++)
		if (rows->row[i].job == c->answer)
			rows->row[i].chat = c;
}

static void collect(const struct tell *t, struct rows *rows)
{
	const struct request *r;
	for (size_t i = 0; i < t->devices->count; i++)
		add_device(rows, t->devices->of[i]);
	for (size_t i = 0; i < t->devices->removed_count; i++)
		add_device(rows, t->devices->removed[i]);
	TAILQ_FOREACH(r, &t->requests->list, link) {
		const struct chat *c = chat_of_request(r);
		if (c && c->answer)
			set_chat(rows, c);
		else if (c && c->state != CHAT_OVER)
			add_row(rows, (struct row){.chat = c, .request = slice_str(r->id)});
	}
	if (rows->count)
		qsort(rows->row, rows->count, sizeof(*rows->row), by_request);
}

static void each_row(const void *of, struct field_list *list)
{
	struct rows rows = {0};
	collect(of, &rows);
	for (size_t i = 0; i < rows.count; i++)
		field_item(list, &rows.row[i]);
	if (rows.short_of_memory)
		field_list_cut(list);
	free(rows.row);
}

static const struct field jobs[] = {FIELD_LIST_OF("jobs", &row_members, each_row)};
const struct fields document_jobs = FIELDS(jobs);
