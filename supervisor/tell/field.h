/*
 * Documents as tables of fields: what a thing has to tell, once, whoever reads it.
 *
 * A field has a name, a type, a kind and a unit, and knows how its value is got from the thing that
 * it belongs to. A writer renders a document without knowing what it is about: json_doc.h as JSON,
 * prometheus.h as what a Prometheus collects, describe.h as the list of what there is. Tables are
 * constants; getters read and change nothing; nothing here allocates or blocks.
 */
#ifndef TANDEM_FIELD_H
#define TANDEM_FIELD_H

#include "common/base/buf.h"
#include "common/base/histogram.h"

#include <stddef.h>

enum field_type {
	FIELD_TEXT,
	FIELD_INT,
	FIELD_REAL,
	FIELD_TRUTH,
	FIELD_HISTOGRAM,
	FIELD_OBJECT, /* `members`, of the same thing or of what `inner` says */
	FIELD_LIST,   /* things with `members`, or plain values of the type `items` */
	FIELD_TYPES
};

enum field_kind {
	FIELD_STATE, /* as it is now: may rise and fall */
	FIELD_COUNT, /* only grows as long as tandemd runs */
};

struct field_value {
	enum { FIELD_SAID, FIELD_UNKNOWN, FIELD_LEFT_OUT } is;
	enum field_type type; /* the field's; a getter may say another one (a value of nng) */
	union {
		int64_t number;
		double real; /* not finite: unknown */
		bool truth;
		struct slice text; /* borrowed until the writer returns; empty: unknown */
		const struct histogram *histogram;
	};
};

struct field;

struct fields {
	const struct field *of;
	size_t count;
};

/* A list under way: what an `each` hands its elements to. */
struct field_list;

struct field {
	const char *name; /* NULL: a group of `members` that belong to the thing itself */
	enum field_type type;
	enum field_kind kind;
	const char *unit; /* "ms", "bytes", "tokens", ...; NULL: none, or in the name */
	const char *help; /* one line for people; NULL: the name says it */
	/* A plain value. `of` is the thing, f the row: one getter may serve several (`which`). */
	void (*get)(const void *of, const struct field *f, struct field_value *out);
	size_t which; /* the getter's own: an offset, an index */
	const struct fields *members;
	const void *(*inner)(const void *of); /* of an object or a group; NULL: the thing itself */
	void (*each)(const void *of, struct field_list *list);
	enum field_type items;
	bool (*present)(const void *of); /* of a list or an object; NULL: always there */
};

#define FIELDS(table)                                                                              \
	{                                                                                          \
		(table), sizeof(table) / sizeof(*(table))                                          \
	}

/* --- writers --- */

struct field_writer;

struct field_writer_ops {
	/* An object or a list begins and ends; f is NULL for an element of a list. */
	void (*open)(struct field_writer *w, const struct field *f);
	void (*close)(struct field_writer *w, const struct field *f);
	/* f is NULL for an element of a list. */
	void (*value)(struct field_writer *w, const struct field *f, const struct field_value *v);
};

struct field_writer {
	const struct field_writer_ops *ops;
	struct buf *out;
};

/* Writes all fields of *of, without a bracket around them. */
void fields_write(const struct fields *fields, const void *of, struct field_writer *w);

/* --- for getters and lists --- */

void field_item(struct field_list *list, const void *thing);
void field_item_text(struct field_list *list, const char *text);
void field_item_int(struct field_list *list, int64_t number);
/* Memory was out: elements are missing. The document says so with a member `reason`. */
void field_list_cut(struct field_list *list);

/* NULL and "": unknown */
static inline void field_say_text(struct field_value *out, const char *text)
{
	out->text = slice_str(text ? text : "");
}

static inline void field_say_int_if(struct field_value *out, bool known, int64_t number)
{
	out->number = known ? number : 0;
	out->is = known ? FIELD_SAID : FIELD_UNKNOWN;
}

/* Getters of members of a struct, which `which` is the offset of. */
void field_get_u64(const void *of, const struct field *f, struct field_value *out);
void field_get_unsigned(const void *of, const struct field *f, struct field_value *out);
void field_get_double(const void *of, const struct field *f, struct field_value *out);
void field_get_histogram(const void *of, const struct field *f, struct field_value *out);
/* A text in an array of the struct. */
void field_get_chars(const void *of, const struct field *f, struct field_value *out);

/* The offset of a member of that C type: anything else does not compile. */
#define FIELD_AT(thing, member, ctype)                                                             \
	(offsetof(thing, member) +                                                                 \
		0 * sizeof(_Generic(&((const thing *)0)->member, const ctype * : 1)))

#define FIELD_COUNT_OF(name_, thing, member)                                                       \
	{                                                                                          \
		.name = (name_), .type = FIELD_INT, .kind = FIELD_COUNT, .get = field_get_u64,     \
		.which = FIELD_AT(thing, member, uint64_t)                                         \
	}
#define FIELD_BYTES_OF(name_, thing, member)                                                       \
	{                                                                                          \
		.name = (name_), .type = FIELD_INT, .kind = FIELD_COUNT, .unit = "bytes",          \
		.get = field_get_u64, .which = FIELD_AT(thing, member, uint64_t)                   \
	}
/* A value that a getter of its own knows. */
#define FIELD_OWN(name_, type_, get_)                                                              \
	{                                                                                          \
		.name = (name_), .type = (type_), .get = (get_)                                    \
	}
#define FIELD_OWN_IN(name_, type_, unit_, get_)                                                    \
	{                                                                                          \
		.name = (name_), .type = (type_), .unit = (unit_), .get = (get_)                   \
	}
#define FIELD_OBJECT_OF(name_, members_, inner_)                                                   \
	{                                                                                          \
		.name = (name_), .type = FIELD_OBJECT, .members = (members_), .inner = (inner_)    \
	}
#define FIELD_LIST_OF(name_, members_, each_)                                                      \
	{                                                                                          \
		.name = (name_), .type = FIELD_LIST, .items = FIELD_OBJECT, .members = (members_), \
		.each = (each_)                                                                    \
	}

#endif
