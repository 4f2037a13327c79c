/*
 * Two prompts of one conversation: what of the newer one is another.
 *
 * Both begin alike up to some message. What of the older one comes again behind it, in order, is found
 * by its hash; the first place where they part, and what comes again, say what was done there. Where
 * nothing that the model had answered comes again, the conversation went another way and nothing is
 * named: an alarm that is none costs more trust than a break that has no name.
 */
#include "common/guard/lines.h"

#include <errno.h>
#include <stdlib.h>

#define ALIKE .5 /* share of its lines that a message has still when it is the same one */

/* --- what both have --- */

/* The place of the first message of this hash from `from` on; count: none. */
static size_t find(const struct guard_prompt *p, uint64_t hash, size_t from)
{
	size_t low = 0, high = p->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2, at = p->by_hash[mid];
		if (p->messages[at].hash < hash || (p->messages[at].hash == hash && at < from))
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->count && p->messages[p->by_hash[low]].hash == hash ? p->by_hash[low]
									   : p->count;
}

double guard_goes_on(const struct guard_prompt *a, const struct guard_prompt *b)
{
	bool all = a->count && a->count <= b->count &&
		   b->messages[a->count - 1].chain == a->messages[a->count - 1].chain;
	return all ? 2 * (double)a->count : 0;
}

/* --- what comes again --- */

struct match {
	const struct guard_prompt *a, *b;
	size_t same;	       /* messages that both begin with */
	char *again;	       /* of a: comes again behind; owned */
	char *known;	       /* of b: came before; owned, in again's memory */
	size_t count, answers; /* of b behind `same` */
	double weight;	       /* of the same */
};

static size_t common(const struct guard_prompt *a, const struct guard_prompt *b)
{
	size_t n = 0, end = a->count < b->count ? a->count : b->count;
	while (n < end && a->messages[n].hash == b->messages[n].hash)
		n++;
	return n;
}

static int match_make(struct match *m, const struct guard_prompt *a, const struct guard_prompt *b)
{
	*m = (struct match){.a = a, .b = b, .same = common(a, b)};
	m->again = calloc(a->count + b->count + 1, 1);
	if (!m->again)
		return -ENOMEM;
	m->known = m->again + a->count;
	for (size_t i = m->same, at = m->same; i < a->count; i++) {
		size_t j = find(b, a->messages[i].hash, at);
		if (j == b->count)
			continue;
		m->again[i] = m->known[j] = 1;
		at = j + 1;
		m->count++;
		m->answers += b->messages[j].role == CHAT_ASSISTANT;
		m->weight += b->messages[j].weight;
	}
	return 0;
}

/* --- what happened to one message --- */

/* What kind of difference two messages have, and the byte of the second where it begins. *alike: the
 * share of lines that both have. */
static enum guard_kind message_change(const struct guard_prompt *pa, const struct guard_prompt *pb,
	size_t i, size_t *byte, double *alike)
{
	const struct guard_message *a = &pa->messages[i], *b = &pb->messages[i];
	struct guard_diff d = guard_diff(pa, a, pb, b);
	enum guard_kind kind = GUARD_NEW;
	enum guard_step step;
	size_t same = 0, head = 0, most = a->lines > b->lines ? a->lines : b->lines;
	bool begun = false;
	*byte = 0;
	while ((step = guard_diff_next(&d)) != GUARD_END && step != GUARD_WORDS) {
		same += step == GUARD_SAME;
		if (step == GUARD_SAME)
			continue;
		if (!begun)
			head = step == GUARD_LEFT_OUT ? d.j : d.j - 1;
		begun = true;
		const struct guard_line *line =
			step == GUARD_LEFT_OUT ? &d.a[d.i - 1] : &d.b[d.j - 1];
		kind = kind == GUARD_CLOCK ? kind : line->kind;
	}
	if (!begun)
		head = d.j;
	if (step == GUARD_WORDS) {
		size_t left_a = d.an - d.i, left_b = d.bn - d.j,
		       left = left_a < left_b ? left_a : left_b;
		for (size_t k = 1; k <= left && d.a[d.an - k].exact == d.b[d.bn - k].exact; k++)
			same++;
	}
	if (b->lines)
		*byte = head < b->lines ? d.b[head].at
					: d.b[b->lines - 1].at + d.b[b->lines - 1].bytes;
	*alike = most ? (double)same / (double)most : 0;
	return step == GUARD_WORDS || kind == GUARD_NEW ? GUARD_EDITED : kind;
}

