/*
 * The guardian of the prefix at one request (docs/guardian.md): which conversation it goes on with, what
 * of its beginning the client has changed, what of that is mended before anything else is made of it,
 * and what the rest costs.
 */
#include "supervisor/requests/chat.h"

#include "common/base/hash.h"
#include "common/base/log.h"
#include "supervisor/requests/guardian.h"

#include <math.h>
#include <stdio.h>

/* What a change came to. */
struct outcome_of {
	const struct guard_change *change;
	bool repaired;
	uint64_t tokens, ms; /* that it costs, or would have */
};

void chat_guard_begin(struct chat *c)
{
	const struct config *conf = c->base.all->config;
	c->guard.repair = conf->prefix.repair;
	c->guard.watched = c->base.all->guardian && conf->limits.conversations > 0 && !c->bench &&
			   !dialect_counts(c->base.dialect);
}

void chat_guard_read(struct chat *c)
{
	struct chat_guard *g = &c->guard;
	unsigned options = g->repair == PREFIX_VOLATILE ? GUARD_KEEP : 0;
	guard_prompt_fini(&g->prompt); /* of the body before this one */
	g->watched = g->watched && guard_can(&c->view) &&
		     guard_read(&c->view, options, c->base.all->client_secret, &g->prompt) == 0;
}

void chat_guard_fini(struct chat *c)
{
	guard_prompt_fini(&c->guard.prompt);
}

static uint64_t model_of(const struct chat *c)
{
	return hash_bytes(c->model.p, c->model.n);
}

/* What a compaction of our own has made of the conversation breaks nothing, in the request that
 * brings its block first. */
static int compare(struct chat *c, const struct conversation *before, struct guard_verdict *v)
{
	bool ours = c->compact.block && c->compact.block != before->block;
	int rc = guard_compare(&before->prompt, &c->guard.prompt, v);
	if (rc == 0 && ours && v->kind != GUARD_KEPT)
		*v = (struct guard_verdict){.kind = GUARD_COMPACTED};
	return rc;
}

/* --- repairs --- */

static bool has(const struct guard_verdict *v, enum guard_kind kind)
{
	for (size_t i = 0; i < v->count; i++)
		if (v->change[i].kind == kind)
			return true;
	return false;
}

/* A new conversation shares tools and system prompt with others, so it takes their order, too. */
static struct guard_wish wish_of(const struct chat *c, const struct conversation *before)
{
	const struct chat_guard *g = &c->guard;
	struct guard_wish w = {.attribution = g->prompt.attribution != 0};
	/* Also where messages are others: a compaction leaves tools and system prompt warm. */
	bool same =
		before && g->prompt.tools_set && before->prompt.tools_set == g->prompt.tools_set;
	if (same)
		w.tools = buf_slice(&before->tools);
	else if (!before || g->found.kind == GUARD_BRANCHED)
		w.tools = guardian_tools(
			c->base.all->guardian, c->base.client, model_of(c), &g->prompt);
	if (!before)
		return w;
	w.before = &before->prompt;
	w.hold = g->repair == PREFIX_VOLATILE && g->found.count > 0;
	return w;
}

/* A retry of the client's is told by what came. */
static void replace_body(struct chat *c, struct buf *body)
{
	if (!c->asked_bytes) {
		c->asked_bytes = c->body.n;
		c->asked_hash = hash_bytes(c->body.p, c->body.n);
	}
	buf_free(&c->body);
	c->body = *body;
	c->guard.mended = true;
	c->guard.attribution = c->guard.prompt.attribution;
}

bool chat_guard_mend(struct chat *c)
{
	struct chat_guard *g = &c->guard;
	struct buf body;
	if (!g->watched || g->mended)
		return false;
	g->watched = guardian_has_room(c->base.all->guardian, &g->prompt);
	if (!g->watched)
		return false;
	struct conversation *before =
		guardian_find(c->base.all->guardian, c->base.client, model_of(c), &g->prompt);
	if (before && compare(c, before, &g->found) == 0)
		g->conversation = before->id;
	struct guard_wish wish = wish_of(c, before);
	if (g->repair == PREFIX_NONE)
		return false;
	buf_init(&body, (size_t)job_body_bytes_max(c->base.all->config));
	if (guard_repair(&c->view, &g->prompt, &wish, &body)) {
		replace_body(c, &body);
		return true;
	}
	buf_free(&body);
	return false;
}

/* --- what it costs --- */

