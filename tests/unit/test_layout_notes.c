/*
 * Notes in the digest: the same notes give the same bytes, what was decided stays, what is lost
 * leaves the layout without, and nothing that the source does not say ever comes in.
 */
#include "common/layout/parts.h"
#include "common/layout/state.h"
#include "common/layout/units.h"
#include "common/text/notes.h"
#include "tests/unit/conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants the two above first */
#include <cmocka.h>

#define CONVERSATIONS 25
#define UNIT_BYTES 1500
#define DECISIONS_MAX 64

struct made {
	struct buf body, sent;
	struct chat_request request;
	struct layout l;
};

static void make(struct made *m, const struct conversation *c, size_t k,
	const struct layout_options *o, const struct layout_state *from)
{
	struct dialect_error error;
	buf_init(&m->body, 0);
	buf_init(&m->sent, 0);
	conversation_body(c, k, &m->body);
	assert_int_equal(
		chat_request_parse(c->dialect, buf_slice(&m->body), &m->request, &error), 0);
	layout_make(&m->l, &m->request, o, from);
	assert_int_not_equal(m->l.result, LAYOUT_FAILED);
	assert_int_equal(chat_request_rewrite(&m->request, m->l.edits, 0, &m->sent), 0);
}

static void unmake(struct made *m)
{
	layout_fini(&m->l);
	chat_request_fini(&m->request);
	buf_free(&m->body);
	buf_free(&m->sent);
}

/* What a careless small model says of a text: parts of its lines, and things that it made up. */
static void write_notes(struct slice text, struct buf *notes)
{
	buf_add_str(notes, "- it was all done by invented_name_77\n- 471100 tests fail\n");
	for (unsigned i = 0; text.n; i++) {
		const char *nl = memchr(text.p, '\n', text.n);
		size_t n = nl ? (size_t)(nl - text.p) : text.n;
		const char *space = memchr(text.p, ' ', n);
		if (i % 4 == 0 && space && *text.p != '[')
			buf_printf(notes, "- %.*s\n", (int)(text.p + n - space - 1), space + 1);
		text.p += n + (nl != NULL);
		text.n -= n + (nl != NULL);
	}
}

/* Notes on all units of the request, unverified: a layout must trust nobody. */
static void offer(const struct chat_request *r, struct buf *packed)
{
	struct layout_unit *units;
	size_t count;
	assert_int_equal(layout_units(r, UINT32_MAX, UNIT_BYTES, &units, &count), 0);
	for (size_t i = 0; i < count; i++) {
		struct buf texts[LAYOUT_UNIT_CHUNKS], notes;
		size_t n;
		assert_int_equal(layout_unit_read(r, &units[i], UNIT_BYTES, texts, &n), 0);
		buf_init(&notes, 0);
		for (size_t k = 0; k < n; k++)
			write_notes(buf_slice(&texts[k]), &notes);
		const struct layout_note note = {units[i].from, units[i].to, buf_slice(&notes)};
		assert_int_equal(layout_note_pack(packed, &note), 0);
		for (size_t k = 0; k < LAYOUT_UNIT_CHUNKS; k++)
			buf_free(&texts[k]);
		buf_free(&notes);
	}
	free(units);
}

static void offer_for(const struct conversation *c, size_t k, struct buf *packed)
{
	struct chat_request r;
	struct dialect_error error;
	struct buf body;
	buf_init(&body, 0);
	buf_init(packed, 0);
	conversation_body(c, k, &body);
	assert_int_equal(chat_request_parse(c->dialect, buf_slice(&body), &r, &error), 0);
	offer(&r, packed);
	chat_request_fini(&r);
	buf_free(&body);
}

static bool holds(struct slice s, const char *part)
{
	return s.n && memmem(s.p, s.n, part, strlen(part)) != NULL;
}

/* The text of the digest; empty: there is none. */
static struct slice digest_of(const struct layout *l)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->messages[i].flags & PART_HOLDER)
			return buf_slice(&l->out[i]);
	return (struct slice){0};
}

/* The lines between the marks of the notes. */
static struct slice notes_of(const struct layout *l)
{
	struct slice digest = digest_of(l);
	const char *p = digest.n ? memmem(digest.p, digest.n, " notes of a small model", 23) : NULL;
	const char *end =
		p ? memmem(p, (size_t)(digest.p + digest.n - p), " end of the notes]", 18) : NULL;
	if (!p)
		return (struct slice){0};
	assert_non_null(end);
	p = strchr(p, '\n') + 1;
	while (end[-1] != '\n')
		end--;
	return (struct slice){p, (size_t)(end - p)};
}

