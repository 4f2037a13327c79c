/*
 * The C side of differential_json.py.
 *
 * Without arguments it answers on stdin and stdout: a document comes as its length (4 bytes,
 * little-endian) and its bytes; the answer is one byte, 1 or 0 for accepted or not, and when
 * accepted the document rebuilt through cursors, decoder and appenders, with a length before it.
 * With files as arguments it prints how long parsing and slicing take.
 */
#include "common/base/json.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DOCUMENT_MAX (64u << 20)

/* Recursion is bounded by the depth that json_parse() let through. */
static void rebuild(struct json_value v, struct buf *out)
{
	struct json_iter it = json_iter(v);
	struct json_value key, element;
	struct buf text;
	bool first = true;

	switch (v.type) {
	case JSON_STRING:
		buf_init(&text, 0);
		json_string_decode(v, &text);
		json_put_string(out, buf_slice(&text));
		buf_free(&text);
		break;
	case JSON_ARRAY:
		buf_add_char(out, '[');
		for (; json_array_next(&it, &element); first = false) {
			if (!first)
				buf_add_char(out, ',');
			rebuild(element, out);
		}
		buf_add_char(out, ']');
		break;
	case JSON_OBJECT:
		buf_add_char(out, '{');
		for (; json_object_next(&it, &key, &element); first = false) {
			if (!first)
				buf_add_char(out, ',');
			rebuild(key, out);
			buf_add_char(out, ':');
			rebuild(element, out);
		}
		buf_add_char(out, '}');
		break;
	default:
		buf_add_slice(out, v.raw);
	}
}

static int serve(void)
{
	uint32_t size;
	struct buf out;
	buf_init(&out, 0);
	while (fread(&size, sizeof(size), 1, stdin) == 1) {
		size = le32toh(size);
		char *text = size <= DOCUMENT_MAX ? malloc(size ? size : 1)
						  : NULL; /* a tight block each */
		if (!text || fread(text, 1, size, stdin) != size)
			return 1;
		struct json_value root;
		int rc = json_parse((struct slice){text, size}, JSON_MAX_DEPTH, &root, NULL);
		putchar(rc == 0);
		if (rc == 0) {
			buf_clear(&out);
			rebuild(root, &out);
			if (buf_error(&out))
				return 1;
			uint32_t n = htole32((uint32_t)out.n);
			fwrite(&n, sizeof(n), 1, stdout);
			fwrite(out.p, 1, out.n, stdout);
		}
		free(text);
		fflush(stdout);
	}
	buf_free(&out);
	return 0;
}

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int measure(const char *path)
{
	struct buf text, content;
	buf_init(&text, DOCUMENT_MAX);
	buf_init(&content, 0);
	FILE *f = fopen(path, "rb");
	if (!f || buf_reserve(&text, DOCUMENT_MAX) || buf_reserve(&content, DOCUMENT_MAX)) {
		perror(path);
		return 1;
	}
	text.n = fread(text.p, 1, DOCUMENT_MAX, f);
	fclose(f);

	double parse = 1e9, slice = 1e9, decode = 1e9, quote = 1e9;
	size_t messages = 0;
	for (int round = 0; round < 15; round++) {
		struct json_value root, message;
		struct json_error err;
		double start = now_ms();
		if (json_parse(buf_slice(&text), JSON_MAX_DEPTH, &root, &err)) {
			fprintf(stderr, "%s: byte %zu: %s\n", path, err.offset, err.what);
			return 1;
		}
		double t = now_ms();
		parse = t - start < parse ? t - start : parse;

		start = t;
		messages = 0;
		struct json_iter it = json_iter(json_get(root, "messages"));
		for (; json_array_next(&it, &message); messages++)
			json_get(message, "role");
		t = now_ms();
		slice = t - start < slice ? t - start : slice;

		start = t;
		buf_clear(&content);
		it = json_iter(json_get(root, "messages"));
		while (json_array_next(&it, &message))
			json_string_decode(json_get(message, "content"), &content);
		t = now_ms();
		decode = t - start < decode ? t - start : decode;

		struct buf json;
		buf_init(&json, 0);
		buf_reserve(&json, 2 * content.n + 2);
		start = now_ms();
		json_put_string(&json, buf_slice(&content));
		t = now_ms();
		quote = t - start < quote ? t - start : quote;
		buf_free(&json);
	}
	printf("%-28s %9zu bytes %6zu messages: parse %7.3f ms, slice %7.3f, slice + decode %7.3f, "
	       "quote %7.3f\n",
		path, text.n, messages, parse, slice, decode, quote);
	buf_free(&text);
	buf_free(&content);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 1)
		return serve();
	for (int i = 1; i < argc; i++)
		if (measure(argv[i]))
			return 1;
	return 0;
}
