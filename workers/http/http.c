#include "workers/http/http.h"

#include "workers/http/http_internal.h"

#include <errno.h>
#include <stdlib.h>

/* --- curl <-> libuv --- */

static void on_timer(uv_timer_t *timer)
{
	http_act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_curl_timer(CURLM *multi, long ms, void *ctx)
{
	struct http *h = ctx;
	(void)multi;
	if (h->closing)
		return 0;
	if (ms < 0)
		return uv_timer_stop(&h->curl_timer);
	/* 0 stays 0: it runs at the start of the next turn, before the loop polls */
	return uv_timer_start(&h->curl_timer, on_timer, (uint64_t)ms, 0);
}

/* --- life --- */

static void on_handle_closed(uv_handle_t *handle)
{
	struct http *h = handle->data;
	if (--h->handles == 0)
		free(h);
}

int http_create(uv_loop_t *loop, int64_t connect_ms, struct http **out)
{
	struct http *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->loop = loop;
	h->connect_ms = connect_ms;
	h->multi = curl_multi_init();
	if (!h->multi) {
		free(h);
		return -ENOMEM;
	}
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, http_socket_watch);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_CONNECTIONS);
	curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	uv_timer_init(loop, &h->curl_timer);
	uv_timer_init(loop, &h->sweep);
	uv_idle_init(loop, &h->wake);
	h->curl_timer.data = h->sweep.data = h->wake.data = h;
	h->handles = 3;
	*out = h;
	return 0;
}

void http_destroy(struct http *h)
{
	if (!h)
		return;
	h->closing = true;
	while (h->active) {
		struct http_transfer *t = h->active;
		http_transfer_remove(t);
		transfer_free(t);
	}
	while (h->idle) {
		struct http_transfer *t = h->idle;
		h->idle = t->next;
		transfer_free(t);
	}
	curl_multi_cleanup(h->multi);
	free(h->sockets);
	free(h->origin);
	free(h->prefix);
	free(h->ca_file);
	http_key_destroy(h->key);
	uv_close((uv_handle_t *)&h->curl_timer, on_handle_closed);
	uv_close((uv_handle_t *)&h->sweep, on_handle_closed);
	uv_close((uv_handle_t *)&h->wake, on_handle_closed);
}

int http_set_base(struct http *h, const char *url)
{
	const char *host = strncmp(url, "http://", 7) == 0    ? url + 7
			   : strncmp(url, "https://", 8) == 0 ? url + 8
							      : NULL;
	if (!host)
		return -EINVAL;
	size_t host_len = strcspn(host, "/?#");
	size_t prefix_len = strcspn(host + host_len, "?#");
	while (prefix_len && host[host_len + prefix_len - 1] == '/')
		prefix_len--;
	if (host_len == 0)
		return -EINVAL;
	char *origin = slice_dup((struct slice){url, (size_t)(host - url) + host_len});
	char *prefix = slice_dup((struct slice){host + host_len, prefix_len});
	if (!origin || !prefix) {
		free(origin);
		free(prefix);
		return -ENOMEM;
	}
	free(h->origin);
	free(h->prefix);
	h->origin = origin;
	h->prefix = prefix;
	return 0;
}

int http_set_secrets(struct http *h, const char *key_file, const char *ca_file)
{
	h->key = key_file ? http_key_create(key_file) : NULL;
	h->ca_file = ca_file ? strdup(ca_file) : NULL;
	return (key_file && !h->key) || (ca_file && !h->ca_file) ? -ENOMEM : 0;
}

bool http_has_key(const struct http *h)
{
	return h->key != NULL;
}

const char *http_key_problem(const struct http *h)
{
	return h->key ? http_key_words(h->key) : "";
}

int http_start(struct http *h, const struct http_request *r, const struct http_events *e, void *ctx,
	struct http_transfer **out)
{
	if (!h->origin)
		return -ENOTCONN;
	if (h->in_curl)
		return -EBUSY;
	struct http_transfer *t = transfer_get(h);
	if (!t)
		return -ENOMEM;
	t->events = e;
	t->ctx = ctx;
	t->idle_ms = r->idle_ms;
	t->total_ms = r->total_ms;
	t->first_ms = r->first_ms;
	t->early_head = r->early_head;
	t->started_ms = t->last_ms = uv_now(h->loop);
	int rc = transfer_setup(t, r);
	curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, http_socket_open);
	curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETDATA, h);
	curl_easy_setopt(t->easy, CURLOPT_CLOSESOCKETFUNCTION, http_socket_close);
	curl_easy_setopt(t->easy, CURLOPT_CLOSESOCKETDATA, h);
	if (rc == 0 && curl_multi_add_handle(h->multi, t->easy) != CURLM_OK)
		rc = -ENOMEM;
	if (rc) {
		transfer_put(t);
		return rc;
	}
	t->prev = NULL;
	t->next = h->active;
	if (h->active)
		h->active->prev = t;
	h->active = t;
	/* the kick is curl's own: adding a handle asks for a timer of 0 ms */
	http_watch_deadlines(t);
	*out = t;
	return 0;
}

void http_pause(struct http_transfer *t)
{
	t->held |= HOLD_RECEIVER;
}

void http_resume(struct http_transfer *t)
{
	struct http *h = t->http;
	if (!(t->held & HOLD_RECEIVER))
		return;
	t->held &= ~HOLD_RECEIVER;
	t->last_ms = uv_now(h->loop);
	if (!(t->curl_paused & CURLPAUSE_RECV))
		return;
	t->attention = true;
	http_need_attention(h);
}

static void upload_ready(struct http_transfer *t)
{
	t->last_ms = uv_now(t->http->loop);
	if (t->curl_paused & CURLPAUSE_SEND) {
		t->attention = true;
		http_need_attention(t->http);
	}
}

int http_send(struct http_transfer *t, struct slice bytes)
{
	if (t->upload_at == t->upload.n) {
		buf_clear(&t->upload);
		t->upload_at = 0;
	} else if (t->upload_at > t->upload.n / 2) {
		buf_drop(&t->upload, t->upload_at);
		t->upload_at = 0;
	}
	int rc = buf_add_slice(&t->upload, bytes);
	if (rc == 0)
		upload_ready(t);
	return rc;
}

void http_send_end(struct http_transfer *t)
{
	t->upload_end = true;
	upload_ready(t);
}

const char *http_result_text(enum http_result r)
{
	switch (r) {
	case HTTP_OK:
		return "complete";
	case HTTP_REFUSED:
		return "no connection to the backend";
	case HTTP_IDLE:
		return "the backend fell silent";
	case HTTP_TOTAL:
		return "the deadline has passed";
	case HTTP_CUT:
		return "the backend closed the connection in the middle of its answer";
	case HTTP_GARBAGE:
		return "the backend's answer is not HTTP";
	case HTTP_TLS:
		return "no TLS connection to the backend: its certificate is not trusted, or it "
		       "speaks no TLS";
	case HTTP_INTERNAL:
		break;
	}
	return "out of memory";
}