static void check(const struct made *m)
{
	const struct layout *l = &m->l;
	struct slice notes = notes_of(l);
	assert_true(l->result == LAYOUT_NO_ROOM || l->size <= l->room + .001);
	assert_false(holds(buf_slice(&m->sent), "invented_name_77"));
	assert_false(holds(buf_slice(&m->sent), "471100 tests"));
	assert_true(notes.n <= (size_t)(l->options.notes * (double)digest_of(l).n * 1.5) + 1);
}

struct decisions {
	struct layout_noted noted[DECISIONS_MAX];
	size_t count;
};

static void decide(struct decisions *d, const struct layout *l)
{
	if (!l->took_offered)
		return;
	assert_true(d->count < DECISIONS_MAX);
	d->noted[d->count++] = (struct layout_noted){l->messages[l->count - 1].chain,
		{slice_dup(l->options.offered), l->options.offered.n}};
}

static void forget(struct decisions *d)
{
	for (size_t i = 0; i < d->count; i++)
		free((char *)d->noted[i].notes.p);
	d->count = 0;
}

static void same_bytes(const struct conversation *c, size_t k, struct layout_options o,
	const struct decisions *d, const struct made *m)
{
	struct made again;
	o.noted = d->noted;
	o.noted_count = d->count;
	make(&again, c, k, &o, NULL);
	assert_true(slice_eq(buf_slice(&again.sent), buf_slice(&m->sent)));
	unmake(&again);
}

/*
 * A conversation grows; what was offered when a digest was made is remembered. Without any state,
 * and whatever is offered by then, the decisions alone give the same bytes; without the decisions
 * it is the layout that never had notes, if nothing was decided at the newest end.
 */
static void test_decisions_give_the_same_bytes(void **state)
{
	size_t with_notes = 0, noted_turns = 0, lost = 0, foreseen = 0;
	(void)state;
	for (uint64_t seed = 1; seed <= CONVERSATIONS; seed++) {
		struct conversation c;
		struct decisions d = {0};
		struct layout_options o = layout_defaults();
		struct layout_state *from = NULL;
		uint32_t near = 0;
		conversation_begin(&c, seed);
		o.window = seed % 2 ? 3000 : 6000;
		o.notes = .3;
		for (unsigned i = 0; i < 30; i++)
			conversation_turn(&c);
		for (size_t k = 0; k < conversation_groups(&c); k++) {
			struct made m, plain;
			struct layout_options with = o;
			struct buf packed;
			offer_for(&c, k, &packed);
			with.offered = conversation_chance(&c, 80) ? buf_slice(&packed)
								   : (struct slice){0};
			with.noted = d.noted;
			with.noted_count = d.count;
			make(&m, &c, k, &with, from);
			check(&m);
			decide(&d, &m.l);
			with_notes += m.l.took_offered;
			foreseen += m.l.took_offered && near > 1;
			near = layout_digest_is_near(&m.l);
			assert_true(near < m.l.groups);
			noted_turns += notes_of(&m.l).n > 0;
			with.offered = (struct slice){0};
			same_bytes(&c, k, with, &d, &m);
			make(&plain, &c, k, &o, NULL);
			lost += d.count && !slice_eq(buf_slice(&plain.sent), buf_slice(&m.sent));
			assert_true(
				d.count || slice_eq(buf_slice(&plain.sent), buf_slice(&m.sent)));
			assert_int_equal(notes_of(&plain.l).n, 0);
			layout_state_release(from);
			from = conversation_chance(&c, 80) ? layout_state_save(&m.l) : NULL;
			unmake(&plain);
			unmake(&m);
			buf_free(&packed);
		}
		layout_state_release(from);
		forget(&d);
		conversation_fini(&c);
	}
	printf("%zu digests with notes, %zu requests with them, %zu other without\n", with_notes,
		noted_turns, lost);
	assert_true(with_notes > CONVERSATIONS / 4 && noted_turns > with_notes && lost);
	printf("%zu of them foreseen\n", foreseen);
	/* most come with what was L1 before: there was time to write */
	assert_true(foreseen * 4 > with_notes * 3);
}

/* A tool's results of so many lines, each with a name of its own. */
static void long_conversation(struct conversation *c, unsigned turns)
{
	conversation_begin(c, 7);
	c->style = STYLE_TOOLS;
	c->dialect = DIALECT_OPENAI_CHAT;
	c->late = c->pictures = c->humans = false;
	for (unsigned i = 0; i < turns; i++)
		conversation_turn(c);
}

