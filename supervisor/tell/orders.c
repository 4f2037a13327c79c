/* Commands of the stats socket that change something: each answers with what came of it, or why it cannot be. */
#include "supervisor/tell/commands_private.h"

#include "common/base/json.h"
#include "supervisor/devices/governor.h"
#include "supervisor/life/control.h"

#include <stdlib.h>

/* --- operations --- */

static enum rep_when say_operation(struct asking *a, uint64_t id, struct buf *err)
{
	if (id == 0)
		command_say_error(a, err->n ? buf_cstr(err) : "refused");
	else {
		json_put_key(a->out, "operation");
		json_put_int(a->out, (int64_t)id);
	}
	buf_free(err);
	return REP_NOW;
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

enum rep_when order_restart(struct asking *a)
{
	const char *device;
	bool backend = false;
	struct buf err;
	buf_init(&err, 0);
	if (!take_device(a, &device, &backend))
		return command_say_error(a, "usage: restart [DEVICE|all] [--backend]");
	return say_operation(a, control_restart(a->t->life, device, backend, &err), &err);
}

enum rep_when order_drain(struct asking *a)
{
	const char *device = command_argument(a, 1);
	struct buf err;
	buf_init(&err, 0);
	if (!device)
		return command_say_error(a, "usage: drain DEVICE");
	return say_operation(a, control_drain(a->t->life, device, &err), &err);
}

enum rep_when order_reset(struct asking *a)
{
	const char *device;
	struct buf err;
	buf_init(&err, 0);
	if (!take_device(a, &device, NULL))
		return command_say_error(a, "usage: reset [DEVICE|all]");
	return say_operation(a, control_reset(a->t->life, device, &err), &err);
}

enum rep_when order_reload(struct asking *a)
{
	struct buf err;
	buf_init(&err, 0);
	return say_operation(a, control_reload(a->t->life, &err), &err);
}

enum rep_when order_upgrade(struct asking *a)
{
	struct buf err;
	buf_init(&err, 0);
	return say_operation(a, control_upgrade(a->t->life, &err), &err);
}

enum rep_when order_cancel(struct asking *a)
{
	const char *id = command_argument(a, 1);
	if (!id)
		return command_say_error(a, "usage: cancel REQUEST-ID");
	if (!requests_cancel(a->t->requests, id))
		return command_say_error(a, "no such request is under way");
	json_put_key(a->out, "cancelled");
	json_put_string(a->out, slice_str(id));
	return REP_NOW;
}

/* --- a ticket to measure with --- */

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
enum rep_when order_bench(struct asking *a)
{
	const char *text = command_argument(a, 1);
	char *end = NULL;
	long seconds = text ? strtol(text, &end, 10) : 0;
	if (!text || *end || seconds < 1 || seconds > BENCH_SECONDS_MAX)
		return command_say_error(a, "usage: bench SECONDS [DEVICE], at most 3600 seconds");
	const struct device *d = bench_target(a->t->devices, command_argument(a, 2));
	if (!d)
		return command_say_error(a, "no such device");
	struct requests *s = a->t->requests;
	const struct config *conf = a->t->life->config;
	if (bench_order(&s->bench, d->conf->name, now_ms() + (uint64_t)seconds * 1000))
		return command_say_error(a, "no randomness for a ticket yet; try again");
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
