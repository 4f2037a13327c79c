#include "supervisor/requests/notes_table.h"

#include "common/base/hash.h"
#include "common/text/notes.h"

#include <errno.h>
#include <stdlib.h>

#define DIGEST_VERSION 1 /* of what is packed, and of how a digest takes it */

int notes_table_init(struct notes_table *t, size_t max_bytes)
{
	t->notes = memo_create(max_bytes);
	t->digests = memo_create(max_bytes);
	return t->notes && t->digests ? 0 : -ENOMEM;
}

void notes_table_fini(struct notes_table *t)
{
	memo_destroy(t->notes);
	memo_destroy(t->digests);
	*t = (struct notes_table){0};
}

static void load(void *ctx, uint64_t key, struct slice value)
{
	memo_put(ctx, key, value);
}

void notes_table_load(struct notes_table *t, const struct keep *k)
{
	keep_notes(k, STORE_NOTE, load, t->notes);
	keep_notes(k, STORE_DIGEST, load, t->digests);
}

void notes_table_limit(struct notes_table *t, size_t max_bytes)
{
	memo_limit(t->notes, max_bytes);
	memo_limit(t->digests, max_bytes);
}

uint64_t notes_key(uint64_t unit, struct slice model)
{
	return hash_mix(hash_mix(unit ^ NOTES_VERSION) ^ hash_bytes(model.p, model.n));
}

uint64_t notes_digest_key(uint64_t chain)
{
	return hash_mix(chain ^ DIGEST_VERSION);
}

size_t notes_unit_bytes(const struct config *conf)
{
	double tokens = (double)conf->condense.chunk_tokens;
	return (size_t)(tokens * NOTES_BYTES_A_TOKEN * NOTES_UNIT_SHARE);
}

/* --- what was decided --- */

static bool is_group_end(const uint32_t *groups, size_t count, size_t i)
{
	return i + 1 == count || groups[i + 1] != groups[i];
}

size_t notes_decisions(
	struct notes_table *t, const uint64_t *chains, const uint32_t *groups, size_t count)
{
	struct slice packed;
	size_t n = 0;
	for (size_t i = 0; i < count && memo_count(t->digests); i++)
		n += is_group_end(groups, count, i) &&
		     memo_get(t->digests, notes_digest_key(chains[i]), &packed);
	return n;
}

static int gather_decided(struct notes_offer *o, struct notes_table *t, const uint64_t *chains,
	const uint32_t *groups, size_t count)
{
	size_t n = notes_decisions(t, chains, groups, count), end = 0;
	struct slice packed;
	if (n == 0)
		return 0;
	o->noted = calloc(n, sizeof(*o->noted));
	if (!o->noted)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (!is_group_end(groups, count, i) ||
			!memo_get(t->digests, notes_digest_key(chains[i]), &packed))
			continue;
		o->noted[o->noted_count++] = (struct layout_noted){chains[i], {NULL, packed.n}};
		buf_add_slice(&o->bytes, packed);
	}
	for (size_t i = 0; i < o->noted_count && !buf_error(&o->bytes); i++) {
		o->noted[i].notes.p = o->bytes.p + end; /* only now does it stay where it is */
		end += o->noted[i].notes.n;
	}
	return buf_error(&o->bytes);
}

/* --- what is there --- */

static bool find(
	struct notes_table *t, uint64_t unit, const struct notes_models *models, struct slice *text)
{
	for (size_t i = 0; i < models->count; i++)
		if (memo_get(t->notes, notes_key(unit, models->name[i]), text) && text->n)
			return true;
	return false;
}

/* The first unit of those, from the newest back, that fit what a digest is offered. */
static size_t newest_that_fit(struct notes_table *t, const struct layout_unit *u, size_t n,
	const struct notes_models *models)
{
	size_t bytes = 0;
	struct slice text;
	while (n > 0) {
		size_t more = find(t, u[n - 1].key, models, &text) ? text.n + LAYOUT_NOTE_BYTES : 0;
		if (bytes + more > LAYOUT_NOTES_MAX)
			break;
		bytes += more;
		n--;
	}
	return n;
}

static int gather_offered(struct notes_offer *o, struct notes_table *t,
	const struct chat_request *r, const struct notes_models *models, size_t unit_bytes)
{
	struct layout_unit *units;
	struct slice text;
	size_t count;
	int rc = layout_units(r, UINT32_MAX, unit_bytes, &units, &count);
	for (size_t i = rc ? count : newest_that_fit(t, units, count, models); i < count && rc == 0;
		i++) {
		if (!find(t, units[i].key, models, &text))
			continue;
		const struct layout_note n = {units[i].from, units[i].to, text};
		rc = layout_note_pack(&o->offered, &n);
	}
	free(units);
	return rc;
}

int notes_offer_make(struct notes_offer *o, struct notes_table *t, const struct chat_request *r,
	const uint64_t *chains, const uint32_t *groups, const struct notes_models *models,
	size_t unit_bytes)
{
	notes_offer_fini(o);
	buf_init(&o->offered, LAYOUT_NOTES_MAX);
	int rc = gather_decided(o, t, chains, groups, r->count);
	if (rc == 0 && unit_bytes > 0 && memo_count(t->notes) && models->count &&
		r->messages_array.raw.n <= NOTES_BODY_MAX)
		rc = gather_offered(o, t, r, models, unit_bytes);
	if (rc)
		notes_offer_fini(o);
	return rc;
}

void notes_offer_fini(struct notes_offer *o)
{
	free(o->noted);
	buf_free(&o->bytes);
	buf_free(&o->offered);
	*o = (struct notes_offer){0};
}

void notes_offer_tell(const struct notes_offer *o, struct layout_options *options)
{
	options->noted = o->noted;
	options->noted_count = o->noted_count;
	options->offered = buf_slice(&o->offered);
}
