/*
 * tandemctl: a short-lived program beside tandemd. It asks the stats socket (nng REQ), listens to
 * the events (nng SUB), checks and writes configurations. Everything here blocks, with time limits;
 * nothing here runs inside tandemd.
 *
 *   main.c       the table of commands, help
 *   options.c    their options and arguments, the run folder
 *   query.c      one question to the stats socket
 *   table.c      columns for people
 *   cells.c      how numbers look in them
 *   status.c     status
 *   lists.c      workers, jobs, queues, sessions, requests, backends, devices, keys: a table of columns
 *                each; request
 *   stats.c      stats: counters and histograms
 *   top.c        top (top.h has its files); screen.c its terminal, grid.c what stands there
 *   events.c     events
 *   logs.c       logs: those that are kept, and those that come
 *   event_line.c one of them as a line
 *   text.c       what of a document is shown: its members as text and numbers
 *   operate.c    restart, drain, reset, reload, upgrade, cancel
 *   wait.c       wait-ready
 *   doctor.c     doctor: what costs time or stands open; its other files: doctor.h
 *   explain.c    explain: what would be done with a request, without a tandemd
 *   explain_decide.c  its decision, by the functions of the server
 *   key.c        key: a new one for a client
 *   bench.c      bench: how fast a device is (bench.h has its files)
 *   init.c       init: its options, what it chooses, what it says
 *   ollama.c     which Ollama servers answer, and their models (libcurl)
 *   engine.c     what llama-server --list-devices and the CPU offer
 *   conf_write.c the configuration file that init writes
 */
#ifndef TANDEM_CTL_H
#define TANDEM_CTL_H

#include "common/base/buf.h"
#include "common/base/json.h"

#include <getopt.h>
#include <stdio.h>

/* Exit codes; part of the interface. */
enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
	CTL_NO_ENGINE = 3,   /* init found no Ollama and got no engine */
	CTL_NOT_RUNNING = 4, /* nobody answers at the stats socket */
	CTL_TIMED_OUT = 5,   /* what was asked for is still under way */
	CTL_ADVICE = 6,	     /* doctor found something */
	CTL_SERIOUS = 7,     /* ... that is serious */
};

#define CTL_TIMEOUT_MS 3000
#define CTL_ANSWER_BYTES (4 << 20)
#define CTL_REQUEST_BYTES 160 /* of a command with its argument */

/* Options that a command may take beside -R; a bit set. */
enum ctl_option {
	CTL_JSON = 1,
	CTL_TIMEOUT = 2,
	CTL_BACKEND = 4,
	CTL_COUNT = 8,
	CTL_ONCE = 16,
	CTL_OWN = 32,  /* parses argv itself */
	CTL_INIT = 64, /* the options of init, explain, key: for the help */
	CTL_EXPLAIN = 128,
	CTL_KEY = 256,
	CTL_BENCH = 512,
	CTL_LOGS = 1024,
};

struct ctl {
	const struct ctl_command *command;
	const char *run_dir;
	const char *argument; /* the one argument, or NULL */
	bool json, backend, once;
	bool told;	       /* help or the version was asked for, and is said */
	long timeout_s, count; /* -1: not given */
	int argc;	       /* CTL_OWN: argv[0] is the command's name */
	char **argv;
	/* Prints what is said of a command; NULL: of all. */
	void (*help)(const struct ctl_command *c);
};

struct ctl_command {
	const char *name;
	const char *arguments; /* for people: "[DEVICE|all]" */
	unsigned options;      /* enum ctl_option bits */
	bool needs_argument, takes_argument;
	const char *help;
	enum ctl_exit (*run)(struct ctl *ctl);
};

/* Every command's function. */
enum ctl_exit ctl_status(struct ctl *ctl);
enum ctl_exit ctl_list(struct ctl *ctl);
enum ctl_exit ctl_request(struct ctl *ctl);
enum ctl_exit ctl_stats(struct ctl *ctl);
enum ctl_exit ctl_top(struct ctl *ctl);
enum ctl_exit ctl_events(struct ctl *ctl);
enum ctl_exit ctl_operate(struct ctl *ctl);
enum ctl_exit ctl_cancel(struct ctl *ctl);
enum ctl_exit ctl_wait_ready(struct ctl *ctl);
enum ctl_exit ctl_check(struct ctl *ctl);
enum ctl_exit ctl_explain(struct ctl *ctl);
enum ctl_exit ctl_doctor(struct ctl *ctl);
enum ctl_exit ctl_init(struct ctl *ctl);
enum ctl_exit ctl_key(struct ctl *ctl);
enum ctl_exit ctl_bench(struct ctl *ctl);
enum ctl_exit ctl_logs(struct ctl *ctl);

/* --- options.c --- */

