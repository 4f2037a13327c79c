#include "tests/bench/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void reply_init(struct reply *r)
{
	memset(r, 0, offsetof(struct reply, line));
}

static uint64_t count_lines(const char *data, size_t n)
{
	uint64_t lines = 0;

	for (const char *end = data + n; (data = memchr(data, '\n', (size_t)(end - data))); data++)
		lines++;
	return lines;
}

static const char *header_value(const char *line, const char *name)
{
	size_t n = strlen(name);

	if (strncasecmp(line, name, n) || line[n] != ':')
		return NULL;
	line += n + 1;
	return line + strspn(line, " \t");
}

static int status_line(struct reply *r)
{
	if (strncmp(r->line, "HTTP/1.", 7) || strlen(r->line) < 12)
		return -EPROTO;
	r->status = atoi(r->line + 9);
	r->closes = r->line[7] == '0';
	r->until_close = true;
	r->state = REPLY_HEADERS;
	return r->status >= 100 && r->status < 600 ? 0 : -EPROTO;
}

static void headers_end(struct reply *r)
{
	if (r->status < 200) /* interim: the real one follows */
		r->state = REPLY_STATUS;
	else if (r->status == 204 || r->status == 304)
		r->state = REPLY_DONE;
	else if (r->chunked)
		r->state = REPLY_CHUNK_SIZE;
	else
		r->state = r->until_close || r->left ? REPLY_BODY : REPLY_DONE;
}

static void header_line(struct reply *r)
{
	const char *v;

	if (r->line_len == 0) {
		headers_end(r);
	} else if ((v = header_value(r->line, "Content-Length"))) {
		r->left = strtoull(v, NULL, 10);
		r->until_close = false;
	} else if ((v = header_value(r->line, "Transfer-Encoding"))) {
		r->chunked = strcasecmp(v, "chunked") == 0;
		r->until_close = !r->chunked;
	} else if ((v = header_value(r->line, "Connection"))) {
		r->closes = strcasecmp(v, "close") == 0;
	}
}

static int chunk_size(struct reply *r)
{
	char *end;

	r->left = strtoull(r->line, &end, 16);
	if (end == r->line)
		return -EPROTO;
	r->state = r->left ? REPLY_CHUNK_DATA : REPLY_TRAILERS;
	return 0;
}

/* One whole line, without its end, stands in r->line. */
static int take_line(struct reply *r)
{
	switch (r->state) {
	case REPLY_STATUS:
		return status_line(r);
	case REPLY_HEADERS:
		header_line(r);
		return 0;
	case REPLY_CHUNK_SIZE:
		return chunk_size(r);
	case REPLY_CHUNK_END:
		r->state = REPLY_CHUNK_SIZE;
		return r->line_len ? -EPROTO : 0;
	default: /* trailers */
		if (r->line_len == 0)
			r->state = REPLY_DONE;
		return 0;
	}
}

/* Collects a line; of one longer than REPLY_LINE_MAX the rest is dropped. */
static long feed_line(struct reply *r, const char *data, size_t n)
{
	const char *lf = memchr(data, '\n', n);
	size_t used = lf ? (size_t)(lf - data) + 1 : n;
	size_t room = REPLY_LINE_MAX - 1 - r->line_len;
	size_t text = lf ? used - 1 : used;
	int rc;

	memcpy(r->line + r->line_len, data, text < room ? text : room);
	r->line_len += text < room ? text : room;
	if (!lf)
		return (long)used;
	if (r->line_len && r->line[r->line_len - 1] == '\r')
		r->line_len--;
	r->line[r->line_len] = '\0';
	rc = take_line(r);
	r->line_len = 0;
	return rc ? rc : (long)used;
}

static size_t feed_body(struct reply *r, const char *data, size_t n)
{
	size_t used = r->state == REPLY_BODY && r->until_close ? n : r->left < n ? r->left : n;

	r->bytes += used;
	r->lines += count_lines(data, used);
	if (r->state == REPLY_BODY && r->until_close)
		return used;
	r->left -= used;
	if (r->left == 0)
		r->state = r->state == REPLY_BODY ? REPLY_DONE : REPLY_CHUNK_END;
	return used;
}

long reply_feed(struct reply *r, const char *data, size_t n)
{
	size_t at = 0;

	while (at < n && r->state != REPLY_DONE) {
		if (r->state == REPLY_BODY || r->state == REPLY_CHUNK_DATA) {
			at += feed_body(r, data + at, n - at);
		} else {
			long used = feed_line(r, data + at, n - at);

			if (used < 0)
				return used;
			at += (size_t)used;
		}
	}
	return (long)at;
}

int reply_eof(struct reply *r)
{
	if (r->state == REPLY_BODY && r->until_close)
		r->state = REPLY_DONE;
	return r->state == REPLY_DONE ? 0 : -EPROTO;
}
