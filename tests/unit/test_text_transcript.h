/*
 * A made-up agent session for the tests of common/text: the same bytes for the same seed.
 *
 * It has what selection is about: a task with constraints, an agent that greps, reads, edits and
 * runs tests over the same few files again and again, and tools that answer with far more lines
 * than matter. What the agent goes on to use is in `uses`.
 */
#ifndef TANDEM_TEST_TEXT_TRANSCRIPT_H
#define TANDEM_TEST_TEXT_TRANSCRIPT_H

#include "common/text/text.h"

#include <stdint.h>
#include <stdlib.h>

#define TRANSCRIPT_MAX 512

struct transcript {
	struct text_message m[TRANSCRIPT_MAX];
	struct buf text[TRANSCRIPT_MAX];
	size_t n;
	struct buf uses[64]; /* names that the agent uses in the turns after the cut */
	size_t n_uses;
	uint64_t seed;
};

static inline uint32_t transcript_random(struct transcript *t, uint32_t below)
{
	t->seed = t->seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(t->seed >> 33) % below;
}

static inline struct buf *transcript_add(struct transcript *t, enum text_role role)
{
	struct text_message *m = &t->m[t->n];
	*m = (struct text_message){.role = role, .tool_result = role == TEXT_TOOL};
	buf_init(&t->text[t->n], 0);
	return &t->text[t->n++];
}

static inline void transcript_name(struct transcript *t, uint32_t i, struct buf *out)
{
	static const char *const verb[] = {
		"parse", "read", "open", "close", "flush", "send", "route", "plan"};
	static const char *const noun[] = {
		"config", "frame", "worker", "socket", "header", "chunk", "queue"};
	(void)t;
	buf_printf(out, "%s_%s_%u", verb[i % 8], noun[i / 8 % 7], i);
}

static inline void transcript_path(uint32_t i, struct buf *out)
{
	static const char *const dir[] = {
		"src/core", "src/net", "lib/store", "tests/unit", "tools"};
	buf_printf(out, "%s/mod%u.c", dir[i % 5], i);
}

static inline void transcript_source(
	struct transcript *t, uint32_t file, unsigned lines, struct buf *out)
{
	for (unsigned i = 1; i <= lines; i++) {
		buf_printf(out, "%4u\t", i);
		switch (transcript_random(t, 6)) {
		case 0:
			buf_add_str(out, "static int ");
			transcript_name(t, file * 20 + transcript_random(t, 20), out);
			buf_add_str(out, "(struct state *s, size_t n)");
			break;
		case 1:
			buf_add_str(out, "\trc = ");
			transcript_name(t, transcript_random(t, 900), out);
			buf_printf(out, "(s->field_%u, %u);", transcript_random(t, 300),
				transcript_random(t, 5000));
			break;
		case 2:
			buf_printf(out, "\tif (s->count_%u > LIMIT_%u)", transcript_random(t, 80),
				transcript_random(t, 80));
			break;
		case 3:
			buf_add_str(out, "\t\treturn -EINVAL;");
			break;
		case 4:
			buf_add_str(out, i % 2 ? "}" : "{");
			break;
		default:
			break;
		}
		buf_add_char(out, '\n');
	}
}

/* One step of the agent: says what it does, calls a tool, gets the result. */
static inline void transcript_step(struct transcript *t)
{
	uint32_t file = transcript_random(t, 12), name = file * 20 + transcript_random(t, 20);
	struct buf *b = transcript_add(t, TEXT_ASSISTANT);
	struct text_message *m = &t->m[t->n - 1];
	unsigned kind = transcript_random(t, 4);

	buf_add_str(b, "Let me look at how this part works before I change it.\n");
	m->calls_tools = true;
	m->calls_at = b->n;
	buf_add_str(b, kind == 0   ? "grep -n "
		       : kind == 1 ? "read_file "
		       : kind == 2 ? "edit "
				   : "run ");
	if (kind == 0 || kind == 2) {
		transcript_name(t, name, b);
		buf_add_char(b, ' ');
	}
	if (kind < 3)
		transcript_path(file, b);
	else
		buf_printf(b, "make test MODULE=mod%u", file);
	buf_add_char(b, '\n');

	b = transcript_add(t, TEXT_TOOL);
	if (kind == 1) {
		transcript_source(t, file, 60 + transcript_random(t, 80), b);
	} else if (kind == 0) {
		for (unsigned i = 0; i < 12; i++) {
			transcript_path(transcript_random(t, 40), b);
			buf_printf(b, ":%u: ", transcript_random(t, 900));
			transcript_name(t, name, b);
			buf_add_str(b, "(s);\n");
		}
	} else if (kind == 2) {
		buf_add_str(b, "edited ");
		transcript_path(file, b);
		buf_add_char(b, '\n');
	} else {
		for (unsigned i = 0; i < 40; i++)
			buf_printf(b, "ok %u - case_%u passed in %u us\n", i,
				transcript_random(t, 9000), transcript_random(t, 999));
	}
}

