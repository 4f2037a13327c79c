#include "tests/fake/http.h"
#include "tests/fake/http_conn.h"
#include "tests/fake/mem.h"

#include <errno.h>

#define READ_BYTES (256u << 10)

static void conn_parse_held(struct http_conn *c);

static void on_closed(uv_handle_t *handle)
{
	struct http_conn *c = handle->data;

	c->server->connections--;
	buf_free(&c->in);
	buf_free(&c->out);
	buf_free(&c->flying);
	free(c);
}

void exchange_over(struct http_exchange *x, enum http_end end)
{
	clock_cancel(x->server->clock, &x->pace);
	x->server->handler->close(x, end, x->server->arg);
	free(x->head);
	free(x);
}

static void exchange_close(struct http_conn *c, enum http_end end)
{
	struct http_exchange *x = c->x;

	c->x = NULL;
	exchange_over(x, end);
}

/* Its client is gone, and it goes on. */
static void exchange_detach(struct http_conn *c)
{
	struct http_exchange *x = c->x;

	c->x = NULL;
	x->conn = NULL;
	clock_cancel(x->server->clock, &x->pace);
	x->server->handler->drained(x, x->server->arg); /* nothing holds it back any more */
}

void conn_close(struct http_conn *c, enum http_end end, bool reset)
{
	if (c->closing)
		return;
	c->closing = true;
	if (c->x && end == HTTP_GONE && c->x->tee && !c->x->ended)
		exchange_detach(c);
	else if (c->x)
		exchange_close(c, end);
	if (!reset || uv_tcp_close_reset(&c->tcp, on_closed) < 0)
		uv_close((uv_handle_t *)&c->tcp, on_closed);
}

void conn_finish(struct http_conn *c)
{
	struct http_exchange *x = c->x;
	bool again = x->keep_alive && !x->cut && !x->misdeed.close_silently;

	if (!again) {
		conn_close(c, x->cut ? HTTP_CUT : HTTP_DONE, false);
		return;
	}
	exchange_close(c, HTTP_DONE);
	c->state = READ_HEAD;
	conn_parse_held(c);
}

static void refuse(struct http_conn *c, const char *status_line)
{
	c->broken = true;
	buf_printf(&c->out, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		status_line);
	if (c->x) {
		c->x->ended = c->x->cut = true;
		conn_flush(c);
	} else {
		conn_flush(c);
		conn_close(c, HTTP_CUT, false);
	}
}

static struct slice take_until(struct slice *s, char stop)
{
	const char *end = memchr(s->p, stop, s->n);
	struct slice part = {s->p, end ? (size_t)(end - s->p) : s->n};
	size_t used = end ? part.n + 1 : part.n;

	s->p += used;
	s->n -= used;
	return part;
}

static struct slice trim(struct slice s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n && strchr(" \t\r", s.p[s.n - 1]))
		s.n--;
	return s;
}

struct slice http_header(const struct http_exchange *x, const char *name)
{
	for (size_t i = 0; i < x->header_count; i++)
		if (slice_ieq(x->headers[i].name, slice_str(name)))
			return x->headers[i].value;
	return (struct slice){"", 0};
}

static bool has_token(struct slice list, const char *token)
{
	while (list.n)
		if (slice_ieq(trim(take_until(&list, ',')), slice_str(token)))
			return true;
	return false;
}

/* Digits in that base, nothing else; false when there are none or too many. */
static bool parse_number(struct slice s, unsigned base, uint64_t *out)
{
	static const char digits[] = "0123456789abcdef";
	uint64_t v = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i] >= 'A' && s.p[i] <= 'F' ? (char)(s.p[i] + 32) : s.p[i];
		const char *d = memchr(digits, c, base);

		if (!d || v > (UINT64_MAX >> 8))
			return false;
		v = v * base + (uint64_t)(d - digits);
	}
	*out = v;
	return s.n > 0;
}

