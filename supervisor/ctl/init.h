/*
 * The parts of `tandemctl init`: what is there (ollama.c, engine.c) and the file made of it
 * (conf_write.c).
 */
#ifndef TANDEM_CTL_INIT_H
#define TANDEM_CTL_INIT_H

#include "common/base/buf.h"

#include <stdint.h>

#define OLLAMA_URL_BYTES 160
#define OLLAMA_MODELS_MAX 256
#define OLLAMA_TIMEOUT_MS 1000 /* each of the few questions */

struct ollama_model {
	char name[128];
	int64_t bytes;	/* size on disk */
	int64_t window; /* the model's own, in tokens; 0: not told */
	int64_t loaded; /* window it is loaded with; 0: not loaded */
	bool chat;	/* can answer; not an embedding model, not one that runs elsewhere */
};

struct ollama {
	char url[OLLAMA_URL_BYTES];
	char version[32];
	struct ollama_model models[OLLAMA_MODELS_MAX];
	size_t count;
};

/*
 * What $OLLAMA_HOST means to Ollama's own client, as http(s)://host:port[/path] in out: "", "host",
 * ":port", "host:port", URLs; an address to listen on (0.0.0.0, ::) becomes loopback. False when it
 * doesn't fit.
 */
bool ollama_base_url(const char *host, char *out, size_t size);

/* Asks o->url who is there. 0 and o filled when an Ollama answers; else -ECONNREFUSED, -EPROTO or
 * -ENOMEM. */
int ollama_ask(struct ollama *o);

/* The chat model to write answers with: one that is loaded, else the largest. NULL when there is
 * none. */
const struct ollama_model *ollama_main_model(const struct ollama *o);

/* The chat model to condense with: the smallest. NULL when there is none. */
const struct ollama_model *ollama_small_model(const struct ollama *o);

#define ENGINE_GPU_NAME_BYTES 32

/* A GPU as llama-server's --device names it. */
struct engine_gpu {
	char name[ENGINE_GPU_NAME_BYTES]; /* "CUDA0" */
	char text[96];			  /* "NVIDIA GeForce RTX 3060" */
	int64_t mib;
};

#define ENGINE_GPUS_MAX 16

/*
 * Reads the output of `llama-server --list-devices`: the GPUs of the best runtime in it (each card
 * appears once per runtime), largest first; software renderers and tiny ones are left out. Returns
 * how many.
 */
size_t engine_parse_gpus(const char *text, struct engine_gpu gpus[ENGINE_GPUS_MAX]);

/* Threads that compute well on the CPUs this process may use. */
int engine_threads(void);

struct conf_ollama_device {
	const struct ollama *server;
	const struct ollama_model *model;
	int64_t num_ctx;
};

/* What the file shall say. */
struct conf_plan {
	const char *run_dir;
	long port;

	/* Attached: main.server is set; condense.server may be NULL. */
	struct conf_ollama_device main, condense;

	/* Started: engine is set. */
	const char *engine, *engine_lib, *model_file, *model_name;
	const char *gpu_main, *gpu_condense; /* NULL: the CPU */
	int threads;
};

/* Windows of the started default, in tokens; the small device's is that of each of its slots. */
#define CONF_ENGINE_WINDOW 8192
#define CONF_ENGINE_SLOTS 2

/* Appends the file's text. 0 or the buf's error. */
int conf_text(const struct conf_plan *plan, struct buf *out);

/*
 * Writes text to path by way of a temporary file beside it, mode 0644, checked by config_load()
 * before it takes the name. Without force an existing file stays. 0, -EEXIST, -EINVAL (the check
 * failed) or another -errno, words in err.
 */
int conf_write(const char *path, struct slice text, bool force, struct buf *err);

#endif
