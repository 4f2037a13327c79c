/*
 * What supervisor and worker say to each other. PROTOCOL.md describes the wire form; only proto/
 * knows msgpack.
 *
 * One nng message is a frame: the msgpack array [version, generation, record...]; a record is an
 * array [type, field...]. Records of one loop turn share a frame. Encoding appends to a frame
 * writer; decoding walks a received frame and yields records that borrow its bytes. Decoding checks
 * types, counts, lengths and trailing bytes before anything is allocated. Nothing here blocks.
 */
#ifndef TANDEM_PROTO_H
#define TANDEM_PROTO_H

#include "common/base/buf.h"

#include <stdint.h>

#define PROTO_VERSION 3
#define PROTO_FRAME_MAX (2u << 20) /* bytes of one frame; both ends refuse more */
#define PROTO_PIECE_BYTES 65536u   /* body and answer bytes cross in pieces of at most this */
#define PROTO_FLUSH_BYTES 32768u   /* a frame that long is sent before the turn ends */
#define PROTO_WINDOW_BYTES                                                                         \
	262144u /* credit each way at the start of a job: bytes that may be on their way */
#define PROTO_REPLY_BYTES PROTO_PIECE_BYTES /* of an answer's message that END can bring */
#define PROTO_CONVERSATION_BYTES 64	    /* of the name of a kept stream */
#define PROTO_HEADERS_MAX 64
#define PROTO_JOB_HEADERS_MAX 1024	 /* of a client's request ... */
#define PROTO_JOB_HEADER_BYTES (1 << 20) /* ... of which each may be that long */
#define PROTO_ARGS_MAX 128
#define PROTO_MODELS_MAX 512
#define PROTO_LOG_FIELDS_MAX 24
#define PROTO_LOG_TEXT_BYTES 2048 /* of one field; what is longer is cut by the worker */

enum proto_type {
	/* worker -> supervisor */
	PROTO_HELLO = 1, /* first record of an incarnation */
	PROTO_STATE,	 /* the backend's state changed */
	PROTO_MODELS, /* one batch of the backend's model list; a list may take several records */
	PROTO_START,  /* an answer begins: status and headers */
	PROTO_DELTA,  /* answer bytes, in the client's dialect */
	PROTO_END,    /* the job ended well */
	PROTO_FAIL,   /* the job failed; nothing of it follows */
	PROTO_PONG,
	PROTO_STATS,	/* the worker's own counters, with every PONG */
	PROTO_BYE,	/* all is said: the supervisor, who has read it, may hang up */
	PROTO_KEPT,	/* what became of a conversation that is kept in a file */
	PROTO_LOG = 24, /* a step that the worker logs, for who listens to events */
	/* supervisor -> worker */
	PROTO_ACK = 32, /* answers HELLO: the device's configuration */
	PROTO_JOB,
	PROTO_BODY,   /* body bytes of a job */
	PROTO_CANCEL, /* the client is gone or the job is no longer wanted */
	PROTO_PING,
	PROTO_DRAIN,  /* finish what runs, take no more, exit */
	PROTO_FORGET, /* a stream that the backend keeps is wanted no more */
	/* both */
	PROTO_CREDIT = 64, /* the receiver of bytes allows so many more */
};

enum proto_kind {
	JOB_CHAT,  /* a chat request in the client's dialect; the answer comes back in it */
	JOB_NOTES, /* body = a chunk's text; the answer is its verified notes (plain text) */
	JOB_PASS,  /* any other HTTP request, bodies streamed both ways */
	JOB_WARM, /* a chat request that nobody waits for: its prompt goes into the backend's prefix
		     cache, no answer comes back, only its counts */
};

enum proto_backend_state { STATE_STARTING = 0, STATE_LOADING, STATE_READY, STATE_DOWN };

