#include "tests/fake/digits.h"
#include "tests/fake/http_conn.h"
#include "tests/fake/mem.h"

#include <stdio.h>
#include <time.h>

static const char *reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 201:
		return "Created";
	case 204:
		return "No Content";
	case 301:
		return "Moved Permanently";
	case 307:
		return "Temporary Redirect";
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 413:
		return "Payload Too Large";
	case 429:
		return "Too Many Requests";
	case 500:
		return "Internal Server Error";
	case 501:
		return "Not Implemented";
	case 503:
		return "Service Unavailable";
	default:
		return "Status";
	}
}

static const char *http_date(void)
{
	static char text[40];
	static time_t at;
	time_t now = time(NULL);

	if (now != at) {
		struct tm tm;

		gmtime_r(&now, &tm);
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		at = now;
	}
	return text;
}

static void put_padded(struct buf *out, const char *name, const char *value, size_t bytes)
{
	size_t n = strlen(value);

	buf_printf(out, "%s: %s", name, value);
	if (n + 3 < bytes)
		buf_add_str(out, ";x=");
	for (n += 3; n < bytes; n++)
		buf_add_char(out, 'x');
	buf_add_str(out, "\r\n");
}

void http_begin(struct http_exchange *x, int status, const char *ctype, int64_t length)
{
	struct buf *out;

	x->status = status;
	if (!x->conn)
		return;
	out = &x->conn->out;
	x->chunked = length < 0 && !x->http10;
	if (length < 0 && x->http10)
		x->keep_alive = false;
	if (x->misdeed.ctype)
		ctype = x->misdeed.ctype;
	buf_printf(out, "HTTP/1.1 %d %s\r\n", status, reason(status));
	buf_add_str(out, x->conn->server->headers);
	if (ctype)
		put_padded(out, "Content-Type", ctype, x->misdeed.type_bytes);
	if (x->misdeed.header_bytes)
		put_padded(out, "X-Long", "x", x->misdeed.header_bytes);
	if (x->misdeed.retry_after)
		buf_printf(out, "Retry-After: %s\r\n", x->misdeed.retry_after);
	if (x->location)
		buf_printf(out, "Location: %s\r\n", x->location);
	buf_printf(out, "Date: %s\r\n", http_date());
	if (length >= 0)
		buf_printf(out, "Content-Length: %lld\r\n", (long long)length);
	else if (x->chunked)
		buf_add_str(out, "Transfer-Encoding: chunked\r\n");
	buf_add_str(out, x->keep_alive ? "\r\n" : "Connection: close\r\n\r\n");
}

static void add_piece(struct http_exchange *x, struct slice data)
{
	struct buf *out = &x->conn->out;

	if (x->chunked) {
		char room[DIGITS_BYTES];

		buf_reserve(out, data.n + DIGITS_BYTES + 4);
		buf_add_slice(out, digits(room, data.n, 16, 1));
		buf_add(out, "\r\n", 2);
		buf_add_slice(out, data);
		buf_add(out, "\r\n", 2);
	} else {
		buf_add_slice(out, data);
	}
	x->reply_bytes += data.n;
}

void http_data(struct http_exchange *x, struct slice data)
{
	size_t step = x->misdeed.chunk_bytes;

	if (x->head_only || !data.n)
		return;
	if (x->tee)
		x->tee(x, data);
	if (!x->conn) {
		x->reply_bytes += data.n;
		return;
	}
	if (!step) {
		add_piece(x, data);
		return;
	}
	while (data.n) {
		struct slice piece = {data.p, data.n < step ? data.n : step};

		add_piece(x, piece);
		conn_flush(x->conn);
		data.p += piece.n;
		data.n -= piece.n;
	}
}

void http_raw(struct http_exchange *x, struct slice bytes)
{
	if (x->conn)
		buf_add_slice(&x->conn->out, bytes);
}

void http_flush(struct http_exchange *x)
{
	if (x->conn)
		conn_flush(x->conn);
}

void http_end(struct http_exchange *x)
{
	x->ended = true;
	if (!x->conn) {
		exchange_over(x, HTTP_DONE);
		return;
	}
	if (x->chunked && !x->head_only)
		buf_add_str(&x->conn->out, "0\r\n\r\n");
	conn_flush(x->conn);
}

