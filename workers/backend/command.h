/*
 * The command line and the environment of a backend that is started.
 */
#ifndef TANDEM_WORKERS_COMMAND_H
#define TANDEM_WORKERS_COMMAND_H

#include "workers/settings.h"

/* Both NULL-terminated; owns its strings. */
struct command {
	char **args, **env;
};

/* Tells it to listen on this port of 127.0.0.1: struct backend_kind. 0 or -ENOMEM. */
typedef int command_listen_fn(struct command *c, int port);

/*
 * `tandem-worker --exec -- COMMAND...` with what the kind of backend needs to listen on that port
 * of 127.0.0.1, and where it may save its slots (NULL: nowhere); the environment with the device
 * pinned for every GPU runtime. 0 or -ENOMEM, and then there is nothing to free.
 */
int command_init(struct command *c, const struct settings *s, command_listen_fn *listen, int port,
	const char *slots_dir);
void command_fini(struct command *c);

/* For the kinds: one more argument; a variable in place of whatever it was. 0 or -ENOMEM. */
int command_add(struct command *c, const char *arg);
int command_set(struct command *c, const char *name, const char *value);

/* The two options that llama-server, vLLM and others have in common. */
int command_add_address(struct command *c, int port);

#endif
