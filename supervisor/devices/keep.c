#include "supervisor/devices/keep.h"

#include "common/base/hash.h"
#include "common/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#define DAY_S 86400

/* A value that waits to be written; owns its bytes. */
struct pending {
	enum store_kind kind;
	struct buf key, value;
};

struct decision {
	uint64_t chain;
	int64_t at_s; /* of the calendar */
};

struct keep {
	uv_loop_t *loop;
	struct store *store;	    /* NULL: there is none */
	uint64_t *chains;	    /* sorted */
	struct decision *decisions; /* in the order they came */
	size_t count;
	struct pending queue[KEEP_QUEUE_MAX], writing[KEEP_QUEUE_MAX];
	size_t queued, taken;
	uv_work_t work;
	bool busy, stopping;
	int rc;
};

/* --- writing --- */

static void pending_free(struct pending *p)
{
	buf_free(&p->key);
	buf_free(&p->value);
}

static void write_all(uv_work_t *work)
{
	struct keep *k = work->data;
	struct store_value values[KEEP_QUEUE_MAX];
	for (size_t i = 0; i < k->taken; i++)
		values[i] = (struct store_value){k->writing[i].kind, buf_slice(&k->writing[i].key),
			buf_slice(&k->writing[i].value)};
	k->rc = store_put(k->store, values, k->taken);
}

static void kick(struct keep *k);

static void written(uv_work_t *work, int status)
{
	struct keep *k = work->data;
	(void)status;
	k->busy = false;
	if (k->rc)
		log_line(LOG_WARN, "keep_write", LOG_INT("values", k->taken),
			LOG_STR("error", strerror(-k->rc)), LOG_END);
	for (size_t i = 0; i < k->taken; i++)
		pending_free(&k->writing[i]);
	k->taken = 0;
	kick(k);
}

static void kick(struct keep *k)
{
	if (k->busy || !k->store)
		return;
	if (k->queued == 0) {
		if (k->stopping) {
			store_close(k->store);
			k->store = NULL;
		}
		return;
	}
	memcpy(k->writing, k->queue, k->queued * sizeof(k->queue[0]));
	k->taken = k->queued;
	k->queued = 0;
	k->work.data = k;
	k->busy = uv_queue_work(k->loop, &k->work, write_all, written) == 0;
	if (!k->busy) { /* no thread to be had: then now */
		write_all(&k->work);
		written(&k->work, 0);
	}
}

static void put(struct keep *k, enum store_kind kind, struct slice key, struct slice value)
{
	if (!k->store || k->stopping)
		return;
	/* A newer value of something that waits takes its place. */
	for (size_t i = 0; i < k->queued; i++) {
		struct pending *p = &k->queue[i];
		if (p->kind == kind && slice_eq(buf_slice(&p->key), key)) {
			buf_clear(&p->value);
			buf_add_slice(&p->value, value);
			return;
		}
	}
	if (k->queued == KEEP_QUEUE_MAX) {
		pending_free(&k->queue[0]);
		memmove(k->queue, k->queue + 1, --k->queued * sizeof(k->queue[0]));
	}
	struct pending *p = &k->queue[k->queued];
	*p = (struct pending){.kind = kind};
	buf_add_slice(&p->key, key);
	buf_add_slice(&p->value, value);
	if (buf_error(&p->key) || buf_error(&p->value)) {
		pending_free(p);
		return;
	}
	k->queued++;
	kick(k);
}

/* --- decisions --- */

int keep_by_chain(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static int by_age(const void *a, const void *b)
{
	const struct decision *x = a, *y = b;
	return (x->at_s > y->at_s) - (x->at_s < y->at_s);
}

static void sort(struct keep *k)
{
	for (size_t i = 0; i < k->count; i++)
		k->chains[i] = k->decisions[i].chain;
	qsort(k->chains, k->count, sizeof(k->chains[0]), keep_by_chain);
}

static bool decided(const struct keep *k, uint64_t chain)
{
	return k->count && bsearch(&chain, k->chains, k->count, sizeof(chain), keep_by_chain);
}

static void add(struct keep *k, uint64_t chain, int64_t at_s)
{
	if (k->count == KEEP_DECISIONS_MAX)
		memmove(k->decisions, k->decisions + 1, --k->count * sizeof(k->decisions[0]));
	k->decisions[k->count++] = (struct decision){chain, at_s};
}

const uint64_t *keep_decisions(const struct keep *k, size_t *count)
{
	*count = k->count;
	return k->chains;
}

static void put_decision(struct keep *k, const struct decision *d)
{
	put(k, STORE_DECISION, (struct slice){(const char *)&d->chain, sizeof(d->chain)},
		(struct slice){(const char *)&d->at_s, sizeof(d->at_s)});
}

void keep_decide(struct keep *k, uint64_t chain)
{
	if (decided(k, chain))
		return;
	add(k, chain, (int64_t)time(NULL));
	sort(k);
	put_decision(k, &k->decisions[k->count - 1]);
}

struct loading {
	struct decision *all;
	size_t count, room;
};

static void load(void *ctx, struct slice key, struct slice value)
{
	struct loading *l = ctx;
	struct decision d;
	if (key.n != sizeof(d.chain) || value.n != sizeof(d.at_s))
		return;
	memcpy(&d.chain, key.p, sizeof(d.chain));
	memcpy(&d.at_s, value.p, sizeof(d.at_s));
	if (d.at_s < (int64_t)time(NULL) - (int64_t)KEEP_DAYS * DAY_S)
		return;
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 256;
		struct decision *grown = realloc(l->all, room * sizeof(*grown));
		if (!grown)
			return;
		l->all = grown;
		l->room = room;
	}
	l->all[l->count++] = d;
}

