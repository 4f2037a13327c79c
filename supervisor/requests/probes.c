/*
 * What the supervisor answers by itself, at once, however busy the backends are: the liveness text
 * and the union of the model lists. The entries come from the workers, which made them valid JSON
 * in both dialects.
 */
#include "supervisor/requests/aliases.h"
#include "supervisor/requests/request.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

/* A model that two devices serve is listed once, as its first device has it; the main devices come
 * first. */
static bool listed_before(
	const struct requests *s, size_t device, size_t model, enum device_role pass)
{
	struct slice name = slice_str(s->devices->of[device]->models[model].name);
	for (size_t d = 0; d < s->devices->count; d++) {
		bool main = s->devices->of[d]->conf->roles & ROLE_MAIN;
		bool earlier = pass == ROLE_MAIN ? main && d < device : main || d < device;
		if (d == device || !earlier)
			continue;
		for (size_t m = 0; m < s->devices->of[d]->model_count; m++)
			if (slice_ieq(name, slice_str(s->devices->of[d]->models[m].name)))
				return true;
	}
	return false;
}

enum list_form { LIST_OLLAMA, LIST_OPENAI, LIST_ANTHROPIC };

/* Both APIs have the path; only Anthropic's clients say a version of theirs. */
static enum list_form list_form(const struct exchange *x)
{
	return exchange_header(x, "anthropic-version") ? LIST_ANTHROPIC : LIST_OPENAI;
}

/* A model's object with these members all saying the name, whatever they say. */
static void add_named(
	const char *object, const char *const *members, struct slice name, struct buf *out)
{
	struct json_value key, value;
	struct json_iter it = json_iter(json_object_in(slice_str(object)));
	buf_add_char(out, '{');
	while (json_object_next(&it, &key, &value)) {
		bool named = false;
		for (const char *const *m = members; *m && !named; m++)
			named = json_string_is(key, *m);
		if (out->n && out->p[out->n - 1] != '{')
			buf_add_char(out, ',');
		buf_add_slice(out, key.raw);
		buf_add_char(out, ':');
		if (named)
			json_put_string(out, name);
		else
			buf_add_slice(out, value.raw);
	}
	buf_add_char(out, '}');
}

