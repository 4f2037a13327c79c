#include "supervisor/tell/metrics.h"

#include "supervisor/requests/scrape.h"
#include "supervisor/tell/documents.h"
#include "supervisor/tell/prometheus.h"

#include <stdlib.h>

struct asked {
	struct tell *tell;
	struct request *request;
};

static void answer(const struct tell *t, struct request *r, const struct nvml_sample *gpus)
{
	struct metrics_view view = {t, gpus};
	struct buf text;
	buf_init(&text, 0);
	if (scrape_wanted(r))
		prometheus_document(&document_metrics, &view, &text);
	scrape_answer(r, buf_error(&text) ? (struct slice){0} : buf_slice(&text));
	buf_free(&text);
}

static void on_sample(void *ctx, const struct nvml_sample *gpus)
{
	struct asked a = *(struct asked *)ctx;
	free(ctx);
	answer(a.tell, a.request, gpus);
}

void scrape_ask(struct tell *t, struct request *r)
{
	static const struct nvml_sample none;
	struct asked *a = malloc(sizeof(*a));
	if (a)
		*a = (struct asked){t, r};
	if (a && nvml_ask(t->devices->nvml, on_sample, a) == 0)
		return;
	free(a);
	answer(t, r, &none); /* without the GPUs rather than not at all */
}
