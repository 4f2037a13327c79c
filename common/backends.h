/*
 * The kinds of backends that a device can have: one row each, and what both processes need to know
 * of a kind before a backend has said anything. What a kind does stands in workers/backend/, in one
 * file each (workers/backend/backend.h: struct backend_kind).
 *
 * Nothing outside workers/backend/ and the configuration asks for a kind. It asks for a trait; the
 * row says which are expected, and STATE which the backend has (proto.h).
 */
#ifndef TANDEM_BACKENDS_H
#define TANDEM_BACKENDS_H

#include "common/dialect/backend.h"

#include <stdbool.h>

enum backend_trait {
	/* Its window is ours to ask for, with each request; it loads its model anew for another. */
	TRAIT_TAKES_NUM_CTX = 1u << 0,
	/* The window that it reports is the one that it has, whatever is configured. */
	TRAIT_WINDOW_IS_FACT = 1u << 1,
	/* A prompt that does not fit may be cut without a word: we refuse it first. */
	TRAIT_CUTS_IN_SILENCE = 1u << 2,
	/* Whatever model a request names, it answers with the one that it has. */
	TRAIT_ANY_NAME = 1u << 3,
	/* Refuses JSON that Ollama takes: lone surrogates and the like are mended first. */
	TRAIT_STRICT_JSON = 1u << 4,
	/* OpenAI's paths are below /v1 alone; others have them without it, too. */
	TRAIT_V1_ONLY = 1u << 5,
	/* Has a path for one model, and may know one that its list did not have yet. */
	TRAIT_FINDS_MODELS = 1u << 6,
	/* Writes its conversations to files when it is asked to. */
	TRAIT_SAVES_SLOTS = 1u << 7,
	/* A prompt that nobody waits for costs nothing: it may be read ahead. */
	TRAIT_WARMS = 1u << 8,
	/* Goes on with the beginning of an answer. */
	TRAIT_CONTINUES = 1u << 9,
	/* Counts the tokens of Anthropic's requests (/v1/messages/count_tokens), without a slot. */
	TRAIT_COUNTS = 1u << 10,
	/* Keeps prompts that leave their slot in memory, and puts them back. */
	TRAIT_PUTS_ASIDE = 1u << 11,
	/* Keeps a stream that is asked for under a name, goes on generating it whoever leaves, and gives
	 * it again from any byte (docs/protocols.md#kept-streams). No row has it: a backend says so. */
	TRAIT_REPLAYS = 1u << 12,
	TRAITS_ALL = (1u << 13) - 1,
};

/* Name of the type and of the kind, in the configuration, for people; its API; expected traits. */
#define BACKEND_ROWS(ROW)                                                                          \
	ROW(OLLAMA, ollama, "ollama", "Ollama", BACKEND_OLLAMA,                                    \
		TRAIT_TAKES_NUM_CTX | TRAIT_CUTS_IN_SILENCE | TRAIT_V1_ONLY | TRAIT_FINDS_MODELS | \
			TRAIT_WARMS | TRAIT_CONTINUES)                                             \
	ROW(LLAMA_SERVER, llama_server, "llama-server", "llama-server", BACKEND_LLAMA_SERVER,      \
		TRAIT_WINDOW_IS_FACT | TRAIT_ANY_NAME | TRAIT_STRICT_JSON | TRAIT_SAVES_SLOTS |    \
			TRAIT_WARMS | TRAIT_CONTINUES | TRAIT_COUNTS | TRAIT_PUTS_ASIDE)           \
	ROW(OPENAI, openai, "openai", "an OpenAI-compatible server", BACKEND_OPENAI,               \
		TRAIT_WINDOW_IS_FACT | TRAIT_STRICT_JSON | TRAIT_V1_ONLY)

#define BACKEND_TYPE_OF_ROW(type, ...) BACKEND_TYPE_##type,
enum backend_type { BACKEND_ROWS(BACKEND_TYPE_OF_ROW) BACKEND_TYPES };

struct backend_profile {
	const char *name;     /* in the configuration */
	const char *title;    /* for people */
	enum backend_api api; /* how it is asked for text */
	unsigned traits;
};

/* type < BACKEND_TYPES. Static. */
const struct backend_profile *backend_profile(enum backend_type type);

/*
 * What the command of a llama-server with one slot is given, where it does not say so itself.
 *
 * --slot-prompt-similarity: what the slot holds is put aside, and something better looked for among what was put
 * aside before, when the slot has less than this share of a prompt (server_context::
 * get_available_slot() in llama.cpp's tools/server). At its default of .1 two prompts with the same system prompt
 * overwrite each other. Not for more slots than one, where a prompt that is not alike goes to another slot, nor
 * where there is no such memory (--cache-ram 0).
 *
 * --batch-size: a prompt that is cancelled keeps the slot until the batch is computed that is under way.
 */
struct backend_argument {
	const char *name, *other, *value; /* other: its short form */
	bool aside;			  /* it is about what is put aside */
};
extern const struct backend_argument backend_arguments[]; /* until a name is NULL */
/* Is the command to be given that one? */
bool backend_adds(char *const *command, const struct backend_argument *a);
/* The share at which that command's server puts its slot aside; 0: at its default, or never. */
double backend_similarity(char *const *command);

/* The names in the order of the types; NULL-terminated. */
extern const char *const backend_type_names[];

static inline const char *backend_type_name(enum backend_type type)
{
	return backend_profile(type)->name;
}

#endif