/* The first group end at which a digest is made with what is offered. */
static size_t first_noted(
	const struct conversation *c, struct layout_options *o, struct buf *packed)
{
	for (size_t k = 0; k < conversation_groups(c); k++) {
		struct made m;
		offer_for(c, k, packed);
		o->offered = buf_slice(packed);
		make(&m, c, k, o, NULL);
		bool took = m.l.took_offered;
		unmake(&m);
		if (took)
			return k;
		buf_free(packed);
	}
	fail_msg("no digest");
	return 0;
}

/* What is offered counts for a digest that is made now: an older one is what it was. */
static void test_older_digests_take_nothing_new(void **state)
{
	struct conversation c;
	struct layout_options o = layout_defaults();
	struct buf packed;
	struct made m, plain;
	(void)state;
	long_conversation(&c, 40);
	o.window = 4000;
	o.notes = .3;
	size_t k = first_noted(&c, &o, &packed);
	make(&m, &c, k, &o, NULL);
	assert_true(m.l.noted_bytes > 0 && m.l.noted_bytes == notes_of(&m.l).n);
	unmake(&m);
	/* one group later, with nothing decided: the one before was made without */
	make(&m, &c, k + 1, &o, NULL);
	o.offered = (struct slice){0};
	make(&plain, &c, k + 1, &o, NULL);
	if (!m.l.took_offered)
		assert_true(slice_eq(buf_slice(&m.sent), buf_slice(&plain.sent)));
	unmake(&plain);
	unmake(&m);
	/* a decision of another group end is none */
	const struct layout_noted other = {42, buf_slice(&packed)};
	o.noted = &other;
	o.noted_count = 1;
	make(&m, &c, k, &o, NULL);
	assert_int_equal(notes_of(&m.l).n, 0);
	unmake(&m);
	buf_free(&packed);
	conversation_fini(&c);
}

/* Notes take their share of the digest and not more; the selected lines give way. */
static void test_budget(void **state)
{
	static const double shares[] = {0, .05, .2, .5};
	struct conversation c;
	struct layout_options o = layout_defaults();
	struct buf packed;
	size_t before = 0;
	(void)state;
	long_conversation(&c, 40);
	o.window = 4000;
	o.notes = .3;
	size_t k = first_noted(&c, &o, &packed);
	for (size_t i = 0; i < sizeof(shares) / sizeof(*shares); i++) {
		struct made m;
		o.notes = shares[i];
		make(&m, &c, k, &o, NULL);
		size_t digest = digest_of(&m.l).n;
		assert_true(m.l.size <= m.l.room);
		assert_true((double)m.l.noted_bytes <= shares[i] * (double)digest * 1.1 + 1);
		assert_true(m.l.noted_bytes >= before);
		before = m.l.noted_bytes;
		unmake(&m);
	}
	assert_true(before > 0);
	buf_free(&packed);
	conversation_fini(&c);
}

/* Whoever kept the notes: what does not stand in those groups goes. */
static void test_nothing_invented(void **state)
{
	static const char *const bad[] = {"- the bug is in invented_name_77\n",
		"- it took 987654 ms\n", "- nobody knows why\n", "no note at all\n",
		"- `made_up` helps\n", "- none\n", "- "};
	struct conversation c;
	struct layout_options o = layout_defaults();
	struct buf packed, forged;
	struct made m, plain;
	(void)state;
	long_conversation(&c, 40);
	o.window = 4000;
	o.notes = .3;
	size_t k = first_noted(&c, &o, &packed);
	buf_init(&forged, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		const struct layout_note n = {1, 2, slice_str(bad[i])};
		assert_int_equal(layout_note_pack(&forged, &n), 0);
	}
	o.offered = buf_slice(&forged);
	make(&m, &c, k, &o, NULL);
	assert_false(m.l.took_offered);
	o.offered = (struct slice){0};
	make(&plain, &c, k, &o, NULL);
	assert_true(slice_eq(buf_slice(&m.sent), buf_slice(&plain.sent)));
	unmake(&m);
	unmake(&plain);
	buf_free(&packed);
	buf_free(&forged);
	conversation_fini(&c);
}

static void test_garbage_reads_as_the_end(void **state)
{
	struct buf packed;
	struct layout_note n = {1, 3, SLICE("- one\n")}, got;
	(void)state;
	buf_init(&packed, 0);
	assert_int_equal(layout_note_pack(&packed, &n), 0);
	struct slice whole = buf_slice(&packed), rest = whole;
	assert_true(layout_note_next(&rest, &got));
	assert_true(got.from == 1 && got.to == 3 && slice_eq(got.text, n.text) && rest.n == 0);
	assert_false(layout_note_next(&rest, &got));
	for (size_t cut = 1; cut <= whole.n; cut++) {
		rest = (struct slice){whole.p, whole.n - cut};
		assert_false(layout_note_next(&rest, &got));
	}
	n.to = 1;
	assert_int_equal(layout_note_pack(&packed, &n), 0);
	rest = buf_slice(&packed);
	assert_true(layout_note_next(&rest, &got));
	assert_false(layout_note_next(&rest, &got)); /* no group */
	buf_free(&packed);
}

