/*
 * Pieces that the translators of this folder share: members of an object in one pass, content
 * parts, tool arguments.
 *
 * Private to common/dialect/. Everything borrows the bytes it is given; nothing blocks; nothing
 * keeps state.
 */
#ifndef TANDEM_DIALECT_PIECES_H
#define TANDEM_DIALECT_PIECES_H

#include "common/base/json.h"

struct field {
	const char *name; /* plain ASCII */
	struct json_value *value;
};

/*
 * Sets each field to the last member of that name, or to JSON_NONE. One pass over the object
 * however many fields: json_get() once per field would skip a body of many megabytes again and
 * again. True: a member would be one of them but for the case of its letters.
 */
bool fields_get(struct json_value object, const struct field *fields, size_t n);

#define FIELDS_GET(object, ...)                                                                    \
	fields_get(object, (const struct field[]){__VA_ARGS__},                                    \
		sizeof((const struct field[]){__VA_ARGS__}) / sizeof(struct field))

/* The bytes between a string's quotes, escapes as sent; empty when v is no string. */
struct slice string_inner(struct json_value v);

/* The first of them, for words about a name. */
struct slice string_beginning(struct json_value v);

/* True for a string with at least one character, an array or object with at least one element. */
bool value_filled(struct json_value v);

/* a when it is a string, else b. */
static inline struct json_value string_or(struct json_value a, struct json_value b)
{
	return a.type == JSON_STRING ? a : b;
}

static inline bool is_absent(struct json_value v)
{
	return v.type == JSON_NONE || v.type == JSON_NULL;
}

enum part_kind {
	PART_TEXT,  /* value: the text */
	PART_IMAGE, /* value: the URL string, or JSON_NONE when there is none */
	PART_OTHER, /* audio, files, what is no part at all */
};

/* What one element of a content array is. */
enum part_kind part_classify(struct json_value part, struct json_value *value);

struct tool_call {
	struct json_value id;
	struct json_value name;
	struct json_value arguments; /* OpenAI: a string of JSON; Ollama, Anthropic: an object */
};

/* Reads an element of tool_calls, a bare function object (OpenAI's older function_call), or a block
 * of Anthropic's. */
struct tool_call tool_call_read(struct json_value call);

/* Nothing was there: a block of another kind. */
bool tool_call_is_none(const struct tool_call *call);

/* Elements of an array; 0 for any other type. */
size_t array_count(struct json_value array);

/* Appends valid JSON on one line: white space between tokens goes. */
int compact_put(struct buf *out, struct slice text, struct buf *scratch);

/*
 * Appends a call's arguments as one JSON object on one line, from JSON text that a model wrote:
 * white space between tokens goes, key order and numbers stay. Text that is no JSON object is kept
 * whole in {"raw_arguments":"..."}.
 */
int arguments_put_object(struct buf *out, struct slice text, struct buf *scratch);

/* The same from the JSON value in a request: an object is copied raw, a string decoded first. */
int arguments_put_object_from(struct buf *out, struct json_value arguments, struct buf *scratch);

/* Appends the id of a call of an answer as a JSON string: the backend's own, or one made up of the
 * answer's id and the call's index. */
void call_id_put(struct buf *out, struct slice id, const char *answer, unsigned index);

/* Appends "name":<raw> when v is there and not null. */
void member_copy(struct buf *out, const char *name, struct json_value v);

#endif
