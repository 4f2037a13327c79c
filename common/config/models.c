#include "common/config/models.h"

#include "common/config/config_schema.h"

/* --- patterns --- */

/* A wildcard of the text is taken by "*" alone: so a pattern that matches another one's text matches
 * all that the other one does. */
static bool same(char pattern, char c)
{
	if (pattern == '?')
		return c != '*';
	return slice_ieq((struct slice){&pattern, 1}, (struct slice){&c, 1});
}

/* Only the last "*" is ever taken back: quadratic at worst. */
bool models_match(struct slice pattern, struct slice text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, from = 0;
	while (t < text.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = p++;
			from = t;
		} else if (p < pattern.n && same(pattern.p[p], text.p[t])) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++from;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.p[p] == '*')
		p++;
	return p == pattern.n;
}

bool models_match_name(struct slice pattern, struct slice name)
{
	struct slice tail = SLICE(":latest");
	if (models_match(pattern, name))
		return true;
	size_t rest = name.n > tail.n ? name.n - tail.n : 0;
	return rest && slice_ieq((struct slice){name.p + rest, tail.n}, tail) &&
	       models_match(pattern, (struct slice){name.p, rest});
}

const struct config_alias *models_alias(const struct config *c, struct slice name)
{
	if (name.n == 0 || name.n > CONFIG_ALIAS_BYTES)
		return NULL;
	for (size_t i = 0; i < c->alias_count; i++)
		if (models_match_name(slice_str(c->aliases[i].match), name))
			return &c->aliases[i];
	return NULL;
}

bool models_is_name(const struct config_alias *a)
{
	return !strpbrk(a->match, "*?");
}

/* --- reading --- */

static const char *check_alias(const char *text)
{
	if (!*text || strlen(text) > CONFIG_ALIAS_BYTES)
		return "must be a name of 1 to 256 bytes";
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return "must be a name without spaces or control characters";
	return NULL;
}

static const char *check_use(const char *text)
{
	if (strchr(text, '*'))
		return "must be one device's or one model's name, without wildcards";
	return check_alias(text);
}

static const struct config_key alias_keys[] = {
	{.name = "match",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_alias, match),
		.check = check_alias},
	{.name = "use",
		.type = KEY_TEXT,
		.offset = offsetof(struct config_alias, use),
		.check = check_use},
};

const struct config_schema config_schema_alias = {
	alias_keys, sizeof(alias_keys) / sizeof(*alias_keys)};

/* What an earlier entry takes never comes to this one: mostly two of them in the wrong order. */
static void check_reached(
	struct config_reader *r, const config_setting_t *at, const struct config *c)
{
	const struct config_alias *a = &c->aliases[c->alias_count];
	for (size_t i = 0; i < c->alias_count; i++)
		if (a->match && c->aliases[i].match &&
			models_match(slice_str(c->aliases[i].match), slice_str(a->match))) {
			config_problem(r, at, "match",
				"\"%.128s\" is never reached: the earlier \"%.128s\" matches all "
				"of it",
				a->match, c->aliases[i].match);
			return;
		}
}

static void read_alias(struct config_reader *r, const config_setting_t *at, struct config *out)
{
	static const char *const needed[] = {"match", "use"};
	config_schema_read(r, config_schema_alias, at, &out->aliases[out->alias_count]);
	for (size_t i = 0; i < sizeof(needed) / sizeof(*needed); i++)
		if (!config_setting_get_member(at, needed[i]))
			config_problem(r, at, needed[i],
				"missing: { match = \"claude-*\"; use = \"gpu0\"; }");
	check_reached(r, at, out);
	out->alias_count++;
}

void models_read(struct config_reader *r, const config_setting_t *root, struct config *out)
{
	const config_setting_t *list = config_setting_get_member(root, "models");
	int n = list ? config_setting_length(list) : 0;
	if (!list)
		return;
	if (config_setting_type(list) != CONFIG_TYPE_LIST) {
		config_problem(r, list, NULL,
			"must be a list of groups: models = ( { match = \"claude-*\"; use = "
			"\"gpu0\"; } );");
		return;
	}
	if (n > CONFIG_ALIASES_MAX) {
		config_problem(r, list, NULL, "more than %d entries", CONFIG_ALIASES_MAX);
		return;
	}
	for (int i = 0; i < n; i++) {
		const config_setting_t *at = config_setting_get_elem(list, (unsigned)i);
		if (config_setting_is_group(at))
			read_alias(r, at, out);
		else
			config_problem(r, at, NULL,
				"must be a group: { match = \"claude-*\"; use = \"gpu0\"; }");
	}
}
