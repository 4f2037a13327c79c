#include "supervisor/requests/notes_table.h"
#include "tests/unit/conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants the two above first */
#include <cmocka.h>

#define UNIT_BYTES 1000

struct asked {
	struct conversation c;
	struct buf body;
	struct chat_request r;
	uint64_t *chains;
	uint32_t *groups;
	struct layout_unit *units;
	size_t unit_count;
};

static void ask(struct asked *a, unsigned turns)
{
	struct dialect_error error;
	conversation_begin(&a->c, 5);
	for (unsigned i = 0; i < turns; i++)
		conversation_turn(&a->c);
	buf_init(&a->body, 0);
	conversation_body(&a->c, conversation_groups(&a->c) - 1, &a->body);
	assert_int_equal(chat_request_parse(a->c.dialect, buf_slice(&a->body), &a->r, &error), 0);
	a->chains = calloc(a->r.count, sizeof(*a->chains));
	a->groups = calloc(a->r.count, sizeof(*a->groups));
	layout_chains(&a->r, a->chains, a->groups);
	assert_int_equal(layout_units(&a->r, UINT32_MAX, UNIT_BYTES, &a->units, &a->unit_count), 0);
	assert_true(a->unit_count > 3);
}

static void unask(struct asked *a)
{
	free(a->chains);
	free(a->groups);
	free(a->units);
	chat_request_fini(&a->r);
	buf_free(&a->body);
	conversation_fini(&a->c);
}

static size_t notes_in(struct slice packed)
{
	struct layout_note n;
	size_t count = 0;
	while (layout_note_next(&packed, &n))
		count++;
	return count;
}

static void make(struct notes_offer *o, struct notes_table *t, const struct asked *a,
	const struct notes_models *m, size_t unit_bytes)
{
	assert_int_equal(notes_offer_make(o, t, &a->r, a->chains, a->groups, m, unit_bytes), 0);
}

static void test_offered(void **state)
{
	struct notes_table t;
	struct notes_offer o = {0};
	struct notes_models small = {{SLICE("small")}, 1}, other = {{SLICE("other")}, 1},
			    both = {{SLICE("other"), SLICE("small")}, 2};
	struct asked a;
	struct layout_note n;
	(void)state;
	ask(&a, 20);
	assert_int_equal(notes_table_init(&t, 1 << 20), 0);
	make(&o, &t, &a, &small, UNIT_BYTES);
	assert_int_equal(o.offered.n, 0);
	assert_int_equal(
		memo_put(t.notes, notes_key(a.units[1].key, small.name[0]), SLICE("- one\n")), 0);
	assert_int_equal(memo_put(t.notes, notes_key(a.units[2].key, small.name[0]), SLICE("")), 0);
	make(&o, &t, &a, &small, UNIT_BYTES);
	struct slice packed = buf_slice(&o.offered);
	assert_int_equal(notes_in(packed), 1);
	assert_true(layout_note_next(&packed, &n));
	assert_true(n.from == a.units[1].from && n.to == a.units[1].to);
	assert_true(slice_eq(n.text, SLICE("- one\n")));
	make(&o, &t, &a, &other, UNIT_BYTES); /* another model's are not its */
	assert_int_equal(o.offered.n, 0);
	make(&o, &t, &a, &both, UNIT_BYTES);
	assert_int_equal(notes_in(buf_slice(&o.offered)), 1);
	make(&o, &t, &a, &small, 0); /* nothing new is wanted */
	assert_int_equal(o.offered.n, 0);
	notes_offer_fini(&o);
	notes_table_fini(&t);
	unask(&a);
}

/* More than a digest is offered: the newest. */
static void test_offered_is_bounded(void **state)
{
	struct notes_table t;
	struct notes_offer o = {0};
	struct notes_models small = {{SLICE("small")}, 1};
	struct asked a;
	struct buf text;
	struct layout_note n, last = {0};
	(void)state;
	ask(&a, 60);
	assert_int_equal(notes_table_init(&t, 1 << 20), 0);
	buf_init(&text, 0);
	while (text.n < LAYOUT_NOTES_MAX / 3)
		buf_add_str(&text, "- a note\n");
	for (size_t i = 0; i < a.unit_count; i++)
		memo_put(t.notes, notes_key(a.units[i].key, small.name[0]), buf_slice(&text));
	make(&o, &t, &a, &small, UNIT_BYTES);
	assert_true(o.offered.n <= LAYOUT_NOTES_MAX);
	struct slice packed = buf_slice(&o.offered);
	assert_int_equal(notes_in(packed), 2);
	while (layout_note_next(&packed, &n))
		last = n;
	assert_int_equal(last.to, a.units[a.unit_count - 1].to);
	notes_offer_fini(&o);
	notes_table_limit(&t, 0);
	make(&o, &t, &a, &small, UNIT_BYTES);
	assert_int_equal(o.offered.n, 0);
	notes_offer_fini(&o);
	notes_table_fini(&t);
	buf_free(&text);
	unask(&a);
}

static void test_decided(void **state)
{
	struct notes_table t;
	struct notes_offer o = {0};
	struct notes_models none = {.count = 0};
	struct layout_options options = layout_defaults();
	struct asked a;
	(void)state;
	ask(&a, 20);
	assert_int_equal(notes_table_init(&t, 1 << 20), 0);
	size_t end = 0, inside = 0, count = a.r.count;
	for (size_t i = 0; i + 1 < count; i++)
		*(a.groups[i + 1] == a.groups[i] ? &inside : &end) = i;
	assert_true(end && inside);
	memo_put(t.digests, notes_digest_key(a.chains[end]), SLICE("one"));
	memo_put(t.digests, notes_digest_key(a.chains[inside]), SLICE("no end"));
	memo_put(t.digests, notes_digest_key(a.chains[count - 1]), SLICE("newest"));
	memo_put(t.digests, notes_digest_key(12345), SLICE("another conversation"));
	assert_int_equal(notes_decisions(&t, a.chains, a.groups, count), 2);
	make(&o, &t, &a, &none, 0);
	notes_offer_tell(&o, &options);
	assert_int_equal(options.noted_count, 2);
	assert_true(options.noted[0].chain == a.chains[end]);
	assert_true(slice_eq(options.noted[0].notes, SLICE("one")));
	assert_true(options.noted[1].chain == a.chains[count - 1]);
	assert_true(slice_eq(options.noted[1].notes, SLICE("newest")));
	assert_int_equal(options.offered.n, 0);
	notes_offer_fini(&o);
	notes_table_fini(&t);
	unask(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offered),
		cmocka_unit_test(test_offered_is_bounded),
		cmocka_unit_test(test_decided),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