static const struct device *device_of(const struct chat *c, const struct conversation *before)
{
	const struct devices *s = c->base.all->devices;
	for (size_t i = 0; i < s->count; i++)
		if (before->device[0] && s->of[i]->number == before->device_number)
			return s->of[i];
	return NULL;
}

/* Of what was there of the last prompt: what is no longer there cannot be lost. */
static double held(const struct chat *c, const struct conversation *before)
{
	const struct device *d = device_of(c, before);
	enum prefix_age age;
	return d == c->device && d && d->foresight.map
		       ? prefix_held(d->foresight.map, before->chain, &age)
		       : 0;
}

static void cost(const struct chat *c, const struct conversation *before, struct outcome_of *o)
{
	double all = (double)c->facts.tokens;
	double lost = all * o->change->lost / fmax(guard_weight(&c->guard.prompt), 1);
	lost = fmin(lost, held(c, before));
	o->tokens = (uint64_t)lost;
	o->ms = (uint64_t)predict_prefill_ms(
		&c->device->foresight.rates, fmax(all - lost, 0), lost);
}

/* --- what is said of it --- */

static void tell_text(struct chat *c, const char *what)
{
	snprintf(c->guard.text, sizeof(c->guard.text), "%s", what);
}

static void add_text(struct chat *c, const struct outcome_of *o)
{
	const struct guard_change *g = o->change;
	size_t n = strlen(c->guard.text);
	char *to = c->guard.text + n;
	size_t room = sizeof(c->guard.text) - n;
	int used = snprintf(to, room, "%s%s; kind=%s", n ? ", " : "",
		o->repaired ? "repaired" : "broken", guard_kind_name(g->kind));
	if (used > 0 && (size_t)used < room && g->of_message)
		used += snprintf(to + used, room - (size_t)used, "; message=%zu; byte=%zu",
			g->message, g->byte);
	if (used > 0 && (size_t)used < room)
		snprintf(to + used, room - (size_t)used, "; tokens=%llu; ms=%llu",
			(unsigned long long)o->tokens, (unsigned long long)o->ms);
}

static void tell_change(struct chat *c, const struct outcome_of *o)
{
	const struct guard_change *g = o->change;
	add_text(c, o);
	if (c->explain)
		return;
	log_line(LOG_INFO, "prefix", LOG_STR("req", c->base.id),
		LOG_INT("conversation", c->guard.conversation),
		LOG_STR("kind", guard_kind_name(g->kind)), LOG_INT("repaired", o->repaired),
		LOG_INT("message", g->of_message ? (int64_t)g->message : -1),
		LOG_INT("byte", g->byte), LOG_INT("tokens", o->tokens), LOG_INT("ms", o->ms),
		LOG_END);
}

static void count_change(struct chat *c, struct conversation *before, const struct outcome_of *o)
{
	struct guardian_counts *n = &c->base.all->guardian->counts;
	if (o->repaired)
		n->repaired[o->change->kind]++;
	else
		n->broken[o->change->kind]++;
	before->repairs += o->repaired;
	before->breaks += !o->repaired;
	before->last = *o->change;
	before->last_repaired = o->repaired;
}

/* Each change alone costs what stands behind it: the request as a whole the most of these. True: some
 * are not mended. */
static bool name_changes(
	struct chat *c, struct conversation *before, const struct guard_verdict *v, bool repaired)
{
	struct guardian_counts *n = &c->base.all->guardian->counts;
	uint64_t most = 0, most_ms = 0;
	bool broken = false;
	for (size_t i = 0; i < v->count; i++) {
		enum guard_kind kind = v->change[i].kind;
		bool ours = (kind == GUARD_NUM_CTX && !c->device->conf->client_num_ctx) ||
			    (kind == GUARD_ATTRIBUTION && c->guard.prompt.left_out);
		struct outcome_of o = {.change = &v->change[i], .repaired = repaired || ours};
		if (repaired && (has(&c->guard.left, kind) || ours))
			continue; /* is told of as it was left */
		cost(c, before, &o);
		tell_change(c, &o);
		broken |= !o.repaired;
		if (c->explain)
			continue;
		count_change(c, before, &o);
		if (o.repaired) {
			n->saved_tokens += o.tokens;
			continue;
		}
		most = o.tokens > most ? o.tokens : most;
		most_ms = o.ms > most_ms ? o.ms : most_ms;
	}
	n->lost_tokens += most;
	n->lost_ms += most_ms;
	before->lost_tokens += most;
	return broken;
}

/* --- what is remembered --- */

