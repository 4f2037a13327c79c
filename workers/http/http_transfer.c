#include "workers/http/http_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define HTTP_STATUS_LAST 599 /* beyond are three digits that no client knows */
#define HTTP_SENDS 2	     /* of one request, over as many connections */

/* --- what curl calls --- */

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
	struct http_transfer *t = ctx;
	size_t len = size * n, end = len;
	(void)size;
	if (t->life == TRANSFER_DOOMED)
		return 0;
	if (t->head_done)
		return len; /* trailers */
	while (end && (p[end - 1] == '\n' || p[end - 1] == '\r'))
		end--;
	if (end > 5 && memcmp(p, "HTTP/", 5) == 0) {
		long status = 0;
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
		t->status = (int)status;
		if (status > HTTP_STATUS_LAST)
			return 0;
		buf_clear(&t->head);
	} else if (end) {
		buf_add(&t->head, p, end);
		if (buf_add_char(&t->head, '\n'))
			return 0;
	} else if (t->status >= 200) {
		t->head_done = true;
		t->last_ms = t->http->last_byte_ms = uv_now(t->http->loop);
		t->events->head(t->ctx, t->status);
	}
	return t->life == TRANSFER_DOOMED ? 0 : len;
}

static size_t on_write(char *p, size_t size, size_t n, void *ctx)
{
	struct http_transfer *t = ctx;
	size_t len = size * n;
	if (t->life == TRANSFER_DOOMED)
		return 0;
	if (!t->held && t->turn_bytes >= HTTP_TURN_BYTES)
		http_yield(t);
	if (t->held) {
		t->curl_paused |= CURLPAUSE_RECV;
		return CURL_WRITEFUNC_PAUSE;
	}
	t->turn_bytes += len;
	t->early_head = t->early_head && len == 0;
	t->last_ms = t->http->last_byte_ms = uv_now(t->http->loop);
	if (len)
		t->events->body(t->ctx, (struct slice){p, len});
	return t->life == TRANSFER_DOOMED ? 0 : len;
}

static size_t on_read(char *p, size_t size, size_t n, void *ctx)
{
	struct http_transfer *t = ctx;
	size_t room = size * n, have = t->upload.n - t->upload_at;
	if (t->life == TRANSFER_DOOMED)
		return CURL_READFUNC_ABORT;
	if (have == 0) {
		if (t->upload_end)
			return 0;
		t->curl_paused |= CURLPAUSE_SEND;
		return CURL_READFUNC_PAUSE;
	}
	if (have > room)
		have = room;
	memcpy(p, t->upload.p + t->upload_at, have);
	t->upload_at += have;
	t->last_ms = uv_now(t->http->loop);
	if (t->events->sent)
		t->events->sent(t->ctx, have);
	return t->life == TRANSFER_DOOMED ? CURL_READFUNC_ABORT : have;
}

/* Before the request goes over a connection. curl takes up to five more kept ones when one closes
 * without a word; one of them is enough to meet those that had been closed long before. */
static int on_send(void *ctx, char *ip, char *local_ip, int port, int local_port)
{
	struct http_transfer *t = ctx;
	(void)ip, (void)local_ip, (void)port, (void)local_port;
	return t->sends++ < HTTP_SENDS ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

void transfer_apply_pause(struct http_transfer *t)
{
	bool send_ready = t->upload_at < t->upload.n || t->upload_end;
	if (!t->held)
		t->curl_paused &= ~CURLPAUSE_RECV;
	if (send_ready)
		t->curl_paused &= ~CURLPAUSE_SEND;
	t->http->in_curl++;
	curl_easy_pause(t->easy, t->curl_paused);
	t->http->in_curl--;
}

/* --- the pool --- */

struct http_transfer *transfer_get(struct http *h)
{
	struct http_transfer *t = h->idle;
	if (t) {
		h->idle = t->next;
		h->idle_count--;
		t->next = NULL;
		return t;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->http = h;
	buf_init(&t->head, HTTP_HEAD_BYTES);
	buf_init(&t->line, 0);
	buf_init(&t->upload, HTTP_UPLOAD_BYTES);
	t->easy = curl_easy_init();
	if (!t->easy) {
		free(t);
		return NULL;
	}
	return t;
}

void transfer_free(struct http_transfer *t)
{
	curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->slist);
	buf_free(&t->line);
	buf_free(&t->head);
	buf_free(&t->upload);
	free(t);
}

void transfer_put(struct http_transfer *t)
{
	struct http *h = t->http;
	if (h->closing || h->idle_count >= HTTP_IDLE_TRANSFERS) {
		transfer_free(t);
		return;
	}
	curl_easy_reset(t->easy);
	curl_slist_free_all(t->slist);
	buf_free(&t->upload); /* a window's worth would stay otherwise */
	struct http_transfer fresh = {
		.http = h, .easy = t->easy, .line = t->line, .head = t->head, .upload = t->upload};
	*t = fresh;
	buf_clear(&t->head);
	buf_clear(&t->line);
	t->next = h->idle;
	h->idle = t;
	h->idle_count++;
}

/* --- setting up --- */

/* Visible ASCII and obs-text; what could split a request line or a header is refused. */
static bool clean(struct slice s, bool target)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == 0x7f || (c < 0x20 && (target || c != '\t')) || (target && c == ' '))
			return false;
	}
	return true;
}

