#include "supervisor/requests/aliases.h"

#include "common/config/models.h"
#include "supervisor/devices/pick.h"

#include <stdio.h>

static bool is_served(const struct requests *s, struct slice name)
{
	for (size_t i = 0; i < s->devices->count; i++)
		if (device_serves(s->devices->of[i], name))
			return true;
	return false;
}

static void resolve(const struct requests *s, const struct config_alias *entry, struct alias *out)
{
	struct device *d = device_find(s->devices, entry->use);
	*out = (struct alias){
		.entry = entry, .device = d, .model = d ? device_model(d) : entry->use};
}

bool alias_find(const struct requests *s, struct slice name, struct alias *out)
{
	const struct config_alias *entry = models_alias(s->config, name);
	if (!entry || is_served(s, name))
		return false;
	resolve(s, entry, out);
	return true;
}

void alias_at(const struct requests *s, size_t index, struct alias *out)
{
	resolve(s, &s->config->aliases[index], out);
}

struct device *alias_serves(const struct requests *s, const struct alias *a)
{
	struct device *d = pick_model(s->devices, slice_str(a->model));
	return d && device_serves(d, slice_str(a->model)) ? d : NULL;
}

bool alias_listed(const struct requests *s, size_t index)
{
	const struct config_alias *entry = &s->config->aliases[index];
	return models_is_name(entry) && !is_served(s, slice_str(entry->match));
}

void alias_unknown(const struct alias *a, char text[ALIAS_TEXT_BYTES])
{
	snprintf(text, ALIAS_TEXT_BYTES,
		"the model stands for device %s, whose backend has not told what it serves yet",
		a->device->conf->name);
}
