/* Answers past libmicrohttpd: faults, and answers that come before their request's end. */
#include "supervisor/front/internal.h"

#include <sys/socket.h>

/* Past MHD, which takes no response in mid-upload and none that is not of a request. Nothing else
 * is on its way to this client, and the connection ends. What the socket does not take at once
 * (these texts are small) is cut: a broken answer. */
static void send_by_hand(struct connection *c, int status, struct buf *headers, struct slice body)
{
	struct buf all;
	buf_init(&all, 0);
	buf_printf(&all, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %zu\r\n", status,
		MHD_get_reason_phrase_for((unsigned)status), body.n);
	buf_add_slice(&all, buf_slice(headers));
	buf_add_str(&all, "\r\n");
	buf_add_slice(&all, body);
	if (!buf_error(&all) && !buf_error(headers) &&
		send(c->fd, all.p, all.n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		linger_start(c->front, c->fd);
	buf_free(&all);
}

void exchange_answer_by_hand(struct exchange *x)
{
	struct buf headers;
	buf_init(&headers, 0);
	for (unsigned i = 0; i < x->header_count; i++)
		buf_printf(&headers, "%s: %s\r\n", x->headers[i].name, x->headers[i].value);
	size_t n = exchange_backlog(x);
	send_by_hand(x->connection, x->status, &headers, (struct slice){x->out.p + x->out_head, n});
	exchange_report_sent(x, n);
	buf_free(&headers);
}

void exchange_send_fault(struct connection *c, int status, const char *text)
{
	struct buf headers, body;
	buf_init(&headers, 0);
	buf_init(&body, 0);
	buf_add_str(&headers, "Content-Type: text/plain\r\n");
	buf_printf(&body, "%s\n", text);
	send_by_hand(c, status, &headers, buf_slice(&body));
	buf_free(&headers);
	buf_free(&body);
}

void exchange_refuse(struct exchange *x, int status, const char *text)
{
	if (x->queued)
		return; /* an answer is on its way: it ends there */
	if (x->answered && x->ended && !x->aborted)
		exchange_answer_by_hand(x);
	else
		exchange_send_fault(x->connection, status, text);
}
