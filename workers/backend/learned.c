/* What a whole look has told of the backend, and what is known of it beside: from now on that is it. */
#include "workers/backend/backend_private.h"

#include "common/base/log.h"

#include <stdlib.h>

/*
 * Without a configured model the first one found is it, and stays it while it is there: Ollama
 * lists what was changed last first, so that a pull would make another model the default.
 */
static void settle_model(struct backend *b)
{
	struct settings *s = &b->worker->settings;
	const char *model = b->view.model;
	if (s->model || !model || (s->settled && backend_same_model(s->settled, model)))
		return;
	char *copy = strdup(model);
	if (!copy)
		return; /* memory is out: the next probe tries again */
	log_line(LOG_INFO, "model_settled", LOG_STR("model", model),
		LOG_STR("gone", s->settled ? s->settled : ""),
		LOG_STR("hint", "no model is configured for this device"), LOG_END);
	free(s->settled);
	s->settled = copy;
}

/* What its probe does not tell, and its output or its command line does. */
static void learn_launched(struct backend *b)
{
	struct proto_serving *s = &b->view.serving;
	s->speculation = b->view.guesses ? b->speculation : -1;
	if (!b->pid)
		return;
	const struct serving *told = launcher_serving(b->launcher);
	if (s->gpu_percent < 0)
		s->gpu_percent = launcher_without_gpu(b->launcher) ? 0 : serving_percent(told);
	if (s->gpus < 0)
		s->gpus = serving_gpus(told);
	if (s->flash_attention < 0)
		s->flash_attention = told->args.flash;
	s->cache_type = slice_str(told->args.cache_type);
}

/* What is told is the time left: the most of it since the model was loaded is what it is kept. */
static int64_t longest_kept(const struct backend_view *before, const struct backend_view *now)
{
	bool same = before->model && now->model && backend_same_model(before->model, now->model);
	int64_t keep = now->serving.keep_s;
	return same && keep >= 0 && before->serving.keep_s > keep ? before->serving.keep_s : keep;
}

void backend_learned(struct backend *b)
{
	b->learning.serving.keep_s = longest_kept(&b->view, &b->learning);
	backend_view_fini(&b->view);
	b->view = b->learning;
	backend_view_init(&b->learning);
	learn_launched(b);
	b->view.gpu_share = b->pid ? launcher_gpu_share(b->launcher) : -1;
	settle_model(b);
}
