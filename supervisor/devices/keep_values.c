/* How what is kept looks in the file, but for decisions: each kind's key and value. */
#include "supervisor/devices/keep_private.h"

#include "common/base/hash.h"

#include <errno.h>
#include <stdlib.h>

/* --- windows --- */

void keep_window(struct keep *k, uint64_t beginning, double window)
{
	keep_put(k, STORE_WINDOW, (struct slice){(const char *)&beginning, sizeof(beginning)},
		(struct slice){(const char *)&window, sizeof(window)});
}

struct windows {
	keep_window_fn *fn;
	void *ctx;
};

static void read_window(void *ctx, struct slice key, struct slice value)
{
	const struct windows *w = ctx;
	uint64_t beginning;
	double window;
	if (key.n != sizeof(beginning) || value.n != sizeof(window))
		return;
	memcpy(&beginning, key.p, sizeof(beginning));
	memcpy(&window, value.p, sizeof(window));
	if (window > 0 && window < 1e12)
		w->fn(w->ctx, beginning, window);
}

void keep_windows(const struct keep *k, keep_window_fn *fn, void *ctx)
{
	struct windows w = {fn, ctx};
	if (k->store)
		store_each(k->store, STORE_WINDOW, read_window, &w);
}

/* --- notes --- */

void keep_note(struct keep *k, enum store_kind kind, uint64_t key, struct slice value)
{
	keep_put(k, kind, (struct slice){(const char *)&key, sizeof(key)}, value);
}

struct note_reader {
	keep_note_fn *fn;
	void *ctx;
};

static void read_note(void *ctx, struct slice key, struct slice value)
{
	const struct note_reader *r = ctx;
	uint64_t number;
	if (key.n != sizeof(number))
		return;
	memcpy(&number, key.p, sizeof(number));
	r->fn(r->ctx, number, value);
}

void keep_notes(const struct keep *k, enum store_kind kind, keep_note_fn *fn, void *ctx)
{
	struct note_reader r = {fn, ctx};
	if (k->store)
		store_each(k->store, kind, read_note, &r);
}

/* --- chains: for each link its hash, and its tokens as a float --- */

void keep_save_chain(struct keep *k, uint64_t conversation, const struct prefix_chain *chain)
{
	struct buf value;
	if (chain->count == 0 || chain->count > KEEP_LINKS_MAX)
		return;
	buf_init(&value, STORE_VALUE_MAX);
	for (size_t i = 0; i < chain->count; i++) {
		float tokens = (float)chain->links[i].tokens;
		buf_add(&value, &chain->links[i].hash, sizeof(chain->links[i].hash));
		buf_add(&value, &tokens, sizeof(tokens));
	}
	if (buf_error(&value) == 0)
		keep_put(k, STORE_CHAIN,
			(struct slice){(const char *)&conversation, sizeof(conversation)},
			buf_slice(&value));
	buf_free(&value);
}

static int read_chain(struct slice value, struct prefix_chain *out)
{
	size_t n = value.n / KEEP_LINK_BYTES;
	out->links = n && value.n % KEEP_LINK_BYTES == 0 ? malloc(n * sizeof(*out->links)) : NULL;
	if (!out->links)
		return -EPROTO;
	out->count = out->room = n;
	for (size_t i = 0; i < n; i++) {
		const char *at = value.p + i * KEEP_LINK_BYTES;
		float tokens;
		memcpy(&out->links[i].hash, at, sizeof(out->links[i].hash));
		memcpy(&tokens, at + sizeof(out->links[i].hash), sizeof(tokens));
		if (!(tokens >= 0 && tokens < 1e12f))
			return -EPROTO;
		out->links[i].tokens = (double)tokens;
	}
	return 0;
}

void keep_chain(const struct keep *k, uint64_t conversation, struct prefix_chain *out)
{
	struct buf value;
	struct slice key = {(const char *)&conversation, sizeof(conversation)};
	*out = (struct prefix_chain){0};
	if (!k->store)
		return;
	buf_init(&value, STORE_VALUE_MAX);
	if (store_get(k->store, STORE_CHAIN, key, &value, NULL) == 0 &&
		read_chain(buf_slice(&value), out))
		prefix_chain_fini(out);
	buf_free(&value);
}

/* --- tokens: a name's hash, to the name's length, the name, and what it has taught --- */

void keep_tokens(struct keep *k, const struct tokens *t, struct slice model)
{
	struct buf value;
	uint32_t n = (uint32_t)model.n;
	uint64_t hash = hash_bytes(model.p, model.n);
	buf_init(&value, STORE_VALUE_MAX);
	buf_add(&value, &n, sizeof(n));
	buf_add_slice(&value, model);
	if (tokens_save(t, model, &value) == 0)
		keep_put(k, STORE_TOKENS, (struct slice){(const char *)&hash, sizeof(hash)},
			buf_slice(&value));
	buf_free(&value);
}

static void teach(void *ctx, struct slice key, struct slice value)
{
	uint32_t n;
	(void)key;
	if (value.n < sizeof(n))
		return;
	memcpy(&n, value.p, sizeof(n));
	value = (struct slice){value.p + sizeof(n), value.n - sizeof(n)};
	if (value.n >= n)
		tokens_load(
			ctx, (struct slice){value.p, n}, (struct slice){value.p + n, value.n - n});
}

void keep_teach(const struct keep *k, struct tokens *t)
{
	if (k->store)
		store_each(k->store, STORE_TOKENS, teach, t);
}

/* --- rates --- */

bool keep_rates(const struct keep *k, const char *device, struct predict_rates *r)
{
	struct buf saved;
	predict_init(r);
	if (!k->store)
		return false;
	buf_init(&saved, PREDICT_BYTES);
	bool good = store_get(k->store, STORE_RATES, slice_str(device), &saved, NULL) == 0 &&
		    predict_load(r, buf_slice(&saved));
	buf_free(&saved);
	return good;
}

void keep_save_rates(struct keep *k, const char *device, const struct predict_rates *r)
{
	struct buf saved;
	buf_init(&saved, PREDICT_BYTES);
	if (predict_save(r, &saved) == 0)
		keep_put(k, STORE_RATES, slice_str(device), buf_slice(&saved));
	buf_free(&saved);
}