enum proto_cause {
	FAIL_NONE = 0,
	FAIL_UNREACHABLE, /* no connection to the backend */
	FAIL_TIMEOUT,	  /* deadline of the job, or the backend fell silent */
	FAIL_STATUS,	  /* the backend answered with an error status before the first byte */
	FAIL_GARBAGE,	  /* not the format it should be */
	FAIL_CUT,	  /* ended in the middle */
	FAIL_OVERFLOW,	  /* the prompt does not fit the backend's window (a FAIL_STATUS with
			   a name) */
	FAIL_EMPTY,	  /* an empty answer where text is needed (notes) */
	FAIL_REFUSED,	  /* the worker will not: bad request, unsupported (status and message
			   say why) */
	FAIL_TOO_LARGE,
	FAIL_CANCELLED,
	FAIL_DRAINING, /* came after DRAIN; never started */
	FAIL_INTERNAL, /* memory or the like */
	FAIL_CLOSED,   /* closed without a word, by what is no backend just now */
	FAIL_GONE,     /* the backend has the stream no more that was to be read again */
};

/* What KEPT says of a conversation's file (workers/backend/slots.h). */
enum proto_kept {
	KEPT_LIST,     /* of none: a list of all that there are begins, each of them THERE */
	KEPT_THERE,    /* its file was there before */
	KEPT_SAVED,    /* it was written just now */
	KEPT_RESTORED, /* a slot of the backend holds it again */
	KEPT_GONE,     /* its file was removed: no room, out of date, or not restored */
	KEPT_WRONG,    /* the backend did not use what was restored; its file was removed */
	KEPT_OFF,      /* of none: nothing more is saved or restored; why stands in the log */
};

struct proto_header {
	struct slice name, value;
};

struct proto_hello {
	uint32_t pid;
	struct slice device;  /* name it was started for */
	struct slice version; /* TANDEM_VERSION */
};

struct proto_ack {
	struct slice device;
	uint32_t backend_type; /* enum backend_type of config.h */
	struct slice url;      /* empty: none */
	struct slice key_file; /* the file that holds the backend's key, empty: no key */
	struct slice
		ca_file; /* authorities that its certificate may come from, empty: the system's */
	struct slice command[PROTO_ARGS_MAX];
	size_t command_count;
	struct slice pin;     /* empty: none */
	struct slice model;   /* empty: none */
	struct slice settled; /* without a model: the one that an earlier incarnation took, empty:
				 none */
	int64_t num_ctx;
	int64_t slots;
	int64_t boot_ms, connect_ms, idle_ms;
	int64_t body_bytes, line_bytes, result_bytes;
	uint32_t log_level, log_format;
	bool log_content;
	int64_t log_buffer_bytes;
	int64_t first_ms, silent_ms;
	/* A backend that an earlier incarnation started and that still runs; 0: none. */
	int64_t adopt_pid;
	uint64_t adopt_start; /* its start time: a pid alone may be somebody else's by now */
	struct slice adopt_url;
	struct slice run_dir;	/* where a started backend's output goes; empty: nowhere */
	struct slice state_dir; /* where conversations are saved; empty: nowhere */
	int64_t backend_log_bytes;
	int64_t kv_ms;
	int64_t kv_idle_ms, kv_bytes; /* conversations saved while idle; bytes 0: none are */
};

/* How the backend holds its model, as far as it tells; numbers that it does not tell are -1. */
struct proto_serving {
	int64_t model_bytes;  /* that the model takes, with its cache */
	int64_t weight_bytes; /* ... its weights alone */
	int64_t gpu_bytes;    /* of model_bytes, what is on GPUs */
	int64_t gpu_percent;  /* of it or of its layers, on GPUs */
	int64_t gpus;	      /* that hold its layers */
	int64_t models;	      /* loaded at once */
	int64_t keep_s;	      /* it is unloaded after so long without a request; INT32_MAX: never */
	int64_t own_window;   /* tokens that the model was made for */
	int64_t flash_attention; /* 0, 1 */
	int64_t speculation;	 /* 0: it could guess ahead, and does not; 1: it does */
	struct slice cache_type; /* of the keys in its KV cache, "f16"; empty: not told */
};

struct proto_state {
	enum proto_backend_state state;
	struct slice detail;	/* why, for people */
	struct slice url;	/* where the backend is */
	int64_t backend_pid;	/* 0: not started by us */
	uint64_t backend_start; /* its start time (/proc/PID/stat), with a pid */
	int64_t window;		/* tokens one slot can hold, 0 unknown */
	int64_t slots;		/* the backend's own count, 0 unknown */
	struct slice model;	/* what it serves by default, empty unknown */
	uint32_t traits;	/* enum backend_trait of backends.h */
	struct proto_serving serving;
};

