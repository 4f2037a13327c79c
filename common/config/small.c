#include "common/config/small.h"

#include "common/config/config_schema.h"
#include "common/config/config_suggest.h"
#include "common/config/models.h"

static const char *const kind_names[] = {
	"any", "title", "tags", "follow-ups", "autocomplete", "embeddings", NULL};
_Static_assert(sizeof(kind_names) / sizeof(*kind_names) == SMALL_KINDS + 1, "kind names");

const char *small_kind_name(enum small_kind kind)
{
	return kind_names[kind];
}

void small_defaults(struct config *c)
{
	c->small.rule_count = 0;
	for (unsigned kind = SMALL_ANY + 1; kind < SMALL_KINDS; kind++)
		c->small.rules[c->small.rule_count++] =
			(struct config_small_rule){.kind = (enum small_kind)kind};
}

/* --- which one holds --- */

/* What a pattern says of a beginning is a pattern of the whole with a "*" behind it. */
static bool begins(const char *pattern, struct slice text)
{
	char open[CONFIG_SMALL_TEXT_BYTES + 2];
	size_t n = strlen(pattern);
	if (n > CONFIG_SMALL_TEXT_BYTES)
		return false;
	memcpy(open, pattern, n);
	open[n] = '*';
	return models_match((struct slice){open, n + 1}, text);
}

static bool holds(const struct config_small_rule *r, const struct small_facts *f)
{
	return (r->kind == SMALL_ANY || r->kind == f->kind) &&
	       (!r->text || (f->text.n && begins(r->text, f->text))) &&
	       (!r->model || models_match_name(slice_str(r->model), f->model)) &&
	       (!r->path || models_match(slice_str(r->path), f->path));
}

const struct config_small_rule *small_rule(const struct config *c, const struct small_facts *f)
{
	for (size_t i = 0; i < c->small.rule_count; i++)
		if (holds(&c->small.rules[i], f))
			return &c->small.rules[i];
	return NULL;
}

/* --- reading --- */

static const char *check_pattern(const char *text)
{
	size_t n = strlen(text);
	return n && n <= CONFIG_SMALL_TEXT_BYTES ? NULL : "must be a pattern of 1 to 512 bytes";
}

static const char *check_path(const char *text)
{
	if (*text != '/' && *text != '*')
		return "must begin with \"/\", or with \"*\"";
	return check_pattern(text);
}

/* Whether there is such a device is known once all of them are. */
static const char *check_use(const char *text)
{
	return *text ? NULL : "must be a device's name, or \"small\", or \"main\"";
}

static const struct config_key rule_keys[] = {
	{.name = "kind",
		.type = KEY_ENUM,
		.names = kind_names,
		.offset = offsetof(struct config_small_rule, kind)},
	{.name = "text",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_small_rule, text),
		.check = check_pattern},
	{.name = "model",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_small_rule, model),
		.check = check_pattern},
	{.name = "path",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_small_rule, path),
		.check = check_path},
	{.name = "use",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_small_rule, use),
		.check = check_use},
};

const struct config_schema config_schema_small = {
	rule_keys, sizeof(rule_keys) / sizeof(*rule_keys)};

static void check_device(struct config_reader *r, const config_setting_t *at, const char *use,
	const struct config *c)
{
	struct suggest near;
	if (!use || strcmp(use, SMALL_ROLE) == 0 || strcmp(use, SMALL_MAIN) == 0 ||
		config_device(c, use))
		return;
	suggest_init(&near, use);
	suggest_offer(&near, SMALL_ROLE);
	suggest_offer(&near, SMALL_MAIN);
	for (size_t i = 0; i < c->device_count; i++)
		suggest_offer(&near, c->devices[i].name);
	if (near.best)
		config_problem(
			r, at, "use", "no device \"%.64s\", did you mean '%s'?", use, near.best);
	else
		config_problem(r, at, "use",
			"no device \"%.64s\" (a device's name, or \"small\", or \"main\")", use);
}

static void read_rule(struct config_reader *r, const config_setting_t *at, struct config *out)
{
	struct config_small_rule *rule = &out->small.rules[out->small.rule_count++];
	unsigned problems = r->problems;
	*rule = (struct config_small_rule){.kind = SMALL_ANY};
	config_schema_read(r, config_schema_small, at, rule);
	if (r->problems == problems && rule->kind == SMALL_ANY && !rule->text && !rule->model &&
		!rule->path)
		config_problem(r, at, NULL,
			"says of no request that it is small: it needs kind, text, model or path");
	check_device(r, at, rule->use, out);
}

void small_read(struct config_reader *r, const config_setting_t *root, struct config *out)
{
	const config_setting_t *group = config_setting_get_member(root, "small");
	const config_setting_t *list = group && config_setting_is_group(group)
					       ? config_setting_get_member(group, "rules")
					       : NULL;
	int n = list ? config_setting_length(list) : 0;
	if (!list)
		return;
	if (config_setting_type(list) != CONFIG_TYPE_LIST &&
		!(config_setting_type(list) == CONFIG_TYPE_ARRAY && n == 0)) {
		config_problem(r, list, NULL,
			"must be a list of groups: rules = ( { kind = \"title\"; } );");
		return;
	}
	if (n > CONFIG_SMALL_RULES_MAX) {
		config_problem(r, list, NULL, "more than %d rules", CONFIG_SMALL_RULES_MAX);
		return;
	}
	out->small.rule_count = 0;
	for (int i = 0; i < n; i++) {
		const config_setting_t *at = config_setting_get_elem(list, (unsigned)i);
		if (config_setting_is_group(at))
			read_rule(r, at, out);
		else
			config_problem(r, at, NULL, "must be a group: { kind = \"title\"; }");
	}
}
