#include "tests/fake/script.h"
#include "tests/fake/mem.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>

struct rule {
	struct rule *next;
	char *match;	/* substring of path or body; NULL: any request for an answer */
	int64_t times;	/* runs left; -1: always */
	int64_t skip;	/* matching requests let through first */
	char *settings; /* the object's JSON, replayed on each run */
};

void script_init(struct script *s)
{
	*s = (struct script){0};
	s->hang_after = s->cut_after = s->end_after = s->error_after = s->garbage_after = -1;
	s->tokens = s->thinking = -1;
	buf_init(&s->text, SCRIPT_TEXT_MAX);
	buf_init(&s->error, SCRIPT_TEXT_MAX);
	buf_init(&s->retry_after, 256);
	for (size_t i = 0; i < SCRIPT_TOOLS; i++) {
		buf_init(&s->tools[i].name, SCRIPT_TEXT_MAX);
		buf_init(&s->tools[i].args, SCRIPT_TEXT_MAX);
	}
}

void script_fini(struct script *s)
{
	buf_free(&s->text);
	buf_free(&s->error);
	buf_free(&s->retry_after);
	for (size_t i = 0; i < SCRIPT_TOOLS; i++) {
		buf_free(&s->tools[i].name);
		buf_free(&s->tools[i].args);
	}
}

static int set_text(struct buf *b, struct slice value)
{
	buf_clear(b);
	return buf_add_slice(b, value);
}

static bool is(struct slice s, const char *text)
{
	return slice_eq(s, slice_str(text));
}

static int parse_count(struct slice value, int64_t *out)
{
	int64_t n = 0;

	if (!value.n || value.n > 15)
		return -EINVAL;
	for (size_t i = 0; i < value.n; i++) {
		if (!isdigit((unsigned char)value.p[i]))
			return -EINVAL;
		n = n * 10 + (value.p[i] - '0');
	}
	*out = n;
	return 0;
}

/* fault=KIND, where KIND is a status, a name, or a key of its own such as cut=3. */
static int set_fault(struct script *s, struct slice kind)
{
	static const struct {
		const char *name;
		enum fault fault;
	} named[] = {
		{"refuse", FAULT_REFUSE},
		{"hang", FAULT_HANG},
		{"garbage", FAULT_GARBAGE},
		{"badhttp", FAULT_BADHTTP},
		{"empty", FAULT_EMPTY},
		{"none", FAULT_NONE},
	};
	const char *eq = memchr(kind.p, '=', kind.n);
	int64_t status;

	if (eq) {
		size_t n = (size_t)(eq - kind.p);

		return script_set(
			s, (struct slice){kind.p, n}, (struct slice){eq + 1, kind.n - n - 1});
	}
	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++) {
		if (is(kind, named[i].name)) {
			s->fault = named[i].fault;
			return 0;
		}
	}
	if (is(kind, "drip"))
		return script_set(s, SLICE("drip"), SLICE("50"));
	if (is(kind, "ctype") || is(kind, "close"))
		return script_set(s, kind, SLICE("1"));
	if (parse_count(kind, &status) < 0 || status < 400 || status > 599)
		return -EINVAL;
	s->fault = FAULT_STATUS;
	s->status = (int)status;
	return 0;
}

static int set_tool(struct script *s, struct slice name)
{
	struct script_tool *tool;

	if (s->tool_count == SCRIPT_TOOLS)
		return -EINVAL;
	tool = &s->tools[s->tool_count++];
	set_text(&tool->args, SLICE("{}"));
	return set_text(&tool->name, name);
}

static int set_args(struct script *s, struct slice args)
{
	struct json_value v;

	if (!s->tool_count || json_parse(args, JSON_MAX_DEPTH, &v, NULL) < 0 ||
		!json_is(v, JSON_OBJECT))
		return -EINVAL;
	return set_text(&s->tools[s->tool_count - 1].args, args);
}

