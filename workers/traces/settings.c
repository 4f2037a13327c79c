#include "workers/traces/settings.h"

#include <errno.h>
#include <stdlib.h>

#define PATH_DEFAULT "/v1/traces"

static char *text(struct json_value root, const char *name)
{
	return json_string_dup(json_get(root, name));
}

static int64_t number(struct json_value root, const char *name)
{
	int64_t n = -1;
	json_to_int(json_get(root, name), &n);
	return n;
}

/* A path of the endpoint's own is the whole of it. */
static void split(struct traces_settings *s, const char *endpoint)
{
	const char *host = strstr(endpoint, "://");
	size_t n = host ? (size_t)(host - endpoint) + 3 : 0;
	n += strcspn(endpoint + n, "/");
	bool has_path = endpoint[n] && strcmp(endpoint + n, "/") != 0;
	s->base = slice_dup((struct slice){endpoint, n});
	s->target = slice_dup(slice_str(has_path ? endpoint + n : PATH_DEFAULT));
}

int traces_settings_read(struct traces_settings *s, struct slice line)
{
	struct json_value root;
	struct json_error bad;
	*s = (struct traces_settings){.base = NULL};
	if (json_parse(line, JSON_MAX_DEPTH, &root, &bad) || !json_is(root, JSON_OBJECT))
		return -EINVAL;
	char *endpoint = text(root, "endpoint");
	if (endpoint)
		split(s, endpoint);
	free(endpoint);
	s->headers_file = text(root, "headers_file");
	s->ca_file = text(root, "ca_file");
	s->resource = slice_dup(json_get(root, "resource").raw);
	s->connect_ms = number(root, "connect_ms");
	s->timeout_ms = number(root, "timeout_ms");
	s->delay_ms = number(root, "delay_ms");
	s->batch_spans = number(root, "batch_spans");
	s->queue_bytes = number(root, "queue_bytes");
	s->last_ms = number(root, "last_ms");
	s->log_level = (enum log_level)number(root, "log_level");
	s->log_format = (enum log_format)number(root, "log_format");
	s->log_buffer_bytes = number(root, "log_buffer_bytes");
	bool good = s->base && s->target && s->resource && s->connect_ms >= 0 &&
		    s->timeout_ms >= 0 && s->delay_ms >= 0 && s->last_ms >= 0 &&
		    s->batch_spans > 0 && s->queue_bytes > 0 && s->log_level <= LOG_ERROR &&
		    s->log_format <= LOG_JSON;
	return good ? 0 : -EINVAL;
}

void traces_settings_fini(struct traces_settings *s)
{
	free(s->base);
	free(s->target);
	free(s->headers_file);
	free(s->ca_file);
	free(s->resource);
	*s = (struct traces_settings){.base = NULL};
}