/* --- do they belong together? --- */

/* b has all messages of a in their places, but for clocks and counters in them. */
static bool is_nearly(const struct guard_prompt *a, const struct guard_prompt *b)
{
	size_t byte, said = 0;
	double alike;
	if (a->count > b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct guard_message *m = &a->messages[i], *n = &b->messages[i];
		said += m->role != CHAT_SYSTEM;
		if (m->hash == n->hash)
			continue;
		if (m->role != n->role || message_change(a, b, i, &byte, &alike) == GUARD_EDITED ||
			alike < ALIKE)
			return false;
	}
	return said > 0;
}

double guard_likeness(const struct guard_prompt *a, const struct guard_prompt *b)
{
	size_t said = 0, shared = 0, answers = 0;
	for (size_t i = 0; i < a->count; i++) {
		const struct guard_message *m = &a->messages[i];
		if (m->role == CHAT_SYSTEM)
			continue;
		said++;
		if (find(b, m->hash, 0) == b->count)
			continue;
		shared++;
		answers += m->role == CHAT_ASSISTANT;
	}
	if (a->first_human && a->first_human == b->first_human)
		return 1 + (double)shared;
	if (answers && shared >= 2 && shared * 2 >= said)
		return (double)shared;
	return is_nearly(a, b) ? 1 : 0;
}

/* --- where they part --- */

/* A message that is nothing but clocks and counters. */
static enum guard_kind note_kind(const struct guard_prompt *p, const struct guard_message *m)
{
	enum guard_kind kind = GUARD_NEW;
	for (size_t i = 0; i < m->lines; i++) {
		const struct guard_line *line = &p->lines[m->line + i];
		if (line->bytes && !line->kind)
			return GUARD_NEW;
		kind = line->bytes ? line->kind : kind;
	}
	return kind;
}

/* What of a message is behind that byte. */
static double behind(const struct guard_prompt *p, size_t message, size_t byte)
{
	const struct guard_message *m = &p->messages[message];
	const struct guard_line *last = m->lines ? &p->lines[m->line + m->lines - 1] : NULL;
	double bytes = last ? (double)last->at + last->bytes : 0;
	return bytes > 0 ? m->weight * (bytes - (double)byte) / bytes : m->weight;
}

static void add(struct guard_verdict *v, struct guard_change c)
{
	if (v->count < GUARD_CHANGES)
		v->change[v->count++] = c;
}

/* Of b, from a place up to where a ended. */
static double up_to_end(const struct match *m, size_t from)
{
	size_t end = m->a->count < m->b->count ? m->a->count : m->b->count;
	double all = 0;
	for (size_t i = from; i < end; i++)
		all += m->b->messages[i].weight;
	return all;
}

/* An answer stands in the cache behind the prompt that it was given to, so it is lost with that
 * prompt's end. */
static void name_message(struct guard_verdict *v, const struct match *m, enum guard_kind kind,
	size_t byte, double lost)
{
	size_t next = m->same + 1;
	if (next == m->a->count && next < m->b->count && !m->known[next] &&
		m->b->messages[next].role == CHAT_ASSISTANT)
		lost += m->b->messages[next].weight;
	if (m->b->messages[m->same].role == CHAT_SYSTEM)
		lost += m->b->tools_weight;
	add(v, (struct guard_change){.kind = kind,
		       .of_message = true,
		       .message = m->same,
		       .byte = byte,
		       .lost = lost});
}

/* Of what is behind the common beginning: messages of a that are gone before the first that comes
 * again, those of b that are new before it; whether the new ones summarise. */
struct gap {
	size_t gone, added;
	bool comes_again, summarises;
};

static struct gap gap_of(const struct match *m)
{
	struct gap g = {0};
	size_t i = m->same, j = m->same;
	while (i < m->a->count && !m->again[i])
		i++;
	while (j < m->b->count && !m->known[j])
		g.summarises |= m->b->messages[j++].summarises;
	g.gone = i - m->same;
	g.added = j - m->same;
	g.comes_again = i < m->a->count;
	return g;
}

/* The older prompt ended with a note behind what is answered, and the answer stands there now. */
static bool note_is_gone(const struct match *m)
{
	size_t at = m->same;
	const struct guard_message *a = &m->a->messages[at];
	return at + 1 == m->a->count && at > 0 && m->b->messages[at].role == CHAT_ASSISTANT &&
	       (a->role == CHAT_USER || a->role == CHAT_SYSTEM) &&
	       (a[-1].role == CHAT_USER || a[-1].role == CHAT_TOOL);
}

