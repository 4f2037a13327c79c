#include "supervisor/life/talk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct talk {
	uv_pipe_t pipe;
	const struct talk_events *events;
	void *ctx;
	bool closing;
	char in[TALK_LINE_BYTES];
	size_t n;
};

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	struct talk *t = h->data;
	(void)hint;
	*b = uv_buf_init(t->in + t->n, (unsigned)(sizeof(t->in) - t->n));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct talk *t = s->data;
	char *end;
	(void)b;
	if (n < 0) { /* gone, or (UV_ENOBUFS) a line without an end */
		uv_read_stop(s);
		t->events->end(t->ctx);
		return;
	}
	t->n += (size_t)n;
	while (!t->closing && (end = memchr(t->in, '\n', t->n))) {
		char line[TALK_LINE_BYTES];
		size_t length = (size_t)(end - t->in);
		memcpy(line, t->in, length);
		line[length] = '\0';
		t->n -= length + 1;
		memmove(t->in, end + 1, t->n);
		t->events->line(t->ctx, line);
	}
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

int talk_open(uv_loop_t *loop, int fd, const struct talk_events *e, void *ctx, struct talk **out)
{
	struct talk *t = calloc(1, sizeof(*t));
	if (!t) {
		close(fd);
		return -ENOMEM;
	}
	t->events = e;
	t->ctx = ctx;
	uv_pipe_init(loop, &t->pipe, 0);
	t->pipe.data = t;
	int rc = uv_pipe_open(&t->pipe, fd);
	if (rc)
		close(fd);
	else
		rc = uv_read_start((uv_stream_t *)&t->pipe, on_alloc, on_read);
	if (rc) {
		talk_close(t);
		return rc;
	}
	*out = t;
	return 0;
}

void talk_say(struct talk *t, const char *format, ...)
{
	char line[TALK_LINE_BYTES];
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(line, sizeof(line) - 1, format, ap);
	va_end(ap);
	if (n < 0 || t->closing)
		return;
	size_t length = (size_t)n < sizeof(line) - 2 ? (size_t)n : sizeof(line) - 2;
	for (size_t i = 0; i < length; i++)
		if (line[i] == '\n')
			line[i] = ';';
	line[length] = '\n';
	uv_buf_t b = uv_buf_init(line, (unsigned)length + 1);
	/* A few short lines are said in all: there is room, or nobody hears them. */
	uv_try_write((uv_stream_t *)&t->pipe, &b, 1);
}

void talk_close(struct talk *t)
{
	if (!t || t->closing)
		return;
	t->closing = true;
	uv_close((uv_handle_t *)&t->pipe, on_closed);
}
