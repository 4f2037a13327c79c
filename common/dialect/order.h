/*
 * An order: what a client asks for, in the words of no API. Each front dialect makes one of its
 * requests (front.h), each back dialect makes a call of it (back.h).
 *
 * Every member still points at the client's own JSON (JSON_NONE: not said), so numbers keep their
 * digits, strings their escapes and objects the order of their keys; what has the same form on both
 * sides is copied and not built anew. The order borrows the request, which borrows the body; it
 * owns its lists, and what a front had to write anew (order_keep()). Pure; any thread.
 */
#ifndef TANDEM_DIALECT_ORDER_H
#define TANDEM_DIALECT_ORDER_H

#include "common/dialect/answer.h"
#include "common/dialect/request.h"

/* The families of forms in which JSON is written for a model. Bits, since a value may be sound in
 * several. */
enum dialect_api {
	API_OLLAMA = 1,	   /* /api/... */
	API_OPENAI = 2,	   /* /v1/chat/completions and its kin, llama-server's own included */
	API_ANTHROPIC = 4, /* /v1/messages */
	API_RESPONSES = 8, /* /v1/responses */
};

/* Bits: what is the backend's to do in some servers of an API, and ours in others. */
enum order_need {
	NEED_SUFFIX = 1, /* a prompt that is filled in */
	NEED_ECHO = 2,	 /* the prompt in front of the answer */
	NEED_FORM = 4,	 /* response_format of an answer to a bare prompt */
};

enum order_part_kind {
	ORDER_TEXT,	/* value: a string */
	ORDER_IMAGE,	/* value: a data: or http URI, or bare base64 data; NONE: there is none */
	ORDER_THINKING, /* value: a string; id: its signature */
	ORDER_CALL,	/* id, name, arguments: an object, or a string of JSON */
	ORDER_OTHER,	/* audio, files, what is no part at all */
};

struct order_part {
	enum order_part_kind kind;
	bool bare; /* an image's value has no "data:" in front of it */
	struct json_value value;
	struct json_value id, name, arguments;
};

/* A tool's result is a message of its own (CHAT_TOOL), wherever the client's API has it. */
struct order_message {
	enum chat_role role;
	struct json_value said_role; /* the client's word for it */
	unsigned raw_in;	     /* APIs that take `raw` as it is */
	struct json_value raw;	     /* the client's message */
	unsigned content_in; /* APIs that take `content` as it is (its images and calls are not in
				it, or the API has them there as well) */
	struct json_value content;
	size_t first, parts;	     /* in order.parts */
	struct json_value call_id;   /* a result's: the call it answers */
	struct json_value tool_name; /* ... and the function; either may be missing */
	bool is_error;		     /* ... and the tool failed */
};

enum order_sampler {
	SAMPLE_TEMPERATURE,
	SAMPLE_TOP_K,
	SAMPLE_TOP_P,
	SAMPLE_MIN_P,
	SAMPLE_TYPICAL_P,
	SAMPLE_REPEAT_LAST_N,
	SAMPLE_REPEAT_PENALTY,
	SAMPLE_PRESENCE_PENALTY,
	SAMPLE_FREQUENCY_PENALTY,
	SAMPLE_MIROSTAT,
	SAMPLE_MIROSTAT_TAU,
	SAMPLE_MIROSTAT_ETA,
	SAMPLE_SEED,
	SAMPLE_NUM_KEEP,
	SAMPLERS
};

enum order_form { ORDER_FREE, ORDER_JSON, ORDER_SCHEMA };

enum order_choice { CHOICE_UNSAID, CHOICE_AUTO, CHOICE_NONE, CHOICE_REQUIRED, CHOICE_NAMED };

/* WISHED: on where the model can, and no error where it cannot. UNWISHED: off where a backend is known
 * to have a word for that; the client did not say so itself. */
enum order_switch { SWITCH_UNSAID, SWITCH_OFF, SWITCH_ON, SWITCH_WISHED, SWITCH_UNWISHED };

struct chat_order {
	const struct chat_request *request; /* model, stream, max_output, num_ctx */

	struct order_message *messages; /* owned; none where `prompt` is */
	size_t count;
	struct order_part *parts; /* owned */
	size_t part_count;

	/* A prompt for no chat template, going on where it ends or before `suffix`. A list or
	 * tokens where the client's API has them. */
	struct json_value prompt, suffix;
	struct json_value template, context; /* of /api/generate alone */

	struct json_value tools;     /* an array in OpenAI's form, which Ollama shares */
	struct json_value functions; /* an older array: what stands in `function` of a tool */
	enum order_choice choice;
	struct json_value choice_name; /* CHOICE_NAMED */
	enum order_switch parallel;    /* OFF: one call at a time */

	enum order_form form;
	struct json_value schema; /* ORDER_SCHEMA */

	enum order_switch thinking;
	struct json_value effort; /* a level: "low", "medium", ...; a client's own words for it */
	struct json_value think;  /* as Ollama has it: it goes there unread */
	struct json_value thinking_budget; /* tokens; NONE: no limit of its own */

	struct json_value sampling[SAMPLERS]; /* numbers */
	struct json_value stop;		      /* a string or an array of them */
	int64_t choices;		      /* answers wanted: n */
	struct json_value best_of, logit_bias, grammar;
	/* The client's object, whose members that have no place here mean the same at a backend of
	 * its own API; NONE. */
	struct json_value own;
	struct json_value logprobs, top_logprobs; /* true, and how many */

	struct buf *kept; /* owned: what order_keep() took */
	size_t kept_count;
};

/* The order that r is. 0 (chat_order_fini() later); -EINVAL with *error filled (HTTP 400) for what
 * its API does not allow; -ENOMEM. */
int chat_order_make(
	const struct chat_request *r, struct chat_order *out, struct dialect_error *error);
void chat_order_fini(struct chat_order *o);

/* Samplers that are no numbers, stops that are no strings: what would be left out in silence. 0, or
 * -EINVAL with *error filled (HTTP 400). chat_order_make() has done so. */
int order_check(const struct chat_order *o, struct dialect_error *error);

/* Fills the error with these words (HTTP 400), and returns -EINVAL. */
int order_refuse(struct dialect_error *e, const char *text);

/* --- for the fronts: both return NULL when memory is out; what they return lives until the next
 * call --- */
struct order_message *order_add_message(struct chat_order *o, enum chat_role role);
/* Of the message added last. */
struct order_part *order_add_part(struct chat_order *o, enum order_part_kind kind);

/* A value that the client's body does not have: takes over the bytes of b, which lives on as an empty
 * one, until chat_order_fini(). NONE when memory is out (then b is freed). */
struct json_value order_keep(struct chat_order *o, struct buf *b);

/* --- for the backs --- */
/* Parts of this kind. */
size_t order_parts(
	const struct chat_order *o, const struct order_message *m, enum order_part_kind kind);
/* The next part of this kind from *at on, or NULL. */
const struct order_part *order_next(const struct chat_order *o, const struct order_message *m,
	enum order_part_kind kind, size_t *at);
/* Appends a JSON string of all parts of this kind, joined by newlines; a single one as it stands. */
void order_put_joined(const struct chat_order *o, const struct order_message *m,
	enum order_part_kind kind, struct buf *out);
/* The function whose call a result answers, from the call's id; NONE. */
struct json_value order_called_name(const struct chat_order *o, size_t message);
/* The place of the call that a result without an id answers: the results after an assistant's
 * message answer its calls in order, or in order among those of one name where results are named.
 * False: none is there. */
bool order_answered(const struct chat_order *o, size_t message, size_t *asking, size_t *call);

#endif
