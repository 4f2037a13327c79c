#include "workers/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* An empty slice stands for "none". 0 or -ENOMEM. */
static int copy_text(char **out, struct slice s)
{
	*out = s.n ? slice_dup(s) : NULL;
	return s.n && !*out ? -ENOMEM : 0;
}

static int copy_command(char ***out, const struct slice *args, size_t count)
{
	char **command = calloc(count + 1, sizeof(*command));
	if (!command)
		return -ENOMEM;
	*out = command;
	for (size_t i = 0; i < count; i++) {
		command[i] = slice_dup(args[i]);
		if (!command[i])
			return -ENOMEM;
	}
	return 0;
}

int settings_init(struct settings *s, const struct proto_ack *ack)
{
	*s = (struct settings){
		.type = (enum backend_type)ack->backend_type,
		.started_s = time(NULL),
		.num_ctx = ack->num_ctx,
		.slots = ack->slots,
		.boot_ms = ack->boot_ms,
		.connect_ms = ack->connect_ms,
		.idle_ms = ack->idle_ms,
		.body_bytes = (size_t)ack->body_bytes,
		.line_bytes = (size_t)ack->line_bytes,
		.result_bytes = (size_t)ack->result_bytes,
		.adopt_pid = ack->adopt_pid,
		.adopt_start = ack->adopt_start,
		.backend_log_bytes = ack->backend_log_bytes,
		.kv_ms = ack->kv_ms,
		.kv_idle_ms = ack->kv_idle_ms,
		.kv_bytes = ack->kv_bytes,
		.first_ms = ack->first_ms,
		.silent_ms = ack->silent_ms,
	};
	if (ack->backend_type >= BACKEND_TYPES)
		return -EINVAL;
	s->traits = backend_profile(s->type)->traits;
	if (ack->url.n == 0 && ack->command_count == 0)
		return -EINVAL;
	int rc = copy_text(&s->url, ack->url);
	if (rc == 0)
		rc = copy_text(&s->key_file, ack->key_file);
	if (rc == 0)
		rc = copy_text(&s->ca_file, ack->ca_file);
	if (rc == 0)
		rc = copy_text(&s->pin, ack->pin);
	if (rc == 0)
		rc = copy_text(&s->model, ack->model);
	if (rc == 0)
		rc = copy_text(&s->settled, ack->settled);
	if (rc == 0 && ack->adopt_pid > 0)
		rc = copy_text(&s->adopt_url, ack->adopt_url);
	if (rc == 0)
		rc = copy_text(&s->run_dir, ack->run_dir);
	if (rc == 0)
		rc = copy_text(&s->state_dir, ack->state_dir);
	if (rc == 0 && ack->command_count)
		rc = copy_command(&s->command, ack->command, ack->command_count);
	if (rc)
		settings_fini(s);
	return rc;
}

void settings_fini(struct settings *s)
{
	free(s->url);
	free(s->key_file);
	free(s->ca_file);
	free(s->pin);
	free(s->model);
	free(s->settled);
	free(s->adopt_url);
	free(s->run_dir);
	free(s->state_dir);
	for (char **arg = s->command; arg && *arg; arg++)
		free(*arg);
	free(s->command);
	*s = (struct settings){0};
}
