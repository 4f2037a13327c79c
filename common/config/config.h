/*
 * The configuration file (libconfig syntax; the unit is in every key's name). Read whole or refused
 * whole.
 *
 * config_load() checks every key: unknown ones are errors with a "did you mean", values out of
 * range say the range, each message names file, line and key. The struct owns all its strings;
 * config_free() frees them. Reads the file with blocking I/O: call at start, or from a worker
 * thread.
 */
#ifndef TANDEM_CONFIG_H
#define TANDEM_CONFIG_H

#include "common/backends.h"
#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/config/keys.h"

#include <stdint.h>

#define CONFIG_DEVICES_MAX 16
#define CONFIG_ALIASES_MAX 64
#define CONFIG_ALIAS_BYTES 256 /* of a name or pattern of `models` */
#define CONFIG_SMALL_RULES_MAX 64
#define CONFIG_SMALL_TEXT_BYTES 512 /* of a pattern of `small.rules` */
#define CONFIG_COMMAND_ARGS_MAX 128
#define CONFIG_RESTARTS_MAX 100 /* of backoff.max_restarts: a time is kept for each */
#define CONFIG_NAME_BYTES 32	/* a device name: [a-z0-9_-]+, NUL included */
/* bytes of run_dir: a unix address holds 108, sockets stand below */
#define CONFIG_RUN_DIR_MAX 76

enum device_role { ROLE_MAIN = 1, ROLE_CONDENSE = 2, ROLE_SMALL = 4 }; /* a bit set */
enum routing_mode {
	ROUTING_ADAPTIVE,  /* by predicted time; nothing waits for the small device */
	ROUTING_THRESHOLD, /* by size; B and C ask the small device for notes first */
};

/* Requests that change a backend's server: models fetched, made, copied, removed, loaded, saved. */
enum access_changes {
	CHANGES_LOCAL, /* allowed where this machine alone can connect */
	CHANGES_ON,
	CHANGES_OFF,
};

/* What is mended of prompts whose beginning their client changes (common/guard/). */
enum prefix_repair {
	PREFIX_NONE,
	PREFIX_SAFE,	 /* what means the same either way */
	PREFIX_VOLATILE, /* clock and counter lines as well */
};

struct config_backend {
	enum backend_type type;
	char *url; /* attached: http(s)://host:port[/prefix] without a slash at its end; NULL when
		      only started */
	char *key_file; /* attached: holds the key that the backend wants; NULL: none, the client's
			   headers go through */
	char *ca_file;	/* https: PEM with the authorities to trust; NULL: the system's */
	double slot_similarity; /* attached: llama-server's --slot-prompt-similarity, where it has one
				   slot and a larger one than by default; 0: it has not */
	char **command; /* started: argv without --host/--port, NULL-terminated; NULL when only
			   attached */
};

struct config_device {
	char name[CONFIG_NAME_BYTES];
	unsigned roles; /* enum device_role bits */
	int slots;	/* requests at once */
	char *model; /* the model this device serves by default; may be NULL (then: what the backend
			reports first) */
	int64_t num_ctx;     /* window in tokens; 0: what the backend reports */
	int64_t num_ctx_max; /* it may be raised to; 0: fixed when num_ctx is set, else as
			   it fits */
	bool client_num_ctx; /* a client's own num_ctx goes to Ollama in place of that */
	char *pin; /* device number(s) for the runtimes' *_VISIBLE_DEVICES; NULL: not set */
	struct config_backend backend;
};

/* What answers for names that no backend has (models.h). */
struct config_alias {
	char *match; /* names that clients ask for, "*" and "?" as wildcards */
	char *use;   /* a device, which answers with its model; else the name of a model */
};

/* What a request asks for beside a conversation (small.h). */
enum small_kind {
	SMALL_ANY, /* nothing of these; as a rule's: whatever it is */
	SMALL_TITLE,
	SMALL_TAGS,
	SMALL_FOLLOW_UPS,
	SMALL_AUTOCOMPLETE,
	SMALL_EMBEDDINGS,
	SMALL_KINDS
};

/* Which requests are small, and who answers them (small.h). What is not said counts for nothing. */
struct config_small_rule {
	enum small_kind kind;
	char *text;  /* pattern: how the newest message of a person begins; NULL: any */
	char *model; /* pattern: as the client calls it; NULL: any */
	char *path;  /* pattern; NULL: any */
	char *use;   /* a device, or a role: "small", "main"; NULL: "small" */
};

