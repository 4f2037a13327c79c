#include "common/base/buf.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_FIRST_BYTES 256

static char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool slice_ieq(struct slice a, struct slice b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++) /* not strncasecmp(), which stops at a NUL byte */
		if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
			return false;
	return true;
}

bool slice_lists(struct slice list, struct slice name)
{
	while (list.n) {
		const char *comma = memchr(list.p, ',', list.n);
		struct slice item = {list.p, comma ? (size_t)(comma - list.p) : list.n};
		size_t past = item.n + (comma != NULL);
		list = (struct slice){list.p + past, list.n - past};
		while (item.n && (item.p[0] == ' ' || item.p[0] == '\t'))
			item = (struct slice){item.p + 1, item.n - 1};
		while (item.n && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t'))
			item.n--;
		if (slice_ieq(item, name))
			return true;
	}
	return false;
}

char *slice_dup(struct slice s)
{
	char *copy = malloc(s.n + 1);
	if (!copy)
		return NULL;
	if (s.n)
		memcpy(copy, s.p, s.n);
	copy[s.n] = '\0';
	return copy;
}

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max};
}

void buf_free(struct buf *b)
{
	free(b->p);
	buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
	b->n = 0;
	b->error = 0;
}

int buf_reserve(struct buf *b, size_t extra)
{
	if (b->error)
		return b->error;
	if (extra > SIZE_MAX / 2 - b->n || (b->max && b->n + extra > b->max))
		return b->error = -E2BIG;
	size_t need = b->n + extra;
	if (need <= b->cap)
		return 0;
	size_t cap = b->cap ? b->cap : BUF_FIRST_BYTES;
	while (cap < need)
		cap *= 2;
	if (b->max && cap > b->max)
		cap = need > b->max ? need
				    : b->max; /* need is one more for a NUL that is not kept */
	char *p = realloc(b->p, cap);
	if (!p)
		return b->error = -ENOMEM;
	b->p = p;
	b->cap = cap;
	return 0;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
	int rc = buf_reserve(b, n);
	if (rc || n == 0)
		return rc;
	memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

int buf_add_slice(struct buf *b, struct slice s)
{
	return buf_add(b, s.p, s.n);
}

int buf_add_str(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int buf_add_char(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len < 0)
		return b->error = b->error ? b->error : -EINVAL;
	size_t max = b->max;
	if (max)
		b->max = max + 1; /* vsnprintf needs room for a NUL that is not kept */
	int rc = buf_reserve(b, (size_t)len + 1);
	b->max = max;
	if (rc)
		return rc;
	va_start(ap, fmt);
	vsnprintf(b->p + b->n, (size_t)len + 1, fmt, ap);
	va_end(ap);
	b->n += (size_t)len;
	return 0;
}

void buf_drop(struct buf *b, size_t n)
{
	if (n >= b->n) {
		b->n = 0;
		return;
	}
	memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}

const char *buf_cstr(struct buf *b)
{
	size_t max = b->max;
	if (max)
		b->max = max + 1;
	int rc = buf_reserve(b, 1);
	b->max = max;
	if (rc)
		return "";
	b->p[b->n] = '\0';
	return b->p;
}
