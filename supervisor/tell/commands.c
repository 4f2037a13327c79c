#include "supervisor/tell/commands.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "supervisor/devices/governor.h"
#include "supervisor/life/control.h"
#include "supervisor/tell/describe.h"
#include "supervisor/tell/documents.h"
#include "supervisor/tell/events.h"
#include "supervisor/tell/flush.h"
#include "supervisor/tell/json_doc.h"

#include <stdlib.h>

struct asking {
	struct tell *t;
	struct rep_question *q;
	const struct command_words *w; /* the command's name first */
	struct buf *out;
};

typedef enum rep_when command_fn(struct asking *a);

struct command {
	const char *name, *args, *help;
	size_t args_max;
	const struct fields *document; /* of a struct tell; no arguments */
	command_fn *run;	       /* anything else */
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

/* --- answers --- */

static enum rep_when say_error(struct asking *a, const char *why)
{
	json_put_key(a->out, "error");
	json_put_string(a->out, slice_str(why));
	return REP_NOW;
}

static enum rep_when say_operation(struct asking *a, uint64_t id, struct buf *err)
{
	if (id == 0)
		say_error(a, err->n ? buf_cstr(err) : "refused");
	else {
		json_put_key(a->out, "operation");
		json_put_int(a->out, (int64_t)id);
	}
	buf_free(err);
	return REP_NOW;
}

static const char *argument(const struct asking *a, size_t i)
{
	return i < a->w->count ? a->w->word[i] : NULL;
}

/* Takes `[DEVICE|all] [--backend]` in any order. False: something else stands there. */
static bool take_device(const struct asking *a, const char **device, bool *backend)
{
	*device = NULL;
	bool named = false;
	for (size_t i = 1; i < a->w->count; i++) {
		const char *word = a->w->word[i];
		if (backend && strcmp(word, "--backend") == 0) {
			*backend = true;
			continue;
		}
		if (named || word[0] == '-')
			return false;
		named = true;
		*device = strcmp(word, "all") == 0 ? NULL : word;
	}
	return true;
}

/* --- commands --- */

static enum rep_when do_restart(struct asking *a)
{
	const char *device;
	bool backend = false;
	struct buf err;
	buf_init(&err, 0);
	if (!take_device(a, &device, &backend))
		return say_error(a, "usage: restart [DEVICE|all] [--backend]");
	return say_operation(a, control_restart(a->t->life, device, backend, &err), &err);
}

static enum rep_when do_drain(struct asking *a)
{
	const char *device = argument(a, 1);
	struct buf err;
	buf_init(&err, 0);
	if (!device)
		return say_error(a, "usage: drain DEVICE");
	return say_operation(a, control_drain(a->t->life, device, &err), &err);
}

static enum rep_when do_reset(struct asking *a)
{
	const char *device;
	struct buf err;
	buf_init(&err, 0);
	if (!take_device(a, &device, NULL))
		return say_error(a, "usage: reset [DEVICE|all]");
	return say_operation(a, control_reset(a->t->life, device, &err), &err);
}

static enum rep_when do_reload(struct asking *a)
{
	struct buf err;
	buf_init(&err, 0);
	return say_operation(a, control_reload(a->t->life, &err), &err);
}

static enum rep_when do_upgrade(struct asking *a)
{
	struct buf err;
	buf_init(&err, 0);
	return say_operation(a, control_upgrade(a->t->life, &err), &err);
}

static enum rep_when do_cancel(struct asking *a)
{
	const char *id = argument(a, 1);
	if (!id)
		return say_error(a, "usage: cancel REQUEST-ID");
	if (!requests_cancel(a->t->requests, id))
		return say_error(a, "no such request is under way");
	json_put_key(a->out, "cancelled");
	json_put_string(a->out, slice_str(id));
	return REP_NOW;
}

/* The device that is named, else the first main one. */
static struct device *bench_target(struct devices *s, const char *name)
{
	if (name)
		return device_find(s, name);
	for (size_t i = 0; i < s->count; i++)
		if (s->of[i]->conf->roles & ROLE_MAIN)
			return s->of[i];
	return NULL;
}

static const char *bench_model(const struct device *d)
{
	const char *model = device_model(d);
	bool known = device_serves(d, slice_str(model)) || d->model_count == 0;
	return known ? model : d->models[0].name;
}

static void put_text(struct buf *out, const char *name, const char *text)
{
	json_put_key(out, name);
	json_put_string(out, slice_str(text));
}

/* A ticket, and what whoever has it needs to know. */
static enum rep_when do_bench(struct asking *a)
{
	const char *text = argument(a, 1);
	char *end = NULL;
	long seconds = text ? strtol(text, &end, 10) : 0;
	if (!text || *end || seconds < 1 || seconds > BENCH_SECONDS_MAX)
		return say_error(a, "usage: bench SECONDS [DEVICE], at most 3600 seconds");
	const struct device *d = bench_target(a->t->devices, argument(a, 2));
	if (!d)
		return say_error(a, "no such device");
	struct requests *s = a->t->requests;
	const struct config *conf = a->t->life->config;
	if (bench_order(&s->bench, d->conf->name, now_ms() + (uint64_t)seconds * 1000))
		return say_error(a, "no randomness for a ticket yet; try again");
	put_text(a->out, "ticket", s->bench.ticket);
	put_text(a->out, "device", d->conf->name);
	put_text(a->out, "model", bench_model(d));
	json_put_key(a->out, "window");
	json_put_int(a->out, governor_window(d, slice_str(bench_model(d))));
	put_text(a->out, "listen", a->t->life->front ? front_address(a->t->life->front) : "");
	json_put_key(a->out, "tls");
	buf_add_str(a->out, conf->listen.certificate ? "true" : "false");
	return REP_NOW;
}

static enum rep_when do_operation(struct asking *a)
{
	const char *text = argument(a, 1);
	char *end = NULL;
	unsigned long long id = text ? strtoull(text, &end, 10) : 0;
	const struct operation *op =
		text && *end == '\0' ? operation_find(&a->t->life->operations, id) : NULL;
	if (!op)
		return say_error(a, "no such operation");
	json_document(&document_operation, op, a->out);
	return REP_NOW;
}

#define REQUESTS_TOLD 100  /* where no number is asked for, */
#define REQUESTS_MOST 5000 /* ... and at most: the loop writes them in one go */

static enum rep_when do_requests(struct asking *a)
{
	const char *text = argument(a, 1);
	char *end = NULL;
	unsigned long long n = text ? strtoull(text, &end, 10) : REQUESTS_TOLD;
	if (text && (*text < '0' || *text > '9' || *end))
		return say_error(a, "usage: requests [COUNT]");
	struct requests_view view = {
		.tell = a->t, .most = n < REQUESTS_MOST ? (size_t)n : REQUESTS_MOST};
	json_document(&document_requests, &view, a->out);
	return REP_NOW;
}

static enum rep_when do_request(struct asking *a)
{
	const char *id = argument(a, 1);
	if (!id)
		return say_error(a, "usage: request REQUEST-ID");
	struct requests_view view = {
		.tell = a->t, .one = history_find(&a->t->requests->history, id)};
	if (!view.one)
		return say_error(a, "no such request is known (any more)");
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
		events_recent(a->t->events, argument(a, 1), a->out);
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
		.run = do_requests},
	{"request", "REQUEST-ID", "one of them with all its steps", 1, .run = do_request},
	{"counters", "", "sums since the start", .document = &document_counters},
	{"histograms", "", "how long things took", .document = &document_histograms},
	{"backends", "", "each backend and its models", .document = &document_backends},
	{"devices", "", "GPUs: memory, load, temperature", .run = do_devices},
	{"keys", "", "clients' keys by name, and what they have under way",
		.document = &document_keys},
	{"nng", "", "nng's own statistics", .document = &document_nng},
	{"fields", "", "what these documents can tell: names, types, units", .run = do_fields},
	{"recent", "[REQUEST-ID]", "the newest events, of one request or all", 1, .run = do_recent},
	{"flush", "", "answered once all that was logged so far is written", .run = do_flush},
	{"operation", "N", "what became of an operation", 1, .run = do_operation},
	{"restart", "[DEVICE|all] [--backend]", "new workers without a pause", 2, .run = do_restart,
		.orders = true},
	{"drain", "DEVICE", "no new work for a device", 1, .run = do_drain, .orders = true},
	{"reset", "[DEVICE|all]", "a failed or drained device starts afresh", 1, .run = do_reset,
		.orders = true},
	{"reload", "", "read the configuration again", .run = do_reload, .orders = true},
	{"upgrade", "", "a new tandemd takes over", .run = do_upgrade, .orders = true},
	{"cancel", "REQUEST-ID", "end a client's request", 1, .run = do_cancel, .orders = true},
	{"bench", "SECONDS [DEVICE]", "a ticket to measure a device with, while nobody needs it", 2,
		.run = do_bench, .orders = true},
	{"help", "", "this list", .run = do_help},
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
		return say_error(a, "unknown request: too many arguments; ask for help");
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
		say_error(&a, "unknown request; ask for help");
	}
	if (when == REP_NOW)
		buf_add_char(out, '}');
	return when;
}

/* Of those that run something: they tell something, at once, and no more. */
static const char *const looks[] = {"requests", "request", "recent", "fields", "operation", "help"};

static bool only_looks(const struct command *c)
{
	for (size_t i = 0; !c->document && i < sizeof(looks) / sizeof(*looks); i++)
		if (strcmp(c->name, looks[i]) == 0)
			return true;
	return c->document;
}

bool commands_look(struct tell *t, struct slice request, struct buf *out)
{
	struct command_words w;
	struct asking a = {.t = t, .w = &w, .out = out};
	const struct command *c = command_split(request, &w) ? find(w.word[0]) : NULL;
	if (!c || !only_looks(c))
		return false;
	buf_add_char(out, '{');
	run(&a, c);
	buf_add_char(out, '}');
	return true;
}
