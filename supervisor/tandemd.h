/*
 * The wings of this process: created, wired and ended here. Everything else sees one wing at most, its own, and what
 * stands below it: front < devices < requests < life < tell.
 */
#ifndef TANDEM_TANDEMD_H
#define TANDEM_TANDEMD_H

#include "supervisor/tell/tell.h"

/* Exit codes: 0 stopped. */
enum { EXIT_START = 1, EXIT_CONFIG = 2, EXIT_ANOTHER = 3 };

struct supervisor {
	uv_loop_t *loop;
	struct config config;	/* the wings' */
	struct tokens *tokens;	/* of devices and requests */
	char worker_path[4096]; /* the tandem-worker beside this program */
	char ctl_path[4096];	/* ... and the tandemctl */
	struct devices devices;
	struct requests requests;
	struct life life;
	struct tell tell;
};

/* Runs until it is told to stop. s is all zero but for config and, in life, config_path, run_dir, argv and
 * connections_max. The exit code; what went wrong has been told on stderr. Blocks. */
int tandemd_run(struct supervisor *s, struct buf *err);

#endif
