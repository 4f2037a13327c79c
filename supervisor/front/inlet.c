#include "supervisor/front/inlet.h"

#include "common/base/hex.h"

#include <stdlib.h>

#define KEEP_BYTES 65536 /* allocation kept within a body */

void inlet_init(struct inlet *in, size_t header_bytes, size_t fields_max, struct head_room *room)
{
	*in = (struct inlet){.header_bytes = header_bytes, .fields_max = fields_max, .room = room};
	buf_init(&in->head, 0);
	buf_init(&in->out, 0);
	STAILQ_INIT(&in->heads);
}

static void drop_head(struct inlet *in)
{
	if (in->room)
		in->room->used -= in->counted;
	in->counted = 0;
	buf_free(&in->head);
}

void inlet_fini(struct inlet *in)
{
	struct head *h;
	while ((h = inlet_next_head(in)) != NULL) {
		head_fini(h);
		free(h);
	}
	drop_head(in);
	buf_free(&in->out);
}

static void refuse(struct inlet *in, int status, const char *text)
{
	in->fault = (struct head_fault){status, text};
	in->in_body = in->state != INLET_HEAD;
	in->state = INLET_REFUSED;
	drop_head(in);
}

/* --- heads --- */

/* What libmicrohttpd gets to see of a head. */
static void announce(struct inlet *in, const struct head *h)
{
	struct buf *out = &in->out;
	buf_printf(out, "%s / HTTP/1.%c\r\n", h->method, h->old_http ? '0' : '1');
	if (h->body_bytes < 0)
		buf_add_str(out, "Transfer-Encoding: chunked\r\n");
	else if (h->body_bytes > 0)
		buf_printf(out, "Content-Length: %lld\r\n", (long long)h->body_bytes);
	if (h->close)
		buf_add_str(out, "Connection: close\r\n");
	else if (h->keep && h->old_http)
		buf_add_str(out, "Connection: Keep-Alive\r\n");
	if (h->expects_continue && !h->old_http && h->body_bytes != 0)
		buf_add_str(out, "Expect: 100-continue\r\n");
	buf_add_str(out, "\r\n");
}

static void end_head(struct inlet *in)
{
	struct head *h = calloc(1, sizeof(*h));
	if (!h || !*buf_cstr(&in->head)) {
		free(h);
		refuse(in, 503, "out of memory");
		return;
	}
	struct head_fault fault;
	head_parse(in->head.p, in->head.n, in->fields_max, h, &fault);
	if (fault.status) {
		free(h);
		refuse(in, fault.status, fault.text);
		return;
	}
	buf_init(&in->head, 0); /* the bytes are the head's now */
	h->room = in->room;
	h->counted = in->counted;
	in->counted = 0;
	in->scan = (struct head_scan){0};
	announce(in, h);
	STAILQ_INSERT_TAIL(&in->heads, h, link);
	in->left = h->body_bytes > 0 ? (uint64_t)h->body_bytes : 0;
	in->line_n = in->trailer_n = 0;
	if (h->body_bytes < 0)
		in->state = INLET_CHUNK_LINE;
	else if (h->body_bytes > 0)
		in->state = INLET_BODY;
}

static void refuse_long(struct inlet *in)
{
	if (in->scan.lines == 0)
		refuse(in, 414, "a request line of more than limits.header_bytes");
	else
		refuse(in, 431, "request line and headers of more than limits.header_bytes");
}

/* Takes room for a large head. False: there is none, and it is refused. */
static bool count_head(struct inlet *in)
{
	struct head_room *room = in->room;
	size_t more = in->head.n - in->counted;
	if (!room || in->head.n <= HEAD_SMALL_BYTES)
		return true;
	if (more > room->max || room->used > room->max - more) {
		refuse(in, 503,
			"too many large heads at once; limits.header_total_bytes is reached");
		return false;
	}
	room->used += more;
	in->counted = in->head.n;
	return true;
}

/* Returns how many bytes were of the head. A head that is all here is looked at where it lies, so
 * that of many in a row none is copied more than once. */
static size_t push_head(struct inlet *in, const char *p, size_t n)
{
	size_t before = in->head.n;
	size_t room = in->header_bytes - before, some = n < room ? n : room;
	struct head_fault fault = {0};
	if (before > 0 && buf_add(&in->head, p, some)) {
		refuse(in, 503, "out of memory");
		return n;
	}
	bool end = head_scan(&in->scan, before ? in->head.p : p, before + some, &fault);
	if (fault.status) {
		refuse(in, fault.status, fault.text);
		return n;
	}
	size_t used = end ? in->scan.at - before : some;
	if (before > 0)
		in->head.n = before + used;
	else if (buf_add(&in->head, p, used)) {
		refuse(in, 503, "out of memory");
		return n;
	}
	if (!count_head(in))
		return used;
	if (end)
		end_head(in);
	else if (in->head.n == in->header_bytes)
		refuse_long(in);
	return used;
}

/* --- chunks (RFC 9112, 7.1) --- */

/* A line of a chunk or trailer, byte by byte; true when it is complete (in line[0..line_n), CRLF
 * cut off). */