struct proto_model {
	struct slice name;
	int64_t window;		  /* tokens, 0 unknown */
	struct slice ollama_json; /* its object in /api/tags */
	struct slice openai_json; /* its object in /v1/models */
};

struct proto_models {
	bool first, last;	   /* a list begins with first and is complete with last */
	struct proto_model *items; /* decoded: valid until the next record is read */
	size_t count;
};

struct proto_job {
	enum proto_kind kind;
	struct slice request_id;
	uint32_t dialect;	   /* enum dialect */
	bool stream;		   /* JOB_CHAT: the client wants a stream */
	struct slice method, path; /* JOB_PASS: as the client sent them, query included. JOB_CHAT:
				      the client's path */
	struct proto_header *headers; /* already filtered: no hop-by-hop, Host, Origin; when read:
					 the reader's, until its next record */
	size_t header_count;
	int64_t body_bytes; /* -1: unknown (chunked upload) */
	struct slice model; /* JOB_NOTES: model to use, empty: the backend's */
	int64_t num_ctx;    /* window to ask for where the dialect allows it, 0: leave */
	int64_t max_tokens; /* JOB_NOTES */
	bool strict;	    /* JOB_NOTES: notes_rule.strict (common/text/notes.h) */
	int64_t timeout_ms; /* whole job, 0: none */
	/* JOB_CHAT: goes on with a stream that another job began. */
	bool resume;
	int64_t resume_bytes;  /* the body's last bytes are that much of the answer's text */
	int64_t resume_tokens; /* ... which were so many tokens */
	struct slice identity; /* of its START */
	/*
	 * JOB_CHAT: names the stream at a backend that keeps it (TRAIT_REPLAYS), and those objects of
	 * the client's stream that need a name of ours; the same in each job for it, nobody else's,
	 * and not to be guessed. Empty: it is not kept.
	 */
	struct slice stream_id;
	bool replay;	      /* the backend has it: it is read again, and nothing asked */
	int64_t replay_bytes; /* ... of which the client has what so many bytes have become */
	/* JOB_CHAT, JOB_PASS: the name that the client asked for, for the answer in place of the
	 * model's, which the body has; empty: the same */
	struct slice asked;
	/* JOB_CHAT: END is to bring the answer's message where it has no more bytes; 0: not. */
	int64_t reply_bytes;
	bool reply_thinking; /* with its thinking */
	/* JOB_CHAT, JOB_WARM: which conversation it goes on with; 0: nobody keeps it */
	uint64_t conversation;
	uint64_t kept; /* of what was restored, or is to be, this one begins the prompt; 0: none */
	int64_t kept_tokens; /* ... with so many of its tokens */
	bool restore;	     /* ... and no slot holds it yet: it is read back first */
};

enum proto_log_kind { PROTO_LOG_TEXT, PROTO_LOG_NUMBER, PROTO_LOG_REAL };

struct proto_log_field {
	struct slice key;
	enum proto_log_kind kind; /* which of these it has */
	struct slice text;
	int64_t number;
	double real;
};

struct proto_usage {
	int64_t prompt_tokens, cached_tokens, output_tokens; /* -1 unknown */
	double prompt_ms, output_ms, load_ms;		     /* < 0 unknown */
};

