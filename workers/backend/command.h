/*
 * What is run when a backend is started: arguments and environment. Pure but for the environment
 * that it reads.
 */
#ifndef TANDEM_WORKERS_COMMAND_H
#define TANDEM_WORKERS_COMMAND_H

#include "workers/settings.h"

/* tandem-worker --exec -- COMMAND... [--host 127.0.0.1 --port N [--slot-save-path DIR]]; slots_dir
 * may be NULL. NULL when memory is out. */
char **command_args(const struct settings *s, int port, const char *slots_dir);
/* Our environment with some variables replaced. NULL when memory is out. */
char **command_env(const struct settings *s, int port);
/* Either list; NULL does nothing. */
void command_free(char **list);

#endif
