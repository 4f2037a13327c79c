/* One request of `tandemctl bench`: over HTTP to tandemd, in Ollama's dialect, whose last line has
 * the backend's own counts and times. */
#include "supervisor/ctl/bench.h"

#include "supervisor/requests/bench.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>

#define WAIT_MS 100 /* before the second try, then twice as long each time */
#define WAIT_MOST_MS 1600
#define ANSWER_BYTES (8u << 20)
#define NS_PER_MS 1e6

struct asking {
	struct bench_answer *a;
	struct buf line; /* not whole yet */
	double begun_ms;
	bool keep, done;
};

enum ctl_exit bench_http_begin(struct benching *b)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
	b->http = curl_easy_init();
	return b->http ? CTL_OK : CTL_FAILED;
}

void bench_http_end(struct benching *b)
{
	if (b->http)
		curl_easy_cleanup(b->http);
	b->http = NULL;
	curl_global_cleanup();
}

void bench_body_begin(const struct benching *b, struct buf *body)
{
	buf_clear(body);
	buf_add_str(body, "{\"model\":");
	json_put_string(body, buf_slice(&b->model));
}

/* --- the answer --- */

static bool has_text(struct json_value object, const char *name)
{
	struct json_value v = json_get(object, name);
	return json_is(v, JSON_STRING) && v.raw.n > 2;
}

static double ms_of(struct json_value root, const char *name)
{
	double ns = ctl_real(root, name);
	return ns > 0 ? ns / NS_PER_MS : -1;
}

/* A line of the stream; heartbeats have no text. */
static void take_line(struct asking *q, struct slice line)
{
	struct json_value root, message;
	struct bench_answer *a = q->a;
	if (json_parse(line, JSON_MAX_DEPTH, &root, NULL))
		return;
	message = json_get(root, "message");
	if (a->first_ms < 0 && (has_text(message, "content") || has_text(message, "thinking")))
		a->first_ms = bench_clock_ms() - q->begun_ms;
	if (!json_is(json_get(root, "error"), JSON_NONE))
		ctl_text(root, "error", a->error, sizeof(a->error));
	if (!json_is(json_get(root, "done"), JSON_TRUE))
		return;
	q->done = true;
	a->prompt_tokens = ctl_int(root, "prompt_eval_count");
	a->output_tokens = ctl_int(root, "eval_count");
	a->prompt_ms = ms_of(root, "prompt_eval_duration");
	a->output_ms = ms_of(root, "eval_duration");
}

static void take_lines(struct asking *q, bool end)
{
	char *newline;
	while (q->line.n && (newline = memchr(q->line.p, '\n', q->line.n))) {
		size_t n = (size_t)(newline - q->line.p);
		take_line(q, (struct slice){q->line.p, n});
		buf_drop(&q->line, n + 1);
	}
	if (end && q->line.n)
		take_line(q, buf_slice(&q->line));
}

static size_t take(char *p, size_t size, size_t n, void *user)
{
	struct asking *q = user;
	if (buf_add(q->keep ? &q->a->body : &q->line, p, size * n))
		return 0;
	if (!q->keep)
		take_lines(q, false);
	return size * n;
}

/* --- the request --- */

static struct curl_slist *headers_of(const struct benching *b, bool explain)
{
	char ticket[128];
	snprintf(ticket, sizeof(ticket), BENCH_HEADER ": %s", b->ticket);
	struct curl_slist *list = curl_slist_append(NULL, ticket);
	curl_slist_append(list, "Content-Type: application/json");
	curl_slist_append(list, "Expect:");
	if (explain)
		curl_slist_append(list, "X-Tandem-Explain: 1");
	return list;
}

/* The address is the one that tandemd itself has told, of this machine: whose name its certificate
 * has does not matter. */
static void set_options(struct benching *b, const char *url, const struct buf *body)
{
	CURL *curl = b->http;
	long left = (long)bench_left_ms(b);
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body->p);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->n);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, left > 0 ? left : 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* never by way of $http_proxy */
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
	curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
}

static bool stood_in_the_way(const char *error)
{
	return strstr(error, BENCH_BUSY_TEXT) || strstr(error, BENCH_YIELDED_TEXT);
}

static enum bench_end end_of(struct benching *b, struct asking *q, CURLcode rc)
{
	long status = 0;
	struct bench_answer *a = q->a;
	curl_easy_getinfo(b->http, CURLINFO_RESPONSE_CODE, &status);
	a->total_ms = bench_clock_ms() - q->begun_ms;
	if (q->keep && status != 200 && rc == CURLE_OK)
		take_line(q, buf_slice(&a->body));
	take_lines(q, true);
	if (a->error[0])
		return stood_in_the_way(a->error) ? BENCH_BUSY : BENCH_FAILED;
	if (rc == CURLE_OK && status == 200 && (q->done || q->keep))
		return BENCH_DONE;
	if (bench_left_ms(b) == 0)
		return BENCH_LATE;
	if (rc != CURLE_OK)
		snprintf(a->error, sizeof(a->error), "%s: %s", b->url, curl_easy_strerror(rc));
	else
		snprintf(a->error, sizeof(a->error), "%s answers %ld without an end", b->url,
			status);
	return BENCH_FAILED;
}

enum bench_end bench_ask(struct benching *b, const char *path, const struct buf *body, bool explain,
	struct bench_answer *a)
{
	char url[256];
	struct asking q = {.a = a, .keep = explain};
	snprintf(url, sizeof(url), "%s%s", b->url, path);
	a->first_ms = a->prompt_ms = a->output_ms = -1;
	a->prompt_tokens = a->output_tokens = 0;
	a->error[0] = '\0';
	buf_clear(&a->body);
	if (buf_error(body) || bench_left_ms(b) == 0)
		return BENCH_LATE;
	buf_init(&q.line, ANSWER_BYTES);
	struct curl_slist *headers = headers_of(b, explain);
	set_options(b, url, body);
	curl_easy_setopt(b->http, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(b->http, CURLOPT_WRITEDATA, &q);
	q.begun_ms = bench_clock_ms();
	CURLcode rc = curl_easy_perform(b->http);
	enum bench_end end = end_of(b, &q, rc);
	b->wait_ms = end == BENCH_BUSY ? b->wait_ms : 0;
	curl_slist_free_all(headers);
	buf_free(&q.line);
	return end;
}

bool bench_wait(struct benching *b)
{
	if (!b->told_wait)
		bench_say("waiting: other work is under way on %s", b->device);
	b->told_wait = true;
	b->wait_ms = b->wait_ms ? b->wait_ms * 2 : WAIT_MS;
	b->wait_ms = b->wait_ms < WAIT_MOST_MS ? b->wait_ms : WAIT_MOST_MS;
	nanosleep(&(struct timespec){.tv_sec = b->wait_ms / 1000,
			  .tv_nsec = b->wait_ms % 1000 * 1000000L},
		NULL);
	return bench_left_ms(b) > 0;
}
