#include "proto/wire.h"

#include <errno.h>
#include <math.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

#define SCRATCH_BYTES 8192

struct proto_reader {
	struct slice frame;
	size_t at;     /* next record */
	uint32_t left; /* records not read yet */
	/* Holds msgpack-c's object tree of one record; bounded by WIRE_OBJECTS_MAX. Text and bytes
	 * stay in the frame. */
	msgpack_zone scratch;
	char problem[96];
	union { /* items of the one list of a record that is not in the record itself */
		struct proto_model models[PROTO_MODELS_MAX];
		struct proto_header headers[PROTO_JOB_HEADERS_MAX];
	} items;
};

struct proto_reader *proto_reader_create(void)
{
	struct proto_reader *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	if (!msgpack_zone_init(&r->scratch, SCRATCH_BYTES)) {
		free(r);
		return NULL;
	}
	return r;
}

void proto_reader_destroy(struct proto_reader *r)
{
	if (!r)
		return;
	msgpack_zone_destroy(&r->scratch);
	free(r);
}

const char *proto_reader_problem(const struct proto_reader *r)
{
	return r->problem;
}

static int refuse(struct proto_reader *r, const char *where, const char *what)
{
	snprintf(r->problem, sizeof r->problem, "%s: %s", where, what);
	r->left = 0; /* nothing after it can be trusted */
	return -EPROTO;
}

/* The object at r->at, which the scan has passed. 0, -EPROTO or -ENOMEM. */
static int unpack(struct proto_reader *r, msgpack_object *out)
{
	msgpack_zone_clear(&r->scratch);
	switch (msgpack_unpack(r->frame.p, r->frame.n, &r->at, &r->scratch, out)) {
	case MSGPACK_UNPACK_SUCCESS:
	case MSGPACK_UNPACK_EXTRA_BYTES: /* the next record */
		return 0;
	case MSGPACK_UNPACK_NOMEM_ERROR:
		refuse(r, "frame", "out of memory");
		return -ENOMEM;
	default:
		return refuse(r, "frame", "not msgpack");
	}
}

static int read_unsigned(struct proto_reader *r, const char *name, uint64_t *out)
{
	msgpack_object o;
	int rc = unpack(r, &o);
	if (rc)
		return rc;
	if (o.type != MSGPACK_OBJECT_POSITIVE_INTEGER)
		return refuse(r, name, "wrong type");
	*out = o.via.u64;
	return 0;
}

int proto_reader_open(struct proto_reader *r, struct slice frame, uint64_t *generation)
{
	r->frame = frame;
	r->left = 0;
	r->problem[0] = '\0';
	if (frame.n > PROTO_FRAME_MAX)
		return refuse(r, "frame", "too long");

	struct wire_cursor c = {
		(const unsigned char *)frame.p, (const unsigned char *)frame.p + frame.n, NULL};
	uint32_t count;
	uint64_t version;
	size_t budget = WIRE_OBJECTS_MAX;
	int rc = wire_array(&c, &count);
	if (rc)
		return refuse(r, "frame", c.problem);
	if (count < 2)
		return refuse(r, "frame", "no version and generation");

	/* The version first: what follows it may look otherwise in another one. */
	r->at = (size_t)((const char *)c.p - frame.p);
	rc = wire_skip(&c, WIRE_DEPTH_MAX, &budget);
	if (rc)
		return refuse(r, "version", c.problem);
	rc = read_unsigned(r, "version", &version);
	if (rc)
		return rc;
	if (version != PROTO_VERSION) {
		snprintf(r->problem, sizeof r->problem, "version %llu, not %d",
			(unsigned long long)version, PROTO_VERSION);
		return -EPROTONOSUPPORT;
	}

	for (uint32_t i = 1; i < count; i++) {
		budget = WIRE_OBJECTS_MAX;
		rc = wire_skip(&c, i == 1 ? WIRE_DEPTH_MAX : 1, &budget);
		if (rc)
			return refuse(r, i == 1 ? "generation" : "record", c.problem);
	}
	if (c.p != c.end)
		return refuse(r, "frame", "trailing bytes");

	rc = read_unsigned(r, "generation", generation);
	if (rc)
		return rc;
	r->left = count - 2;
	return 0;
}

static int read_fields(struct proto_reader *r, const struct wire_field *fields, size_t n,
	const msgpack_object *objects, char *holder);

static int read_list(
	struct proto_reader *r, const struct wire_field *f, const msgpack_object *o, char *holder)
{
	const struct wire_list *list = f->list;
	if (o->type != MSGPACK_OBJECT_ARRAY)
		return refuse(r, f->name, "wrong type");
	size_t count = o->via.array.size;
	if (count > list->max)
		return refuse(r, f->name, "too many items");
	memcpy(holder + list->count_offset, &count, sizeof count);

