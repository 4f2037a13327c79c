/* Between curl's calls: what transfers wait for is done, what has ended is delivered. */
#include "workers/http/http_internal.h"

#include "common/base/log.h"

static void reap(struct http *h);

/* --- ending transfers --- */

static void transfer_unlink(struct http_transfer *t)
{
	struct http *h = t->http;
	if (t->prev)
		t->prev->next = t->next;
	else
		h->active = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->prev = t->next = NULL;
}

/* Takes the transfer out of curl; the connection closes unless the answer was complete. */
void http_transfer_remove(struct http_transfer *t)
{
	struct http *h = t->http;
	h->in_curl++;
	curl_multi_remove_handle(h->multi, t->easy);
	h->in_curl--;
	transfer_unlink(t);
}

void http_transfer_finish(struct http_transfer *t, enum http_result result)
{
	bool wanted = t->life == TRANSFER_RUNS;
	http_transfer_remove(t);
	t->life = TRANSFER_ENDS;
	if (wanted)
		t->events->done(t->ctx, result);
	transfer_put(t);
}

void http_cancel(struct http_transfer *t)
{
	if (!t || t->life != TRANSFER_RUNS)
		return;
	if (t->http->in_curl) {
		t->life = TRANSFER_DOOMED;
		http_need_attention(t->http);
		return;
	}
	http_transfer_remove(t);
	transfer_put(t);
}

static void on_wake(uv_idle_t *wake)
{
	struct http *h = wake->data;
	uv_idle_stop(wake);
	for (struct http_transfer *t = h->active; t; t = t->next) {
		if (!(t->held & HOLD_TURN))
			continue;
		t->held &= ~HOLD_TURN;
		t->turn_bytes = 0;
		t->attention = h->attention = true;
	}
	reap(h);
}

void http_yield(struct http_transfer *t)
{
	t->held |= HOLD_TURN;
	uv_idle_start(&t->http->wake, on_wake);
}

/* Callbacks never run from within a call of ours: the next turn does it, before the loop polls. */
void http_need_attention(struct http *h)
{
	h->attention = true;
	uv_idle_start(&h->wake, on_wake);
}

/* What callbacks asked for while curl was on the stack. */
static void attend(struct http *h)
{
	while (h->attention) {
		h->attention = false;
		for (struct http_transfer *t = h->active, *next; t; t = next) {
			next = t->next;
			if (t->life == TRANSFER_DOOMED) {
				http_transfer_remove(t);
				transfer_put(t);
			} else if (t->attention) {
				t->attention = false;
				transfer_apply_pause(t);
				/* it may have run callbacks that changed the list: start over */
				h->attention = true;
				break;
			}
		}
	}
}

/* Delivers what curl has finished. */
static void reap(struct http *h)
{
	attend(h);
	CURLMsg *msg;
	int left;
	while ((msg = curl_multi_info_read(h->multi, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		struct http_transfer *t = NULL;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		CURLcode code = msg->data.result; /* msg dies with the removal */
		if (code != CURLE_OK && t->life == TRANSFER_RUNS)
			log_line(LOG_DEBUG, "backend_transfer",
				LOG_STR("error", t->error[0] ? t->error : curl_easy_strerror(code)),
				LOG_END);
		/* curl has no other word for a header line that is too long for it */
		if (code == CURLE_OUT_OF_MEMORY && t->sends && !t->head_done)
			code = CURLE_WEIRD_SERVER_REPLY;
		http_transfer_finish(t, transfer_result(code));
		attend(h);
	}
}

void http_act(struct http *h, curl_socket_t fd, int events)
{
	int running;
	h->in_curl++;
	curl_multi_socket_action(h->multi, fd, events, &running);
	h->in_curl--;
	reap(h);
}
