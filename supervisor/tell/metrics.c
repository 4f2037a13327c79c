#include "supervisor/tell/metrics.h"

#include "supervisor/requests/scrape.h"
#include "supervisor/tell/ask_gpus.h"
#include "supervisor/tell/documents.h"
#include "supervisor/tell/prometheus.h"

static void answer(struct tell *t, struct request *r, const struct nvml_sample *gpus)
{
	struct metrics_view view = {t, gpus};
	struct buf text;
	buf_init(&text, 0);
	if (scrape_wanted(r))
		prometheus_document(&document_metrics, &view, &text);
	scrape_answer(r, buf_error(&text) ? (struct slice){0} : buf_slice(&text));
	buf_free(&text);
}

void scrape_ask(struct tell *t, struct request *r)
{
	ask_gpus(t, r, answer);
}
