/*
 * The fake backend as a whole: its options, its one instance, and a request on its way through it.
 */
#ifndef FAKE_FAKE_H
#define FAKE_FAKE_H

#include "common/base/buf.h"
#include "common/base/json.h"
#include "tests/fake/clock.h"
#include "tests/fake/http.h"
#include "tests/fake/script.h"

#define FAKE_MODELS 1024
/* bytes of a request body held in memory; blobs are not held */
#define FAKE_BODY_MAX (512ul << 20)

enum fake_type {
	TYPE_OLLAMA,
	TYPE_LLAMA,
	TYPE_OPENAI, /* as vLLM: compat.c */
};

struct options {
	enum fake_type type;
	const char *host;
	int port; /* 0: pick one */
	const char *models[FAKE_MODELS];
	size_t model_count;
	const char *model_path; /* llama-server's -m, only reported */
	double prefill, decode; /* tokens/s of one slot; 0: infinitely fast */
	double depth_half;	/* tokens at which prefill takes twice as long (Lhalf); 0: never */
	double decode_half;	/* the same for decoding */
	double chars_per_token;
	double speed; /* all of that so many times faster, loads and host cache too */
	size_t batch; /* tokens of a prompt that are read at once; progress and cancellation happen at its borders */
	double slot_similarity; /* llama-server's --slot-prompt-similarity */
	double cache_tokens; /* room of the host cache of prompts that left their slot; 0: none */
	double cache_rate;   /* tokens/s copied from a slot to it and back; 0: infinitely fast */
	unsigned load_ms;
	unsigned num_ctx; /* tokens of one slot's window; 0: Ollama 4096, llama-server 8192 */
	unsigned slots;	  /* 0: one */
	unsigned answer_tokens;
	bool early_headers; /* llama-server: 200 as soon as a slot takes the request */
	bool no_replay;	    /* llama-server: from before it kept streams */
	bool no_insert;	    /* Ollama: no model takes a suffix */
	bool old;	    /* Ollama: from before a request could say "truncate" */
	double vram_bytes; /* Ollama: memory of its GPU; what a model has more is on the CPU; < 0: all fits */
	double kv_bytes;    /* Ollama: that a token of the window takes of a loaded model */
	double model_bytes; /* of a model's weights */
	double keep_s;	    /* Ollama: tells that a model is unloaded after so long; < 0: never */
	const char *spec_type; /* llama-server's --spec-type */
	unsigned max_ctx;      /* Ollama: a larger window does not fit its memory; 0: any does */
	bool embeddings, metrics, control;
	const char *api_key;	    /* as vLLM: below /v1 nothing without it; NULL: none */
	const char *slot_save_path; /* NULL: slots are not saved */
	bool hybrid; /* llama-server: what was restored into a slot is read again all the same */
	const char *log_path, *dump_dir;
};

struct fake {
	uv_loop_t *loop;
	struct clock clock;
	struct options options;
	struct http_server http;
	struct engine *engine;
	struct stats *stats;
	struct rules rules;
	struct stream *streams; /* that are kept */
	uint64_t started_ns;
	time_t started_at;
};

/* Numbers of one request for the log; -1: does not apply. */
struct facts {
	int64_t prompt_tokens, cached_tokens, generated_tokens, slot;
	/* ns: waiting for a slot or a load; from arrival to the first token; how much later than
	 * the formulas say that one was. -1: it did not come to that. */
	int64_t queued, first, late;
};

struct request {
	struct fake *fake;
	struct http_exchange *x;     /* NULL once closed */
	struct request *next, *prev; /* the requests under way */
	unsigned seq;		     /* from 1, in order of arrival */
	uint64_t started_ns;
	struct buf body;
	bool discard_body;
	uint32_t crc; /* of the body, CRC-32 as zlib's */
	int dump_fd;  /* -1: not dumped */
	const struct route *route;
	struct json_value json; /* the body, JSON_NONE when it is not JSON */
	struct script script;
	struct clock_task delay;
	struct gen *gen; /* NULL: nothing is being generated */
	struct facts facts;
	struct stream *stream; /* that it generates, or reads; NULL: none */
	uint64_t stream_at;    /* bytes of it that it has read */
	struct request *next_reader;
	bool stopped; /* by another request */
};

#endif
