/*
 * Compaction as OpenAI's /v1/responses has it: which messages a text stands for. It has their hashes at its end, since a
 * client sends what a person said once more, and a long message is shorter in the text.
 */
#include "common/dialect/compaction_responses.h"

#include "common/base/hash.h"
#include "common/base/hex.h"
#include "common/dialect/front_responses.h"
#include "common/dialect/pieces.h"

#include <inttypes.h>
#include <stdlib.h>

#define STOOD "stands"
#define HASH_DIGITS 16

/* Of what a person sees of it: the same however a client writes its JSON. */
static uint64_t hash_of(const struct chat_message *m, struct buf *scratch)
{
	buf_clear(scratch);
	chat_content_text(m->content, scratch);
	uint64_t h = hash_fnv(HASH_FNV_START, scratch->p, scratch->n);
	return hash_fnv(h, &(unsigned char){(unsigned char)m->images}, 1);
}

static bool is_plain_user(const struct chat_message *m)
{
	return m->role == CHAT_USER && responses_item_of(m).type == JSON_NONE;
}

void responses_put_stood(const struct chat_request *whole, struct buf *out, struct buf *scratch)
{
	buf_add_str(out, "## " STOOD " for\n");
	buf_clear(scratch);
	json_string_decode(json_get(whole->root, RESPONSES_STOOD), scratch);
	buf_add_slice(out, buf_slice(scratch));
	for (size_t i = 0; i < whole->count; i++)
		if (is_plain_user(&whole->messages[i]))
			buf_printf(out, "%016" PRIx64 "\n", hash_of(&whole->messages[i], scratch));
	buf_add_char(out, '\n');
}

static bool read_hash(const char *p, uint64_t *out)
{
	*out = 0;
	for (int i = 0; i < HASH_DIGITS; i++) {
		int digit = hex_digit(p[i]);
		if (digit < 0)
			return false;
		*out = *out << 4 | (uint64_t)digit;
	}
	return true;
}

static int compare(const void *a, const void *b)
{
	uint64_t x, y;
	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

/* Sorted: clients choose the messages, and so where a table would have them. */
static void read_stood(struct slice text, struct buf *hashes)
{
	struct buf lines;
	uint64_t h;
	buf_init(&lines, 0);
	compaction_take(text, STOOD, false, &lines);
	for (size_t at = 0; at + HASH_DIGITS <= lines.n; at += HASH_DIGITS + 1)
		if (read_hash(lines.p + at, &h))
			buf_add(hashes, &h, sizeof(h));
	if (buf_error(&lines))
		hashes->error = buf_error(&lines);
	buf_free(&lines);
	if (hashes->n)
		qsort(hashes->p, hashes->n / sizeof(h), sizeof(h), compare);
}

int responses_stand_for(const struct chat_request *r, const struct compaction_found *f,
	struct slice text, struct buf *kept, struct buf *out)
{
	struct buf scratch, hashes;
	buf_init(&scratch, 0);
	buf_init(&hashes, 0);
	read_stood(text, &hashes);
	for (size_t i = 0; i < f->at; i++) {
		if (!is_plain_user(&r->messages[i]))
			continue;
		uint64_t h = hash_of(&r->messages[i], &scratch);
		if (hashes.n && bsearch(&h, hashes.p, hashes.n / sizeof(h), sizeof(h), compare))
			buf_printf(out, "%016" PRIx64 "\\n", h);
		else
			buf_add(kept, &i, sizeof(i));
	}
	int rc = buf_error(&scratch)  ? buf_error(&scratch)
		 : buf_error(&hashes) ? buf_error(&hashes)
				      : buf_error(kept);
	buf_free(&scratch);
	buf_free(&hashes);
	return rc;
}