/* Something of what the model had answered comes again, or all that there was. */
static bool is_proved(const struct match *m)
{
	return m->answers > 0 || (m->count > 0 && m->count >= m->a->count - m->same - 1);
}

static enum guard_kind part(const struct match *m, struct guard_verdict *v)
{
	size_t at = m->same, byte = 0;
	const struct guard_message *a = &m->a->messages[at], *b = &m->b->messages[at];
	bool newest = at + 1 == m->b->count && b->role != CHAT_SYSTEM;
	struct gap g = gap_of(m);
	double alike = 0;
	if (note_is_gone(m)) {
		enum guard_kind kind = note_kind(m->a, a);
		name_message(v, m, kind ? kind : GUARD_DROPPED, 0, b->weight);
		return GUARD_NEW;
	}
	if (g.gone >= 2 && g.gone > g.added && g.added > 0 && g.summarises &&
		b->role != CHAT_SYSTEM)
		return GUARD_COMPACTED;
	if (newest)
		return GUARD_BRANCHED;
	if (g.comes_again && g.gone > g.added && (g.added == 0 || g.gone >= 2) && m->answers > 0) {
		name_message(v, m, GUARD_DROPPED, 0, m->weight);
		return GUARD_NEW;
	}
	if (g.comes_again && g.gone == 0 && is_proved(m)) { /* something was put in */
		name_message(v, m, GUARD_EDITED, 0, m->weight);
		return GUARD_NEW;
	}
	enum guard_kind kind = message_change(m->a, m->b, at, &byte, &alike);
	bool same_place = a->role == b->role && b->role != CHAT_ASSISTANT && !m->known[at];
	bool is_it = b->role == CHAT_SYSTEM ? is_proved(m) && m->b->count > m->a->count
		     : same_place	    ? alike >= ALIKE || (a->call && a->call == b->call)
					    : false;
	size_t behind_a = m->a->count - at - 1;
	if (is_it || (m->answers > 0 && m->count * 2 >= behind_a)) {
		name_message(v, m, kind, byte, behind(m->b, at, byte) + up_to_end(m, at + 1));
		return GUARD_NEW;
	}
	return GUARD_BRANCHED;
}

static enum guard_kind messages_change(const struct match *m, struct guard_verdict *v)
{
	if (m->same == m->a->count)
		return GUARD_KEPT;
	if (m->same == m->b->count)
		return GUARD_BRANCHED;
	return part(m, v);
}

/* --- what is no message --- */

static enum guard_kind tools_kind(const struct guard_prompt *a, const struct guard_prompt *b)
{
	return a->tools_set != b->tools_set   ? GUARD_TOOLS
	       : a->tools_row != b->tools_row ? GUARD_TOOLS_ORDER
					      : GUARD_TOOLS_SPELLING;
}

static void front_change(const struct match *m, struct guard_verdict *v)
{
	const struct guard_prompt *a = m->a, *b = m->b;
	/* A window loads the model anew, and the rest stands in front of all. */
	double lost = up_to_end(m, 0) + b->tools_weight;
	if (a->num_ctx != b->num_ctx && a->num_ctx > 0 && b->num_ctx > 0)
		add(v, (struct guard_change){.kind = GUARD_NUM_CTX, .lost = lost});
	if (a->attribution != b->attribution && a->attribution && b->attribution)
		add(v, (struct guard_change){
			       .kind = GUARD_ATTRIBUTION, .of_message = true, .lost = lost});
	if (a->tools_bytes != b->tools_bytes)
		add(v, (struct guard_change){.kind = tools_kind(a, b), .lost = lost});
}

int guard_compare(
	const struct guard_prompt *a, const struct guard_prompt *b, struct guard_verdict *v)
{
	struct match m;
	*v = (struct guard_verdict){.kind = GUARD_NEW};
	if (match_make(&m, a, b))
		return -ENOMEM;
	struct guard_verdict of_messages = {.count = 0};
	v->kind = messages_change(&m, &of_messages);
	v->back = m.same == b->count && m.same < a->count;
	if (v->kind == GUARD_KEPT || of_messages.count)
		front_change(&m, v);
	if (of_messages.count)
		add(v, of_messages.change[0]);
	if (v->count)
		v->kind = v->change[0].kind;
	free(m.again);
	return 0;
}
