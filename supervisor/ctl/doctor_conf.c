/* Facts where no tandemd runs: what its configuration would have it do. */
#include "supervisor/ctl/doctor.h"

static void copy(char *out, size_t size, const char *text)
{
	snprintf(out, size, "%s", text ? text : "");
}

static void take_device(struct doctor_device *d, const struct config_device *conf)
{
	doctor_device_init(d);
	d->main = conf->roles & ROLE_MAIN;
	d->condense = conf->roles & ROLE_CONDENSE;
	d->started = conf->backend.command != NULL;
	d->has_key = conf->backend.key_file != NULL;
	d->client_num_ctx = conf->client_num_ctx;
	d->slots = conf->slots;
	d->window = conf->num_ctx > 0 ? conf->num_ctx : -1;
	copy(d->name, sizeof(d->name), conf->name);
	copy(d->type, sizeof(d->type), backend_type_name(conf->backend.type));
	copy(d->url, sizeof(d->url), conf->backend.url);
	copy(d->model, sizeof(d->model), conf->model);
}

void doctor_take_config(struct doctor_facts *f, const struct config *conf)
{
	snprintf(f->listen, sizeof(f->listen),
		strchr(conf->listen.address, ':') ? "[%s]:%d" : "%s:%d", conf->listen.address,
		conf->listen.port);
	copy(f->routing, sizeof(f->routing),
		conf->routing.mode == ROUTING_ADAPTIVE ? "adaptive" : "threshold");
	f->needs_key = config_has_keys(conf);
	f->knows_keys = true;
	for (size_t i = 0; i < conf->device_count; i++)
		take_device(&f->device[f->devices++], &conf->devices[i]);
}
