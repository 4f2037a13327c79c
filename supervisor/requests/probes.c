/*
 * What the supervisor answers by itself, at once, however busy the backends are: the liveness text
 * and the union of the model lists. The entries come from the workers, which made them valid JSON
 * in both dialects.
 */
#include "supervisor/requests/request.h"

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

static void add_models(
	const struct requests *s, enum device_role pass, bool openai, struct buf *out)
{
	for (size_t d = 0; d < s->devices->count; d++) {
		const struct device *dev = s->devices->of[d];
		if (!!(dev->conf->roles & ROLE_MAIN) != (pass == ROLE_MAIN))
			continue;
		for (size_t m = 0; m < dev->model_count; m++) {
			if (listed_before(s, d, m, pass))
				continue;
			if (out->n && out->p[out->n - 1] != '[')
				buf_add_char(out, ',');
			buf_add_str(out,
				openai ? dev->models[m].openai_json : dev->models[m].ollama_json);
		}
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

static void reply_models(struct requests *s, struct exchange *x, bool openai)
{
	struct buf body;
	buf_init(&body, 0);
	buf_add_str(&body, openai ? "{\"object\":\"list\",\"data\":[" : "{\"models\":[");
	add_models(s, ROLE_MAIN, openai, &body);
	add_models(s, ROLE_CONDENSE, openai, &body);
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
	const struct device *d = pick_model(s->devices, name);
	for (size_t i = 0; d && i < d->model_count; i++) {
		if (!device_same_model(name, slice_str(d->models[i].name)))
			continue;
		reply(s, x, "application/json; charset=utf-8", slice_str(d->models[i].openai_json));
		return true;
	}
	return false;
}

/* An Ollama may have a model that is newer than our list; others know no such path. */
static bool answer_model(struct requests *s, struct exchange *x, enum dialect dialect)
{
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

bool probe_answer(struct requests *s, struct exchange *x, const struct route *route)
{
	switch (route->kind) {
	case ROUTE_ROOT:
		reply(s, x, "text/plain; charset=utf-8", SLICE("Ollama is running"));
		return true;
	case ROUTE_TAGS:
		reply_models(s, x, false);
		return true;
	case ROUTE_MODELS:
		reply_models(s, x, true);
		return true;
	case ROUTE_MODEL:
		return answer_model(s, x, route->dialect);
	default:
		return false;
	}
}
