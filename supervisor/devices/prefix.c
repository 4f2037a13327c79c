#include "supervisor/devices/prefix.h"

#include "common/base/hash.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define FIRST_ROOM 64
#define SEEN 3	       /* lessons remembered: their median counts, so that one miss is none */
#define SCALE_LEAST 64 /* tokens of a prompt whose count says something of others */
#define SCALE_MIN 0.2  /* a count that is further off than these is about something else */
#define SCALE_MAX 5.0

struct entry {
	struct prefix_chain chain;
	uint64_t id;
	uint64_t conversation; /* 0: it has no name */
	double scale;	       /* the backend's tokens for one of our estimate */
	double output;	       /* tokens written behind it */
	bool counted;
};

struct prefix_map {
	unsigned slots;
	size_t count, most, links;
	uint64_t last_id;
	double similarity; /* above, a prompt takes the place of the last one; 0: unknown */
	double seen[PREFIX_AGES][SEEN]; /* shares that were cached; a ring */
	unsigned lessons[PREFIX_AGES];
	struct entry entries[]; /* newest first */
};

/* --- chains --- */

int prefix_add(struct prefix_chain *c, struct slice bytes, double tokens)
{
	if (c->count == c->room) {
		size_t room = c->room ? c->room * 2 : FIRST_ROOM;
		struct prefix_link *grown = realloc(c->links, room * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		c->links = grown;
		c->room = room;
	}
	uint64_t before = c->count ? c->links[c->count - 1].hash : 0;
	c->links[c->count] =
		(struct prefix_link){hash_mix(hash_bytes(bytes.p, bytes.n) ^ hash_mix(before + 1)),
			prefix_tokens(c) + tokens};
	c->count++;
	return 0;
}

double prefix_tokens(const struct prefix_chain *c)
{
	return c->count ? c->links[c->count - 1].tokens : 0;
}

void prefix_scale(struct prefix_chain *c, double tokens)
{
	double all = prefix_tokens(c);
	for (size_t i = 0; all > 0 && i < c->count; i++)
		c->links[i].tokens *= tokens / all;
}

int prefix_chain_copy(const struct prefix_chain *from, struct prefix_chain *to)
{
	*to = (struct prefix_chain){0};
	if (from->count == 0)
		return 0;
	to->links = malloc(from->count * sizeof(*to->links));
	if (!to->links)
		return -ENOMEM;
	memcpy(to->links, from->links, from->count * sizeof(*to->links));
	to->count = to->room = from->count;
	return 0;
}

void prefix_chain_fini(struct prefix_chain *c)
{
	free(c->links);
	*c = (struct prefix_chain){0};
}

/* Links that both begin with. A hash is of all before it: where two are equal, so are those before.
 */
size_t prefix_common(const struct prefix_chain *a, const struct prefix_chain *b)
{
	size_t same = 0, end = a->count < b->count ? a->count : b->count;
	while (same < end) {
		size_t at = same + (end - same) / 2;
		if (a->links[at].hash == b->links[at].hash)
			same = at + 1;
		else
			end = at;
	}
	return same;
}

/* --- the map --- */

struct prefix_map *prefix_map_create(unsigned slots)
{
	size_t most = (size_t)slots + PREFIX_EXTRA_CHAINS;
	struct prefix_map *m = calloc(1, sizeof(*m) + most * sizeof(m->entries[0]));
	if (!m)
		return NULL;
	m->slots = slots ? slots : 1;
	m->most = most;
	for (int i = 0; i < SEEN; i++)
		m->seen[PREFIX_LAST][i] = m->seen[PREFIX_SLOTS][i] = 1;
	return m;
}

void prefix_puts_aside(struct prefix_map *m, double similarity)
{
	for (int i = 0; i < SEEN && similarity > 0 && m->lessons[PREFIX_EVICTED] == 0; i++)
		m->seen[PREFIX_EVICTED][i] = 1;
	m->similarity = similarity;
}

bool prefix_leaves(const struct prefix_map *m, double shared, double tokens)
{
	return m->similarity > 0 && shared <= m->similarity * tokens;
}

static void drop(struct prefix_map *m, size_t i)
{
	m->links -= m->entries[i].chain.count;
	prefix_chain_fini(&m->entries[i].chain);
	m->count--;
	memmove(&m->entries[i], &m->entries[i + 1], (m->count - i) * sizeof(m->entries[0]));
}

void prefix_forget(struct prefix_map *m)
{
	while (m->count)
		drop(m, m->count - 1);
}

void prefix_map_destroy(struct prefix_map *m)
{
	if (!m)
		return;
	prefix_forget(m);
	free(m);
}

struct prefix_map *prefix_map_resize(struct prefix_map *m, unsigned slots)
{
	size_t most = (size_t)slots + PREFIX_EXTRA_CHAINS;
	if (m->most == most)
		return m;
	while (m->count > most)
		drop(m, m->count - 1);
	struct prefix_map *moved = realloc(m, sizeof(*m) + most * sizeof(m->entries[0]));
	if (!moved)
		return m;
	moved->slots = slots ? slots : 1;
	moved->most = most;
	return moved;
}

static double trust(const struct prefix_map *m, enum prefix_age age)
{
	const double *s = m->seen[age];
	return fmax(fmin(s[0], s[1]), fmin(fmax(s[0], s[1]), s[2]));
}

static enum prefix_age age_of(const struct prefix_map *m, size_t i)
{
	return i == 0 ? PREFIX_LAST : i < m->slots ? PREFIX_SLOTS : PREFIX_EVICTED;
}

/* Tokens of e that the prompt begins with; the answer behind a whole one is in the next message.
 * *links: so many of the prompt's. */
static double shared(const struct entry *e, const struct prefix_chain *c, size_t *links)
{
	size_t n = *links = prefix_common(&e->chain, c);
	if (n == 0)
		return 0;
	double tokens = e->chain.links[n - 1].tokens * e->scale;
	if (n == e->chain.count && n < c->count)
		tokens += fmin(e->output, (c->links[n].tokens - c->links[n - 1].tokens) * e->scale);
	return tokens;
}

/* What the prompt adds to the whole of e, of which s tokens are in it: estimated, and corrected by
 * what the count of e says of the estimate for the same text. */
static double left_behind(
	const struct entry *e, const struct prefix_chain *c, size_t links, double s)
{
	double counted = prefix_tokens(&e->chain) * e->scale, same = c->links[links - 1].tokens;
	double more = (prefix_tokens(c) - same) * counted / fmax(same, 1);
	return fmax(more - (s - counted), 0);
}

/* What the count of e says of other texts that begin like it. Most of a very short prompt's count
 * is what the template puts around, and says nothing of them. */
static double scale_for_others(const struct entry *e)
{
	return prefix_tokens(&e->chain) < SCALE_LEAST ? 1 : e->scale;
}

/* Tokens that a slot holds of it. */
static double whole(const struct entry *e)
{
	return prefix_tokens(&e->chain) * e->scale + e->output;
}

static bool is_alike(
	const struct prefix_map *m, const struct prefix_match *match, const struct prefix_chain *c)
{
	double scale = m->count ? scale_for_others(&m->entries[0]) : 1;
	return m->similarity > 0 &&
	       !prefix_leaves(m, match->shared[PREFIX_LAST], prefix_tokens(c) * scale);
}

struct prefix_match prefix_find(const struct prefix_map *m, const struct prefix_chain *c)
{
	struct prefix_match match = {0};
	double best = 0, total = prefix_tokens(c), lower = 0;
	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];
		size_t links;
		double s = shared(e, c, &links);
		enum prefix_age age = age_of(m, i);
		if (age == PREFIX_EVICTED && is_alike(m, &match, c))
			continue; /* it stays where it is */
		match.shared[age] = fmax(match.shared[age], s);
		if (s <= best)
			continue;
		best = s;
		match.moved = age == PREFIX_EVICTED ? whole(e) + whole(&m->entries[0]) : 0;
		match.counted = 0;
		total = prefix_tokens(c) * scale_for_others(e);
		if (e->counted && links == e->chain.count) {
			match.counted = s;
			total = s + left_behind(e, c, links, s);
		}
	}
	for (int age = 0; age < PREFIX_AGES; age++) {
		if (match.shared[age] <= lower)
			continue;
		match.cached += trust(m, (enum prefix_age)age) * (match.shared[age] - lower);
		lower = match.shared[age];
	}
	match.fresh = fmax(total - match.cached, 1); /* the last token is always processed */
	match.cached = fmax(fmin(match.cached, total - match.fresh), 0);
	return match;
}

