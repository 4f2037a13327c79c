#include "supervisor/tell/ask_gpus.h"

#include <stdlib.h>

struct asked {
	struct tell *tell;
	struct request *request;
	gpus_answer *answer;
};

static void on_sample(void *ctx, const struct nvml_sample *gpus)
{
	struct asked a = *(struct asked *)ctx;
	free(ctx);
	a.answer(a.tell, a.request, gpus);
}

void ask_gpus(struct tell *t, struct request *r, gpus_answer *answer)
{
	static const struct nvml_sample none;
	struct asked *a = malloc(sizeof(*a));
	if (a)
		*a = (struct asked){t, r, answer};
	if (a && nvml_ask(t->devices->nvml, on_sample, a) == 0)
		return;
	free(a);
	answer(t, r, &none);
}