struct config {
	struct {
		char *address;
		int port;		 /* 0: the system picks one (tests) */
		char *certificate, *key; /* PEM files: TLS; NULL: without */
	} listen;
	struct {
		char *key_file; /* hashes of the keys that clients must have (keys.h); NULL: none */
		struct keys keys;	     /* what it held */
		bool open;		     /* listens beyond this machine without keys */
		enum access_changes changes; /* default CHANGES_LOCAL */
	} access;
	struct {
		char *address;	 /* NULL: /metrics stands beside everything else */
		int port;	 /* default 9512 */
		int64_t series;	 /* label sets of requests; default 256 */
		int64_t readers; /* answers that are not read yet, at once; default 16 */
	} metrics;
	struct {
		char *endpoint;	    /* OTLP/HTTP; NULL: no traces */
		char *headers_file; /* headers for it; NULL: none */
		char *ca_file;	    /* PEM with the authorities to trust; NULL: the system's */
		double ratio; /* of the traces that begin here, how many are recorded; default 1 */
		int64_t delay_ms;    /* that a span waits for others; default 1000 */
		int64_t timeout_ms;  /* of one batch; default 10000 */
		int64_t batch_spans; /* of one batch; default 512 */
		int64_t queue_bytes; /* spans that wait; default 4194304 */
	} traces;
	char *run_dir;
	char **origins;	 /* web pages that may use the gateway beside those that always may, with a
			    "*" in each at most; NULL-terminated; NULL: none (origin.h) */
	bool ui;	 /* the page at /ui/; default true */
	char *state_dir; /* saved conversations; NULL: run_dir */
	struct {
		enum log_level level;
		enum log_format format;
		bool content;	      /* prompt text may appear in logs, and on the page at /ui/ */
		int64_t buffer_bytes; /* of each process, for lines that nobody reads yet;
					 default 262144 */
	} log;
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t device_count;
	/* `models`: the first that matches counts */
	struct config_alias aliases[CONFIG_ALIASES_MAX];
	size_t alias_count;
	struct {
		int64_t wait_ms;      /* for a slot of the small device; default 10000 */
		int64_t idle_wait_ms; /* the same of what nobody waits for; default 30000 */
		int64_t answer_ms; /* ... and, once it has one, for the first of the answer; 0: as
					 long as it takes; default 60000 */
		bool condensers; /* a condensing device that is idle counts as one; default true */
		/* `small.rules`: the first that matches counts */
		struct config_small_rule rules[CONFIG_SMALL_RULES_MAX];
		size_t rule_count;
	} small;
	struct {
		enum routing_mode mode;
		int64_t a_max_tokens, b_max_tokens;
		/* ROUTING_ADAPTIVE: what a shortened form must save of the time to the first token,
		 * both of them */
		int64_t min_gain_ms; /* default 2000 */
		double min_gain;     /* share of the original's time, 0..1; default .3 */
		bool warm; /* freeze early and fill the prefix cache while nobody waits; default
			    * true
			    */
	} routing;
	struct {
		enum prefix_repair repair; /* default PREFIX_SAFE */
	} prefix;
	struct {
		double keep_ratio_b,
			keep_ratio_c; /* share of the condensable bytes kept verbatim, 0.02..1 */
		int64_t chunk_tokens;
		int64_t notes_max_tokens; /* hard output limit of one notes job; default 160 */
		int64_t job_timeout_ms;
		int64_t max_chunks;   /* notes jobs of one request; default 64 */
		int64_t result_bytes; /* cap of one notes answer; default 65536 */
		bool idle_notes; /* adaptive: notes are written while nobody waits; default true */
	} condense;
	struct {
		int64_t first_byte_ms; /* stream:true: 200, headers and a heartbeat by then */
		int64_t first_byte_nonstream_ms; /* stream:false: an error keeps its status until
						    then; 0 (default): as long as the dialect's
						    clients wait (dialect_patience_ms()) */
		int64_t heartbeat_ms;		 /* between later heartbeats; default 10000 */
		int64_t worker_boot_ms;		 /* spawn to backend ready */
		int64_t hello_ms;		 /* spawn to HELLO; default 5000 */
		int64_t ping_ms; /* between pings; a worker silent for 3 of them is replaced;
				    default 2000 */
		int64_t drain_ms;
		int64_t main_wait_ms; /* how long a request waits for a main device that is down */
		int64_t backend_connect_ms; /* default 3000 */
		int64_t backend_idle_ms;    /* a backend silent that long in mid-answer has failed;
					       default 300000 */
		int64_t backend_first_byte_ms; /* from a request to the first byte of its answer;
						  default 3600000 */
		int64_t backend_silent_ms;     /* silence towards our probes that requests of
						  ours excuse; default 120000 */
		int64_t upgrade_grace_ms;      /* a successor that dies so soon is replaced by the
						  tandemd before it; default 5000 */
		int64_t head_ms;	       /* a request's head, from its first byte to its last;
				   default 30000 */
		int64_t body_ms;    /* windows in which a body must keep limits.body_rate; default
				    30000 */
		int64_t kv_ms;	    /* saving, and restoring, the conversations of a backend
				    that is restarted; 0: neither; default 30000 */
		int64_t kv_idle_ms; /* a backend idle for so long has its conversations saved;
				       default 5000 */
		int64_t doctor_ms;  /* the page waits so long for the doctor; default 20000 */
	} deadlines;
	struct {
		int64_t body_bytes;	/* a request body that must be held (chat) */
		int64_t unpacked_bytes; /* what a packed one may come to; default 134217728 */
		int64_t connections;
		int64_t queue;		  /* requests waiting for a slot */
		int64_t queue_per_client; /* the same of one client; 0: no bound of its own;
					     default 64 */
		bool coalesce; /* an identical request of the same client joins the running one */
		int64_t coalesce_after_ms; /* ... when that is this old: a retry, not a second
					      sample; default 500 */
		int64_t stream_bytes; /* unsent answer bytes held for one client; default 262144 */
		int64_t line_bytes;   /* one line or event of a backend; default 16777216 */
		int64_t resume_bytes; /* text of a streamed answer kept to go on with it when its
					 worker dies; default 1048576 */
		/* of a stream that the backend keeps, which are read again when its worker dies;
		 * default 4194304; 0: none is kept */
		int64_t replay_bytes;
		int64_t resumes;	/* how often one request goes on after a death; default 8 */
		int64_t request_deaths; /* deaths under a request that has not advanced, after which
					   it is refused; default 2 */
		int64_t link_bytes;	/* bytes queued towards one worker; default 67108864 */
		int64_t header_bytes;	/* request line and headers; default 1048576 */
		int64_t header_total_bytes; /* ... of all requests at once; default 67108864 */
		int64_t headers;	    /* of one request; default 1000 */
		int64_t body_rate; /* bytes a second that a request's body must come with; 0: any;
				      default 500 */
		int64_t body_total_bytes; /* all held request bodies together; default 1073741824 */
		int64_t old_processes; /* after upgrades: tandemds that still finish their streams;
					  default 4 */
		int64_t layout_bytes;  /* layouts of conversations kept, so that a turn costs only
					  its new  part; default 67108864 */
		int64_t notes_bytes;   /* notes kept in memory for digests to come, and as much for
					those that were made; 0: none; default 4194304 */
		int64_t reply_bytes;   /* of an answer, kept until its conversation's next prompt
					  is read early; 0: none; default 32768 */
		int64_t conversations; /* that the guardian of the prefix remembers; 0: it is off;
					  default 256 */
		int64_t conversation_bytes; /* hashes and tools of one of them; default 1048576 */
		int64_t history;	    /* requests that are over and still told of (history.h);
					       default 1000 */
		int64_t history_bytes;	    /* ... in memory; default 4194304 */
		int64_t request_steps;	    /* of one request; default 128 */
		int64_t request_messages;   /* of one that was shortened, told of with their sizes;
					       default 200 */
		int64_t content_bytes; /* log.content: messages of requests that were shortened, for the
					       page at /ui/ (contents.h); 0: none; default 16777216 */
		int64_t models;	       /* of one device's list; default 4096 */
		int64_t event_bytes;	    /* events queued for one listener of events.ipc; default
					  1048576 */
		int64_t recent_event_bytes; /* of the newest events that are kept; 0: none; default
					  1048576 */
		int64_t state_bytes; /* of state_dir/tandem.mdb: decisions, notes, rates; default
					  67108864 */
		int64_t kv_bytes;    /* conversations that one device keeps in state_dir; 0: none
				     are saved while it is idle; default 8589934592 */
		int64_t backend_log_bytes; /* output kept of a started backend; default 4194304 */
		int64_t idle_ms; /* an idle keep-alive or slow-header connection is closed; default
				    120000 */
		int64_t ui_readers;   /* answers for the page at /ui/ at once, streams of events
				       among them; default 32 */
		int64_t doctor_bytes; /* of what the doctor says for the page; default 1048576 */
	} limits;
	struct {
		int64_t first_ms,
			max_ms; /* restart delay of a worker: doubles from first_ms (200) to max_ms
				   (30000); begins anew after max_ms of health */
		int64_t max_restarts; /* more deaths than that within window_ms: FAILED until it is
					 reset; 0: never; default 10 */
		int64_t window_ms;    /* default 600000 */
	} backoff;
};