	char *items = holder + f->offset;
	if (list->indirect) {
		void *outside = &r->items;
		memcpy(holder + f->offset, &outside, sizeof outside);
		items = outside;
	}

	int rc = 0;
	for (size_t i = 0; i < count && !rc; i++) {
		const msgpack_object *item = &o->via.array.ptr[i];
		if (list->field_count > 1) {
			if (item->type != MSGPACK_OBJECT_ARRAY ||
				item->via.array.size != list->field_count)
				return refuse(r, f->name, "wrong item");
			item = item->via.array.ptr;
		}
		rc = read_fields(
			r, list->fields, list->field_count, item, items + i * list->item_bytes);
	}
	return rc;
}

static int read_integer(
	struct proto_reader *r, const struct wire_field *f, const msgpack_object *o, char *at)
{
	if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
		if (f->kind != WIRE_I64 || o->via.i64 < f->min)
			return refuse(r, f->name, "out of range");
		memcpy(at, &o->via.i64, sizeof o->via.i64);
		return 0;
	}
	if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
		return refuse(r, f->name, "wrong type");
	uint64_t v = o->via.u64;
	if (f->kind != WIRE_U64 && v > (uint64_t)f->max)
		return refuse(r, f->name, "out of range");
	uint32_t narrow = (uint32_t)v;
	if (f->kind == WIRE_U32)
		memcpy(at, &narrow, sizeof narrow);
	else
		memcpy(at, &v, sizeof v);
	return 0;
}

static int read_field(
	struct proto_reader *r, const struct wire_field *f, const msgpack_object *o, char *holder)
{
	char *at = holder + f->offset;
	struct slice s;

	switch (f->kind) {
	case WIRE_BOOL:
		if (o->type != MSGPACK_OBJECT_BOOLEAN)
			break;
		memcpy(at, &o->via.boolean, sizeof o->via.boolean);
		return 0;
	case WIRE_U32:
	case WIRE_U64:
	case WIRE_I64:
		return read_integer(r, f, o, at);
	case WIRE_F64:
		if (o->type != MSGPACK_OBJECT_FLOAT64)
			break;
		if (!isfinite(o->via.f64))
			return refuse(r, f->name, "not finite");
		memcpy(at, &o->via.f64, sizeof o->via.f64);
		return 0;
	case WIRE_TEXT:
	case WIRE_BYTES:
		if (o->type != (f->kind == WIRE_TEXT ? MSGPACK_OBJECT_STR : MSGPACK_OBJECT_BIN))
			break;
		s = f->kind == WIRE_TEXT ? (struct slice){o->via.str.ptr, o->via.str.size}
					 : (struct slice){o->via.bin.ptr, o->via.bin.size};
		if (s.n > (uint64_t)f->max)
			return refuse(r, f->name, "too long");
		memcpy(at, &s, sizeof s);
		return 0;
	case WIRE_LIST:
		return read_list(r, f, o, holder);
	}
	return refuse(r, f->name, "wrong type");
}

static int read_fields(struct proto_reader *r, const struct wire_field *fields, size_t n,
	const msgpack_object *objects, char *holder)
{
	int rc = 0;
	for (size_t i = 0; i < n && !rc; i++)
		rc = read_field(r, &fields[i], &objects[i], holder);
	return rc;
}

int proto_reader_next(struct proto_reader *r, struct proto_record *out)
{
	if (r->left == 0)
		return r->problem[0] ? -EPROTO : 0;
	msgpack_object o;
	int rc = unpack(r, &o);
	if (rc)
		return rc;
	if (o.type != MSGPACK_OBJECT_ARRAY || o.via.array.size < 2)
		return refuse(r, "record", "not an array of type, job and fields");

	const msgpack_object *field = o.via.array.ptr;
	if (field[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
		field[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
		return refuse(r, "record", "type or job is no number");
	const struct wire_shape *shape = wire_shape(field[0].via.u64);
	if (!shape)
		return refuse(r, "record", "unknown type");
	if (o.via.array.size != 2 + shape->field_count)
		return refuse(r, shape->name, "wrong number of fields");

	out->type = (enum proto_type)field[0].via.u64;
	out->job = field[1].via.u64;
	if (shape->about_job != (out->job != 0))
		return refuse(r, shape->name, "job missing or out of place");
	rc = read_fields(r, shape->fields, shape->field_count, field + 2, (char *)out);
	if (rc)
		return rc;
	r->left--;
	return 1;
}
