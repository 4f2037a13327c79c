/*
 * What an Ollama does with paths in another spelling: Go's ServeMux sends clients from doubled
 * slashes and dot segments to the clean path, and gin from a trailing slash to the route without
 * one.
 */
#include "tests/fake/dialect.h"

#define PATH_BYTES 4096

/* path.Clean() of Go, with the trailing slash kept; the path begins with a slash. */
static void clean(struct slice path, struct buf *out)
{
	const char *p = path.p, *end = path.p + path.n;

	while (p < end) {
		const char *stop;
		size_t n;

		while (p < end && *p == '/')
			p++;
		stop = p < end ? memchr(p, '/', (size_t)(end - p)) : NULL;
		n = (size_t)((stop ? stop : end) - p);
		if (n == 2 && memcmp(p, "..", 2) == 0) {
			while (out->n && out->p[out->n - 1] != '/')
				out->n--;
			out->n -= out->n ? 1 : 0;
		} else if (n && !(n == 1 && *p == '.')) {
			buf_add_char(out, '/');
			buf_add(out, p, n);
		}
		p += n;
	}
	if (out->n == 0 || path.p[path.n - 1] == '/')
		buf_add_char(out, '/');
}

static bool is_route(struct slice method, struct slice path)
{
	for (const struct route *route = ollama_routes; route->method; route++)
		if (slice_eq(method, slice_str(route->method)) &&
			slice_eq(path, slice_str(route->path)))
			return true;
	return false;
}

bool ollama_redirects(struct request *r)
{
	struct http_exchange *x = r->x;
	struct buf to;
	bool get = slice_eq(x->method, SLICE("GET"));
	int status = 307;

	if (!x->path.n || x->path.p[0] != '/')
		return false;
	buf_init(&to, PATH_BYTES);
	clean(x->path, &to);
	if (!buf_error(&to) && slice_eq(buf_slice(&to), x->path)) {
		if (to.n > 1 && to.p[to.n - 1] == '/')
			to.n--;
		status = get ? 301 : 307;
		if (!is_route(x->method, buf_slice(&to)))
			buf_clear(&to);
	}
	bool elsewhere = !buf_error(&to) && to.n && !slice_eq(buf_slice(&to), x->path);
	if (elsewhere) {
		if (x->query.n) {
			buf_add_char(&to, '?');
			buf_add_slice(&to, x->query);
		}
		x->location = buf_cstr(&to);
		http_reply(x, status, get ? "text/html; charset=utf-8" : NULL, SLICE(""));
	}
	buf_free(&to);
	return elsewhere;
}
