/*
 * What the supervisor answers by itself, at once, however busy the backends are: the liveness text
 * and the union of the model lists. The entries come from the workers, which made them valid JSON
 * in both dialects.
 */
#include "supervisor/request.h"

static bool is_read(const struct exchange *x)
{
	const char *m = exchange_method(x);
	return strcmp(m, "GET") == 0 || strcmp(m, "HEAD") == 0;
}

/* A model that two devices serve is listed once, as its first device has it; the main devices come
 * first. */
static bool listed_before(
	const struct supervisor *s, size_t device, size_t model, enum device_role pass)
{
	struct slice name = slice_str(s->devices[device]->models[model].name);
	for (size_t d = 0; d < s->device_count; d++) {
		bool main = s->devices[d]->conf->roles & ROLE_MAIN;
		bool earlier = pass == ROLE_MAIN ? main && d < device : main || d < device;
		if (d == device || !earlier)
			continue;
		for (size_t m = 0; m < s->devices[d]->model_count; m++)
			if (slice_ieq(name, slice_str(s->devices[d]->models[m].name)))
				return true;
	}
	return false;
}

static void add_models(
	const struct supervisor *s, enum device_role pass, bool openai, struct buf *out)
{
	for (size_t d = 0; d < s->device_count; d++) {
		const struct device *dev = s->devices[d];
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

static void reply(struct supervisor *s, struct exchange *x, const char *type, struct slice body)
{
	s->count.passed++;
	char id[REQUEST_ID_BYTES];
	request_new_id(s, id);
	request_tell(x, &(struct request_story){
				.id = id, .strategy = "pass", .reason = "answered by the gateway"});
	exchange_reply(x, 200, type, body);
}

static void reply_models(struct supervisor *s, struct exchange *x, bool openai)
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

bool probe_answer(struct supervisor *s, struct exchange *x)
{
	struct slice path = exchange_path(x);
	if (!is_read(x))
		return false;
	if (slice_eq(path, SLICE("/")))
		reply(s, x, "text/plain; charset=utf-8", SLICE("Ollama is running"));
	else if (slice_eq(path, SLICE("/api/tags")))
		reply_models(s, x, false);
	else if (slice_eq(path, SLICE("/v1/models")))
		reply_models(s, x, true);
	else
		return false;
	return true;
}