/*
 * Loads and checks path. 0, or -EINVAL/-ENOENT/-EACCES/-ENOMEM with a human message "FILE:LINE:
 * key: what is wrong" in err (several problems: one a line).
 */
int config_load(const char *path, struct config *out, struct buf *err);

/* All defaults with no devices; used by config_load and by tests. 0 or -ENOMEM. */
int config_defaults(struct config *out);
void config_free(struct config *c);

/* A deep copy. 0, or -ENOMEM (then *to is empty). */
int config_device_copy(struct config_device *to, const struct config_device *from);
void config_device_free(struct config_device *d);

/* Calls fn for each key whose values differ; group is NULL for keys of the outer group. The list of
 * devices is none of the keys of a whole configuration. */
typedef void config_difference_fn(void *ctx, const char *group, const char *name);
void config_differences(
	const struct config *a, const struct config *b, config_difference_fn *fn, void *ctx);
void config_device_differences(const struct config_device *a, const struct config_device *b,
	config_difference_fn *fn, void *ctx);

/* Only this machine reaches that address of listen.address. */
bool config_address_is_local(const char *address);
/* Clients need a key. */
static inline bool config_has_keys(const struct config *c)
{
	return c->access.key_file != NULL;
}

/* The device of that name, or NULL. */
const struct config_device *config_device(const struct config *c, const char *name);

#endif