static int set_number(struct script *s, struct slice key, int64_t n)
{
	const struct {
		const char *name;
		int64_t *wide;
		unsigned *narrow;
		size_t *size;
		bool *flag;
	} keys[] = {
		{"tokens", .wide = &s->tokens},
		{"thinking", .wide = &s->thinking},
		{"quote", .wide = &s->quote},
		{"excerpt", .wide = &s->excerpt},
		{"hang_after", .wide = &s->hang_after},
		{"cut", .wide = &s->cut_after},
		{"end", .wide = &s->end_after},
		{"error_after", .wide = &s->error_after},
		{"garbage_after", .wide = &s->garbage_after},
		{"delay_ms", .narrow = &s->delay_ms},
		{"headers", .narrow = &s->head_ms},
		{"drip", .narrow = &s->drip_ms},
		{"chunk_bytes", .size = &s->chunk_bytes},
		{"hugeline", .size = &s->hugeline},
		{"header_bytes", .size = &s->header_bytes},
		{"type_bytes", .size = &s->type_bytes},
		{"ctype", .flag = &s->wrong_ctype},
		{"close", .flag = &s->close_after},
		{"tools_in_final", .flag = &s->tools_in_final},
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (!is(key, keys[i].name))
			continue;
		if ((keys[i].narrow && n > UINT_MAX) || (keys[i].size && n > SCRIPT_TEXT_MAX))
			return -EINVAL;
		if (keys[i].wide)
			*keys[i].wide = n;
		else if (keys[i].narrow)
			*keys[i].narrow = (unsigned)n;
		else if (keys[i].size)
			*keys[i].size = (size_t)n;
		else
			/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): each key has one of the four */
			*keys[i].flag = n != 0;
		return 0;
	}
	return -EINVAL;
}

int script_set(struct script *s, struct slice key, struct slice value)
{
	int64_t n;

	if (is(key, "fault"))
		return set_fault(s, value);
	if (is(key, "text")) {
		s->has_text = true;
		return set_text(&s->text, value);
	}
	if (is(key, "error"))
		return set_text(&s->error, value);
	if (is(key, "retry_after"))
		return set_text(&s->retry_after, value);
	if (is(key, "tool"))
		return set_tool(s, value);
	if (is(key, "args"))
		return set_args(s, value);
	return parse_count(value, &n) < 0 ? -EINVAL : set_number(s, key, n);
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c)    ? c - '0'
	       : isxdigit((unsigned char)c) ? (c | 32) - 'a' + 10
					    : -1;
}

static void url_decode(struct slice s, struct buf *out)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '%' && i + 2 < s.n && hex_digit(s.p[i + 1]) >= 0 &&
			hex_digit(s.p[i + 2]) >= 0) {
			buf_add_char(
				out, (char)(hex_digit(s.p[i + 1]) << 4 | hex_digit(s.p[i + 2])));
			i += 2;
		} else {
			buf_add_char(out, s.p[i] == '+' ? ' ' : s.p[i]);
		}
	}
}

int script_directive(struct script *s, struct slice message)
{
	const char *at = message.p, *end = message.p + message.n, *found = NULL, *close;
	struct buf value;
	int err = 0;

	while (at && (at = memmem(at, (size_t)(end - at), "[[fake ", 7)))
		found = at += 7;
	if (!found || !(close = memmem(found, (size_t)(end - found), "]]", 2)))
		return 0;
	buf_init(&value, SCRIPT_TEXT_MAX);
	while (!err && found < close) {
		const char *stop = found, *eq;

		while (stop < close && *stop != '&' && !isspace((unsigned char)*stop))
			stop++;
		eq = memchr(found, '=', (size_t)(stop - found));
		if (eq) {
			buf_clear(&value);
			url_decode((struct slice){eq + 1, (size_t)(stop - eq) - 1}, &value);
			err = script_set(
				s, (struct slice){found, (size_t)(eq - found)}, buf_slice(&value));
		} else if (stop > found) {
			err = -EINVAL;
		}
		found = stop + 1;
	}
	buf_free(&value);
	return err;
}

