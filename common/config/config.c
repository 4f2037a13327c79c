#include "common/config/config.h"

#include "common/base/hash.h"
#include "common/config/config_schema.h"
#include "common/config/config_text.h"
#include "common/config/small.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int config_defaults(struct config *out)
{
	*out = (struct config){0};
	int rc = config_schema_defaults(config_schema_main, out);
	small_defaults(out);
	if (rc)
		config_free(out);
	return rc;
}

void config_free(struct config *c)
{
	for (size_t i = 0; i < c->device_count; i++)
		config_schema_free(config_schema_device, &c->devices[i]);
	for (size_t i = 0; i < c->alias_count; i++)
		config_schema_free(config_schema_alias, &c->aliases[i]);
	for (size_t i = 0; i < c->small.rule_count; i++)
		config_schema_free(config_schema_small, &c->small.rules[i]);
	config_schema_free(config_schema_main, c);
	keys_free(&c->access.keys);
	*c = (struct config){0};
}

const struct config_device *config_device(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->device_count; i++)
		if (strcmp(c->devices[i].name, name) == 0)
			return &c->devices[i];
	return NULL;
}

/* --- devices --- */

static void check_command(struct config_reader *r, const config_setting_t *backend, char **argv)
{
	if (!argv[0][0])
		config_problem(r, backend, "command", "must begin with a program");
	for (size_t i = 1; argv[i]; i++)
		if (strcmp(argv[i], "--host") == 0 || strcmp(argv[i], "--port") == 0)
			config_problem(r, backend, "command",
				"must not hold %s: tandem picks the address and appends it",
				argv[i]);
}

static void missing_type(struct config_reader *r, const config_setting_t *backend)
{
	char names[128] = "";
	for (const char *const *n = backend_type_names; *n; n++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			names[0] ? ", " : "", *n);
	config_problem(r, backend, "type", "missing (one of: %s)", names);
}

static void check_backend(
	struct config_reader *r, const config_setting_t *at, const struct config_backend *b)
{
	const config_setting_t *backend = config_setting_get_member(at, "backend");

	if (!backend) {
		config_problem(r, at, "backend",
			"missing: backend = { type = \"ollama\"; url = \"http://127.0.0.1:11434\"; "
			"};");
		return;
	}
	if (!config_setting_is_group(backend))
		return; /* told already */
	if (!config_setting_get_member(backend, "type"))
		missing_type(r, backend);
	if (!config_setting_get_member(backend, "url") &&
		!config_setting_get_member(backend, "command"))
		config_problem(r, backend, NULL,
			"needs url (attach), command (start), or both (attach, else start)");
	if (b->command)
		check_command(r, backend, b->command);
}

/* Workers append paths that begin with a slash, and with /v1 where OpenAI's clients have it in their
 * base. */
static void trim_url(char *url)
{
	size_t n = url ? strlen(url) : 0;
	while (n && url[n - 1] == '/')
		url[--n] = '\0';
	if (n > 3 && strcmp(url + n - 3, "/v1") == 0)
		url[n - 3] = '\0';
}

static void read_device(struct config_reader *r, const config_setting_t *at, struct config *out)
{
	struct config_device *d = &out->devices[out->device_count];

	if (config_schema_defaults(config_schema_device, d))
		r->no_memory = true;
	unsigned problems = r->problems;
	config_schema_read(r, config_schema_device, at, d);
	if (!config_setting_get_member(at, "name"))
		config_problem(r, at, "name", "missing: every device needs one");
	else if (d->name[0] && config_device(out, d->name))
		config_problem(r, at, "name", "\"%s\" is the name of an earlier device", d->name);
	if (!config_setting_get_member(at, "roles"))
		config_problem(r, at, "roles",
			"missing: roles = [ \"main\" ]; or [ \"condense\" ], [ \"small\" ] or "
			"several");
	else if (!d->roles && r->problems == problems)
		config_problem(
			r, at, "roles", "must name at least one role (main, condense, small)");
	check_backend(r, at, &d->backend);

	trim_url(d->backend.url);
	out->device_count++;
}

static void read_devices(struct config_reader *r, const config_setting_t *root, struct config *out)
{
	const config_setting_t *list = config_setting_get_member(root, "devices");
	int n = list ? config_setting_length(list) : 0;
	unsigned roles = 0;
	unsigned problems = r->problems;

	if (list && config_setting_type(list) != CONFIG_TYPE_LIST) {
		config_problem(
			r, list, NULL, "must be a list of groups: devices = ( { ... }, { ... } );");
		return;
	}
	if (n > CONFIG_DEVICES_MAX) {
		config_problem(r, list, NULL, "more than %d devices", CONFIG_DEVICES_MAX);
		return;
	}
	for (int i = 0; i < n; i++) {
		const config_setting_t *at = config_setting_get_elem(list, (unsigned)i);
		if (config_setting_is_group(at))
			read_device(r, at, out);
		else
			config_problem(r, at, NULL, "must be a group: { name = \"gpu0\"; ... }");
	}
	for (size_t i = 0; i < out->device_count; i++)
		roles |= out->devices[i].roles;
	if (n == 0)
		config_problem(
			r, list ? list : root, list ? NULL : "devices", "no device is configured");
	else if (!(roles & ROLE_MAIN) && r->problems == problems)
		config_problem(r, list, NULL, "no device has the role \"main\"");
}

