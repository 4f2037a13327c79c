#include "supervisor/tell/commands_private.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "supervisor/tell/describe.h"
#include "supervisor/tell/documents.h"
#include "supervisor/tell/events.h"
#include "supervisor/tell/flush.h"
#include "supervisor/tell/json_doc.h"

#include <stdlib.h>

struct command {
	const char *name, *args, *help;
	size_t args_max;
	const struct fields *document; /* of a struct tell; no arguments */
	command_fn *run;	       /* anything else */
	bool looks;		       /* ... that tells something, at once, and no more */
	bool orders;		       /* changes something */
};

bool command_split(struct slice r, struct command_words *out)
{
	*out = (struct command_words){0};
	while (r.n && (r.p[r.n - 1] == '\n' || r.p[r.n - 1] == '\r' || r.p[r.n - 1] == '\0'))
		r.n--;
	for (size_t i = 0, n; i < r.n; i += n) {
		for (n = 0; i + n < r.n && r.p[i + n] != ' '; n++)
			if (r.p[i + n] < ' ' || r.p[i + n] > '~')
				return false;
		if (n == 0) {
			n = 1; /* the space */
			continue;
		}
		if (n >= COMMAND_WORD_BYTES || out->count == COMMAND_WORDS_MAX)
			return false;
		memcpy(out->word[out->count++], r.p + i, n);
	}
	return out->count > 0;
}

/* --- what only tells --- */

static enum rep_when do_operation(struct asking *a)
{
	const char *text = command_argument(a, 1);
	char *end = NULL;
	unsigned long long id = text ? strtoull(text, &end, 10) : 0;
	const struct operation *op =
		text && *end == '\0' ? operation_find(&a->t->life->operations, id) : NULL;
	if (!op)
		return command_say_error(a, "no such operation");
	json_document(&document_operation, op, a->out);
	return REP_NOW;
}

#define REQUESTS_TOLD 100  /* where no number is asked for, */
#define REQUESTS_MOST 5000 /* ... and at most: the loop writes them in one go */

static enum rep_when do_requests(struct asking *a)
{
	const char *text = command_argument(a, 1);
	char *end = NULL;
	unsigned long long n = text ? strtoull(text, &end, 10) : REQUESTS_TOLD;
	if (text && (*text < '0' || *text > '9' || *end))
		return command_say_error(a, "usage: requests [COUNT]");
	struct requests_view view = {
		.tell = a->t, .most = n < REQUESTS_MOST ? (size_t)n : REQUESTS_MOST};
	json_document(&document_requests, &view, a->out);
	return REP_NOW;
}

static enum rep_when do_request(struct asking *a)
{
	const char *id = command_argument(a, 1);
	if (!id)
		return command_say_error(a, "usage: request REQUEST-ID");
	struct requests_view view = {
		.tell = a->t, .one = history_find(&a->t->requests->history, id)};
	if (!view.one)
		return command_say_error(a, "no such request is known (any more)");
	json_document(&document_request, &view, a->out);
	return REP_NOW;
}

static enum rep_when do_devices(struct asking *a)
{
	return documents_gpus(a->t, a->q, a->out);
}

/* The newest events, of one request or all. */
static enum rep_when do_recent(struct asking *a)
{
	json_put_key(a->out, "events");
	buf_add_char(a->out, '[');
	if (a->t->events)
		events_recent(a->t->events, command_argument(a, 1), a->out);
	buf_add_char(a->out, ']');
	return REP_NOW;
}

static enum rep_when do_flush(struct asking *a)
{
	return flush_ask(a->t->flush, a->q, a->out);
}

static enum rep_when do_fields(struct asking *a);
static enum rep_when do_help(struct asking *a);

