#include "supervisor/ctl/init.h"

#include "supervisor/ctl/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

bool ollama_base_url(const char *host, char *out, size_t size)
{
	const char *port = "11434", *path;
	char name[OLLAMA_URL_BYTES];

	if (strncmp(host, "http://", 7) == 0) {
		host += 7;
		port = "80";
	} else if (strncmp(host, "https://", 8) == 0) {
		return false; /* workers speak no TLS */
	}
	size_t authority = strcspn(host, "/");
	path = host + authority;
	size_t n = *host == '[' ? strcspn(host, "]/") + (host[strcspn(host, "]/")] == ']')
				: strcspn(host, ":/");
	if (n >= sizeof(name))
		return false;
	memcpy(name, host, n);
	name[n] = '\0';
	char number[8];
	if (host[n] == ':') {
		size_t digits = authority - n - 1;
		if (digits >= sizeof(number))
			return false;
		memcpy(number, host + n + 1, digits);
		number[digits] = '\0';
		port = number;
	}
	if (n == 0 || strcmp(name, "0.0.0.0") == 0)
		strcpy(name, "127.0.0.1");
	else if (strcmp(name, "[::]") == 0)
		strcpy(name, "[::1]");
	int len = snprintf(out, size, "http://%s:%s%s", name, port, path);
	if (len < 0 || (size_t)len >= size)
		return false;
	while (len > 0 && out[len - 1] == '/')
		out[--len] = '\0';
	return true;
}

/* --- HTTP --- */

static size_t take(char *p, size_t size, size_t n, void *user)
{
	return buf_add(user, p, size * n) ? 0 : size * n;
}

/* GETs url+path. *root is the validated JSON object over *body. */
static int get_json(const char *url, const char *path, struct buf *body, struct json_value *root)
{
	char full[OLLAMA_URL_BYTES + 32];
	long status = 0;
	CURL *curl = curl_easy_init();

	if (!curl)
		return -ENOMEM;
	buf_clear(body);
	snprintf(full, sizeof(full), "%s%s", url, path);
	curl_easy_setopt(curl, CURLOPT_URL, full);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)OLLAMA_TIMEOUT_MS);
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* never by way of $http_proxy */
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
	CURLcode rc = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	if (rc != CURLE_OK && status == 0)
		return -ECONNREFUSED;
	if (rc != CURLE_OK || status != 200 ||
		json_parse(buf_slice(body), JSON_MAX_DEPTH, root, NULL) ||
		!json_is(*root, JSON_OBJECT))
		return -EPROTO;
	return 0;
}

/* --- models --- */

static bool contains(const char *text, const char *word)
{
	return strcasestr(text, word) != NULL;
}

static bool lists(struct json_value array, const char *word)
{
	struct json_iter it = json_iter(array);
	struct json_value v;
	while (json_array_next(&it, &v))
		if (json_string_is(v, word))
			return true;
	return false;
}

static bool can_chat(struct json_value model, const char *name)
{
	struct json_value capabilities = json_get(model, "capabilities");
	struct json_value details = json_get(model, "details");
	char family[64];

	if (!json_is(json_get(model, "remote_host"), JSON_NONE))
		return false; /* runs in somebody's cloud */
	if (json_is(capabilities, JSON_ARRAY))
		return lists(capabilities, "completion");
	ctl_text(details, "family", family, sizeof(family));
	return !contains(family, "bert") && !contains(name, "embed") && !contains(name, "bge-") &&
	       !contains(name, "minilm") && !contains(name, "rerank");
}

static void read_tags(struct ollama *o, struct json_value tags)
{
	struct json_iter it = json_iter(json_get(tags, "models"));
	struct json_value model;

	while (o->count < OLLAMA_MODELS_MAX && json_array_next(&it, &model)) {
		struct ollama_model *m = &o->models[o->count];
		struct json_value name = json_get(model, "name");
		if (!json_is(name, JSON_STRING) || name.raw.n > sizeof(m->name))
			continue;
		*m = (struct ollama_model){.bytes = ctl_int(model, "size")};
		ctl_text(model, "name", m->name, sizeof(m->name));
		m->window = ctl_int(json_get(model, "details"), "context_length");
		m->chat = can_chat(model, m->name);
		o->count++;
	}
}

static void read_ps(struct ollama *o, struct json_value ps)
{
	struct json_iter it = json_iter(json_get(ps, "models"));
	struct json_value model;

	while (json_array_next(&it, &model)) {
		int64_t window = ctl_int(model, "context_length");
		for (size_t i = 0; i < o->count; i++)
			if (json_string_is(json_get(model, "name"), o->models[i].name))
				o->models[i].loaded =
					window > 0 ? window : 4096; /* old ones don't tell */
	}
}

int ollama_ask(struct ollama *o)
{
	struct json_value root;
	struct buf body;
	int rc;

	buf_init(&body, CTL_ANSWER_BYTES);
	o->count = 0;
	rc = get_json(o->url, "/api/version", &body, &root);
	if (rc == 0 && !json_is(json_get(root, "version"), JSON_STRING))
		rc = -EPROTO;
	if (rc)
		goto out;
	ctl_text(root, "version", o->version, sizeof(o->version));
	rc = get_json(o->url, "/api/tags", &body, &root);
	if (rc)
		goto out;
	read_tags(o, root);
	if (get_json(o->url, "/api/ps", &body, &root) == 0)
		read_ps(o, root);
out:
	buf_free(&body);
	return rc;
}

const struct ollama_model *ollama_main_model(const struct ollama *o)
{
	const struct ollama_model *best = NULL;
	for (size_t i = 0; i < o->count; i++) {
		const struct ollama_model *m = &o->models[i];
		if (m->chat && (!best || !m->loaded < !best->loaded ||
				       (!m->loaded == !best->loaded && m->bytes > best->bytes)))
			best = m;
	}
	return best;
}

const struct ollama_model *ollama_small_model(const struct ollama *o)
{
	const struct ollama_model *best = NULL;
	for (size_t i = 0; i < o->count; i++) {
		const struct ollama_model *m = &o->models[i];
		if (m->chat && (!best || m->bytes < best->bytes))
			best = m;
	}
	return best;
}
