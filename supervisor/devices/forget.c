#include "supervisor/devices/forget.h"

#include "common/base/log.h"
#include "supervisor/devices/devices.h"

#include <stdio.h>

static bool is_due(const struct device *d, unsigned i)
{
	uint64_t told = d->forgotten.of[i].told;
	return d->forgotten.of[i].conversation[0] && told != d->current->generation &&
	       (told == 0 || now_ms() - d->forgotten.of[i].at_ms < FORGET_KEEP_MS);
}

void forget_tell(struct device *d)
{
	struct worker *w = d->current;
	unsigned told = 0;
	for (unsigned i = 0; i < FORGET_MAX && d->state == WORKER_READY && w->channel; i++) {
		struct proto_record r = {.type = PROTO_FORGET};
		if (!is_due(d, i))
			continue;
		r.u.forget.conversation = slice_str(d->forgotten.of[i].conversation);
		if (channel_put(w->channel, &r))
			return; /* the link is being given up: the next one hears it */
		d->forgotten.of[i].told = w->generation;
		told++;
	}
	if (told)
		log_line(LOG_INFO, "streams_forgotten", LOG_STR("device", d->conf->name),
			LOG_INT("count", told), LOG_END);
}

void forget_stream(struct device *d, struct slice conversation, uint64_t told)
{
	unsigned i = d->forgotten.next;
	if (conversation.n == 0 || conversation.n > PROTO_CONVERSATION_BYTES)
		return;
	d->forgotten.next = (i + 1) % FORGET_MAX;
	snprintf(d->forgotten.of[i].conversation, sizeof(d->forgotten.of[i].conversation), "%.*s",
		(int)conversation.n, conversation.p);
	d->forgotten.of[i].told = told;
	d->forgotten.of[i].at_ms = now_ms();
	forget_tell(d);
}
