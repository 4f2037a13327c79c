/*
 * Ollama's store: copies, deletions, pulls, blobs. Bodies of blobs are counted, not kept.
 * docs/protocols.md#routes.
 */
#include "tests/fake/dialect.h"

#include <stdio.h>
#include <stdlib.h>

#define BLOBS_MAX 64 /* digests remembered */

/* The list has what was changed last first. */
static void put_first(struct engine *e, struct model *m)
{
	struct model **link = &e->models;
	while (*link != m)
		link = &(*link)->next;
	*link = m->next;
	m->next = e->models;
	e->models = m;
}

void ollama_copy(struct request *r)
{
	struct buf from, to;

	buf_init(&from, 4096);
	buf_init(&to, 4096);
	if (!api_object(r))
		goto out;
	json_string_decode(json_get(r->json, "source"), &from);
	json_string_decode(json_get(r->json, "destination"), &to);
	if (!engine_model(r->fake->engine, buf_slice(&from))) {
		ollama_not_found(r, buf_slice(&from));
	} else if (!to.n) {
		api_error(r, 400, SLICE("destination is required"));
	} else {
		put_first(r->fake->engine, engine_add_model(r->fake->engine, buf_slice(&to)));
		http_reply(r->x, 200, NULL, SLICE(""));
	}
out:
	buf_free(&from);
	buf_free(&to);
}

void ollama_delete(struct request *r)
{
	struct buf name;
	struct model *m;

	if (ollama_body_model(r, &name)) {
		m = engine_model(r->fake->engine, buf_slice(&name));
		if (m) {
			m->listed = false;
			http_reply(r->x, 200, NULL, SLICE(""));
		} else {
			ollama_not_found(r, buf_slice(&name));
		}
	}
	buf_free(&name);
}

/* pull, push and create: progress lines, then success. */
static void put_progress(struct request *r, const char *line, bool stream)
{
	if (!stream)
		return;
	http_data(r->x, slice_str(line));
	http_data(r->x, SLICE("\n"));
}

static void transfer(struct request *r, const char *verb, bool adds)
{
	const char *last = "{\"status\":\"success\"}";
	bool stream = ask_streams(r);
	struct buf name;
	char line[256];

	json_to_bool(json_get(r->json, "stream"), &stream);
	if (!ollama_body_model(r, &name)) {
		buf_free(&name);
		return;
	}
	if (adds)
		put_first(r->fake->engine, engine_add_model(r->fake->engine, buf_slice(&name)));
	buf_free(&name);
	http_begin(r->x, 200, stream ? "application/x-ndjson" : api_json_type(r),
		stream ? -1 : (int64_t)strlen(last));
	snprintf(line, sizeof(line), "{\"status\":\"%s manifest\"}", verb);
	put_progress(r, line, stream);
	for (int i = 0; i <= 4; i++) {
		snprintf(line, sizeof(line),
			"{\"status\":\"%s "
			"%.12s\",\"digest\":\"sha256:%s\",\"total\":%lld,\"completed\":%lld}",
			verb, MODEL_DIGEST, MODEL_DIGEST, MODEL_BYTES, MODEL_BYTES * i / 4);
		put_progress(r, line, stream);
	}
	put_progress(r, "{\"status\":\"verifying sha256 digest\"}", stream);
	put_progress(r, "{\"status\":\"writing manifest\"}", stream);
	http_data(r->x, slice_str(last));
	if (stream)
		http_data(r->x, SLICE("\n"));
	http_end(r->x);
}

void ollama_pull(struct request *r)
{
	transfer(r, "pulling", true);
}

void ollama_push(struct request *r)
{
	transfer(r, "pushing", false);
}

void ollama_create(struct request *r)
{
	transfer(r, "creating", true);
}

/* Digests of the blobs posted, oldest forgotten first. */
static char *blobs[BLOBS_MAX];
static size_t blob_count;

static bool have_blob(struct slice path)
{
	for (size_t i = 0; i < BLOBS_MAX; i++)
		if (blobs[i] && slice_eq(slice_str(blobs[i]), path))
			return true;
	return false;
}

void ollama_head_blob(struct request *r)
{
	http_reply(r->x, have_blob(r->x->path) ? 200 : 404, NULL, SLICE(""));
}

void ollama_post_blob(struct request *r)
{
	bool present = have_blob(r->x->path);

	if (!present) {
		char **place = &blobs[blob_count++ % BLOBS_MAX];

		free(*place);
		*place = slice_dup(r->x->path);
	}
	http_reply(r->x, present ? 200 : 201, NULL, SLICE(""));
}
