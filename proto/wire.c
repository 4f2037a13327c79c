#include "proto/wire.h"

#include <errno.h>

/*
 * The msgpack forms this protocol uses (https://github.com/msgpack/msgpack/blob/master/spec.md).
 * Maps, nil, float32 and extension types have no place in it and are refused here, whatever stands
 * in them.
 */
enum token_kind { TOKEN_VALUE, TOKEN_BLOB, TOKEN_ARRAY, TOKEN_FOREIGN };

struct token {
	enum token_kind kind;
	uint32_t n;	      /* TOKEN_BLOB: bytes that follow; TOKEN_ARRAY: elements */
	unsigned extra_bytes; /* after the tag: a value itself, or the length */
};

static struct token token_of(unsigned char tag)
{
	if (tag <= 0x7f || tag >= 0xe0)
		return (struct token){TOKEN_VALUE, 0, 0};
	if ((tag & 0xf0) == 0x90)
		return (struct token){TOKEN_ARRAY, tag & 0x0f, 0};
	if ((tag & 0xe0) == 0xa0)
		return (struct token){TOKEN_BLOB, tag & 0x1f, 0};
	switch (tag) {
	case 0xc2: /* false */
	case 0xc3: /* true */
		return (struct token){TOKEN_VALUE, 0, 0};
	case 0xc4: /* bin 8, 16, 32 */
	case 0xc5:
	case 0xc6:
		return (struct token){TOKEN_BLOB, 0, 1u << (tag - 0xc4)};
	case 0xcb: /* float 64 */
		return (struct token){TOKEN_VALUE, 0, 8};
	case 0xcc: /* uint 8 to 64 */
	case 0xcd:
	case 0xce:
	case 0xcf:
		return (struct token){TOKEN_VALUE, 0, 1u << (tag - 0xcc)};
	case 0xd0: /* int 8 to 64 */
	case 0xd1:
	case 0xd2:
	case 0xd3:
		return (struct token){TOKEN_VALUE, 0, 1u << (tag - 0xd0)};
	case 0xd9: /* str 8, 16, 32 */
	case 0xda:
	case 0xdb:
		return (struct token){TOKEN_BLOB, 0, 1u << (tag - 0xd9)};
	case 0xdc: /* array 16, 32 */
	case 0xdd:
		return (struct token){TOKEN_ARRAY, 0, 2u << (tag - 0xdc)};
	default:
		return (struct token){TOKEN_FOREIGN, 0, 0};
	}
}

static int refuse(struct wire_cursor *c, const char *problem)
{
	c->problem = problem;
	return -EPROTO;
}

static size_t left(const struct wire_cursor *c)
{
	return (size_t)(c->end - c->p);
}

/* Reads tag and length; for a blob or an array also checks that the rest can hold what they
 * promise. */
static int take_token(struct wire_cursor *c, struct token *t)
{
	if (left(c) == 0)
		return refuse(c, "cut short");
	*t = token_of(*c->p++);
	if (left(c) < t->extra_bytes)
		return refuse(c, "cut short");
	if (t->kind == TOKEN_FOREIGN)
		return refuse(c, "a msgpack type that is not used here");
	if (t->kind != TOKEN_VALUE) {
		for (unsigned i = 0; i < t->extra_bytes; i++)
			t->n = t->n << 8 | c->p[i];
	}
	c->p += t->extra_bytes;
	if (t->n > left(c)) /* an element takes a byte at least */
		return refuse(c, "a length past the end");
	return 0;
}

int wire_array(struct wire_cursor *c, uint32_t *count)
{
	struct token t;
	int rc = take_token(c, &t);
	if (rc)
		return rc;
	if (t.kind != TOKEN_ARRAY)
		return refuse(c, "not an array");
	*count = t.n;
	return 0;
}

int wire_skip(struct wire_cursor *c, unsigned depth, size_t *budget)
{
	struct token t;
	int rc = take_token(c, &t);
	if (rc)
		return rc;
	if (*budget == 0)
		return refuse(c, "too many values in a record");
	--*budget;
	if (t.kind == TOKEN_BLOB) {
		c->p += t.n;
	} else if (t.kind == TOKEN_ARRAY) {
		if (depth >= WIRE_DEPTH_MAX)
			return refuse(c, "nested too deep");
		if (t.n > *budget) /* before the elements: msgpack-c allocates by this number */
			return refuse(c, "too many values in a record");
		for (uint32_t i = 0; i < t.n && !rc; i++)
			rc = wire_skip(c, depth + 1, budget);
	}
	return rc;
}
