/*
 * tandemctl doctor: what of what runs costs time, or stands open, and what to do about it.
 *
 * Facts are gathered from tandemd's documents (doctor_facts.c), from the configuration where none
 * runs (doctor_conf.c), from the ports that this machine listens at (doctor_reach.c), and from the
 * command lines of engines (doctor_process.c). A finding is a row of a table (doctor_table.c): a
 * pure function over the facts, which says what it measured and what to do. Nothing here changes
 * anything.
 *
 *   doctor.c         the command: asks, looks, exit status
 *   doctor_table.c   the table, and looking; doctor_finding.c what a look writes down
 *   doctor_say.c     what is found as text and as JSON
 *   doctor_memory.c  looks at what is on the processor; doctor_windows.c, doctor_loads.c at
 *                    windows, at models that are loaded anew
 *   doctor_engine.c  ... at how the engine works: split cards, attention, cache, guessing ahead
 *   doctor_cache.c   ... at prefixes and slots
 *   doctor_cards.c   ... at cards and how they are used
 *   doctor_open.c    ... at what is away, fails, or is open to the network
 *
 * docs/doctor.md says what each looks at.
 */
#ifndef TANDEM_CTL_DOCTOR_H
#define TANDEM_CTL_DOCTOR_H

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/config/config.h"
#include "common/engine_args.h"

#include <stdio.h>

/* --- facts --- */

#define DOCTOR_NAME_BYTES 80
#define DOCTOR_URL_BYTES 256
#define DOCTOR_WHY_BYTES 512
#define DOCTOR_GPUS_MAX 16
#define DOCTOR_RECENT_MS 600000 /* a conversation that was gone on with since then counts */

enum doctor_reach {
	REACH_UNKNOWN, /* no port of this machine, or it is not to be seen */
	REACH_LOCAL,   /* this machine alone can connect */
	REACH_NETWORK,
};

/* A device; numbers that are not known are -1 unless something else is said. */
struct doctor_device {
	char name[DOCTOR_NAME_BYTES], type[DOCTOR_NAME_BYTES], state[DOCTOR_NAME_BYTES];
	char url[DOCTOR_URL_BYTES], model[DOCTOR_URL_BYTES];
	char backend_state[DOCTOR_NAME_BYTES];
	char why[DOCTOR_WHY_BYTES];	  /* it is not ready; "" */
	char last_exit[DOCTOR_WHY_BYTES]; /* of its worker; "" */
	bool main, condense, started, has_key, client_num_ctx;
	int64_t slots, reported_slots;
	int64_t window;	       /* tokens, as asked for or reported */
	int64_t loaded_window; /* ... that the backend has loaded its model with */
	int64_t restarts, done, failed, loads, load_ms;
	int64_t waiting;
	double prefill, decode; /* tokens/s */
	/* How its backend holds its model. */
	int64_t model_bytes, weight_bytes, gpu_bytes, gpu_percent, gpus, models, keep_s, own_window;
	int flash, speculation; /* 0, 1, -1 */
	char cache_type[DOCTOR_NAME_BYTES];
	int64_t pinned_used; /* bytes, of all GPUs that it is pinned to */
	enum doctor_reach reach;
	int port;
	/* Conversations of the last DOCTOR_RECENT_MS; those whose prompt is not in its cache (any
	 * more), and the tokens of these. */
	int64_t sessions, cold, cold_tokens;
};

struct doctor_gpu {
	char name[DOCTOR_NAME_BYTES];
	int64_t index, used, total, load; /* bytes, percent */
	bool pinned;
};