static void add_anthropic(const struct device_model *m, struct slice name, struct buf *out)
{
	struct json_value created = json_get(json_object_in(slice_str(m->openai_json)), "created");
	int64_t seconds = 0;
	char text[40];
	struct tm tm;
	json_to_int(created, &seconds);
	time_t at = (time_t)seconds;
	if (!gmtime_r(&at, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(text, sizeof(text), "1970-01-01T00:00:00Z");
	buf_add_str(out, "{\"type\":\"model\",\"id\":");
	json_put_string(out, name);
	buf_add_str(out, ",\"display_name\":");
	json_put_string(out, name);
	buf_printf(out, ",\"created_at\":\"%s\"", text);
	if (m->window > 0)
		buf_printf(out, ",\"max_input_tokens\":%" PRId64, m->window);
	buf_add_char(out, '}');
}

/* name: the model's own, or an alias. */
static void add_model(
	const struct device_model *m, struct slice name, enum list_form form, struct buf *out)
{
	static const char *const ollama[] = {"name", "model", NULL}, *const openai[] = {"id", NULL};
	const char *object = form == LIST_OPENAI ? m->openai_json : m->ollama_json;
	if (form == LIST_ANTHROPIC)
		add_anthropic(m, name, out);
	else if (slice_eq(name, slice_str(m->name)))
		buf_add_str(out, object);
	else
		add_named(object, form == LIST_OPENAI ? openai : ollama, name, out);
}

static void add_comma(struct buf *out)
{
	if (out->n && out->p[out->n - 1] != '[')
		buf_add_char(out, ',');
}

static void add_models(
	const struct requests *s, enum device_role pass, enum list_form form, struct buf *out)
{
	for (size_t d = 0; d < s->devices->count; d++) {
		const struct device *dev = s->devices->of[d];
		if (!!(dev->conf->roles & ROLE_MAIN) != (pass == ROLE_MAIN))
			continue;
		for (size_t m = 0; m < dev->model_count; m++) {
			if (listed_before(s, d, m, pass))
				continue;
			add_comma(out);
			add_model(&dev->models[m], slice_str(dev->models[m].name), form, out);
		}
	}
}

/* The entry of a device's list; NULL: none of that name. */
static const struct device_model *entry_of(const struct device *d, struct slice name)
{
	for (size_t i = 0; d && i < d->model_count; i++)
		if (device_same_model(name, slice_str(d->models[i].name)))
			return &d->models[i];
	return NULL;
}

static const struct device_model *entry_behind(const struct requests *s, const struct alias *a)
{
	struct slice model = slice_str(a->model);
	return entry_of(a->device ? a->device : pick_model(s->devices, model), model);
}

/* Aliases that are one name stand behind the models, as what answers for them. */
static void add_aliases(const struct requests *s, enum list_form form, struct buf *out)
{
	for (size_t i = 0; i < s->config->alias_count; i++) {
		struct alias a;
		alias_at(s, i, &a);
		const struct device_model *m = alias_listed(s, i) ? entry_behind(s, &a) : NULL;
		if (!m)
			continue;
		add_comma(out);
		add_model(m, slice_str(a.entry->match), form, out);
	}
}

static void reply_status(
	struct requests *s, struct exchange *x, int status, const char *type, struct slice body)
{
	s->count.passed++;
	char id[REQUEST_ID_BYTES];
	request_new_id(s, id);
	request_tell(x, &(struct request_story){
				.id = id, .strategy = "pass", .reason = "answered by the gateway"});
	exchange_reply(x, status, type, body);
}

static void reply(struct requests *s, struct exchange *x, const char *type, struct slice body)
{
	reply_status(s, x, 200, type, body);
}

static struct json_value id_of(struct json_value list, bool last)
{
	struct json_value model, id = {.type = JSON_NONE};
	struct json_iter it = json_iter(list);
	while (json_array_next(&it, &model)) {
		id = json_get(model, "id");
		if (!last)
			break;
	}
	return json_is(id, JSON_STRING) ? id : (struct json_value){JSON_NULL, SLICE("null")};
}

/* The ids of the first and the last one, which clients ask for further pages by. */
static void end_anthropic(struct buf *body)
{
	struct buf ends;
	buf_init(&ends, 0);
	buf_add_str(body, "]}");
	struct json_value list = json_get(json_object_in(buf_slice(body)), "data");
	buf_add_str(&ends, ",\"has_more\":false,\"first_id\":");
	buf_add_slice(&ends, id_of(list, false).raw);
	buf_add_str(&ends, ",\"last_id\":");
	buf_add_slice(&ends, id_of(list, true).raw);
	body->n -= buf_error(body) ? 0 : 1;
	buf_add_slice(body, buf_slice(&ends));
	buf_add_char(body, '}');
	buf_free(&ends);
}

static void reply_models(struct requests *s, struct exchange *x, enum list_form form)
{
	static const char *const begins[] = {[LIST_OLLAMA] = "{\"models\":[",
		[LIST_OPENAI] = "{\"object\":\"list\",\"data\":[",
		[LIST_ANTHROPIC] = "{\"data\":["};
	struct buf body;
	buf_init(&body, 0);
	buf_add_str(&body, begins[form]);
	add_models(s, ROLE_MAIN, form, &body);
	add_models(s, ROLE_CONDENSE, form, &body);
	add_aliases(s, form, &body);
	if (form == LIST_ANTHROPIC)
		end_anthropic(&body);
	else
		buf_add_str(&body, "]}");
	if (buf_error(&body))
		exchange_reply(x, 503, "application/json", SLICE("{\"error\":\"out of memory\"}"));
	else
		reply(s, x, "application/json; charset=utf-8", buf_slice(&body));
	buf_free(&body);
}

/* The object of one model. False: none is listed under that name. */
static bool reply_model(struct requests *s, struct exchange *x, struct slice name)
{
	struct alias a;
	bool alias = alias_find(s, name, &a);
	const struct device_model *m =
		alias ? entry_behind(s, &a) : entry_of(pick_model(s->devices, name), name);
	struct buf body;
	if (!m)
		return false;
	buf_init(&body, 0);
	add_model(m, alias ? name : slice_str(m->name), list_form(x), &body);
	reply(s, x, "application/json; charset=utf-8", buf_slice(&body));
	buf_free(&body);
	return true;
}

/* An Ollama may have a model that is newer than our list; others know no such path. */
static bool answer_model(struct requests *s, struct exchange *x, enum dialect dialect)
{
	if (list_form(x) == LIST_ANTHROPIC)
		dialect = DIALECT_ANTHROPIC_OTHER;
	struct buf name, body;
	buf_init(&name, 4096);
	buf_init(&body, 0);
	bool answered =
		route_model(exchange_path(x), &name) == 0 && reply_model(s, x, buf_slice(&name));
	const struct device *d = pick_role(s->devices, ROLE_MAIN);
	if (!answered && d && !device_has(d, TRAIT_FINDS_MODELS)) {
		struct buf text;
		buf_init(&text, 0);
		buf_printf(&text, "model '%.*s' not found", (int)(name.n < 400 ? name.n : 400),
			name.p ? name.p : "");
		dialect_error_body(dialect, 404, buf_slice(&text), &body);
		reply_status(s, x, 404, "application/json; charset=utf-8", buf_slice(&body));
		buf_free(&text);
		answered = true;
	}
	buf_free(&name);
	buf_free(&body);
	return answered;
}

static void refuse_stored(struct requests *s, struct exchange *x)
{
	struct buf body;
	buf_init(&body, 0);
	dialect_error_body(DIALECT_RESPONSES, 404,
		SLICE("not found: no response is stored here; what is asked for goes whole to POST "
		      "/v1/responses"),
		&body);
	reply_status(s, x, 404, "application/json; charset=utf-8", buf_slice(&body));
	buf_free(&body);
}

bool probe_answer(struct requests *s, struct exchange *x, const struct route *route)
{
	switch (route->kind) {
	case ROUTE_ROOT:
		reply(s, x, "text/plain; charset=utf-8", SLICE("Ollama is running"));
		return true;
	case ROUTE_TAGS:
		reply_models(s, x, LIST_OLLAMA);
		return true;
	case ROUTE_MODELS:
		reply_models(s, x, list_form(x));
		return true;
	case ROUTE_MODEL:
		return answer_model(s, x, route->dialect);
	case ROUTE_STORED:
		refuse_stored(s, x);
		return true;
	default:
		return false;
	}
}
