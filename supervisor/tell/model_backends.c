/* Each backend and its models. */
#include "supervisor/tell/documents.h"

#include <string.h>

enum { TYPE, URL, PID, MODEL, STATE, DETAIL, WINDOW, MODELS, DEVICE, SLOTS, PIN };

static void get_backend(const void *of, const struct field *f, struct field_value *out)
{
	const struct device *d = of;
	const struct worker_backend *now = device_backend(d);
	switch (f->which) {
	case TYPE:
		field_say_text(out, backend_type_name(d->conf->backend.type));
		break;
	case URL:
		field_say_text(out, now->url[0] ? now->url : d->conf->backend.url);
		break;
	case PID:
		field_say_int_if(out, now->pid > 0, now->pid);
		break;
	case MODEL:
		field_say_text(out, device_model(d));
		break;
	case STATE:
		field_say_text(out, proto_state_name(now->state));
		break;
	case DETAIL:
		field_say_text(out, now->detail);
		break;
	case WINDOW:
		out->number = device_window(d);
		break;
	case MODELS:
		out->number = (int64_t)d->model_count;
		break;
	case DEVICE:
		field_say_text(out, d->conf->name);
		break;
	case SLOTS:
		out->number = now->slots;
		break;
	case PIN:
		field_say_text(out, d->conf->pin);
		break;
	}
}

static const struct field backend[] = {
	{.name = "type", .type = FIELD_TEXT, .get = get_backend, .which = TYPE},
	{.name = "url", .type = FIELD_TEXT, .get = get_backend, .which = URL},
	{.name = "pid", .type = FIELD_INT, .get = get_backend, .which = PID},
	{.name = "model", .type = FIELD_TEXT, .get = get_backend, .which = MODEL},
	{.name = "state", .type = FIELD_TEXT, .get = get_backend, .which = STATE},
	{.name = "detail", .type = FIELD_TEXT, .get = get_backend, .which = DETAIL},
	{.name = "window",
		.type = FIELD_INT,
		.unit = "tokens",
		.get = get_backend,
		.which = WINDOW},
	{.name = "models", .type = FIELD_INT, .get = get_backend, .which = MODELS},
};
const struct fields backend_members = FIELDS(backend);

enum { STARTED, KEY, CLIENT_NUM_CTX };

/* How it is set up. */
static void get_set_up(const void *of, const struct field *f, struct field_value *out)
{
	const struct config_device *conf = ((const struct device *)of)->conf;
	out->truth = f->which == STARTED ? conf->backend.command != NULL
		     : f->which == KEY	 ? conf->backend.key_file != NULL
					 : conf->client_num_ctx;
}

/* --- how it holds its model --- */

/* -1: it does not tell; nothing of it counts before its worker has said a word. */
static void get_serving(const void *of, const struct field *f, struct field_value *out)
{
	const struct worker_backend *b = device_backend(of);
	int64_t value;
	memcpy(&value, (const char *)b + f->which, sizeof(value));
	bool known = b->traits && value >= 0;
	if (f->type == FIELD_TRUTH) {
		out->truth = known && value > 0;
		out->is = known ? FIELD_SAID : FIELD_UNKNOWN;
	} else {
		field_say_int_if(out, known, value);
	}
}

static void get_cache_type(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	field_say_text(out, device_backend(of)->cache_type);
}

#define SERVING(name_, type_, unit_)                                                               \
	{                                                                                          \
		.name = #name_, .type = (type_), .unit = (unit_), .get = get_serving,              \
		.which = FIELD_AT(struct worker_backend, serving.name_, int64_t)                   \
	}

static const struct field serving[] = {
	SERVING(model_bytes, FIELD_INT, "bytes"),
	SERVING(weight_bytes, FIELD_INT, "bytes"),
	SERVING(gpu_bytes, FIELD_INT, "bytes"),
	SERVING(gpu_percent, FIELD_INT, "percent"),
	SERVING(gpus, FIELD_INT, NULL),
	SERVING(models, FIELD_INT, NULL),
	SERVING(keep_s, FIELD_INT, "s"),
	SERVING(own_window, FIELD_INT, "tokens"),
	SERVING(flash_attention, FIELD_TRUTH, NULL),
	SERVING(speculation, FIELD_TRUTH, NULL),
	FIELD_OWN("cache_type", FIELD_TEXT, get_cache_type),
};
static const struct fields serving_members = FIELDS(serving);

enum { MODEL_NAME, MODEL_WINDOW };

static void get_model(const void *of, const struct field *f, struct field_value *out)
{
	const struct device_model *m = of;
	if (f->which == MODEL_NAME)
		field_say_text(out, m->name);
	else
		out->number = m->window;
}

static const struct field model[] = {
	{.name = "name", .type = FIELD_TEXT, .get = get_model, .which = MODEL_NAME},
	{.name = "window",
		.type = FIELD_INT,
		.unit = "tokens",
		.get = get_model,
		.which = MODEL_WINDOW},
};
static const struct fields model_members = FIELDS(model);

static void each_model(const void *of, struct field_list *list)
{
	const struct device *d = of;
	for (size_t i = 0; i < d->model_count; i++)
		field_item(list, &d->models[i]);
}

static const struct field listed[] = {
	{.name = "device", .type = FIELD_TEXT, .get = get_backend, .which = DEVICE},
	FIELD_OBJECT_OF(NULL, &backend_members, NULL),
	{.name = "reported_slots", .type = FIELD_INT, .get = get_backend, .which = SLOTS},
	{.name = "pin", .type = FIELD_TEXT, .get = get_backend, .which = PIN},
	{.name = "started", .type = FIELD_TRUTH, .get = get_set_up, .which = STARTED},
	{.name = "has_key", .type = FIELD_TRUTH, .get = get_set_up, .which = KEY},
	{.name = "client_num_ctx", .type = FIELD_TRUTH, .get = get_set_up, .which = CLIENT_NUM_CTX},
	FIELD_OBJECT_OF("serving", &serving_members, NULL),
	FIELD_LIST_OF("model_list", &model_members, each_model),
};
static const struct fields listed_backend = FIELDS(listed);

void each_device(const void *tell, struct field_list *list)
{
	const struct devices *s = ((const struct tell *)tell)->devices;
	for (size_t i = 0; i < s->count; i++)
		field_item(list, s->of[i]);
}

static const struct field backends[] = {
	FIELD_LIST_OF("backends", &listed_backend, each_device),
	FIELD_LIST_OF("aliases", &alias_members, each_alias),
};
const struct fields document_backends = FIELDS(backends);
