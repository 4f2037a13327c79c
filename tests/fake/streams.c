#include "tests/fake/streams.h"

#include "tests/fake/api.h"
#include "tests/fake/ask.h"
#include "tests/fake/engine.h"
#include "tests/fake/mem.h"

#include <stdlib.h>

struct stream {
	struct stream *next;
	char *name;
	struct buf ring;
	uint64_t dropped;	  /* bytes before those in it */
	struct request *producer; /* NULL: it is whole */
	struct request *readers;
	uint64_t done_ns;
};

static struct stream **find(struct fake *f, struct slice name)
{
	struct stream **at = &f->streams;

	while (*at && !slice_eq(slice_str((*at)->name), name))
		at = &(*at)->next;
	return at;
}

size_t streams_count(const struct fake *f)
{
	size_t n = 0;

	for (const struct stream *s = f->streams; s; s = s->next)
		n++;
	return n;
}

/* --- reading --- */

/* Sends a reader what it has not. It is not ended here: its exchange may be gone then. */
static void feed(struct stream *s, struct request *r)
{
	uint64_t end = s->dropped + s->ring.n;
	size_t skip = r->stream_at > s->dropped ? (size_t)(r->stream_at - s->dropped) : 0;

	if (r->stream_at >= end)
		return;
	http_data(r->x, (struct slice){s->ring.p + skip, s->ring.n - skip});
	http_flush(r->x);
	r->stream_at = end;
}

static void end_readers(struct stream *s)
{
	while (s->readers) {
		struct request *r = s->readers;

		s->readers = r->next_reader;
		r->stream = NULL;
		feed(s, r);
		http_end(r->x);
	}
}

static void on_tee(struct http_exchange *x, struct slice data)
{
	struct request *r = x->user;
	struct stream *s = r->stream;

	if (!s || x->status != 200)
		return;
	buf_add_slice(&s->ring, data);
	for (struct request *reader = s->readers; reader; reader = reader->next_reader)
		feed(s, reader);
	if (s->ring.n > 2 * STREAM_RING_BYTES) { /* seldom: what stays is moved */
		s->dropped += s->ring.n - STREAM_RING_BYTES;
		buf_drop(&s->ring, s->ring.n - STREAM_RING_BYTES);
	}
}

/* --- life --- */

static void drop(struct stream **at)
{
	struct stream *s = *at;

	*at = s->next;
	end_readers(s);
	buf_free(&s->ring);
	free(s->name);
	free(s);
}

/* Stops what is generated, and forgets it: who listens to it sees a body that ends. */
static void stop(struct stream **at)
{
	struct request *r = (*at)->producer;

	if (r)
		r->stream = NULL;
	drop(at);
	if (!r)
		return;
	r->stopped = true;
	r->x->tee = NULL;
	if (r->gen)
		engine_cancel(r->gen);
	if (!r->x->status)
		http_begin(r->x, 200, "text/event-stream", -1);
	http_end(r->x);
}

static void drop_old(struct fake *f)
{
	for (struct stream **at = &f->streams; *at;) {
		struct stream *s = *at;

		if (!s->producer && clock_now() - s->done_ns > STREAM_KEEP_S * S_NS)
			drop(at);
		else
			at = &s->next;
	}
}

void streams_keep(struct request *r)
{
	struct slice name = http_header(r->x, "x-conversation-id");
	struct fake *f = r->fake;

	if (f->options.type != TYPE_LLAMA || f->options.no_replay || !name.n || !ask_streams(r))
		return;
	drop_old(f);
	struct stream **old = find(f, name), *s;
	if (*old)
		stop(old);
	s = mem_zalloc(sizeof(*s));
	s->name = slice_dup(name);
	buf_init(&s->ring, 0);
	s->producer = r;
	s->next = f->streams;
	f->streams = s;
	r->stream = s;
	r->x->tee = on_tee;
}

void streams_over(struct request *r)
{
	struct stream *s = r->stream;

	if (!s)
		return;
	r->stream = NULL;
	if (s->producer != r) {
		struct request **at = &s->readers;

		while (*at != r)
			at = &(*at)->next_reader;
		*at = r->next_reader;
		return;
	}
	s->producer = NULL;
	s->done_ns = clock_now();
	end_readers(s);
	if (r->x->status != 200) /* refused: nothing was begun */
		drop(find(r->fake, slice_str(s->name)));
}

/* --- routes --- */

/* A parameter of the query, as it stands there. */
static struct slice parameter(struct slice query, const char *name)
{
	size_t n = strlen(name);
	const char *end = query.p + query.n;

	while (query.n) {
		const char *stop = memchr(query.p, '&', query.n);
		struct slice one = {query.p, (size_t)((stop ? stop : end) - query.p)};

		if (one.n > n && memcmp(one.p, name, n) == 0 && one.p[n] == '=')
			return (struct slice){one.p + n + 1, one.n - n - 1};
		if (!stop)
			break;
		query = (struct slice){stop + 1, (size_t)(end - stop) - 1};
	}
	return (struct slice){0};
}

/* The stream that is meant; NULL: replied. */
static struct stream **meant(struct request *r)
{
	struct slice name = parameter(r->x->query, "conv_id");

	if (r->fake->options.no_replay) {
		llama_error(r, 404, SLICE("File Not Found"));
		return NULL;
	}
	if (!name.n) {
		llama_error(r, 400, SLICE("Missing conversation id in path"));
		return NULL;
	}
	drop_old(r->fake);
	return find(r->fake, name);
}

void streams_get(struct request *r)
{
	struct slice from = parameter(r->x->query, "from");
	struct stream **at = meant(r), *s;

	if (!at)
		return;
	s = *at;
	if (!s) {
		llama_error(r, 404, SLICE("File Not Found"));
		return;
	}
	for (size_t i = 0; i < from.n; i++)
		r->stream_at = r->stream_at * 10 + (uint64_t)(from.p[i] - '0');
	if (r->stream_at + STREAM_RING_BYTES < s->dropped + s->ring.n) {
		llama_error(r, 400, SLICE("Stream offset lost, please restart"));
		return;
	}
	http_begin(r->x, 200, "text/event-stream", -1);
	http_flush(r->x); /* its head comes at once, whatever there is */
	feed(s, r);
	if (!s->producer) {
		http_end(r->x);
		return;
	}
	r->stream = s;
	r->next_reader = s->readers;
	s->readers = r;
}

void streams_delete(struct request *r)
{
	struct stream **at = meant(r);

	if (!at)
		return;
	if (*at)
		stop(at);
	http_reply(r->x, 204, "application/json", SLICE(""));
}
