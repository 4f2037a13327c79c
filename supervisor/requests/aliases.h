/*
 * Aliases of models (`models` of the configuration): who answers for a name that no device serves.
 *
 * A model of that name wins; then the first entry that matches. It names a device, which answers with
 * the model that it serves by default, or a model, which is looked up like one that a client names. What
 * an entry uses is not looked up among the entries again. From there on everything goes by the real
 * name (routes, windows, layouts, caches, estimates, jobs): the client's own is put into the answer, by the
 * worker (proto_job.asked).
 *
 * Loop thread; nothing blocks.
 */
#ifndef TANDEM_ALIASES_H
#define TANDEM_ALIASES_H

#include "supervisor/requests/requests.h"

struct alias {
	const struct config_alias *entry; /* of the configuration: until the next reload */
	struct device *device;		  /* that it names; NULL: it names a model */
	const char *model; /* the real name, borrowed from entry or device; "" while the device has
			      told none */
};

/* False: the name stands for itself. */
bool alias_find(const struct requests *s, struct slice name, struct alias *out);

/* The entry at `index` in the same way. */
void alias_at(const struct requests *s, size_t index, struct alias *out);

/* The device that has the model; NULL: none, requests will go to a main device and be refused there. */
struct device *alias_serves(const struct requests *s, const struct alias *a);

/* Is the entry listed among the models: one name, of which there is no model? */
bool alias_listed(const struct requests *s, size_t index);

#define ALIAS_TEXT_BYTES 128
/* What a client is told (503) whose alias's device has told of no model yet. */
void alias_unknown(const struct alias *a, char text[ALIAS_TEXT_BYTES]);

#endif