/* Plays a rule's members into s, past name, match, times and skip. */
static int replay(struct json_value object, struct script *s)
{
	struct json_iter it = json_iter(object);
	struct json_value key, value;
	struct buf k, v;
	int err = 0;

	buf_init(&k, 4096);
	buf_init(&v, SCRIPT_TEXT_MAX);
	while (!err && json_object_next(&it, &key, &value)) {
		buf_clear(&k);
		buf_clear(&v);
		json_string_decode(key, &k);
		if (json_is(value, JSON_STRING))
			json_string_decode(value, &v);
		else if (json_is(value, JSON_TRUE) || json_is(value, JSON_FALSE))
			buf_add_char(&v, json_is(value, JSON_TRUE) ? '1' : '0');
		else
			buf_add_slice(&v, value.raw);
		if (!is(buf_slice(&k), "match") && !is(buf_slice(&k), "times") &&
			!is(buf_slice(&k), "skip") && !is(buf_slice(&k), "name"))
			err = script_set(s, buf_slice(&k), buf_slice(&v));
	}
	buf_free(&k);
	buf_free(&v);
	return err;
}

static void rule_free(struct rule *rule)
{
	free(rule->match);
	free(rule->settings);
	free(rule);
}

/* A rule with a name takes the place of the one that had it. */
static void forget_named(struct rules *rules, struct json_value name)
{
	for (struct rule **at = &rules->first; *at && json_is(name, JSON_STRING);) {
		struct rule *rule = *at;
		struct json_value settings;

		if (json_parse(slice_str(rule->settings), JSON_MAX_DEPTH, &settings, NULL) == 0 &&
			slice_eq(json_get(settings, "name").raw, name.raw)) {
			*at = rule->next;
			rule_free(rule);
		} else {
			at = &rule->next;
		}
	}
}

int rules_add(struct rules *rules, struct json_value object)
{
	struct json_value match = json_get(object, "match");
	struct rule *rule, **last = &rules->first;
	struct script trial;
	int err;

	if (!json_is(object, JSON_OBJECT))
		return -EINVAL;
	script_init(&trial);
	err = replay(object, &trial);
	script_fini(&trial);
	if (err)
		return err;
	rule = mem_zalloc(sizeof(*rule));
	rule->times = 1;
	json_to_int(json_get(object, "times"), &rule->times);
	json_to_int(json_get(object, "skip"), &rule->skip);
	rule->match = json_is(match, JSON_STRING) ? json_string_dup(match) : NULL;
	rule->settings = slice_dup(object.raw);
	if (!rule->settings) {
		free(rule->match);
		free(rule);
		return -ENOMEM;
	}
	forget_named(rules, json_get(object, "name"));
	while (*last)
		last = &(*last)->next;
	*last = rule;
	return 0;
}

static bool matches(const struct rule *rule, struct slice path, struct slice body, bool generates)
{
	size_t n;

	if (!rule->match)
		return generates;
	n = strlen(rule->match);
	return memmem(path.p, path.n, rule->match, n) ||
	       (body.n && memmem(body.p, body.n, rule->match, n));
}

void rules_apply(
	struct rules *rules, struct slice path, struct slice body, bool generates, struct script *s)
{
	for (struct rule *rule = rules->first; rule; rule = rule->next) {
		struct json_value settings;

		if (rule->times == 0 || !matches(rule, path, body, generates))
			continue;
		if (rule->skip > 0) {
			rule->skip--;
			continue;
		}
		if (rule->times > 0)
			rule->times--;
		if (json_parse(slice_str(rule->settings), JSON_MAX_DEPTH, &settings, NULL) == 0)
			replay(settings, s);
		return;
	}
}

void rules_clear(struct rules *rules)
{
	while (rules->first) {
		struct rule *rule = rules->first;

		rules->first = rule->next;
		rule_free(rule);
	}
}

size_t rules_count(const struct rules *rules)
{
	size_t n = 0;

	for (const struct rule *rule = rules->first; rule; rule = rule->next)
		n += rule->times != 0;
	return n;
}