struct doctor_facts {
	bool running;  /* false: the facts are the configuration's */
	int64_t at_ms; /* when they were gathered, since 1970 */
	char version[DOCTOR_NAME_BYTES], listen[DOCTOR_NAME_BYTES], routing[DOCTOR_NAME_BYTES];
	double uptime_s;
	bool knows_gpus, knows_sums, knows_keys, knows_sessions;
	bool needs_key;
	struct doctor_device device[CONFIG_DEVICES_MAX];
	size_t devices;
	struct doctor_gpu gpu[DOCTOR_GPUS_MAX];
	size_t gpus;
	/* Sums since tandemd started; valid where knows_sums. */
	int64_t requests, chats; /* chats: that went one of the ways A, B, C */
	int64_t shortened_to_fit, too_long, largest_prompt;
	int64_t broken, lost_tokens, lost_ms;
	char worst_kind[DOCTOR_NAME_BYTES]; /* of the breaks, the most frequent; "" */
	int64_t worst_kind_count, other_windows;
	double first_byte_ms; /* sum over all chats */
	double notes_mean_ms; /* of a note that a client waited for, or nobody; -1 */
	int64_t notes_written, notes_used, notes_models_off;
	/* The conversation whose breaks cost most; "" where none broke. */
	char worst_client[DOCTOR_NAME_BYTES];
	int64_t worst_lost;
};

/* Nothing is known. */
void doctor_facts_init(struct doctor_facts *f);
void doctor_device_init(struct doctor_device *d);
/* Each takes over what one document tells; in this order, the first makes the devices. */
void doctor_take_status(struct doctor_facts *f, struct json_value root);
void doctor_take_backends(struct doctor_facts *f, struct json_value root);
void doctor_take_gpus(struct doctor_facts *f, struct json_value root);
void doctor_take_sessions(struct doctor_facts *f, struct json_value root);
void doctor_take_counters(struct doctor_facts *f, struct json_value root);
void doctor_take_histograms(struct doctor_facts *f, struct json_value root);
void doctor_take_keys(struct doctor_facts *f, struct json_value root);
/* What a configuration tells where no tandemd runs. */
void doctor_take_config(struct doctor_facts *f, const struct config *conf);
/* Fills reach and port of each device from the kernel's lists of listening sockets. Reads files. */
void doctor_look_at_ports(struct doctor_facts *f);

/*
 * Who reaches a port of this machine by a list as /proc/net/tcp and tcp6 have it: REACH_UNKNOWN
 * when nothing listens there. Pure.
 */
enum doctor_reach doctor_reach_in(struct slice list, int port);
/* The port of a URL whose host is this machine's loopback; 0: another host, or no URL. Pure. */
int doctor_local_port(const char *url);

#define DOCTOR_PROCESSES_MAX 256

/* An `ollama serve` or a llama-server of this machine. */
struct doctor_process {
	int64_t pid, parent;
	bool ollama;
	int port;		 /* of an Ollama; 0: its environment is not for us to read */
	struct engine_args args; /* of a llama-server */
};

/* After doctor_look_at_ports(): completes what backends of this machine do not tell. Reads /proc. */
void doctor_look_at_processes(struct doctor_facts *f);
/* The same from a list. Pure, as are those below. */
void doctor_match_processes(struct doctor_facts *f, const struct doctor_process *p, size_t n);
/* /proc/PID/cmdline: words with a 0 behind each. True: it is one of those; all but pid, parent and
 * port are filled in. */
bool doctor_read_command(struct slice text, struct doctor_process *out);
/* Where an Ollama with this environment listens; 0: it cannot be read. */
int doctor_ollama_port(struct slice environment);

/* --- findings --- */

enum doctor_severity { DOCTOR_NONE, DOCTOR_ADVICE, DOCTOR_WARNING, DOCTOR_SERIOUS };
/* "fine", "advice", "warning", "serious" */
const char *doctor_severity_name(enum doctor_severity s);

enum doctor_look {
	LOOK_FINE,
	LOOK_FOUND,
	LOOK_UNKNOWN, /* the facts do not tell */
};

#define DOCTOR_MEASURED_MAX 8

struct doctor_check;

