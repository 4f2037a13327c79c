#include "common/text/secret.h"

#include "common/text/lexicon.h"

#define ASSIGNED_MIN 8 /* bytes of a value worth calling a password */
#define BEARER_MIN 16

struct prefix {
	struct slice s;
	size_t min; /* bytes of the whole key */
};

static const struct prefix prefixes[] = {
	{SLICE("sk-"), 20},
	{SLICE("sk_live_"), 20},
	{SLICE("ghp_"), 30},
	{SLICE("gho_"), 30},
	{SLICE("ghs_"), 30},
	{SLICE("github_pat_"), 30},
	{SLICE("glpat-"), 20},
	{SLICE("xoxb-"), 20},
	{SLICE("xoxp-"), 20},
	{SLICE("xoxa-"), 20},
	{SLICE("AKIA"), 20},
	{SLICE("ASIA"), 20},
	{SLICE("AIza"), 35},
	{SLICE("hf_"), 30},
	{SLICE("npm_"), 30},
	{SLICE("pypi-AgEI"), 30},
	{SLICE("dckr_pat_"), 20},
	{SLICE("SG."), 40},
};

/* Folded endings of names that hold a secret. */
static const struct slice names[] = {
	SLICE("password"),
	SLICE("passwd"),
	SLICE("passphrase"),
	SLICE("secret"),
	SLICE("token"),
	SLICE("api_key"),
	SLICE("api-key"),
	SLICE("apikey"),
	SLICE("senha"),
	SLICE("access_key"),
	SLICE("secret_key"),
	SLICE("private_key"),
};

static bool has(struct slice s, struct slice part)
{
	return memmem(s.p, s.n, part.p, part.n) != NULL;
}

static bool begins(struct slice s, struct slice with)
{
	return s.n >= with.n && memcmp(s.p, with.p, with.n) == 0;
}

static void count(struct slice s, size_t *digits, size_t *letters)
{
	*digits = *letters = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		*digits += c >= '0' && c <= '9';
		*letters += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
	}
}

static bool is_key(struct slice s)
{
	size_t digits, letters;
	count(s, &digits, &letters);
	if (!digits || !letters)
		return false;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
		if (s.n >= prefixes[i].min && begins(s, prefixes[i].s))
			return true;
	/* A JSON web token: three base64url parts, the first an object. */
	return s.n >= 40 && begins(s, SLICE("eyJ")) && has(s, SLICE("."));
}

static bool is_placeholder(struct slice v)
{
	static const struct slice marks[] = {SLICE("$"), SLICE("<"), SLICE("***"), SLICE("xxx"),
		SLICE("..."), SLICE("("), SLICE("env."), SLICE("environ"), SLICE("your")};
	for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++)
		if (has(v, marks[i]))
			return true;
	return false;
}

/* What is assigned after "name": the value between quotes or up to a separator. */
static struct slice assigned(const char *p, const char *end)
{
	bool sign = false;
	for (; p < end && strchr("\"' \t:=", *p) && *p; p++)
		sign |= *p == ':' || *p == '=';
	const char *from = p;
	while (p < end && (unsigned char)*p > ' ' && !strchr("\"'`,;&", *p))
		p++;
	return (struct slice){from, sign ? (size_t)(p - from) : 0};
}

static bool names_secret(const struct token *t)
{
	char name[48];
	if (t->n < 5 || t->n > sizeof(name))
		return false;
	size_t n = text_fold((struct slice){t->p, t->n}, name, sizeof(name));
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct slice s = names[i];
		if (n >= s.n && memcmp(name + n - s.n, s.p, s.n) == 0)
			return true;
	}
	return false;
}

/* "scheme://user:password@host" */
static bool url_password(const struct token *t, struct slice *value)
{
	const char *end = t->p + t->n;
	const char *p = memmem(t->p, t->n, "://", 3);
	if (!p)
		return false;
	p += 3;
	const char *at = memchr(p, '@', (size_t)(end - p));
	const char *slash = memchr(p, '/', (size_t)(end - p));
	if (!at || (slash && slash < at))
		return false;
	const char *colon = memchr(p, ':', (size_t)(at - p));
	if (!colon || at - colon < 4)
		return false;
	*value = (struct slice){colon + 1, (size_t)(at - colon - 1)};
	return !is_placeholder(*value);
}

bool secret_at(struct slice line, const struct token *t, struct slice *value)
{
	const char *after = t->p + t->n, *end = line.p + line.n;
	size_t digits, letters;

	*value = (struct slice){t->p, t->n};
	if (t->url)
		return url_password(t, value);
	if (t->n >= 20 && t->shaped && is_key(*value))
		return true;
	if (after >= end)
		return false;
	if (*after == ' ' && t->n == 6 && slice_ieq(*value, SLICE("bearer"))) {
		struct token key;
		const char *at = after;
		if (!token_next(&at, end, &key) || key.p != after + 1)
			return false;
		*value = (struct slice){key.p, key.n};
		count(*value, &digits, &letters);
		return key.n >= BEARER_MIN && digits && letters;
	}
	if (!strchr("\"': =\t", *after) || !names_secret(t))
		return false;
	*value = assigned(after, end);
	if (value->n < ASSIGNED_MIN || is_placeholder(*value))
		return false;
	count(*value, &digits, &letters);
	return digits && letters;
}

bool secret_in(struct slice line)
{
	const char *at = line.p, *end = line.p + line.n;
	struct token t;
	struct slice value;

	while (token_next(&at, end, &t))
		if (secret_at(line, &t, &value))
			return true;
	return secret_block_begins(line);
}

static bool is_armour(struct slice line, struct slice edge)
{
	return has(line, edge) && has(line, SLICE("PRIVATE KEY-----"));
}

bool secret_block_begins(struct slice line)
{
	return is_armour(line, SLICE("-----BEGIN "));
}

bool secret_block_ends(struct slice line)
{
	return is_armour(line, SLICE("-----END "));
}