void http_reply(struct http_exchange *x, int status, const char *ctype, struct slice body)
{
	http_begin(x, status, ctype, (int64_t)body.n);
	http_data(x, body);
	http_end(x);
}

void http_cut(struct http_exchange *x)
{
	x->ended = x->cut = true;
	if (!x->conn)
		exchange_over(x, HTTP_CUT);
	else
		conn_flush(x->conn);
}

void http_reset(struct http_exchange *x)
{
	if (!x->conn)
		exchange_over(x, HTTP_CUT);
	else
		conn_close(x->conn, HTTP_CUT, true);
}

size_t http_backlog(const struct http_exchange *x)
{
	return x->conn ? x->conn->out.n + x->conn->flying.n : 0;
}

static void on_written(uv_write_t *req, int status)
{
	struct http_conn *c = req->data;

	buf_clear(&c->flying);
	if (c->closing)
		return;
	if (status < 0) {
		conn_close(c, HTTP_GONE, false);
		return;
	}
	conn_flush(c);
	if (!c->closing && c->x && !c->x->ended && !c->out.n && !c->flying.n)
		c->server->handler->drained(c->x, c->server->arg);
}

static void on_pace(struct clock_task *task)
{
	struct http_exchange *x =
		(struct http_exchange *)((char *)task - offsetof(struct http_exchange, pace));

	conn_flush(x->conn);
}

/* How many pending bytes may leave now; arms the wait for the rest when the reply is a slow one. */
static size_t allowance(struct http_conn *c)
{
	struct http_exchange *x = c->x;
	size_t n = c->out.n, pause_ms;

	if (!x || !n || !x->status)
		return n;
	if (x->pace.armed)
		return 0;
	if (x->misdeed.drip_ms) {
		n = 1;
		pause_ms = x->misdeed.drip_ms;
	} else if (x->misdeed.head_ms && !x->head_held) {
		const char *eol = memchr(c->out.p, '\n', n);

		x->head_held = true;
		n = eol ? (size_t)(eol - c->out.p) + 1 : n;
		pause_ms = x->misdeed.head_ms;
	} else {
		return n;
	}
	x->pace.run = on_pace;
	clock_at(c->server->clock, &x->pace, clock_now() + pause_ms * MS_NS);
	return n;
}

/*
 * The socket takes no more. Producers in the middle of a reply must not lose the exchange under
 * their feet, so it is the reading side that closes: after the shutdown it sees the end of file.
 */
static void conn_die(struct http_conn *c)
{
	uv_os_fd_t fd;

	c->dead = true;
	buf_clear(&c->out);
	if (c->x && c->x->ended)
		conn_close(c, HTTP_GONE, false);
	else if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0) {
		shutdown(fd, SHUT_RDWR);
		conn_read(c);
	}
}

void conn_flush(struct http_conn *c)
{
	uv_stream_t *stream = (uv_stream_t *)&c->tcp;
	size_t n;

	if (c->closing || c->flying.n)
		return;
	if (c->dead || buf_error(&c->out)) {
		conn_die(c);
		return;
	}
	n = allowance(c);
	if (n) {
		uv_buf_t part = uv_buf_init(c->out.p, (unsigned)n);
		int sent = uv_try_write(stream, &part, 1);

		if (sent < 0 && sent != UV_EAGAIN) {
			conn_die(c);
			return;
		}
		if (sent == (int)c->out.n)
			buf_clear(&c->out);
		else
			buf_drop(&c->out, sent > 0 ? (size_t)sent : 0);
		if (sent < (int)n && !(c->x && c->x->misdeed.drip_ms)) {
			/* The socket is full: libuv takes the whole rest. */
			struct buf t = c->flying;

			c->flying = c->out;
			c->out = t;
			c->write.data = c;
			part = uv_buf_init(c->flying.p, (unsigned)c->flying.n);
			if (uv_write(&c->write, stream, &part, 1, on_written) < 0)
				conn_die(c);
			return;
		}
	}
	if (c->x && c->x->ended && !c->out.n)
		conn_finish(c);
}