/* Fills x from the head it owns. False: not HTTP/1.x. */
static bool parse_head(struct http_exchange *x, size_t n)
{
	struct slice rest = {x->head, n}, line = trim(take_until(&rest, '\n')), target;

	x->method = take_until(&line, ' ');
	target = take_until(&line, ' ');
	x->path = take_until(&target, '?');
	x->query = target;
	if (!x->method.n || !x->path.n || line.n != 8 || memcmp(line.p, "HTTP/1.", 7) != 0)
		return false;
	x->http10 = line.p[7] == '0';
	x->head_only = slice_eq(x->method, SLICE("HEAD"));
	while (rest.n) {
		struct slice value = trim(take_until(&rest, '\n')), name;

		if (!value.n)
			break;
		name = take_until(&value, ':');
		if (x->header_count == HTTP_MAX_HEADERS)
			return false;
		x->headers[x->header_count++] = (struct http_header){name, trim(value)};
	}
	return true;
}

/* Decides how the body is framed. False: the framing makes no sense. */
static bool start_body(struct http_conn *c)
{
	struct http_exchange *x = c->x;
	struct slice length = http_header(x, "content-length");

	x->keep_alive = x->http10 ? has_token(http_header(x, "connection"), "keep-alive")
				  : !has_token(http_header(x, "connection"), "close");
	c->left = 0;
	c->state = READ_LENGTH;
	if (has_token(http_header(x, "transfer-encoding"), "chunked"))
		c->state = READ_CHUNK_SIZE;
	else if (length.n && !parse_number(length, 10, &c->left))
		return false;
	if ((c->state == READ_CHUNK_SIZE || c->left) &&
		slice_ieq(http_header(x, "expect"), SLICE("100-continue"))) {
		buf_add_str(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
		conn_flush(c);
	}
	return true;
}

/* Each parse step takes from s and returns false when it needs more bytes (or the connection
 * broke). */
static bool read_head(struct http_conn *c, struct slice *s)
{
	const char *end;
	size_t n;

	while (s->n && (*s->p == '\r' || *s->p == '\n'))
		s->p++, s->n--;
	end = memmem(s->p, s->n, "\r\n\r\n", 4);
	if (!end) {
		if (s->n > HTTP_MAX_HEAD)
			refuse(c, "431 Request Header Fields Too Large");
		return false;
	}
	n = (size_t)(end - s->p) + 4;
	c->x = mem_zalloc(sizeof(*c->x));
	c->x->conn = c;
	c->x->server = c->server;
	c->x->head = mem_grow(NULL, n);
	memcpy(c->x->head, s->p, n);
	s->p += n;
	s->n -= n;
	if (!parse_head(c->x, n)) {
		free(c->x->head);
		free(c->x);
		c->x = NULL;
		refuse(c, "400 Bad Request");
		return false;
	}
	c->server->handler->open(c->x, c->server->arg);
	if (!start_body(c)) {
		refuse(c, "400 Bad Request");
		return false;
	}
	return true;
}

static bool read_body(struct http_conn *c, struct slice *s)
{
	struct slice piece = {s->p, s->n < c->left ? s->n : (size_t)c->left};

	if (piece.n) {
		c->x->body_bytes += piece.n;
		c->server->handler->body(c->x, piece, c->server->arg);
	}
	s->p += piece.n;
	s->n -= piece.n;
	c->left -= piece.n;
	return c->left == 0;
}

/* A line of the chunked framing, without its end; false when it is not whole yet. */
static bool read_line(struct http_conn *c, struct slice *s, struct slice *line)
{
	if (!memchr(s->p, '\n', s->n)) {
		if (s->n > 4096)
			refuse(c, "400 Bad Request");
		return false;
	}
	*line = trim(take_until(s, '\n'));
	return true;
}

static bool read_chunked(struct http_conn *c, struct slice *s)
{
	struct slice line;

	if (c->state == READ_CHUNK) {
		if (!read_body(c, s))
			return false;
		c->state = READ_CHUNK_END;
		return true;
	}
	if (!read_line(c, s, &line))
		return false;
	if (c->state == READ_CHUNK_END) {
		c->state = READ_CHUNK_SIZE;
		return true;
	}
	if (c->state == READ_TRAILER) {
		if (!line.n)
			c->state = REPLY;
		return true;
	}
	if (!parse_number(trim(take_until(&line, ';')), 16, &c->left)) {
		refuse(c, "400 Bad Request");
		return false;
	}
	c->state = c->left ? READ_CHUNK : READ_TRAILER;
	return true;
}

/* Goes as far as the bytes allow; returns how many it used. */
static size_t conn_parse(struct http_conn *c, struct slice s)
{
	const char *start = s.p;
	bool more = true;

	c->parsing = true;
	while (more && !c->closing && !c->broken && c->state != REPLY) {
		if (c->state == READ_HEAD)
			more = s.n && read_head(c, &s);
		else if (c->state != READ_LENGTH)
			more = read_chunked(c, &s);
		else if ((more = read_body(c, &s)))
			c->state = REPLY;
		if (more && !c->closing && c->state == REPLY)
			c->server->handler->ready(c->x, c->server->arg);
	}
	c->parsing = false;
	return (size_t)(s.p - start);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct http_conn *c = handle->data;

	(void)suggested;
	*buf = uv_buf_init(c->server->scratch, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct http_conn *c = stream->data;
	size_t used = 0;

	if (n < 0) {
		conn_close(c, HTTP_GONE, false);
		return;
	}
	if (c->dead)
		return;
	if (!c->in.n)
		used = conn_parse(c, (struct slice){buf->base, (size_t)n});
	if (c->closing)
		return;
	buf_add(&c->in, buf->base + used, (size_t)n - used);
	if (used == 0)
		conn_parse_held(c);
	if (!c->closing && c->state == REPLY && c->in.n > HTTP_MAX_PIPELINED) {
		c->paused = true;
		uv_read_stop(stream);
	}
}

static void conn_parse_held(struct http_conn *c)
{
	if (c->parsing || c->closing)
		return;
	buf_drop(&c->in, conn_parse(c, buf_slice(&c->in)));
	if (!c->closing && c->paused && c->in.n <= HTTP_MAX_PIPELINED)
		conn_read(c);
}

void conn_read(struct http_conn *c)
{
	c->paused = false;
	uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct http_server *s = listener->data;
	struct http_conn *c;

	if (status < 0)
		return;
	c = mem_zalloc(sizeof(*c));
	c->server = s;
	c->tcp.data = c;
	buf_init(&c->in, HTTP_MAX_HEAD + HTTP_MAX_PIPELINED + READ_BYTES);
	buf_init(&c->out, HTTP_MAX_PENDING);
	buf_init(&c->flying, HTTP_MAX_PENDING);
	s->connections++;
	uv_tcp_init(listener->loop, &c->tcp);
	if (uv_accept(listener, (uv_stream_t *)&c->tcp) < 0) {
		uv_close((uv_handle_t *)&c->tcp, on_closed);
		return;
	}
	uv_tcp_nodelay(&c->tcp, 1);
	conn_read(c);
}

int http_listen(struct http_server *s, uv_loop_t *loop, const char *host, int port)
{
	struct sockaddr_storage addr;
	int len = sizeof(addr), err;

	s->listener.data = s;
	s->scratch = mem_grow(NULL, READ_BYTES);
	err = uv_tcp_init(loop, &s->listener);
	if (!err)
		err = uv_ip4_addr(host, port, (struct sockaddr_in *)&addr);
	if (!err)
		err = uv_tcp_bind(&s->listener, (struct sockaddr *)&addr, 0);
	if (!err)
		err = uv_listen((uv_stream_t *)&s->listener, 4096, on_connection);
	if (!err)
		err = uv_tcp_getsockname(&s->listener, (struct sockaddr *)&addr, &len);
	if (!err)
		s->port = ntohs(((struct sockaddr_in *)&addr)->sin_port);
	return err;
}