/* Fills ctl from a command's argv (argv[0] is its name); without a command, from what stands in its
 * place. CTL_OK or CTL_USAGE; with ctl->told there is nothing left to do. */
enum ctl_exit ctl_parse(struct ctl *ctl, int argc, char **argv);
/* One option of those that several commands take, as getopt_long() returned it. */
enum ctl_exit ctl_take(struct ctl *ctl, int option, const char *value);
/* Where the command stands behind its options; argc: nowhere. `more`: options of single commands,
 * whose arguments must not be taken for one; ends with a zero entry, CTL_INIT_OPTIONS_MAX at most. */
#define CTL_INIT_OPTIONS_MAX 16
int ctl_find_command(int argc, char **argv, const struct option *more);
/* Those of init. */
extern const struct option ctl_init_options[];
/* The run folder when neither -R nor $TANDEM_RUN_DIR names one. Static storage. */
const char *ctl_default_run_dir(void);
/* Says on stderr "tandemctl: ..." and how to get help; returns CTL_USAGE. */
enum ctl_exit ctl_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A number of an option: true when text is a whole number in lo..hi. */
bool ctl_number(const char *text, long lo, long hi, long *out);

/* --- query.c --- */

/*
 * Asks RUNDIR/stats.ipc. CTL_OK: *root is the validated answer, an object, over *answer's bytes.
 * Else err says why in one line without a newline; also where the answer is {"error":...}:
 * CTL_FAILED, with *root set.
 */
enum ctl_exit ctl_ask(const char *run_dir, const char *request, int timeout_ms, struct buf *answer,
	struct json_value *root, struct buf *err);
/* RUNDIR/NAME.ipc as a URL. CTL_OK, or CTL_USAGE with err. */
enum ctl_exit ctl_url(const char *run_dir, const char *name, char url[256], struct buf *err);
/* An nng error of a dial or an exchange as an exit code and words. */
enum ctl_exit ctl_nng_error(
	int rc, const char *run_dir, const char *url, int timeout_ms, struct buf *err);
/* Prints the document that answers request, as it came (--json) or by print. */
enum ctl_exit ctl_show(struct ctl *ctl, const char *request,
	void (*print)(struct json_value root, void *ctx), void *ctx);

/* --- event_line.c --- */

/* An event of events.ipc as a line. */
void ctl_event_print(struct json_value root, bool colour, FILE *to);
/* A terminal that may have colours ($NO_COLOR says no). */
bool ctl_colour(FILE *to);

/* --- text.c --- */

/* Text for one line of a terminal, in place: line ends as '|', what a terminal might obey (control
 * characters, C1 too) or what turns the order of text as '?'. Its length now. */
size_t ctl_safe(char *text, size_t n);
/* The text of object's member for one line of a terminal: decoded, made safe (ctl_safe()), cut to size. "-" when absent or null. */
void ctl_text(struct json_value object, const char *name, char *out, size_t size);
/* The member as a number; 0 when absent or no number. */
int64_t ctl_int(struct json_value object, const char *name);
double ctl_real(struct json_value object, const char *name);

/* --- table.c --- */

#define CTL_CELL_BYTES 80
#define CTL_COLUMNS_MAX 16

struct ctl_table {
	size_t columns, rows, room;
	char (*cell)[CTL_CELL_BYTES]; /* rows x columns */
};

/* A table whose first row is titles. */
void ctl_table_init(struct ctl_table *t, size_t columns, const char *const *titles);
/* The cells of a new row, empty; NULL when memory is out. Valid until the next row. */
char (*ctl_table_row(struct ctl_table *t))[CTL_CELL_BYTES];
/* Prints and frees. */
void ctl_table_print(struct ctl_table *t, FILE *to);

/* --- cells.c: below 0 a number is unknown, "-" --- */

void ctl_duration(double s, char *out, size_t size);  /* "1h02m"; never "-" */
void ctl_bytes(double bytes, char *out, size_t size); /* "1.5 GiB"; never "-" */
void ctl_ms(double ms, char *out, size_t size);	      /* what was measured: "812 ms", "12.3 s" */
void ctl_age(double ms, char *out, size_t size);      /* in a narrow column: "0.8s", "1m02s" */
void ctl_rate(double tok_s, char *out, size_t size);  /* "12.4", "250"; "-" for 0, too */
void ctl_whole(double n, char *out, size_t size);     /* "12400" */
void ctl_count(double n, char *out, size_t size);     /* in a narrow column: "812", "12.4K" */

/* --- what several commands print --- */

void ctl_print_status_head(struct json_value status, FILE *to);
void ctl_print_requests(struct json_value status, FILE *to);
/* The list of that name ("jobs") in its answer, at most `most` rows. */
void ctl_print_list(const char *name, struct json_value root, size_t most, FILE *to);

#endif