static const struct command commands[] = {
	{"status", "", "the whole state in short", .document = &document_status},
	{"workers", "", "each worker: process, heartbeat, restarts", .document = &document_workers},
	{"jobs", "", "running and waiting work", .document = &document_jobs},
	{"queues", "", "what waits, for each device", .document = &document_queues},
	{"sessions", "", "conversations: turns, tokens, what is warm, breaks",
		.document = &document_sessions},
	{"requests", "[COUNT]", "those under way and the last ones, the newest first", 1,
		.run = do_requests, .looks = true},
	{"request", "REQUEST-ID", "one of them with all its steps", 1, .run = do_request,
		.looks = true},
	{"counters", "", "sums since the start", .document = &document_counters},
	{"histograms", "", "how long things took", .document = &document_histograms},
	{"backends", "", "each backend and its models", .document = &document_backends},
	{"devices", "", "GPUs: memory, load, temperature", .run = do_devices},
	{"keys", "", "clients' keys by name, and what they have under way",
		.document = &document_keys},
	{"nng", "", "nng's own statistics", .document = &document_nng},
	{"fields", "", "what these documents can tell: names, types, units", .run = do_fields,
		.looks = true},
	{"recent", "[REQUEST-ID]", "the newest events, of one request or all", 1, .run = do_recent,
		.looks = true},
	{"flush", "", "answered once all that was logged so far is written", .run = do_flush},
	{"operation", "N", "what became of an operation", 1, .run = do_operation, .looks = true},
	{"restart", "[DEVICE|all] [--backend]", "new workers without a pause", 2,
		.run = order_restart, .orders = true},
	{"drain", "DEVICE", "no new work for a device", 1, .run = order_drain, .orders = true},
	{"reset", "[DEVICE|all]", "a failed or drained device starts afresh", 1, .run = order_reset,
		.orders = true},
	{"reload", "", "read the configuration again", .run = order_reload, .orders = true},
	{"upgrade", "", "a new tandemd takes over", .run = order_upgrade, .orders = true},
	{"cancel", "REQUEST-ID", "end a client's request", 1, .run = order_cancel, .orders = true},
	{"bench", "SECONDS [DEVICE]", "a ticket to measure a device with, while nobody needs it", 2,
		.run = order_bench, .orders = true},
	{"help", "", "this list", .run = do_help, .looks = true},
};

#define COMMANDS (sizeof(commands) / sizeof(*commands))

static void describe(const char *name, const struct fields *fields, struct buf *out)
{
	json_put_key(out, name);
	fields_describe(fields, out);
}

static enum rep_when do_fields(struct asking *a)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (commands[i].document)
			describe(commands[i].name, commands[i].document, a->out);
	describe("devices", &document_gpus, a->out);
	describe("requests", &document_requests, a->out);
	describe("request", &document_request, a->out);
	describe("operation", &document_operation, a->out);
	return REP_NOW;
}

static enum rep_when do_help(struct asking *a)
{
	json_put_key(a->out, "commands");
	buf_add_char(a->out, '[');
	for (size_t i = 0; i < COMMANDS; i++) {
		buf_add_str(a->out, i ? ",{" : "{");
		json_put_key(a->out, "name");
		json_put_string(a->out, slice_str(commands[i].name));
		json_put_key(a->out, "arguments");
		json_put_string(a->out, slice_str(commands[i].args));
		json_put_key(a->out, "help");
		json_put_string(a->out, slice_str(commands[i].help));
		buf_add_char(a->out, '}');
	}
	buf_add_char(a->out, ']');
	return REP_NOW;
}

static enum rep_when run(struct asking *a, const struct command *c)
{
	if (a->w->count - 1 > c->args_max)
		return command_say_error(a, "unknown request: too many arguments; ask for help");
	if (c->run)
		return c->run(a);
	json_document(c->document, a->t, a->out);
	return REP_NOW;
}

/* Orders change something: the log tells of them. */
static void tell(const struct command_words *w, const struct command *c)
{
	if (c->orders)
		log_line(LOG_INFO, "ordered", LOG_STR("command", w->word[0]),
			LOG_STR("argument", w->count > 1 ? w->word[1] : ""),
			LOG_STR("more", w->count > 2 ? w->word[2] : ""), LOG_END);
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	return NULL;
}

enum rep_when commands_answer(
	void *ctx, struct rep_question *q, struct slice request, struct buf *out)
{
	struct command_words w;
	struct asking a = {.t = ctx, .q = q, .w = &w, .out = out};
	enum rep_when when = REP_NOW;
	const struct command *c = command_split(request, &w) ? find(w.word[0]) : NULL;
	buf_add_char(out, '{');
	if (c) {
		tell(&w, c);
		when = run(&a, c);
	} else {
		command_say_error(&a, "unknown request; ask for help");
	}
	if (when == REP_NOW)
		buf_add_char(out, '}');
	return when;
}

bool commands_look(struct tell *t, struct slice request, struct buf *out)
{
	struct command_words w;
	struct asking a = {.t = t, .w = &w, .out = out};
	const struct command *c = command_split(request, &w) ? find(w.word[0]) : NULL;
	if (!c || (!c->document && !c->looks))
		return false;
	buf_add_char(out, '{');
	run(&a, c);
	buf_add_char(out, '}');
	return true;
}