static inline void transcript_say(struct transcript *t, enum text_role role, const char *text)
{
	buf_add_str(transcript_add(t, role), text);
}

#define TEXT_KEEP_GROUPS 2

static inline bool transcript_is_result(const struct text_message *m)
{
	return m->role == TEXT_TOOL || (m->tool_result && m->role == TEXT_USER);
}

/* Numbers the groups: an assistant with its results is one, any other message one of its own. */
static inline void transcript_group(struct text_message *m, size_t n)
{
	unsigned groups = 0;
	size_t caller = n; /* the assistant that a following result belongs to; n: none */

	for (size_t i = 0; i < n; i++) {
		if (transcript_is_result(&m[i]) && caller < n) {
			m[caller].calls_tools = true;
			m[i].group = m[caller].group;
			continue;
		}
		m[i].group = groups++;
		caller = m[i].role == TEXT_ASSISTANT ? i : n;
	}
}

/* Verbatim: system messages, the last message of the human, the newest keep_groups groups. */
static inline void transcript_mark_verbatim(struct text_message *m, size_t n, unsigned keep_groups)
{
	bool human_seen = false;
	unsigned kept = 0;
	size_t last = n; /* the newest message of the group counted last */

	for (size_t i = n; i-- > 0;) {
		m[i].verbatim = m[i].role == TEXT_SYSTEM;
		if (m[i].verbatim)
			continue;
		if (last == n || m[i].group != m[last].group) {
			kept++;
			last = i;
		}
		bool human = m[i].role == TEXT_USER && !m[i].tool_result;
		m[i].verbatim = kept <= keep_groups || (human && !human_seen);
		human_seen |= human;
	}
}

/* Points the messages at their texts; no more may be added. */
static inline void transcript_finish(struct transcript *t, unsigned keep_groups)
{
	for (size_t i = 0; i < t->n; i++)
		t->m[i].text = buf_slice(&t->text[i]);
	transcript_group(t->m, t->n);
	transcript_mark_verbatim(t->m, t->n, keep_groups);
}

/* A session of about `bytes`; uses: what the agent would do in its next five steps. */
static inline void transcript_make(struct transcript *t, uint64_t seed, size_t bytes)
{
	memset(t, 0, sizeof(*t));
	t->seed = seed;
	transcript_say(t, TEXT_SYSTEM, "You are a careful coding agent.\n");
	transcript_say(t, TEXT_USER,
		"Fix the leak in the worker link. Never change tests/unit/golden.txt.\n");
	size_t total = 0, from = 0;
	while (total < bytes && t->n + 16 < TRANSCRIPT_MAX) {
		transcript_step(t);
		for (; from < t->n; from++)
			total += t->text[from].n;
	}
	size_t cut = t->n;
	for (unsigned i = 0; i < 5; i++)
		transcript_step(t);
	for (size_t i = cut; i < t->n; i++) {
		if (t->m[i].role == TEXT_ASSISTANT && t->n_uses < 64) {
			struct buf *u = &t->uses[t->n_uses++];
			buf_init(u, 0);
			buf_add(u, t->text[i].p + t->m[i].calls_at,
				t->text[i].n - t->m[i].calls_at);
		}
		buf_free(&t->text[i]);
	}
	t->n = cut;
}

static inline void transcript_free(struct transcript *t)
{
	for (size_t i = 0; i < t->n; i++)
		buf_free(&t->text[i]);
	for (size_t i = 0; i < t->n_uses; i++)
		buf_free(&t->uses[i]);
}

#endif
