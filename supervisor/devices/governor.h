/*
 * The governor of Ollama's windows: one window for each model, whatever its clients ask for. It is
 * raised in few steps (window.h) when a request did not fit, the device has been idle for
 * GOVERNOR_IDLE_MS, and it fits the GPU; never lowered. A step loads the model anew, which costs
 * the load and the cache: both are logged.
 *
 * A device whose num_ctx is set and whose num_ctx_max is not has a fixed window. A model that
 * nobody has loaded yet begins with the window that its first client names: the load is due anyway.
 * Loop thread only; nothing blocks.
 */
#ifndef TANDEM_GOVERNOR_H
#define TANDEM_GOVERNOR_H

#include "common/base/buf.h"

#include <stdint.h>

#define GOVERNOR_MODELS_MAX                                                                        \
	64 /* remembered; names of no model are forgotten first, then what was used longest ago */
#define GOVERNOR_TICK_MS 500	       /* how often it looks while something is wanted */
#define GOVERNOR_IDLE_MS 1500	       /* of the device, before a step */
#define GOVERNOR_SHOW_BYTES (4u << 20) /* of an answer of /api/show */
#define GOVERNOR_DENIED_MS 600000      /* what did not fit is not tried again before */
#define GOVERNOR_ASK_MS 10000
#define GOVERNOR_LOAD_MS 600000

struct devices;
struct device;
struct governor;

struct governor *governor_create(struct devices *s); /* NULL when memory is out */
/* Gives up what is under way; *g is freed by governor_destroy() once the loop has ended. */
void governor_stop(struct governor *g);
void governor_destroy(struct governor *g);

/* The window to ask this device's Ollama for; 0: none of ours. */
int64_t governor_num_ctx(const struct device *d, struct slice model);
/* The window to plan with; 0: unknown. */
int64_t governor_window(const struct device *d, struct slice model);

/*
 * A request for this model will need so many tokens (0: it fits), and its client names a window
 * (0: none). Called before it is planned.
 */
void governor_need(struct device *d, struct slice model, int64_t needed, int64_t wished);

/* The device goes. */
void governor_forget(struct governor *g, const struct device *d);

#endif
