/*
 * What the rest of the supervisor asks of an exchange, and tells it (front.h).
 */
#include "supervisor/front/internal.h"

#include <errno.h>
#include <stdlib.h>

/* --- for the files beside this one --- */

bool exchange_bodyless(const struct exchange *x)
{
	return x->body_bytes == 0 || x->status == MHD_HTTP_NO_CONTENT ||
	       x->status == MHD_HTTP_NOT_MODIFIED || strcmp(x->head->method, "HEAD") == 0;
}

void exchange_resume(struct exchange *x)
{
	if (!x->suspended)
		return;
	x->suspended = false;
	MHD_resume_connection(x->mhd);
	front_wake(x->front);
}

void exchange_report_sent(struct exchange *x, size_t n)
{
	if (x->announced && n > 0)
		x->front->events->sent(x->front->ctx, x, n);
}

/* --- front.h --- */

void exchange_set_context(struct exchange *x, void *context)
{
	x->context = context;
}

void *exchange_context(const struct exchange *x)
{
	return x->context;
}

const char *exchange_method(const struct exchange *x)
{
	return x->head->method;
}

const char *exchange_target(const struct exchange *x)
{
	return x->head->target;
}

struct slice exchange_path(const struct exchange *x)
{
	return (struct slice){x->head->target, strcspn(x->head->target, "?")};
}

const char *exchange_header(const struct exchange *x, const char *name)
{
	return head_value(x->head, name);
}

void exchange_each_header(const struct exchange *x,
	bool (*fn)(void *ctx, const char *name, const char *value), void *ctx)
{
	for (size_t i = 0; i < x->head->count; i++)
		if (!fn(ctx, x->head->fields[i].name, x->head->fields[i].value))
			return;
}

int64_t exchange_body_bytes(const struct exchange *x)
{
	return x->head->body_bytes;
}

const char *exchange_peer(const struct exchange *x)
{
	return x->connection->peer;
}

void exchange_resume_body(struct exchange *x)
{
	x->body_wanted = true;
	if (!x->body_over)
		exchange_resume(x);
}

static bool header_sound(const char *name, struct slice value)
{
	if (!*name || strpbrk(name, " \t\r\n:"))
		return false;
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] == '\r' || value.p[i] == '\n' || value.p[i] == '\0')
			return false;
	return true;
}

int exchange_add_header(struct exchange *x, const char *name, struct slice value)
{
	if (x->header_count == EXCHANGE_HEADERS_MAX || x->queued)
		return -ENOBUFS;
	if (!header_sound(name, value))
		return -EINVAL;
	char *n = strdup(name), *v = slice_dup(value);
	if (!n || !v) {
		free(n);
		free(v);
		return -ENOMEM;
	}
	x->headers[x->header_count++] = (struct answer_header){n, v};
	return 0;
}

int exchange_status(const struct exchange *x)
{
	return x->status;
}

int exchange_head(struct exchange *x, int status, int64_t body_bytes)
{
	if (x->answered)
		return -EALREADY;
	if (x->gone)
		return -EPIPE;
	x->answered = true;
	x->status = status;
	x->body_bytes = body_bytes;
	exchange_resume(x);
	return 0;
}

bool exchange_retract(struct exchange *x)
{
	if (!x->answered || x->queued || x->ended || x->written > 0 || x->gone)
		return false;
	x->answered = false;
	while (x->header_count > 0) {
		struct answer_header *h = &x->headers[--x->header_count];
		free(h->name);
		free(h->value);
	}
	return true;
}

int exchange_write(struct exchange *x, const char *p, size_t n)
{
	if (x->gone || x->ended)
		return -EPIPE;
	if (x->answered && exchange_bodyless(x))
		return 0;
	if (x->answered && x->body_bytes >= 0 && x->written + n > (uint64_t)x->body_bytes)
		return -EMSGSIZE;
	if (exchange_backlog(x) + n > x->front->stream_bytes)
		return -ENOBUFS;
	int rc = buf_add(&x->out, p, n);
	if (rc)
		return rc;
	x->written += n;
	if (x->queued)
		exchange_resume(x);
	return 0;
}

void exchange_end(struct exchange *x)
{
	if (!x->answered) /* there is nothing to complete */
		x->aborted = true;
	x->ended = true;
	exchange_resume(x);
}

void exchange_end_within(struct exchange *x, unsigned ms)
{
	uint64_t at = uv_now(x->front->loop) + ms;
	if (x->cut_ms == 0 || at < x->cut_ms)
		x->cut_ms = at;
	exchange_end(x);
}

void exchange_abort(struct exchange *x)
{
	x->aborted = true;
	x->ended = true;
	exchange_resume(x);
}

int exchange_reply(struct exchange *x, int status, const char *content_type, struct slice body)
{
	int rc = exchange_add_header(x, "Content-Type", slice_str(content_type));
	if (rc == -EINVAL) /* a backend's own, with what no header may hold */
		rc = exchange_add_header(x, "Content-Type", SLICE("application/octet-stream"));
	if (rc == 0)
		rc = buf_add_slice(&x->out, body);
	if (rc) { /* never without an end: the client waits for one */
		exchange_abort(x);
		return rc;
	}
	x->ended = true;
	return exchange_head(x, status, (int64_t)body.n);
}

bool exchange_quiesced(const struct exchange *x)
{
	return x->front->quiesced;
}

size_t exchange_backlog(const struct exchange *x)
{
	return x->out.n - x->out_head;
}
