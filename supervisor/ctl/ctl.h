/*
 * tandemctl: a short-lived program beside tandemd. It asks the stats socket (nng REQ), checks and
 * writes configurations. Everything here blocks, with time limits; nothing here runs inside
 * tandemd.
 *
 *   main.c       options, the table of commands, where the run folder is
 *   query.c      one question to the stats socket
 *   status.c     status: the table for people
 *   wait.c       wait-ready
 *   init.c       init: its options, what it chooses, what it says
 *   ollama.c     which Ollama servers answer, and their models (libcurl)
 *   engine.c     what llama-server --list-devices and the CPU offer
 *   conf_write.c the configuration file that init writes
 */
#ifndef TANDEM_CTL_H
#define TANDEM_CTL_H

#include "common/buf.h"
#include "common/json.h"

/* Exit codes; part of the interface. */
enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
	CTL_NO_ENGINE = 3,   /* init found no Ollama and got no engine */
	CTL_NOT_RUNNING = 4, /* nobody answers at the stats socket */
};

#define CTL_TIMEOUT_MS 3000
#define CTL_ANSWER_BYTES (4 << 20)

struct ctl {
	const char *run_dir;
	bool json;
};

/*
 * Every command: argv[0] is the command's name. Each returns an exit code.
 */
enum ctl_exit ctl_status(struct ctl *ctl, int argc, char **argv);
enum ctl_exit ctl_wait_ready(struct ctl *ctl, int argc, char **argv);
enum ctl_exit ctl_check(struct ctl *ctl, int argc, char **argv);
enum ctl_exit ctl_init(struct ctl *ctl, int argc, char **argv);

/*
 * Asks RUNDIR/stats.ipc for its status. CTL_OK: *root is the validated answer over *answer's bytes.
 * Else err says why in one line without a newline.
 */
enum ctl_exit ctl_query_status(const char *run_dir, int timeout_ms, struct buf *answer,
	struct json_value *root, struct buf *err);

/* Prints the status of tandemd as a table on stdout. */
void ctl_print_status(struct json_value status);

/* The text of object's member for one line of a terminal: decoded, line ends as '|', other control
 * characters as '?', cut to size. "-" when absent or null. */
void ctl_text(struct json_value object, const char *name, char *out, size_t size);

/* The member as a number; 0 when absent or no number. */
int64_t ctl_int(struct json_value object, const char *name);

/* The run folder when neither -R nor $TANDEM_RUN_DIR names one. Static storage. */
const char *ctl_default_run_dir(void);

/* Says on stderr "tandemctl: ..." and how to get help; returns CTL_USAGE. */
enum ctl_exit ctl_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A number of an option: true when text is a whole number in lo..hi. */
bool ctl_number(const char *text, long lo, long hi, long *out);

#endif
