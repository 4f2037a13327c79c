/*
 * Private to proto/: the shape of every record as data, and the scan that a frame passes before
 * msgpack-c sees it.
 *
 * A record is described once, in fields.c; encode.c and decode.c walk the same description, so the
 * two cannot drift apart. A limit or a range stands in the description and is checked on both
 * sides.
 */
#ifndef TANDEM_WIRE_H
#define TANDEM_WIRE_H

#include "proto/proto.h"

#define WIRE_DEPTH_MAX 4 /* frame, record, list, item */
/* Objects in one record, what unpacking it may allocate: a full list of a client's headers, each
 * an array of two. A full model list, arrays of four, is less. */
#define WIRE_OBJECTS_MAX (48 + 3 * PROTO_JOB_HEADERS_MAX)
_Static_assert(5 * PROTO_MODELS_MAX <= 3 * PROTO_JOB_HEADERS_MAX, "a full model list is more");

enum wire_kind {
	WIRE_BOOL,
	WIRE_U32,   /* uint32_t or an enum: 0..max */
	WIRE_U64,   /* uint64_t, any value */
	WIRE_I64,   /* int64_t: min..max */
	WIRE_F64,   /* double, finite; what is not is sent as -1 */
	WIRE_TEXT,  /* slice as msgpack str, at most max bytes */
	WIRE_BYTES, /* slice as msgpack bin, at most max bytes */
	WIRE_LIST,  /* array of items */
};

struct wire_field {
	const char *name;
	enum wire_kind kind;
	size_t offset; /* in struct proto_record, or in the list's item */
	int64_t min, max;
	const struct wire_list *list;
};

struct wire_list {
	uint32_t max;	     /* items */
	size_t count_offset; /* of the size_t that counts them, in struct proto_record */
	bool indirect;	     /* the member points to the items, otherwise it is the array */
	size_t item_bytes;
	size_t field_count; /* one: the item is that value; more: an array of them */
	const struct wire_field *fields;
};

struct wire_shape {
	const char *name;
	bool about_job; /* job is not 0; otherwise it is */
	size_t field_count;
	const struct wire_field *fields;
};

/* The shape of a record type, or NULL when there is no such type. */
const struct wire_shape *wire_shape(uint64_t type);

/* --- the scan: reads lengths and nesting only, allocates nothing --- */

struct wire_cursor {
	const unsigned char *p, *end;
	const char *problem; /* static English phrase after -EPROTO */
};

/* Enters an array: its element count, which its bytes can hold at least. 0 or -EPROTO. */
int wire_array(struct wire_cursor *c, uint32_t *count);

/* Passes one value that stands inside depth arrays and takes its objects from *budget. 0 or
 * -EPROTO. */
int wire_skip(struct wire_cursor *c, unsigned depth, size_t *budget);

#endif
