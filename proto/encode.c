#include "proto/wire.h"

#include <errno.h>
#include <math.h>
#include <msgpack.h>

#define FRAME_COUNT_AT 1 /* after the tag of array 32: where the element count stands */
#define FRAME_FIXED 2	 /* elements before the first record: version, generation */

static int append(void *frame, const char *p, size_t n)
{
	return buf_add(frame, p, n);
}

static int pack_slice(msgpack_packer *pk, const struct wire_field *f, struct slice s)
{
	if (s.n > (uint64_t)f->max)
		return -E2BIG;
	if (f->kind == WIRE_TEXT)
		return msgpack_pack_str(pk, s.n) ?: msgpack_pack_str_body(pk, s.p, s.n);
	return msgpack_pack_bin(pk, s.n) ?: msgpack_pack_bin_body(pk, s.p, s.n);
}

static int pack_fields(
	msgpack_packer *pk, const struct wire_field *fields, size_t n, const char *holder);

static int pack_list(msgpack_packer *pk, const struct wire_field *f, const char *holder)
{
	const struct wire_list *list = f->list;
	const char *items = holder + f->offset;
	size_t count;
	memcpy(&count, holder + list->count_offset, sizeof count);
	if (count > list->max)
		return -E2BIG;
	if (list->indirect)
		memcpy(&items, holder + f->offset, sizeof items);

	int rc = msgpack_pack_array(pk, count);
	for (size_t i = 0; i < count && !rc; i++) {
		if (list->field_count > 1)
			rc = msgpack_pack_array(pk, list->field_count);
		if (!rc)
			rc = pack_fields(
				pk, list->fields, list->field_count, items + i * list->item_bytes);
	}
	return rc;
}

static int pack_field(msgpack_packer *pk, const struct wire_field *f, const char *holder)
{
	const char *at = holder + f->offset;
	union {
		bool flag;
		uint32_t u32;
		uint64_t u64;
		int64_t i64;
		double f64;
		struct slice slice;
	} v;

	switch (f->kind) {
	case WIRE_BOOL:
		memcpy(&v.flag, at, sizeof v.flag);
		return v.flag ? msgpack_pack_true(pk) : msgpack_pack_false(pk);
	case WIRE_U32:
		memcpy(&v.u32, at, sizeof v.u32);
		return v.u32 > f->max ? -EINVAL : msgpack_pack_uint32(pk, v.u32);
	case WIRE_U64:
		memcpy(&v.u64, at, sizeof v.u64);
		return msgpack_pack_uint64(pk, v.u64);
	case WIRE_I64:
		memcpy(&v.i64, at, sizeof v.i64);
		return v.i64 < f->min || v.i64 > f->max ? -EINVAL : msgpack_pack_int64(pk, v.i64);
	case WIRE_F64:
		memcpy(&v.f64, at, sizeof v.f64);
		return msgpack_pack_double(pk, isfinite(v.f64) ? v.f64 : -1);
	case WIRE_TEXT:
	case WIRE_BYTES:
		memcpy(&v.slice, at, sizeof v.slice);
		return pack_slice(pk, f, v.slice);
	case WIRE_LIST:
		return pack_list(pk, f, holder);
	}
	return -EINVAL;
}

static int pack_fields(
	msgpack_packer *pk, const struct wire_field *fields, size_t n, const char *holder)
{
	int rc = 0;
	for (size_t i = 0; i < n && !rc; i++)
		rc = pack_field(pk, &fields[i], holder);
	return rc;
}

void proto_writer_init(struct proto_writer *w, uint64_t generation)
{
	*w = (struct proto_writer){.generation = generation};
	buf_init(&w->frame, PROTO_FRAME_MAX);
}

void proto_writer_fini(struct proto_writer *w)
{
	buf_free(&w->frame);
	w->count = 0;
}

static int pack_frame_start(msgpack_packer *pk, uint64_t generation)
{
	static const char array32[5] = {(char)0xdd}; /* fixed width: the count is written last */
	int rc = append(pk->data, array32, sizeof array32);
	if (!rc)
		rc = msgpack_pack_uint32(pk, PROTO_VERSION);
	if (!rc)
		rc = msgpack_pack_uint64(pk, generation);
	return rc;
}

int proto_put(struct proto_writer *w, const struct proto_record *r)
{
	const struct wire_shape *shape = wire_shape(r->type);
	if (!shape || shape->about_job != (r->job != 0))
		return -EINVAL;

	size_t before = w->frame.n;
	msgpack_packer pk;
	msgpack_packer_init(&pk, &w->frame, append);
	int rc = before ? 0 : pack_frame_start(&pk, w->generation);
	if (!rc)
		rc = msgpack_pack_array(&pk, 2 + shape->field_count);
	if (!rc)
		rc = msgpack_pack_uint32(&pk, r->type);
	if (!rc)
		rc = msgpack_pack_uint64(&pk, r->job);
	if (!rc)
		rc = pack_fields(&pk, shape->fields, shape->field_count, (const char *)r);
	if (rc) {
		w->frame.n = before;
		w->frame.error = 0; /* the frame is whole again, so it may go on */
		return rc;
	}
	w->count++;
	return 0;
}

struct slice proto_writer_frame(struct proto_writer *w)
{
	if (w->count == 0)
		return (struct slice){0};
	uint32_t n = FRAME_FIXED + w->count;
	for (int i = 0; i < 4; i++)
		w->frame.p[FRAME_COUNT_AT + i] = (char)(n >> (24 - 8 * i));
	return buf_slice(&w->frame);
}

void proto_writer_reset(struct proto_writer *w)
{
	buf_clear(&w->frame);
	w->count = 0;
}
