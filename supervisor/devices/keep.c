/* The file's life, and what waits to be written. */
#include "supervisor/devices/keep_private.h"

#include "common/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* --- writing --- */

static void pending_free(struct keep_pending *p)
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

void keep_put(struct keep *k, enum store_kind kind, struct slice key, struct slice value)
{
	if (!k->store || k->stopping)
		return;
	/* A newer value of something that waits takes its place. */
	for (size_t i = 0; i < k->queued; i++) {
		struct keep_pending *p = &k->queue[i];
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
	struct keep_pending *p = &k->queue[k->queued];
	*p = (struct keep_pending){.kind = kind};
	buf_add_slice(&p->key, key);
	buf_add_slice(&p->value, value);
	if (buf_error(&p->key) || buf_error(&p->value)) {
		pending_free(p);
		return;
	}
	k->queued++;
	kick(k);
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
		keep_load_decisions(k);
		keep_touch_decisions(k);
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
	keep_load_decisions(k);
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
