/*
 * Members of the documents of the stats socket. Each appends "key":value; an empty text, and a
 * number that is not known, are null.
 */
#ifndef TANDEM_STATS_PUT_H
#define TANDEM_STATS_PUT_H

#include "common/base/json.h"
#include "supervisor/tell/tell.h"

#include <math.h>

static inline void put_null(struct buf *b, const char *key)
{
	json_put_key(b, key);
	buf_add_str(b, "null");
}

static inline void put_string(struct buf *b, const char *key, const char *value)
{
	if (!value || !*value) {
		put_null(b, key);
		return;
	}
	json_put_key(b, key);
	json_put_string(b, slice_str(value));
}

static inline void put_int(struct buf *b, const char *key, int64_t value)
{
	json_put_key(b, key);
	json_put_int(b, value);
}

/* null unless known */
static inline void put_int_if(struct buf *b, const char *key, bool known, int64_t value)
{
	if (known)
		put_int(b, key, value);
	else
		put_null(b, key);
}

static inline void put_real(struct buf *b, const char *key, double value)
{
	if (!isfinite(value)) {
		put_null(b, key);
		return;
	}
	json_put_key(b, key);
	buf_printf(b, "%.1f", value);
}

/* Begins a member that is an object or an array; the caller closes it. */
static inline void put_open(struct buf *b, const char *key, char bracket)
{
	json_put_key(b, key);
	buf_add_char(b, bracket);
}

/* Begins an object as the next element of an array. */
static inline void put_element(struct buf *b)
{
	if (b->n && b->p[b->n - 1] != '[')
		buf_add_char(b, ',');
	buf_add_char(b, '{');
}

/* Members of a worker's incarnation, the same in `status` and `workers`. stats_lists.c */
void stats_put_worker(struct buf *b, const struct worker *w);
/* Members of a backend, the same in `status` and `backends`. stats_lists.c */
void stats_put_backend(struct buf *b, const struct device *d);
/* Jobs that wait for a device's slots, by class; the sums over all devices. stats_lists.c */
void stats_put_classes(struct buf *b, const struct device *d);
void stats_put_queue(struct buf *b, const struct tell *t);
/* Notes that are held, and models that were given up. stats_counts.c */
void stats_put_notes(struct buf *b, const struct requests *s);

#endif