struct doctor_finding {
	const struct doctor_check *check;
	const struct doctor_device *device; /* NULL: of the whole */
	enum doctor_severity severity;	    /* its row's, unless the look says another one */
	double lost_s;			    /* what it is known to have cost; 0 */
	struct buf what, advice;	    /* sentences */
	struct {
		const char *name; /* with its unit at the end: "window_tokens" */
		double value;
	} measured[DOCTOR_MEASURED_MAX];
	size_t count;
};

struct doctor_check {
	const char *id;		       /* part of the interface */
	enum doctor_severity severity; /* at least, where it finds something */
	bool of_device;		       /* asked for each device; else once, d is NULL */
	enum doctor_look (*look)(const struct doctor_facts *f, const struct doctor_device *d,
		struct doctor_finding *out);
};

extern const struct doctor_check doctor_checks[];
extern const size_t doctor_check_count;

struct doctor_report {
	struct doctor_finding *of; /* worst first, then what cost most */
	size_t count;
	bool *unknown; /* by check: no look at it could tell */
};

/* Looks at everything. 0 or -ENOMEM; doctor_report_free() is due either way. Pure but for memory. */
int doctor_look(const struct doctor_facts *f, struct doctor_report *out);
void doctor_report_free(struct doctor_report *r);
/* Of the worst finding. */
enum doctor_severity doctor_worst(const struct doctor_report *r);

/* For looks (doctor_finding.c). A sentence of what is; one of what to do; a number behind it. */
void doctor_say(struct doctor_finding *f, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void doctor_advise(struct doctor_finding *f, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void doctor_measure(struct doctor_finding *f, const char *name, double value);

/* The first main device; NULL: there is none. */
const struct doctor_device *doctor_main(const struct doctor_facts *f);
/* So many prompts did not fit the main device's window that it is worth saying. */
bool doctor_window_is_short(const struct doctor_facts *f);
/* Part of what it holds is not on a GPU. */
bool doctor_is_short_of_memory(const struct doctor_device *d);

/* The looks, by the file that they stand in. */
#define DOCTOR_LOOK(name)                                                                          \
	enum doctor_look name(const struct doctor_facts *f, const struct doctor_device *d,         \
		struct doctor_finding *out)
DOCTOR_LOOK(look_cpu); /* doctor_memory.c */
DOCTOR_LOOK(look_window_spills);
DOCTOR_LOOK(look_window_cuts); /* doctor_windows.c */
DOCTOR_LOOK(look_window_other);
DOCTOR_LOOK(look_reloads); /* doctor_loads.c */
DOCTOR_LOOK(look_models);
DOCTOR_LOOK(look_keep_alive);
DOCTOR_LOOK(look_prefix); /* doctor_cache.c */
DOCTOR_LOOK(look_shared_slot);
DOCTOR_LOOK(look_slots);
DOCTOR_LOOK(look_idle_gpu); /* doctor_cards.c */
DOCTOR_LOOK(look_idle_device);
DOCTOR_LOOK(look_small_slow);
DOCTOR_LOOK(look_notes);
DOCTOR_LOOK(look_split); /* doctor_engine.c */
DOCTOR_LOOK(look_flash_attention);
DOCTOR_LOOK(look_cache_type);
DOCTOR_LOOK(look_speculation);
DOCTOR_LOOK(look_away); /* doctor_open.c */
DOCTOR_LOOK(look_restarts);
DOCTOR_LOOK(look_failures);
DOCTOR_LOOK(look_open_port);
DOCTOR_LOOK(look_open_backend);

/* --- what is told --- */

/* Text, wrapped to so many columns. */
void doctor_print(
	const struct doctor_facts *f, const struct doctor_report *r, size_t columns, FILE *to);
/* The same as a JSON object; why: nobody runs, and why; NULL. */
void doctor_json(const struct doctor_facts *f, const struct doctor_report *r, const char *why,
	struct buf *out);
/* Appends text with line ends so that no line is longer, each behind `indent` spaces. Pure. */
void doctor_wrap(struct slice text, size_t indent, size_t columns, struct buf *out);

#endif