uint64_t prefix_sent(struct prefix_map *m, struct prefix_chain *c)
{
	struct entry e = {.chain = *c, .id = ++m->last_id, .scale = 1};
	double longest = 0;
	if (c->count == 0 || c->count > PREFIX_LINKS_MAX) {
		prefix_chain_fini(c);
		return 0;
	}
	for (size_t i = 0; i < m->count;) {
		size_t n = prefix_common(&m->entries[i].chain, c);
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): n of them are the same */
		if (n > 0 && m->entries[i].chain.links[n - 1].tokens > longest) {
			longest = m->entries[i].chain.links[n - 1].tokens;
			e.scale = m->entries[i].scale;
		}
		if (n == m->entries[i].chain.count)
			drop(m, i); /* goes on in this one */
		else
			i++;
	}
	while (m->count && (m->count == m->most || m->links + c->count > PREFIX_LINKS_MAX))
		drop(m, m->count - 1);
	memmove(&m->entries[1], &m->entries[0], m->count * sizeof(m->entries[0]));
	m->entries[0] = e;
	m->count++;
	m->links += c->count;
	*c = (struct prefix_chain){0};
	return e.id;
}

static struct entry *find(struct prefix_map *m, uint64_t id, size_t *at)
{
	for (*at = 0; *at < m->count; ++*at)
		if (m->entries[*at].id == id)
			return &m->entries[*at];
	return NULL;
}