/* --- the whole file --- */

/* name_a <= name_b of one group, reported at whichever of them the file sets. */
static void check_order(struct config_reader *r, const config_setting_t *root, const char *group,
	const char *name_a, int64_t a, const char *name_b, int64_t b)
{
	if (a <= b)
		return;
	const config_setting_t *g = config_setting_get_member(root, group);
	const config_setting_t *at = config_setting_get_member(g, name_a);
	if (!at)
		at = config_setting_get_member(g, name_b);
	config_problem(r, at, NULL, "%s (%lld) must not be larger than %s (%lld)", name_a,
		(long long)a, name_b, (long long)b);
}

/* Who may ask: clients with a key, or those of this machine, unless the file says that anybody may. */
static void read_access(struct config_reader *r, const config_setting_t *root, struct config *out)
{
	const config_setting_t *listen = config_setting_get_member(root, "listen");
	if (!out->listen.certificate != !out->listen.key)
		config_problem(r, listen, NULL, "certificate and key go together");
	if (config_has_keys(out)) {
		int rc = keys_load(out->access.key_file, &out->access.keys, r->err);
		r->no_memory |= rc == -ENOMEM;
		r->problems += rc != 0;
	} else if (!out->access.open && !config_address_is_local(out->listen.address)) {
		config_problem(r, listen, "address",
			"anybody on the network could use the models: make keys for those who may "
			"(`tandemctl key add NAME`, then access = { key_file = \"FILE\"; };), or "
			"say that all may (access = { open = true; };)");
	}
}

static void read_settings(struct config_reader *r, const config_setting_t *root, struct config *out)
{
	config_schema_read(r, config_schema_main, root, out);
	read_devices(r, root, out);
	models_read(r, root, out);
	small_read(r, root, out);
	read_access(r, root, out);
	check_order(r, root, "routing", "a_max_tokens", out->routing.a_max_tokens, "b_max_tokens",
		out->routing.b_max_tokens);
	check_order(r, root, "backoff", "first_ms", out->backoff.first_ms, "max_ms",
		out->backoff.max_ms);
	check_order(r, root, "limits", "body_bytes", out->limits.body_bytes, "body_total_bytes",
		out->limits.body_total_bytes);
	if (r->problems > CONFIG_PROBLEMS_MAX)
		buf_printf(r->err, "and %u more problems\n", r->problems - CONFIG_PROBLEMS_MAX);
}

/*
 * The last text that libconfig did not understand. It leaks a string that stands where none may, so
 * that a reload tried again and again would grow without end: the same text is not given to it
 * twice. Its words are static.
 */
static struct {
	uint64_t hash;
	size_t n;
	unsigned line;
	const char *words; /* NULL: none yet */
} last_bad;

static void report_syntax(struct config_reader *r, unsigned line, const char *words)
{
	struct config_place place = config_text_place(&r->text, line);
	struct slice text = config_text_line(&r->text, line);
	int shown = text.n > 60 ? 60 : (int)text.n;

	r->problems++;
	buf_printf(r->err, "%s:%u: %s", place.file, place.line, words);
	if (shown)
		buf_printf(r->err, " in or before '%.*s'\n", shown, text.p);
	else
		buf_printf(r->err, " in or before this line\n");
}

int config_load(const char *path, struct config *out, struct buf *err)
{
	struct config_reader r = {.err = err};
	config_t file;
	int rc = config_defaults(out);

	if (rc)
		return rc;
	rc = config_text_init(&r.text, path, err);
	if (rc)
		goto out_text;

	uint64_t hash = hash_fnv(HASH_FNV_START, r.text.text.p, r.text.text.n);
	if (last_bad.words && last_bad.n == r.text.text.n && last_bad.hash == hash) {
		report_syntax(&r, last_bad.line, last_bad.words);
	} else {
		config_init(&file);
		if (config_read_string(&file, buf_cstr(&r.text.text))) {
			read_settings(&r, config_root_setting(&file), out);
		} else {
			last_bad.hash = hash;
			last_bad.n = r.text.text.n;
			last_bad.line = (unsigned)config_error_line(&file);
			last_bad.words = config_error_text(&file);
			report_syntax(&r, last_bad.line, last_bad.words);
		}
		config_destroy(&file);
	}
	rc = r.no_memory ? -ENOMEM : r.problems ? -EINVAL : 0;
out_text:
	config_text_fini(&r.text);
	if (rc)
		config_free(out);
	return rc;
}
