#include "tests/fake/stats.h"

#include "tests/fake/api.h"
#include "tests/fake/crc32.h"
#include "tests/fake/engine.h"
#include "tests/fake/mem.h"
#include "tests/fake/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATHS 128 /* different paths counted; the rest counts as "other" */
#define LAST 32	  /* requests remembered */

struct past {
	unsigned seq;
	char method[8], path[56];
	int status;
	enum http_end end;
	uint64_t ns, body_bytes;
	uint32_t crc;
	struct facts facts;
};

struct path_count {
	char *path;
	uint64_t n;
};

struct stats {
	struct request *first; /* under way, newest first */
	unsigned seq;
	uint64_t total, ended[3], by_status[6], bytes_received, bytes_sent;
	unsigned active, active_max;
	struct path_count paths[PATHS + 1];
	size_t path_count;
	struct past last[LAST];
	uint64_t past;
	int log_fd;
};

static const char *const end_names[] = {"done", "cut", "cancelled"};

int stats_init(struct fake *f)
{
	const struct options *o = &f->options;
	struct stats *s = mem_zalloc(sizeof(*s));

	f->stats = s;
	s->log_fd = -1;
	if (o->log_path) {
		s->log_fd = open(o->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (s->log_fd < 0)
			return -errno;
	}
	if (o->dump_dir && mkdir(o->dump_dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static void count_path(struct stats *s, struct slice path)
{
	size_t i = 0;

	while (i < s->path_count && !slice_eq(slice_str(s->paths[i].path), path))
		i++;
	if (i == s->path_count) {
		if (i == PATHS + 1) {
			i = PATHS;
		} else {
			s->paths[i] = (struct path_count){
				slice_dup(i == PATHS ? SLICE("other") : path), 0};
			s->path_count++;
		}
	}
	s->paths[i].n++;
}

static int open_dump(const struct fake *f, unsigned seq)
{
	char path[PATH_MAX];

	if (!f->options.dump_dir)
		return -1;
	snprintf(path, sizeof(path), "%s/%u.body", f->options.dump_dir, seq);
	return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}

void stats_open(struct request *r, bool control)
{
	struct stats *s = r->fake->stats;

	r->dump_fd = -1;
	if (control)
		return; /* seq 0: no trace */
	r->seq = ++s->seq;
	r->next = s->first;
	if (s->first)
		s->first->prev = r;
	s->first = r;
	s->total++;
	if (++s->active > s->active_max)
		s->active_max = s->active;
	count_path(s, r->x->path);
	if (!r->route || !(r->route->flags & ROUTE_BODILESS))
		r->dump_fd = open_dump(r->fake, r->seq);
}

void stats_body(struct request *r, struct slice piece)
{
	if (!r->seq)
		return;
	r->fake->stats->bytes_received += piece.n;
	r->crc = crc32_update(r->crc, piece.p, piece.n);
	while (r->dump_fd >= 0 && piece.n) {
		ssize_t n = write(r->dump_fd, piece.p, piece.n);

		if (n <= 0)
			break;
		piece.p += n;
		piece.n -= (size_t)n;
	}
}

static void put_member(struct buf *out, const char *name, struct slice text)
{
	json_put_key(out, name);
	json_put_string(out, text);
}

static void put_int(struct buf *out, const char *name, int64_t v)
{
	json_put_key(out, name);
	json_put_int(out, v);
}

static void put_facts(struct buf *out, const struct facts *facts)
{
	if (facts->prompt_tokens < 0)
		return;
	put_int(out, "prompt_tokens", facts->prompt_tokens);
	put_int(out, "cached_tokens", facts->cached_tokens);
	put_int(out, "generated_tokens", facts->generated_tokens);
	put_int(out, "slot", facts->slot);
}

static void put_ms(struct buf *out, const char *name, uint64_t ns)
{
	json_put_key(out, name);
	buf_printf(out, "%.3f", (double)ns / MS_NS);
}

static void put_times(struct buf *out, const struct facts *facts)
{
	if (facts->queued >= 0)
		put_ms(out, "queued_ms", (uint64_t)facts->queued);
	if (facts->first < 0)
		return;
	put_ms(out, "first_ms", (uint64_t)facts->first);
	put_ms(out, "late_ms", (uint64_t)facts->late);
}

static void write_log(struct request *r, enum http_end end, uint64_t now)
{
	struct http_exchange *x = r->x;
	struct buf line;

	buf_init(&line, 1u << 20);
	buf_add_char(&line, '{');
	put_int(&line, "seq", r->seq);
	put_member(&line, "method", x->method);
	put_member(&line, "path", x->path);
	if (x->query.n)
		put_member(&line, "query", x->query);
	put_int(&line, "body_bytes", (int64_t)x->body_bytes);
	json_put_key(&line, "body_crc32");
	buf_printf(&line, "\"%08x\"", r->crc);
	put_int(&line, "status", x->status);
	put_int(&line, "reply_bytes", (int64_t)x->reply_bytes);
	put_member(&line, "end", slice_str(end_names[end]));
	put_ms(&line, "start_ms", r->started_ns - r->fake->started_ns);
	put_ms(&line, "clock_ms", r->started_ns);
	put_ms(&line, "ms", now - r->started_ns);
	put_facts(&line, &r->facts);
	put_times(&line, &r->facts);
	json_put_key(&line, "headers");
	buf_add_char(&line, '{');
	for (size_t i = 0; i < x->header_count; i++) {
		if (i)
			buf_add_char(&line, ',');
		json_put_string(&line, x->headers[i].name);
		buf_add_char(&line, ':');
		json_put_string(&line, x->headers[i].value);
	}
	buf_add_str(&line, "}}\n");
	if (!buf_error(&line) && write(r->fake->stats->log_fd, line.p, line.n) < 0)
		perror("fake-backend: log");
	buf_free(&line);
}

static void remember(struct stats *s, struct request *r, enum http_end end, uint64_t now)
{
	struct past *past = &s->last[s->past++ % LAST];
	struct http_exchange *x = r->x;

	*past = (struct past){.seq = r->seq,
		.status = x->status,
		.end = end,
		.ns = now - r->started_ns,
		.body_bytes = x->body_bytes,
		.crc = r->crc,
		.facts = r->facts};
	snprintf(past->method, sizeof(past->method), "%.*s", (int)x->method.n, x->method.p);
	snprintf(past->path, sizeof(past->path), "%.*s", (int)x->path.n, x->path.p);
}

void stats_close(struct request *r, enum http_end end)
{
	struct stats *s = r->fake->stats;
	uint64_t now = clock_now();

	if (!r->seq)
		return;
	if (r->gen)
		r->facts.generated_tokens =
			r->gen->state == GEN_QUEUED ? -1 : (int64_t)gen_new_tokens(r->gen);
	if (r->next)
		r->next->prev = r->prev;
	*(r->prev ? &r->prev->next : &s->first) = r->next;
	s->active--;
	s->ended[end]++;
	s->by_status[r->x->status >= 100 && r->x->status < 600 ? r->x->status / 100 : 0]++;
	s->bytes_sent += r->x->reply_bytes;
	remember(s, r, end, now);
	if (s->log_fd >= 0)
		write_log(r, end, now);
	if (r->dump_fd >= 0)
		close(r->dump_fd);
}

struct request *stats_under_way(const struct fake *f)
{
	return f->stats->first;
}

void stats_reset(struct fake *f)
{
	struct stats *s = f->stats;

	for (size_t i = 0; i < s->path_count; i++)
		free(s->paths[i].path);
	*s = (struct stats){.first = s->first,
		.seq = s->seq,
		.active = s->active,
		.active_max = s->active,
		.log_fd = s->log_fd};
	memset(&f->engine->count, 0, offsetof(struct engine_count, active));
	f->engine->count.active_max = f->engine->count.active;
}

static void put_requests(const struct stats *s, struct buf *out)
{
	json_put_key(out, "requests");
	buf_add_char(out, '{');
	put_int(out, "total", (int64_t)s->total);
	put_int(out, "active", s->active);
	put_int(out, "active_max", s->active_max);
	for (int i = 0; i < 3; i++)
		put_int(out, end_names[i], (int64_t)s->ended[i]);
	json_put_key(out, "by_path");
	buf_add_char(out, '{');
	for (size_t i = 0; i < s->path_count; i++) {
		if (i)
			buf_add_char(out, ',');
		json_put_string(out, slice_str(s->paths[i].path));
		buf_add_char(out, ':');
		json_put_int(out, (int64_t)s->paths[i].n);
	}
	buf_add_char(out, '}');
	json_put_key(out, "by_status");
	buf_printf(out, "{\"none\":%llu,\"2xx\":%llu,\"4xx\":%llu,\"5xx\":%llu}}",
		(unsigned long long)s->by_status[0], (unsigned long long)s->by_status[2],
		(unsigned long long)s->by_status[4], (unsigned long long)s->by_status[5]);
}

static void put_engine(const struct fake *f, struct buf *out)
{
	const struct engine_count *c = &f->engine->count;

	json_put_key(out, "slots");
	buf_printf(out, "{\"active\":%u,\"active_max\":%u,\"waiting\":%u}", c->active,
		c->active_max, c->waiting);
	json_put_key(out, "tokens");
	buf_printf(out, "{\"prefilled\":%llu,\"cached\":%llu,\"generated\":%llu,\"restored\":%llu}",
		(unsigned long long)c->prefilled, (unsigned long long)c->cached,
		(unsigned long long)c->generated, (unsigned long long)c->restored);
	put_int(out, "loads", (int64_t)c->loads);
	put_int(out, "reloads", (int64_t)c->reloads);
	put_int(out, "loads_aborted", (int64_t)c->loads_aborted);
	put_int(out, "truncated", (int64_t)c->truncated);
}

static void put_under_way(const struct stats *s, struct buf *out)
{
	uint64_t now = clock_now();

	json_put_key(out, "under_way");
	buf_add_char(out, '[');
	for (const struct request *r = s->first; r; r = r->next) {
		buf_add_str(out, r == s->first ? "{" : ",{");
		put_int(out, "seq", r->seq);
		put_member(out, "method", r->x->method);
		put_member(out, "path", r->x->path);
		put_int(out, "body_bytes", (int64_t)r->x->body_bytes);
		put_int(out, "reply_bytes", (int64_t)r->x->reply_bytes);
		put_ms(out, "ms", now - r->started_ns);
		buf_add_char(out, '}');
	}
	buf_add_char(out, ']');
}

static void put_last(const struct stats *s, struct buf *out)
{
	uint64_t from = s->past > LAST ? s->past - LAST : 0;

	json_put_key(out, "last");
	buf_add_char(out, '[');
	for (uint64_t i = from; i < s->past; i++) {
		const struct past *past = &s->last[i % LAST];

		buf_add_str(out, i == from ? "{" : ",{");
		put_int(out, "seq", past->seq);
		put_member(out, "method", slice_str(past->method));
		put_member(out, "path", slice_str(past->path));
		put_int(out, "status", past->status);
		put_member(out, "end", slice_str(end_names[past->end]));
		put_int(out, "body_bytes", (int64_t)past->body_bytes);
		json_put_key(out, "body_crc32");
		buf_printf(out, "\"%08x\"", past->crc);
		put_ms(out, "ms", past->ns);
		put_facts(out, &past->facts);
		buf_add_char(out, '}');
	}
	buf_add_char(out, ']');
}

void stats_json(struct fake *f, struct buf *out)
{
	const struct stats *s = f->stats;

	buf_add_char(out, '{');
	put_requests(s, out);
	put_engine(f, out);
	put_int(out, "bytes_received", (int64_t)s->bytes_received);
	put_int(out, "bytes_sent", (int64_t)s->bytes_sent);
	put_int(out, "connections", (int64_t)f->http.connections);
	put_int(out, "rules", (int64_t)rules_count(&f->rules));
	put_int(out, "streams", (int64_t)streams_count(f));
	put_under_way(s, out);
	put_last(s, out);
	buf_add_char(out, '}');
}
