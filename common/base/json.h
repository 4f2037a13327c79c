/*
 * JSON in place: a strict validator, cursors over validated text, and appenders for building.
 *
 * The gateway forwards a client's own bytes, so nothing here builds a tree: a json_value is a typed
 * slice of the original text, numbers stay text (no round trip through double), key order and
 * duplicates stay as sent. Walk only text that json_parse() accepted; the cursors trust it.
 *
 * Grammar: RFC 8259, strictly: valid UTF-8 (no overlong forms, no raw surrogates), escapes checked,
 * no raw control characters, no trailing bytes other than white space.
 * A \u surrogate without its other half is let through, as Ollama does, and decodes to U+FFFD.
 * Of duplicate keys the last one counts (json_get), as in both backends.
 * Borrowed bytes throughout; nothing blocks; nothing allocates except into a given buf.
 */
#ifndef TANDEM_JSON_H
#define TANDEM_JSON_H

#include "common/base/buf.h"

#include <stdint.h>

#define JSON_MAX_DEPTH 128 /* default nesting limit of json_parse() */

enum json_type {
	JSON_NONE, /* absent */
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
};

struct json_value {
	enum json_type type;
	struct slice raw; /* exactly the value's bytes, quotes and brackets included */
};

struct json_error {
	size_t offset;	  /* byte where the text stops being JSON */
	const char *what; /* static English phrase */
	bool more;	  /* before it stands a whole value: only what follows is wrong */
};

/* Validates text and sets *root to its one value. 0, or -EINVAL with *err filled (err may
 * be NULL). */
int json_parse(
	struct slice text, unsigned max_depth, struct json_value *root, struct json_error *err);

/* --- cursors over validated text --- */

/* The object that validated text is, without the white space around it. */
struct json_value json_object_in(struct slice text);

struct json_iter {
	const char *p, *end;
};

/* Starts over an array or object; over any other type the iteration is empty. */
struct json_iter json_iter(struct json_value container);

/* The next element; false at the end. */
bool json_array_next(struct json_iter *it, struct json_value *element);

/* The next member; key is the raw key with its quotes. False at the end. */
bool json_object_next(struct json_iter *it, struct json_value *key, struct json_value *value);

/* The last member with that (decoded) name, or type JSON_NONE. */
struct json_value json_get(struct json_value object, const char *name);

/* True when v is a string whose decoded form equals text. */
bool json_string_is(struct json_value v, const char *text);

/* Appends the decoded string (\u0000 becomes a NUL byte). 0, -EINVAL when v is no string, or the
 * buf's error. */
int json_string_decode(struct json_value v, struct buf *out);

/* Decoded form as a fresh C string; NULL when v is no string, memory is out, or it holds a NUL
 * byte. */
char *json_string_dup(struct json_value v);

/* Code points of the decoded string; 0 when v is no string. */
size_t json_string_chars(struct json_value v);

/* Conversions: true and *out set when v has that type and fits. Integers accept 3.0 and
 * 3e0 forms. */
bool json_to_int(struct json_value v, int64_t *out);
bool json_to_double(struct json_value v, double *out);
bool json_to_bool(struct json_value v, bool *out);

static inline bool json_is(struct json_value v, enum json_type type)
{
	return v.type == type;
}

/* --- building: appenders whose errors stay in the buf --- */

/*
 * Appends text as a quoted JSON string. Escapes C0 controls, DEL, U+0085, U+2028 and U+2029
 * (docs/protocols.md#line-ends-inside-json). Invalid UTF-8 is replaced by U+FFFD.
 */
int json_put_string(struct buf *out, struct slice text);

/* The same without the quotes: for building one string from several pieces. Pieces must not split a
 * UTF-8 sequence. */
int json_put_escaped(struct buf *out, struct slice text);

/* Appends "name": (with a comma before it unless the last byte is '{'). name is plain ASCII. */
int json_put_key(struct buf *out, const char *name);

/* Appends "name":"..." of what is escaped already. */
int json_put_quoted(struct buf *out, const char *name, const struct buf *escaped);

int json_put_int(struct buf *out, int64_t v);

/* Puts text in the place of a string of the body (raw, quotes included). A longer one may take the body past
 * its cap. 0 or -ENOMEM. */
int json_replace_string(struct buf *body, struct slice raw, struct slice text);

/* --- UTF-8 --- */

/* Bytes of text that form whole, valid sequences from the start: all of them, or up to the first
 * bad or cut one. */
size_t utf8_valid_prefix(struct slice text);

/* Appends text with each broken sequence replaced by U+FFFD: a body that is not UTF-8 (ISO-8859-1,
 * say) then is JSON, as Ollama reads it. */
int json_mend_utf8(struct slice text, struct buf *out);

/* The same for a whole body, whose cap may double. True: it is another one now; false: that is not
 * what is wrong with it, or there is no room. */
bool json_mend_body(struct buf *body);

/* Cuts off what follows the one value, which Ollama never reads (a C string's end, say). True:
 * there was something. */
bool json_mend_tail(struct buf *body);

/* Makes \ufffd of every \u surrogate without its other half, in place: llama-server refuses them.
 * The text is JSON, or what is left is as it was. How many there were. */
size_t json_mend_surrogates(char *text, size_t n);

/* Code points in valid UTF-8. */
size_t utf8_chars(struct slice text);

#endif
