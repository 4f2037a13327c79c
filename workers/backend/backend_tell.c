/* What the supervisor hears of the backend. */
#include "workers/backend/backend_private.h"

#include "common/base/log.h"

/* --- telling the supervisor --- */

static void put_serving(struct buf *out, const struct proto_serving *s)
{
	const int64_t numbers[] = {s->model_bytes, s->weight_bytes, s->gpu_bytes, s->gpu_percent,
		s->gpus, s->models, s->keep_s, s->own_window, s->flash_attention, s->speculation};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		buf_printf(out, "%lld ", (long long)numbers[i]);
	buf_add_slice(out, s->cache_type);
	buf_add_char(out, ' ');
}

void backend_tell(struct backend *b, enum proto_backend_state state, struct slice detail)
{
	const char *model = b->worker->settings.model ? b->worker->settings.model : b->view.model;
	struct proto_record r = {.type = PROTO_STATE};
	unsigned traits = backend_all_traits(b);
	r.u.state = (struct proto_state){
		.state = state,
		.detail = detail,
		.url = slice_str(b->url),
		.backend_pid = b->pid,
		.backend_start = b->pid ? b->pid_start : 0,
		.window = b->worker->settings.num_ctx > 0 && traits & TRAIT_TAKES_NUM_CTX
				  ? b->worker->settings.num_ctx
				  : b->view.window,
		.slots = b->view.slots,
		.model = slice_str(model),
		.traits = traits,
		.serving = b->view.serving,
	};
	struct buf now;
	buf_init(&now, 0);
	buf_printf(&now, "%d %x %lld %lld %lld %s %s ", (int)state, traits, (long long)b->pid,
		(long long)r.u.state.window, (long long)b->view.slots, b->url ? b->url : "",
		model ? model : "");
	put_serving(&now, &b->view.serving);
	buf_add_slice(&now, detail);
	if (b->told.n && !buf_error(&now) && slice_eq(buf_slice(&now), buf_slice(&b->told))) {
		buf_free(&now);
		return;
	}
	if (b->told.n == 0 || state != b->state)
		log_line(state == STATE_DOWN ? LOG_WARN : LOG_INFO, "backend_state",
			LOG_STR("state", proto_state_name(state)),
			LOG_STR("url", b->url ? b->url : ""), LOG_INT("window", r.u.state.window),
			LOG_SLICE("detail", detail), LOG_END);
	b->state = state;
	buf_free(&b->told);
	b->told = now;
	b->worker->progress++;
	worker_put(b->worker, &r);
}

void backend_tell_models(struct backend *b)
{
	uint64_t hash = backend_view_hash(&b->view);
	if (hash == b->models_told)
		return;
	b->models_told = hash;
	backend_view_tell(&b->view, b->worker);
}
