/*
 * Byte slices and growing byte buffers.
 *
 * A slice borrows bytes that somebody else owns; it is never NUL-terminated by promise.
 * A buf owns its bytes and grows up to a named maximum. Its error is sticky: after the first
 * failed append every later append does nothing, so a builder may append a hundred pieces and
 * look at buf_error() once. Nothing here blocks.
 */
#ifndef TANDEM_BUF_H
#define TANDEM_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
	const char *p;
	size_t n; /* bytes */
};

/* A slice over a string literal. */
#define SLICE(lit) ((struct slice){(lit), sizeof(lit) - 1})

/* A slice over a C string; NULL gives an empty slice. */
static inline struct slice slice_str(const char *s)
{
	return (struct slice){s, s ? strlen(s) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ASCII case-insensitive comparison. */
bool slice_ieq(struct slice a, struct slice b);

/* Is the name in a comma-separated list, as of a Connection header? Ignores ASCII case. */
bool slice_lists(struct slice list, struct slice name);

/* A fresh NUL-terminated copy (free() it), or NULL when memory is out. */
char *slice_dup(struct slice s);

struct buf {
	char *p;
	size_t n;   /* bytes in use */
	size_t cap; /* bytes allocated */
	size_t max; /* bytes this buffer may hold; 0 means no limit of its own */
	int error;  /* 0, -ENOMEM or -E2BIG; sticky */
};

/* An empty buffer that may hold max bytes (0: unlimited). Allocates nothing. */
void buf_init(struct buf *b, size_t max);

/* Frees the bytes and leaves an empty buffer with the same maximum and no error. */
void buf_free(struct buf *b);

/* Forgets the contents and the error, keeps the allocation. */
void buf_clear(struct buf *b);

/* Room for extra more bytes. 0, -ENOMEM or -E2BIG (also kept in b->error). */
int buf_reserve(struct buf *b, size_t extra);

/* Each appends and returns 0, -ENOMEM or -E2BIG (also kept in b->error). */
int buf_add(struct buf *b, const void *p, size_t n);
int buf_add_slice(struct buf *b, struct slice s);
int buf_add_str(struct buf *b, const char *s);
int buf_add_char(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Drops n bytes from the front (n may exceed the contents). Linear in what stays. */
void buf_drop(struct buf *b, size_t n);

static inline int buf_error(const struct buf *b)
{
	return b->error;
}

static inline struct slice buf_slice(const struct buf *b)
{
	return (struct slice){b->p, b->n};
}

/* NUL-terminates without counting the NUL; returns the string, "" when nothing is held or
 * on error. */
const char *buf_cstr(struct buf *b);

#endif
