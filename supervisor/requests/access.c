#include "supervisor/requests/access.h"

#include "common/base/log.h"
#include "supervisor/requests/request.h"

#include <stdio.h>
#include <strings.h>

#define ACCESS_RETRY_AFTER_S 2
#define REFUSAL_BYTES 512
#define CREDENTIALS_MAX 8 /* headers that may hold a key; who sends more has none */

/* --- keys --- */

/* "Bearer KEY" (RFC 6750, 2.1); the scheme's case does not count (RFC 9110, 11.1). */
static struct slice bearer(const char *value)
{
	if (strncasecmp(value, "Bearer ", 7) != 0)
		return (struct slice){0};
	value += 7;
	return slice_str(value + strspn(value, " "));
}

struct look {
	const struct keys *keys;
	unsigned seen;
	struct access found;
};

static bool look_at(void *ctx, const char *name, const char *value)
{
	struct look *look = ctx;
	unsigned header = 0;
	struct slice text = slice_str(value);
	if (strcasecmp(name, "Authorization") == 0) {
		header = ACCESS_AUTHORIZATION;
		text = bearer(value);
	} else if (strcasecmp(name, "X-Api-Key") == 0) {
		header = ACCESS_API_KEY;
	}
	if (header && ++look->seen > CREDENTIALS_MAX) {
		look->found = (struct access){0};
		return false;
	}
	const struct key *key = header ? keys_find(look->keys, text) : NULL;
	if (key) {
		look->found.own |= header;
		look->found.key = key;
	}
	return true;
}

/* All of them are looked at: none of ours may be among those that are handed on. */
struct access access_of(const struct exchange *x, const struct keys *keys)
{
	struct look look = {.keys = keys};
	if (keys->count > 0)
		exchange_each_header(x, look_at, &look);
	return look.found;
}

bool access_hides(unsigned own, struct slice header)
{
	return (own & ACCESS_AUTHORIZATION && slice_ieq(header, SLICE("authorization"))) ||
	       (own & ACCESS_API_KEY && slice_ieq(header, SLICE("x-api-key")));
}

/* --- refusals --- */

/* Anthropic's clients ask for models where OpenAI's do. */
static enum dialect errors_of(const struct exchange *x, const struct route *route)
{
	bool models = route->kind == ROUTE_MODELS || route->kind == ROUTE_MODEL;
	return models && exchange_header(x, "anthropic-version") ? DIALECT_ANTHROPIC_OTHER
								 : route->dialect;
}

static void refuse(struct requests *s, struct exchange *x, const struct route *route, int status,
	const char *who, const char *message)
{
	log_line(LOG_INFO, "access_refused", LOG_INT("status", status), LOG_STR("key", who),
		LOG_STR("method", exchange_method(x)), LOG_SLICE("path", exchange_path(x)),
		LOG_STR("peer", exchange_peer(x)), LOG_END);
	if (status == 401)
		exchange_add_header(x, "WWW-Authenticate", SLICE("Bearer realm=\"tandem\""));
	request_turn_away(s, x, errors_of(x, route), status, message,
		status == 429 ? ACCESS_RETRY_AFTER_S : 0);
}

static void refuse_stranger(struct requests *s, struct exchange *x, const struct route *route)
{
	bool sent = exchange_header(x, "Authorization") || exchange_header(x, "X-Api-Key");
	s->callers.unauthorized++;
	refuse(s, x, route, 401, sent ? "unknown" : "none",
		sent ? "this API key is not known here; whoever runs this gateway makes one with "
		       "`tandemctl key add NAME`"
		     : "an API key is needed here, as `Authorization: Bearer KEY` or `x-api-key: "
		       "KEY`; whoever runs this gateway makes one with `tandemctl key add NAME`");
}

static void refuse_change(
	struct requests *s, struct exchange *x, const struct route *route, const char *who)
{
	char text[REFUSAL_BYTES];
	struct slice path = exchange_path(x);
	snprintf(text, sizeof(text),
		"%s %.*s may change the server, which is not allowed here: `access = { changes = "
		"\"on\"; };` in tandem's configuration allows it",
		exchange_method(x), (int)(path.n < 128 ? path.n : 128), path.p);
	refuse(s, x, route, 403, who, text);
}

static bool changes_allowed(const struct requests *s)
{
	enum access_changes changes = s->config->access.changes;
	return changes == CHANGES_ON || (changes == CHANGES_LOCAL && s->loopback);
}

/* What is answered at once from what is known is under way for no time. */
static bool takes_room(const struct route *route)
{
	return route->kind == ROUTE_CHAT || route->kind == ROUTE_PASS || route->kind == ROUTE_PS ||
	       route->kind == ROUTE_MODEL;
}

static bool is_full(struct requests *s, const struct key *key)
{
	struct caller *who = callers_find(&s->callers, key);
	if (!who || callers_room(who, key))
		return false;
	who->refused++;
	return true;
}

bool access_gate(struct requests *s, struct exchange *x, const struct route *route)
{
	struct access a = access_of(x, &s->config->access.keys);
	const char *who = a.key ? a.key->name : "";
	const char *ticket = exchange_header(x, BENCH_HEADER);
	if (ticket && bench_device(&s->bench, ticket, now_ms()) && route->kind == ROUTE_CHAT &&
		!dialect_counts(route->dialect))
		return false; /* who may give orders needs no key */
	if (ticket) {
		refuse(s, x, route, 403, who,
			"this ticket to measure is unknown, for something else, or over");
	} else if (config_has_keys(s->config) && !a.key) {
		refuse_stranger(s, x, route);
	} else if (route->changes && !changes_allowed(s)) {
		refuse_change(s, x, route, who);
	} else if (a.key && takes_room(route) && is_full(s, a.key)) {
		char text[REFUSAL_BYTES];
		snprintf(text, sizeof(text),
			"the key %s has %u requests under way, as many as it may at once", who,
			a.key->requests);
		refuse(s, x, route, 429, who, text);
	} else {
		return false;
	}
	return true;
}
