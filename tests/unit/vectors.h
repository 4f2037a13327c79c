/* Tables of golden vectors as JSON files in tests/unit/vectors/, read, held to and written anew. */
#ifndef TANDEM_TEST_VECTORS_H
#define TANDEM_TEST_VECTORS_H

#include "common/backends.h"
#include "common/base/json.h"
#include "common/dialect/answer.h"
#include "common/dialect/backend.h"
#include "tests/unit/test_dialect.h"

#define VECTOR_DIR "tests/unit/vectors/"

/* The file's bytes; buf_free() later. */
static inline void vectors_read(const char *name, struct buf *out)
{
	char path[256], piece[65536];
	size_t n;
	snprintf(path, sizeof(path), VECTOR_DIR "%s", name);
	FILE *f = fopen(path, "rb");
	if (!f)
		fail_msg("%s: tests run in the root of the repository", path);
	buf_init(out, 0);
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
		assert_int_equal(buf_add(out, piece, n), 0);
	fclose(f);
}

static inline struct json_value vectors_parse(struct slice text)
{
	struct json_value root;
	struct json_error error = {0};
	if (json_parse(text, JSON_MAX_DEPTH, &root, &error))
		fail_msg("no JSON at %zu: %.*s", error.offset, (int)(text.n < 400 ? text.n : 400),
			text.p);
	return root;
}

/* Without white space between tokens. */
static inline char *compacted(struct slice text)
{
	char *copy = malloc(text.n + 1), *to = copy;
	bool string = false;
	assert_non_null(copy);
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		if (string && c == '\\') {
			*to++ = c;
			c = text.p[++i];
		} else if (c == '"') {
			string = !string;
		} else if (!string && (c == ' ' || c == '\n' || c == '\t' || c == '\r')) {
			continue;
		}
		*to++ = c;
	}
	*to = '\0';
	return copy;
}

/* What differs from run to run, in compact JSON, becomes the same. */
static inline void mask_times(char *text)
{
	static const char *const names[] = {
		"\"created\":", "\"created_at\":", "\"total_duration\":"};
	for (size_t i = 0; i < COUNT(names); i++) {
		for (char *at = text; (at = strstr(at, names[i]));) {
			char *end = at += strlen(names[i]);
			if (*end == '"')
				end = strchr(end + 1, '"') + 1;
			else
				end += strspn(end, "0123456789");
			*at++ = '0';
			memmove(at, end, strlen(end) + 1);
		}
	}
}

static inline enum dialect dialect_named(struct json_value name)
{
	for (enum dialect d = 0; d < DIALECTS; d++)
		if (dialect_is_chat(d) && json_string_is(name, dialect_name(d)))
			return d;
	fail_msg("no dialect %.*s", (int)name.raw.n, name.raw.p);
	return DIALECTS;
}

/* Whether all is as the tables have it; else what it is goes to the file, for a person to look at the
 * difference: TANDEM_VECTORS=write. */
static inline bool vectors_are_written(void)
{
	const char *said = getenv("TANDEM_VECTORS");
	return said && strcmp(said, "write") == 0;
}

static inline void vectors_write(const char *name, struct buf *text)
{
	char path[256];
	snprintf(path, sizeof(path), VECTOR_DIR "%s", name);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(text->p, 1, text->n, f), text->n);
	fclose(f);
}

#endif