/* --- units --- */

static void units_of(const struct conversation *c, size_t k, struct layout_unit **units, size_t *n)
{
	struct chat_request r;
	struct dialect_error error;
	struct buf body;
	buf_init(&body, 0);
	conversation_body(c, k, &body);
	assert_int_equal(chat_request_parse(c->dialect, buf_slice(&body), &r, &error), 0);
	assert_int_equal(layout_units(&r, UINT32_MAX, UNIT_BYTES, units, n), 0);
	chat_request_fini(&r);
	buf_free(&body);
}

/* A conversation that grows keeps the units that it had. */
static void test_units_stay(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct conversation c;
		struct layout_unit *all, *units;
		size_t count, n, before = 0;
		conversation_begin(&c, seed);
		for (unsigned i = 0; i < 20; i++)
			conversation_turn(&c);
		units_of(&c, conversation_groups(&c) - 1, &all, &count);
		assert_true(count > 0 && all[0].from == 1);
		for (size_t i = 1; i < count; i++)
			assert_int_equal(all[i].from, all[i - 1].to);
		for (size_t k = 0; k < conversation_groups(&c); k++) {
			units_of(&c, k, &units, &n);
			assert_true(n >= before && n <= count);
			for (size_t i = 0; i < n; i++)
				assert_true(units[i].from == all[i].from &&
					    units[i].to == all[i].to && units[i].key == all[i].key);
			before = n;
			free(units);
		}
		free(all);
		conversation_fini(&c);
	}
}

/* An edit at the beginning moves no key; a text is read in a few pieces, however long it is. */
static void test_units_of_a_body(void **state)
{
	struct chat_request r;
	struct dialect_error error;
	struct layout_unit *units;
	uint64_t key[2];
	size_t count;
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct buf body, texts[LAYOUT_UNIT_CHUNKS], long_text;
		buf_init(&body, 0);
		buf_init(&long_text, 0);
		for (unsigned k = 0; k < 900; k++)
			buf_printf(&long_text, "line %u of file_%u.c\n", k, k * 7);
		buf_printf(&body,
			"{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"day "
			"%d\"},"
			"{\"role\":\"user\",\"content\":\"go\"},"
			"{\"role\":\"assistant\",\"content\":\"I read\"},"
			"{\"role\":\"user\",\"content\":",
			i);
		json_put_string(&body, buf_slice(&long_text));
		buf_add_str(&body, "},{\"role\":\"assistant\",\"content\":\"then\"},"
				   "{\"role\":\"user\",\"content\":\"never touch file_7.c\"},"
				   "{\"role\":\"assistant\",\"content\":\"so\"}]}");
		assert_int_equal(
			chat_request_parse(DIALECT_OPENAI_CHAT, buf_slice(&body), &r, &error), 0);
		assert_int_equal(layout_units(&r, 2, 1000, &units, &count), 0);
		assert_int_equal(count, 1);
		assert_true(units[0].from == 1 && units[0].to == 2);
		key[i] = units[0].key;
		assert_int_equal(layout_unit_read(&r, &units[0], 600, texts, &count), 0);
		assert_true(count > 1 && count <= LAYOUT_UNIT_CHUNKS);
		assert_true(holds(buf_slice(&texts[0]), "line 0 of"));
		assert_true(holds(buf_slice(&texts[count - 1]), "line 899 of"));
		for (size_t k = 0; k < LAYOUT_UNIT_CHUNKS; k++)
			buf_free(&texts[k]);
		free(units);
		assert_int_equal(layout_units(&r, 1, 1000, &units, &count), 0);
		assert_int_equal(count, 0); /* group 1 is not below 1 */
		free(units);
		chat_request_fini(&r);
		buf_free(&long_text);
		buf_free(&body);
	}
	assert_true(key[0] == key[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_garbage_reads_as_the_end),
		cmocka_unit_test(test_units_stay),
		cmocka_unit_test(test_units_of_a_body),
		cmocka_unit_test(test_older_digests_take_nothing_new),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_nothing_invented),
		cmocka_unit_test(test_decisions_give_the_same_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
