/* A passed request is given to its device, and waits there. */
#include "supervisor/requests/pass.h"

#include "supervisor/requests/client.h"

#include <stdio.h>

#define PASS_WAIT_STEP_MS 100
#define PASS_OUTPUT_GUESS_TOKENS 512

static void on_wait(uv_timer_t *t)
{
	struct pass *p = t->data;
	const struct device *d = p->device;
	if (!p->job || pass_lane_waited(p) || p->job->running || d->state == WORKER_READY)
		return;
	uint64_t since = d->not_ready_since_ms > p->job->submitted_ms ? d->not_ready_since_ms
								      : p->job->submitted_ms;
	if (now_ms() - since < (uint64_t)p->base.all->config->deadlines.main_wait_ms)
		return;
	char text[128];
	snprintf(text, sizeof(text), "device %s is not available (%s)", d->conf->name,
		device_absence(d));
	pass_error(p, 503, text, PASS_RETRY_AFTER_S);
}

/* What the backend is asked for: the client's own target, but for another spelling of a known path,
 * and for llama-server's short paths, which others have below /v1 alone. */
static struct slice target_of(struct pass *p, char *room, size_t size)
{
	const char *target = exchange_target(p->base.exchange), *path = p->route.path;
	struct slice theirs = exchange_path(p->base.exchange);
	if (p->route.v1 && device_has(p->device, TRAIT_V1_ONLY))
		path = p->route.v1;
	if (!path || slice_eq(theirs, slice_str(path)))
		return slice_str(target);
	int n = snprintf(room, size, "%s%s", path, target + theirs.n);
	return n > 0 && (size_t)n < size ? (struct slice){room, (size_t)n} : slice_str(target);
}

enum job_class pass_class(const struct pass *p)
{
	const struct exchange *x = p->base.exchange;
	return client_class(&(struct client_facts){.wish = request_wish(&p->base),
		.user_agent = exchange_header(x, "User-Agent"),
		.tools = p->peek.tools,
		.tokens = p->base.tokens_in});
}

void pass_submit(struct pass *p)
{
	char target[1024];
	struct job_spec spec = {.upload = p->upload,
		.takes_slot = p->route.works,
		.body = buf_slice(&p->body),
		.class = p->route.works ? pass_class(p) : CLASS_INTERACTIVE,
		.client = p->base.client,
		.prompt_tokens = p->base.tokens_in,
		.output_tokens = p->route.writes ? PASS_OUTPUT_GUESS_TOKENS : 0};
	spec.message.kind = JOB_PASS;
	spec.message.request_id = slice_str(p->base.id);
	spec.message.dialect = p->base.dialect;
	spec.message.asked = buf_slice(&p->asked);
	spec.message.method = slice_str(exchange_method(p->base.exchange));
	spec.message.path = target_of(p, target, sizeof(target));
	if (spec.message.path.p == target) {
		buf_clear(&p->target);
		buf_add_slice(&p->target, spec.message.path);
		spec.message.path = buf_slice(&p->target);
	}
	spec.message.body_bytes =
		p->upload ? exchange_body_bytes(p->base.exchange) : (int64_t)p->body.n;
	steps_call(request_steps(&p->base));
	int rc = request_forward_headers(&p->base, &spec.message);
	if (rc == 0)
		rc = job_submit(p->device, &spec, p->events, p, &p->job);
	if (rc && pass_lane_leave(p, job_refusal(rc)))
		return;
	if (rc)
		pass_error(p, 503, job_refusal(rc), job_retry_after_s(p->device));
	else
		uv_timer_start(&p->wait, on_wait, PASS_WAIT_STEP_MS, PASS_WAIT_STEP_MS);
	if (rc == 0 && !p->job->running)
		steps_enter(request_steps(&p->base), STEP_QUEUE, p->device->conf->name, now_ms());
}
