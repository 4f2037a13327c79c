/*
 * What ACK told this worker: a copy that owns its strings.
 */
#ifndef TANDEM_WORKERS_SETTINGS_H
#define TANDEM_WORKERS_SETTINGS_H

#include "common/config/config.h"
#include "proto/proto.h"

struct settings {
	enum backend_type type;
	unsigned traits;   /* of the type: enum backend_trait */
	char *url;	   /* NULL: only started */
	char *key_file;	   /* NULL: no key */
	char *ca_file;	   /* NULL: the system's authorities */
	char **command;	   /* NULL-terminated; NULL: only attached */
	char *pin;	   /* NULL: not pinned */
	char *model;	   /* NULL: what the backend reports first */
	char *settled;	   /* ... and was settled on before; NULL: nothing yet */
	int64_t started_s; /* when this worker began, seconds of the epoch */
	int64_t num_ctx, slots;
	int64_t boot_ms, connect_ms, idle_ms;
	size_t body_bytes, line_bytes, result_bytes;
	/* A backend of an earlier incarnation; adopt_url is NULL when there is none. */
	int64_t adopt_pid;
	uint64_t adopt_start;
	char *adopt_url;
	char *run_dir;	 /* NULL: a started backend's output is kept in memory */
	char *state_dir; /* NULL: nothing is saved */
	int64_t backend_log_bytes, kv_ms, kv_idle_ms, kv_bytes;
	int64_t first_ms, silent_ms;
};

/*
 * 0, -ENOMEM, or -EINVAL when the record names neither a URL nor a command, or a type we do not
 * know.
 */
int settings_init(struct settings *s, const struct proto_ack *ack);
void settings_fini(struct settings *s);

#endif