static void describe(struct chat *c, struct conversation *it)
{
	const char *agent = exchange_header(c->base.exchange, "User-Agent");
	struct slice host = client_host(exchange_peer(c->base.exchange));
	snprintf(it->agent, sizeof(it->agent), "%s", agent ? agent : "");
	snprintf(it->host, sizeof(it->host), "%.*s", (int)host.n, host.n ? host.p : "");
	snprintf(it->model_name, sizeof(it->model_name), "%.*s", (int)c->model.n,
		c->model.n ? c->model.p : "");
}

static void remember(struct chat *c, struct conversation *before)
{
	struct chat_guard *g = &c->guard;
	struct guardian *all = c->base.all->guardian;
	bool other = !before || (g->left.kind == GUARD_BRANCHED && !g->left.back);
	struct conversation *it = other ? guardian_begin(all, c->base.client, model_of(c)) : before;
	g->conversation = it ? it->id : 0;
	if (!it)
		return;
	describe(c, it);
	if (!g->left.back)
		it->block = c->compact.block;
	guardian_went_on(all, it, g->left.back ? NULL : &g->prompt, c->view.tools.raw, now_ms());
}

static struct conversation *judge(struct chat *c)
{
	struct chat_guard *g = &c->guard;
	struct conversation *before =
		g->conversation ? guardian_by_id(c->base.all->guardian, g->conversation) : NULL;
	g->left = g->found;
	if (g->mended && before && compare(c, before, &g->left))
		g->left = g->found;
	if (g->mended)
		g->prompt.attribution = g->attribution;
	if (!before)
		g->left = (struct guard_verdict){.kind = GUARD_NEW};
	return before;
}

void chat_guard_name(struct chat *c)
{
	struct chat_guard *g = &c->guard;
	struct guardian *all = c->base.all->guardian;
	if (!g->watched || !guardian_has_room(all, &g->prompt))
		return;
	struct conversation *before = judge(c);
	enum guard_kind kind = g->left.count ? GUARD_KEPT : g->left.kind;
	if (before) {
		kind = name_changes(c, before, &g->left, false) ? GUARD_FIRST_BREAK : kind;
		if (g->mended)
			name_changes(c, before, &g->found, true);
	}
	if (!g->text[0])
		tell_text(c, guard_kind_name(kind));
	if (c->explain)
		return;
	if (kind == GUARD_COMPACTED)
		log_line(LOG_INFO, "prefix", LOG_STR("req", c->base.id),
			LOG_INT("conversation", g->conversation), LOG_STR("kind", "compacted"),
			LOG_END);
	all->counts.seen[kind]++;
	remember(c, before);
	if (!c->base.record)
		return;
	c->base.record->conversation = g->conversation;
	record_text(c->base.record->prefix, sizeof(c->base.record->prefix), slice_str(g->text));
}

/* --- what came of it --- */

/* Tokens by level: of the layout that was sent, or of the client's own messages. */
static void take_levels(struct chat *c, struct conversation *it)
{
	const struct layout *l = &c->condense.layout;
	double fixed = it->prompt.tools_weight, all = fmax(guard_weight(&it->prompt), 1);
	memset(it->level, 0, sizeof(it->level));
	if (c->use_condensed) {
		it->level[LAYOUT_FIXED] = l->options.tools / c->condense.scale;
		for (size_t i = 0; i < l->count; i++)
			it->level[l->messages[i].level] +=
				l->messages[i].tokens_out / c->condense.scale;
		return;
	}
	for (size_t i = 0; i < it->prompt.count; i++)
		if (it->prompt.messages[i].role == CHAT_SYSTEM)
			fixed += it->prompt.messages[i].weight;
	it->level[LAYOUT_FIXED] = (double)c->facts.tokens * fixed / all;
	it->level[LAYOUT_L0] = (double)c->facts.tokens - it->level[LAYOUT_FIXED];
}

void chat_guard_ended(
	struct chat *c, const struct device *d, const struct proto_usage *u, double cached)
{
	struct conversation *it =
		c->guard.conversation ? guardian_by_id(c->base.all->guardian, c->guard.conversation)
				      : NULL;
	if (!it)
		return;
	snprintf(it->device, sizeof(it->device), "%s", d->conf->name);
	it->device_number = d->number;
	it->chain = c->forecast.id;
	it->tokens = u->prompt_tokens;
	it->cached = cached < 0 ? -1 : (int64_t)cached;
	it->output = u->output_tokens;
	take_levels(c, it);
}
