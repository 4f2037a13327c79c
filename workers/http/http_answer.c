/* What an answer's head says. */
#include "workers/http/http_internal.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#define HTTP_RETRY_AFTER_MAX_S 86400

const char *http_tls_problem(const struct http_transfer *t)
{
	return t->error;
}

bool http_header_next(
	const struct http_transfer *t, size_t *at, struct slice *name, struct slice *value)
{
	while (*at < t->head.n) {
		const char *line = t->head.p + *at;
		const char *end = memchr(line, '\n', t->head.n - *at);
		if (!end)
			return false;
		*at = (size_t)(end - t->head.p) + 1;
		const char *colon = memchr(line, ':', (size_t)(end - line));
		if (!colon || colon == line)
			continue;
		const char *v = colon + 1;
		while (v < end && (*v == ' ' || *v == '\t'))
			v++;
		while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
		*name = (struct slice){line, (size_t)(colon - line)};
		*value = (struct slice){v, (size_t)(end - v)};
		return true;
	}
	return false;
}

struct slice http_header(const struct http_transfer *t, const char *name)
{
	struct slice n, v;
	for (size_t at = 0; http_header_next(t, &at, &n, &v);)
		if (slice_ieq(n, slice_str(name)))
			return v;
	return (struct slice){0};
}

int64_t http_retry_after_s(const struct http_transfer *t)
{
	char text[64];
	struct slice value = http_header(t, "retry-after");
	if (value.n == 0 || value.n >= sizeof(text))
		return 0;
	memcpy(text, value.p, value.n);
	text[value.n] = '\0';
	char *end;
	double s = strtod(text, &end); /* some services send fractions */
	if (end == text || *end)
		s = difftime(curl_getdate(text, NULL), time(NULL));
	return s > 0 && s < HTTP_RETRY_AFTER_MAX_S ? (int64_t)ceil(s) : 0;
}