static bool name_is(struct slice name, const char *what)
{
	return slice_ieq(name, slice_str(what));
}

static int slist_add(struct http_transfer *t, const char *line)
{
	struct curl_slist *one = curl_slist_append(NULL, line);
	if (!one)
		return -ENOMEM;
	if (t->slist)
		t->last->next = one;
	else
		t->slist = one;
	t->last = one;
	return 0;
}

static int add_key(struct http_transfer *t, struct buf *line)
{
	const char *value = http_key_header(t->http->key);
	if (!value)
		return -ENOKEY;
	buf_clear(line);
	buf_printf(line, "Authorization: %s", value);
	const char *text = buf_cstr(line);
	return buf_error(line) ? -EINVAL : slist_add(t, text);
}

/* The caller's headers; curl's own additions are switched off unless the caller names them. */
static int setup_headers(struct http_transfer *t, const struct http_request *r)
{
	bool accept = false, type = false;
	struct buf line;
	buf_init(&line, HTTP_REQUEST_HEADER_BYTES);
	int rc = slist_add(t, "Expect:");
	for (size_t i = 0; i < r->header_count && rc == 0; i++) {
		const struct proto_header *hd = &r->headers[i];
		if (hd->name.n == 0 || !clean(hd->name, true) ||
			memchr(hd->name.p, ':', hd->name.n) || !clean(hd->value, false)) {
			rc = -EINVAL;
			break;
		}
		if (t->http->key && http_key_hides(hd->name))
			continue;
		accept |= name_is(hd->name, "accept");
		type |= name_is(hd->name, "content-type");
		buf_clear(&line);
		buf_add_slice(&line, hd->name);
		/* "name;" is how curl is told of a header without a value */
		if (hd->value.n == 0)
			buf_add_char(&line, ';');
		else
			buf_add_str(&line, ": ");
		buf_add_slice(&line, hd->value);
		const char *text = buf_cstr(&line);
		rc = buf_error(&line) ? -EINVAL : slist_add(t, text);
	}
	if (rc == 0 && t->http->key)
		rc = add_key(t, &line);
	if (rc == 0 && !accept)
		rc = slist_add(t, "Accept:");
	if (rc == 0 && !type)
		rc = slist_add(t, "Content-Type:");
	if (rc == 0 && r->upload && r->upload_bytes < 0)
		rc = slist_add(t, "Transfer-Encoding: chunked");
	buf_free(&line);
	return rc;
}

static int setup_target(struct http_transfer *t, struct slice target)
{
	if (target.n == 0 || target.p[0] != '/' || !clean(target, true))
		return -EINVAL;
	buf_clear(&t->line);
	buf_add_str(&t->line, t->http->prefix);
	buf_add_slice(&t->line, target);
	buf_add_char(&t->line, '\0');
	return buf_error(&t->line);
}

/*
 * curl sends a request again when a kept connection closes before an answer has begun, which says
 * nothing of whether the backend has read it. So what must not be done twice never goes over one,
 * nor does a streamed upload, which cannot be rewound.
 */
static bool may_go_again(const struct http_request *r)
{
	return !r->upload &&
	       (r->again || strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0);
}

static void setup_body(CURL *c, const struct http_request *r)
{
	if (!may_go_again(r)) {
		curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(
			c, CURLOPT_FORBID_REUSE, 1L); /* or each would add one to the kept */
	}
	if (strcmp(r->method, "HEAD") == 0) {
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	} else if (r->upload) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->upload_bytes);
	} else if (r->body.n || strcmp(r->method, "POST") == 0) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body.n ? r->body.p : "");
	}
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
}

int transfer_setup(struct http_transfer *t, const struct http_request *r)
{
	CURL *c = t->easy;
	int rc = setup_target(t, r->target);
	if (rc == 0)
		rc = setup_headers(t, r);
	if (rc)
		return rc;
	setup_body(c, r);
	curl_easy_setopt(c, CURLOPT_URL, t->http->origin);
	curl_easy_setopt(c, CURLOPT_REQUEST_TARGET, t->line.p);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->slist);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	/* That the certificate is trusted, and is of this name, are curl's defaults. */
	if (t->http->ca_file)
		curl_easy_setopt(c, CURLOPT_CAINFO, t->http->ca_file);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->error);
	curl_easy_setopt(c, CURLOPT_PROXY, ""); /* whatever the environment says */
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)t->http->connect_ms);
	curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, on_send);
	curl_easy_setopt(c, CURLOPT_PREREQDATA, t);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(c, CURLOPT_READDATA, t);
	return curl_easy_setopt(c, CURLOPT_PRIVATE, t) == CURLE_OK ? 0 : -ENOMEM;
}

/* --- answers --- */

enum http_result transfer_result(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return HTTP_OK;
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_OPERATION_TIMEDOUT: /* only the connect has a timeout of curl's */
		return HTTP_REFUSED;
	case CURLE_UNSUPPORTED_PROTOCOL: /* "HTTP/0.9": bytes without a status line */
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_WRITE_ERROR: /* on_header(): more than HTTP_HEAD_BYTES, or no status */
		return HTTP_GARBAGE;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
		return HTTP_TLS;
	case CURLE_OUT_OF_MEMORY:
	case CURLE_FAILED_INIT:
		return HTTP_INTERNAL;
	default:
		return HTTP_CUT;
	}
}
