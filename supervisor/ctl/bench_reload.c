/*
 * What a reload costs, where somebody asks for it (--reload): of a backend that tandem starts, the
 * order `restart DEVICE --backend`, which saves a llama-server's conversations before and restores
 * them after; of an Ollama, the model out of its memory and in again. Only while nothing else is
 * under way.
 */
#include "supervisor/ctl/bench.h"

#include <inttypes.h>
#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <time.h>

#define TOKENS 1024
#define BODY_BYTES (4u << 20)
#define POLL_MS 50
#define RESTART_MS 240000
#define EVENT_MS 300 /* an event that is on its way */

/* --- a conversation that outlives it --- */

static enum bench_end ask(
	struct benching *b, const struct bench_prompt *p, int turns, struct bench_answer *a)
{
	struct buf body;
	enum bench_end end;
	buf_init(&body, BODY_BYTES);
	do {
		bench_body_begin(b, &body);
		bench_prompt_put(p, turns, &body);
		buf_add_str(&body,
			",\"stream\":true,\"options\":{\"temperature\":0,\"num_predict\":"
			"1}}");
		end = bench_ask(b, "/api/chat", &body, false, a);
	} while (end == BENCH_BUSY && bench_wait(b));
	buf_free(&body);
	return end;
}

/* --- a backend of ours --- */

static void take_event(struct benching *b, const char *bytes, size_t size)
{
	struct json_value root;
	struct bench_reload *r = &b->reload;
	if (json_parse((struct slice){bytes, size}, JSON_MAX_DEPTH, &root, NULL) ||
		!json_string_is(json_get(root, "device"), b->device))
		return;
	if (json_string_is(json_get(root, "event"), "worker.slots_saved")) {
		r->save_ms = ctl_real(root, "ms");
		r->slots = ctl_int(root, "slots");
		r->bytes = ctl_int(root, "bytes");
	} else if (json_string_is(json_get(root, "event"), "worker.slots_restored")) {
		r->restore_ms = ctl_real(root, "ms");
	}
}

static void take_events(struct benching *b, nng_socket sub)
{
	char *bytes;
	size_t size;
	while (nng_recv(sub, &bytes, &size, NNG_FLAG_ALLOC) == 0) {
		take_event(b, bytes, size);
		nng_free(bytes, size);
	}
}

static int subscribe(struct benching *b, nng_socket *sub)
{
	char url[256];
	struct buf err;
	buf_init(&err, 0);
	enum ctl_exit rc = ctl_url(b->ctl->run_dir, "events", url, &err);
	buf_free(&err);
	if (rc != CTL_OK || nng_sub0_open(sub))
		return -1;
	if (nng_socket_set(*sub, NNG_OPT_SUB_SUBSCRIBE, "", 0) == 0 &&
		nng_socket_set_ms(*sub, NNG_OPT_RECVTIMEO, EVENT_MS) == 0 &&
		nng_dial(*sub, url, NULL, 0) == 0)
		return 0;
	nng_close(*sub);
	return -1;
}

/* One question; the answer's root, or none with why. */
static bool order(
	struct benching *b, const char *request, struct buf *answer, struct json_value *root)
{
	struct buf err;
	buf_init(&err, 0);
	enum ctl_exit rc = ctl_ask(b->ctl->run_dir, request, CTL_TIMEOUT_MS, answer, root, &err);
	if (rc != CTL_OK)
		snprintf(b->reload.why, sizeof(b->reload.why), "%s", buf_cstr(&err));
	buf_free(&err);
	return rc == CTL_OK;
}

/* Until the operation has ended. */
static bool wait_for(struct benching *b, int64_t operation)
{
	struct json_value root = {0};
	struct buf answer;
	char request[48], state[16] = "running";
	int64_t until = bench_now_ms() + RESTART_MS;
	buf_init(&answer, CTL_ANSWER_BYTES);
	snprintf(request, sizeof(request), "operation %" PRId64, operation);
	bool told = true;
	while (told && strcmp(state, "running") == 0 && bench_now_ms() < until) {
		nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
		told = order(b, request, &answer, &root);
		if (told)
			ctl_text(root, "state", state, sizeof(state));
	}
	bool done = told && strcmp(state, "done") == 0;
	if (told && !done && strcmp(state, "failed") == 0)
		ctl_text(root, "why", b->reload.why, sizeof(b->reload.why));
	else if (told && !done)
		snprintf(b->reload.why, sizeof(b->reload.why), "the restart takes too long");
	buf_free(&answer);
	return done;
}

static bool restart(struct benching *b)
{
	char request[128];
	struct json_value root;
	struct buf answer;
	nng_socket sub;
	bool heard = subscribe(b, &sub) == 0;
	buf_init(&answer, CTL_ANSWER_BYTES);
	snprintf(request, sizeof(request), "restart %s --backend", b->device);
	int64_t begun = bench_now_ms();
	bool done = order(b, request, &answer, &root) && wait_for(b, ctl_int(root, "operation"));
	b->reload.ms = (double)(bench_now_ms() - begun);
	if (heard) {
		take_events(b, sub);
		nng_close(sub);
	}
	buf_free(&answer);
	snprintf(b->reload.how, sizeof(b->reload.how), "restart");
	return done;
}

/* --- an Ollama --- */

static bool load(struct benching *b, const char *keep_alive, struct bench_answer *a)
{
	struct buf body;
	buf_init(&body, BODY_BYTES);
	bench_body_begin(b, &body);
	buf_printf(&body, "%s,\"stream\":false}", keep_alive);
	bool done = bench_ask(b, "/api/generate", &body, false, a) == BENCH_DONE;
	if (!done)
		snprintf(b->reload.why, sizeof(b->reload.why), "%s",
			a->error[0] ? a->error : "the time was over");
	buf_free(&body);
	return done;
}

static bool unload_and_load(struct benching *b, struct bench_answer *a)
{
	if (!load(b, ",\"keep_alive\":0", a) || !load(b, "", a))
		return false;
	b->reload.ms = a->total_ms;
	snprintf(b->reload.how, sizeof(b->reload.how), "unload and load");
	return true;
}

/* --- both --- */

static bool measure(struct benching *b, struct bench_answer *a)
{
	if (b->backend_ours)
		return restart(b);
	if (strcmp(b->backend, "ollama") == 0)
		return unload_and_load(b, a);
	snprintf(b->reload.why, sizeof(b->reload.why),
		"the backend of %s is another's, and tells nobody to load its model anew",
		b->device);
	return false;
}

void bench_reload_measure(struct benching *b)
{
	struct bench_prompt p;
	struct bench_answer a;
	struct bench_reload *r = &b->reload;
	*r = (struct bench_reload){.save_ms = -1, .restore_ms = -1, .after_ms = -1};
	buf_init(&p.text, BODY_BYTES);
	buf_init(&a.body, BODY_BYTES);
	int64_t tokens = b->window > 0 && b->window < 2 * TOKENS ? b->window / 2 : TOKENS;
	bench_prompt_make(b, &p, tokens);
	b->deadline_ms = bench_now_ms() + RESTART_MS;
	bench_progress(b, "reloading");
	if (ask(b, &p, 1, &a) != BENCH_DONE) { /* nothing else is under way, or it is not done */
		snprintf(r->why, sizeof(r->why), "%s",
			a.error[0] ? a.error : "other work never ended");
	} else if (measure(b, &a)) {
		r->done = true;
		if (ask(b, &p, 2, &a) == BENCH_DONE)
			r->after_ms = a.first_ms >= 0 ? a.first_ms : a.total_ms;
	}
	buf_free(&p.text);
	buf_free(&a.body);
}