static bool push_line(struct inlet *in, char c)
{
	bool cr = in->line_n > 0 && in->line[in->line_n - 1] == '\r';
	if (c == '\n' && cr) {
		in->line_n--;
		return true;
	}
	if (cr || c == '\n' || (c != '\r' && c != '\t' && (unsigned char)c < 0x20) || c == 0x7f)
		refuse(in, 400, "a chunk whose framing is broken");
	else if (in->line_n == sizeof(in->line))
		refuse(in, 400, "a line of a chunk of more than 256 bytes");
	else
		in->line[in->line_n++] = c;
	return false;
}

static void end_chunk_line(struct inlet *in)
{
	uint64_t size = 0;
	size_t i = 0, n = in->line_n;
	for (int d; i < n && (d = hex_digit(in->line[i])) >= 0; i++) {
		if (size >> 59) {
			refuse(in, 413, "a chunk beyond all measure");
			return;
		}
		size = size << 4 | (unsigned)d;
	}
	size_t digits = i;
	while (i < n && (in->line[i] == ' ' || in->line[i] == '\t'))
		i++;
	if (digits == 0 || (i < n ? in->line[i] != ';' : i != digits)) {
		refuse(in, 400, "a chunk whose size is no number");
		return;
	}
	in->line_n = 0;
	in->left = size;
	in->state = size ? INLET_CHUNK_DATA : INLET_TRAILER;
	if (size)
		buf_printf(&in->out, "%llx\r\n", (unsigned long long)size);
}

static void end_trailer_line(struct inlet *in)
{
	size_t n = in->line_n;
	in->trailer_n += n + 2;
	in->line_n = 0;
	if (n == 0) {
		buf_add_str(&in->out, "0\r\n\r\n");
		in->state = INLET_HEAD;
	} else if (in->trailer_n > INLET_TRAILER_BYTES) {
		refuse(in, 431, "trailers of more than 8192 bytes");
	} else if (!memchr(in->line, ':', n) || in->line[0] == ' ' || in->line[0] == '\t') {
		refuse(in, 400, "a trailer that is none");
	}
}

static size_t push_line_bytes(struct inlet *in, const char *p, size_t n)
{
	enum inlet_state state = in->state;
	size_t i = 0;
	while (i < n && in->state == state) {
		if (!push_line(in, p[i++]))
			continue;
		if (state == INLET_CHUNK_LINE)
			end_chunk_line(in);
		else
			end_trailer_line(in);
	}
	return i;
}

static size_t push_chunk_end(struct inlet *in, char c)
{
	if (c != (in->line_n ? '\n' : '\r')) {
		refuse(in, 400, "a chunk whose framing is broken");
		return 1;
	}
	if (in->line_n++ == 0)
		return 1;
	in->line_n = 0;
	buf_add_str(&in->out, "\r\n");
	in->state = INLET_CHUNK_LINE;
	return 1;
}

/* --- bodies --- */

static size_t push_body(struct inlet *in, const char *p, size_t n)
{
	if (n > in->left)
		n = (size_t)in->left;
	if (buf_add(&in->out, p, n)) {
		refuse(in, 503, "out of memory");
		return n;
	}
	inlet_passed(in, n);
	return n;
}

void inlet_passed(struct inlet *in, size_t n)
{
	in->left -= n;
	in->body_bytes += n;
	if (in->left == 0)
		in->state = in->state == INLET_BODY ? INLET_HEAD : INLET_CHUNK_END;
}

/* --- in and out --- */

static size_t push_some(struct inlet *in, const char *p, size_t n)
{
	switch (in->state) {
	case INLET_HEAD:
		return push_head(in, p, n);
	case INLET_BODY:
	case INLET_CHUNK_DATA:
		return push_body(in, p, n);
	case INLET_CHUNK_LINE:
	case INLET_TRAILER:
		return push_line_bytes(in, p, n);
	case INLET_CHUNK_END:
		return push_chunk_end(in, *p);
	case INLET_REFUSED:
		break;
	}
	return n;
}

void inlet_push(struct inlet *in, const char *p, size_t n)
{
	while (n > 0) {
		size_t used = push_some(in, p, n);
		p += used;
		n -= used;
	}
	if (buf_error(&in->out) && in->state != INLET_REFUSED)
		refuse(in, 503, "out of memory");
}

size_t inlet_take(struct inlet *in, char *to, size_t max)
{
	size_t n = inlet_waiting(in);
	if (n > max)
		n = max;
	if (n == 0)
		return 0;
	memcpy(to, in->out.p + in->out_at, n);
	in->out_at += n;
	if (in->out_at < in->out.n)
		return n;
	if (in->out.cap > KEEP_BYTES || in->state == INLET_HEAD)
		buf_free(&in->out); /* an idle connection does not keep it */
	else
		buf_clear(&in->out);
	in->out_at = 0;
	return n;
}

struct head *inlet_next_head(struct inlet *in)
{
	struct head *h = STAILQ_FIRST(&in->heads);
	if (h)
		STAILQ_REMOVE_HEAD(&in->heads, link);
	return h;
}