static void learn(struct prefix_map *m, const struct prefix_match *match, double cached)
{
	double lower = 0;
	for (int age = 0; age < PREFIX_AGES; age++) {
		double more = match->shared[age] - lower;
		if (more < PREFIX_LESSON_TOKENS)
			continue;
		double part = fmin(fmax((cached - lower) / more, 0), 1);
		m->seen[age][m->lessons[age]++ % SEEN] = part;
		lower = match->shared[age];
	}
}

void prefix_counted(struct prefix_map *m, uint64_t id, const struct prefix_match *match,
	double prompt, double cached, double output)
{
	size_t at;
	struct entry *e = find(m, id, &at);
	if (cached >= 0)
		learn(m, match, cached);
	if (!e)
		return;
	double scale = prompt > 0 ? prompt / fmax(prefix_tokens(&e->chain), 1) : e->scale;
	if (scale >= SCALE_MIN && scale <= SCALE_MAX)
		e->scale = scale;
	e->counted = prompt > 0 && e->scale == scale;
	e->output = output > 0 ? output : 0;
}

void prefix_cut(struct prefix_map *m, uint64_t id, double tokens)
{
	size_t at;
	struct entry *e = find(m, id, &at);
	if (!e)
		return;
	size_t n = e->chain.count;
	while (n > 0 && e->chain.links[n - 1].tokens * e->scale > tokens)
		n--;
	m->links -= e->chain.count - n;
	e->counted &= n == e->chain.count;
	e->chain.count = n;
	if (n == 0)
		drop(m, at);
}

/* --- conversations --- */

void prefix_name(struct prefix_map *m, uint64_t id, uint64_t conversation)
{
	size_t at;
	struct entry *e = find(m, id, &at);
	if (e)
		e->conversation = conversation;
}

uint64_t prefix_conversation(const struct prefix_map *m, const struct prefix_chain *c)
{
	const struct entry *best = NULL;
	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];
		if (prefix_common(&e->chain, c) == e->chain.count &&
			(!best || e->chain.count > best->chain.count))
			best = e;
	}
	return best ? best->conversation : 0;
}

int prefix_copy(const struct prefix_map *m, uint64_t conversation, struct prefix_chain *out)
{
	*out = (struct prefix_chain){0};
	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];
		if (e->conversation != conversation)
			continue;
		int rc = prefix_chain_copy(&e->chain, out);
		prefix_scale(out, prefix_tokens(out) * e->scale);
		return rc;
	}
	return -ENOENT;
}

double prefix_held(const struct prefix_map *m, uint64_t id, enum prefix_age *age)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];
		if (e->id != id)
			continue;
		*age = age_of(m, i);
		return whole(e) * trust(m, *age);
	}
	return 0;
}

bool prefix_in_slots(const struct prefix_map *m, uint64_t id)
{
	for (size_t i = 0; i < m->count; i++)
		if (m->entries[i].id == id)
			return age_of(m, i) != PREFIX_EVICTED;
	return false;
}

double prefix_lesson(const struct prefix_map *m, enum prefix_age age)
{
	unsigned n = m->lessons[age];
	return n ? m->seen[age][(n - 1) % SEEN] : -1;
}

double prefix_trust(const struct prefix_map *m, enum prefix_age age, unsigned *lessons)
{
	*lessons = m->lessons[age];
	return trust(m, age);
}