/* The newest of those that are kept, each once. */
static void load_decisions(struct keep *k)
{
	struct loading l = {0};
	store_each(k->store, STORE_DECISION, load, &l);
	if (l.count)
		qsort(l.all, l.count, sizeof(l.all[0]), by_age);
	for (size_t i = 0; i < l.count; i++) {
		bool twice = false;
		for (size_t j = k->count;
			j > 0 && !twice && k->decisions[j - 1].at_s == l.all[i].at_s; j--)
			twice = k->decisions[j - 1].chain == l.all[i].chain;
		if (!twice)
			add(k, l.all[i].chain, l.all[i].at_s);
	}
	free(l.all);
	sort(k);
}

/* They stay kept (store.h: generations). */
static void touch_decisions(struct keep *k)
{
	struct store_value *values = k->count ? calloc(k->count, sizeof(*values)) : NULL;
	for (size_t i = 0; values && i < k->count; i++) {
		struct decision *d = &k->decisions[i];
		values[i] = (struct store_value){STORE_DECISION,
			{(const char *)&d->chain, sizeof(d->chain)},
			{(const char *)&d->at_s, sizeof(d->at_s)}};
	}
	if (values)
		store_put(k->store, values, k->count);
	free(values);
}

/* --- windows --- */

void keep_window(struct keep *k, uint64_t beginning, double window)
{
	put(k, STORE_WINDOW, (struct slice){(const char *)&beginning, sizeof(beginning)},
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
	put(k, kind, (struct slice){(const char *)&key, sizeof(key)}, value);
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
		put(k, STORE_CHAIN,
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
		put(k, STORE_TOKENS, (struct slice){(const char *)&hash, sizeof(hash)},
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
		put(k, STORE_RATES, slice_str(device), buf_slice(&saved));
	buf_free(&saved);
}

/* --- life --- */

static void open_file(struct keep *k, const char *dir, size_t max_bytes)
{
	char path[4096];
	struct buf moved;
	buf_init(&moved, 0);
	int n = snprintf(path, sizeof(path), "%s/" KEEP_FILE, dir);
	int rc = n > 0 && (size_t)n < sizeof(path) ? 0 : -ENAMETOOLONG;
	if (rc == 0 && mkdir(dir, 0700) && errno != EEXIST)
		rc = -errno;
	if (rc == 0)
		rc = store_open(path, max_bytes, &k->store, &moved);
	if (moved.n)
		log_line(LOG_WARN, "keep_moved_aside", LOG_STR("file", path),
			LOG_SLICE("why", buf_slice(&moved)), LOG_END);
	if (rc)
		log_line(LOG_WARN, "keep_nothing", LOG_STR("file", path),
			LOG_STR("error", strerror(-rc)), LOG_END);
	buf_free(&moved);
}

static struct keep *create(uv_loop_t *loop)
{
	struct keep *k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	k->loop = loop;
	k->chains = calloc(KEEP_DECISIONS_MAX, sizeof(k->chains[0]));
	k->decisions = calloc(KEEP_DECISIONS_MAX, sizeof(k->decisions[0]));
	if (!k->chains || !k->decisions) {
		keep_destroy(k);
		return NULL;
	}
	return k;
}

struct keep *keep_start(uv_loop_t *loop, const char *dir, size_t max_bytes)
{
	struct keep *k = create(loop);
	if (!k)
		return NULL;
	open_file(k, dir, max_bytes);
	if (k->store) {
		load_decisions(k);
		touch_decisions(k);
	}
	return k;
}

int keep_open(const char *dir, size_t max_bytes, struct keep **out)
{
	char path[4096];
	int n = snprintf(path, sizeof(path), "%s/" KEEP_FILE, dir);
	if (n <= 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	struct keep *k = create(NULL);
	if (!k)
		return -ENOMEM;
	k->stopping = true; /* it writes nothing */
	int rc = store_open_reading(path, max_bytes, &k->store);
	if (rc) {
		keep_destroy(k);
		return rc;
	}
	load_decisions(k);
	*out = k;
	return 0;
}

void keep_stop(struct keep *k)
{
	k->stopping = true;
	kick(k);
}

void keep_destroy(struct keep *k)
{
	if (!k)
		return;
	store_close(k->store);
	free(k->chains);
	free(k->decisions);
	free(k);
}