struct proto_record {
	enum proto_type type;
	uint64_t job; /* 0 where the record is about no job */
	union {
		struct proto_hello hello;
		struct proto_state state;
		struct proto_models models;
		struct {
			int64_t status;
			struct proto_header headers[PROTO_HEADERS_MAX];
			size_t header_count;
			int64_t body_bytes; /* -1 unknown */
			/* JOB_CHAT: what the stream's objects have in common, for the job that
			 * may have to go on with it; opaque to the supervisor, empty: nothing */
			struct slice identity;
		} start;
		struct {
			struct slice bytes;
			/* Of a streamed JOB_CHAT: what the bytes mean, so that another job can go
			 * on where this one ends. */
			bool whole;	   /* the bytes so far end with a whole line or event */
			bool opaque;	   /* they hold more than text: cannot be gone on with */
			int64_t tokens;	   /* generated in them */
			struct slice text; /* of the answer, in them */
			/* JOB_CHAT, with whole: bytes of the backend's stream that have become the
			 * answer so far */
			int64_t source;
		} delta;
		struct {
			struct proto_usage usage;
			struct slice finish;  /* "stop", "length", "tool_calls", ... */
			struct slice verdict; /* JOB_NOTES: what verification said */
			/* JOB_NOTES: lines that it kept, and that it refused */
			int64_t notes_kept, notes_refused;
			double backend_ms; /* from the first byte sent to the backend to its last */
			/* The answer as its client will send it back, a message of its dialect
			 * (common/dialect/follow.h); empty: not asked for, too long, or none. */
			struct slice reply;
		} end;
		struct {
			enum proto_cause cause;
			int64_t status; /* HTTP status for the client when it is still free to be
					   set; 0: none */
			struct slice message; /* for people; no prompt text */
			struct slice body;    /* FAIL_STATUS: the backend's own error body, for the
						 client's dialect */
			struct slice content_type;
			/* FAIL_OVERFLOW: what the backend counted and holds; 0: it did not say */
			int64_t prompt_tokens, window_tokens;
			int64_t retry_after_s; /* the backend's own wish; 0: none */
		} fail;
		struct {
			uint64_t seq;
			uint64_t progress; /* PONG: a count that grows whenever a job advances */
			uint64_t active;   /* PONG: jobs open */
		} ping;			   /* PING and PONG */
		struct {
			enum proto_kept what;
			uint64_t conversation; /* 0: about none */
			int64_t tokens, bytes;
			double ms; /* that saving or restoring took; < 0: unknown */
		} kept;
		struct {
			uint64_t jobs_done, jobs_failed, bytes_in, bytes_out, rss_bytes;
		} stats;
		struct {
			uint32_t level; /* enum log_level */
			struct slice event;
			struct proto_log_field fields[PROTO_LOG_FIELDS_MAX];
			size_t field_count;
		} log;
		struct proto_ack ack;
		struct proto_job job;
		struct {
			struct slice bytes;
			bool last;
		} body;
		struct {
			int64_t deadline_ms;
			bool keep_backend; /* a successor uses what we have started */
		} drain;
		struct {
			uint64_t bytes;
		} credit;
		struct {
			struct slice conversation;
		} forget;
	} u;
};

/* --- writing --- */

struct proto_writer {
	struct buf frame;
	uint32_t count;
	uint64_t generation;
};

void proto_writer_init(struct proto_writer *w, uint64_t generation);
void proto_writer_fini(struct proto_writer *w);
/*
 * Appends a record. 0; -ENOMEM; -E2BIG when a text (PROTO_PIECE_BYTES), a list (its _MAX) or the
 * frame (PROTO_FRAME_MAX) would be too long; -EINVAL when a value is out of range (PROTOCOL.md) or
 * job is 0 where a job is needed, or the other way round. On an error the frame is as before.
 */
int proto_put(struct proto_writer *w, const struct proto_record *r);
/* The finished frame (valid until the next put or reset); empty when no record is in it. */
struct slice proto_writer_frame(struct proto_writer *w);
void proto_writer_reset(struct proto_writer *w);

/* --- reading --- */

struct proto_reader; /* owns decoding scratch memory; reusable for many frames */

struct proto_reader *proto_reader_create(void);
void proto_reader_destroy(struct proto_reader *r);
/* Opens a frame whose bytes outlive the reading. 0; -EPROTO (what: proto_reader_problem());
 * -EPROTONOSUPPORT another version; -ENOMEM. */
int proto_reader_open(struct proto_reader *r, struct slice frame, uint64_t *generation);
/* 1: *out filled (borrowing the frame; until the next call); 0: the frame is used up; -EPROTO. */
int proto_reader_next(struct proto_reader *r, struct proto_record *out);
const char *proto_reader_problem(const struct proto_reader *r);

const char *proto_type_name(enum proto_type t);
const char *proto_cause_name(enum proto_cause c);
const char *proto_kind_name(enum proto_kind k);
const char *proto_state_name(enum proto_backend_state s);

#endif
