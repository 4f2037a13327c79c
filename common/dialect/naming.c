#include "common/dialect/naming.h"

#include "common/base/json.h"

static const char mark[] = "data:";

int naming_init(struct naming *n, struct slice name, bool lines)
{
	*n = (struct naming){.lines = lines};
	buf_init(&n->name, 0);
	return json_put_string(&n->name, name);
}

void naming_fini(struct naming *n)
{
	buf_free(&n->name);
}

static void begin_line(struct naming *n)
{
	n->state = NAMING_BEFORE;
	n->mark = 0;
	n->depth = n->response = 0;
}

static bool key_is(const struct naming *n, struct slice key)
{
	return slice_eq((struct slice){n->key, n->key_n}, key);
}

/* Members of this object are looked at. */
static bool is_looked_at(const struct naming *n)
{
	return n->depth == 1 || (n->response && n->depth == n->response);
}

/* --- one byte; what it does to the state --- */

static void before(struct naming *n, char c)
{
	if (c == '{') {
		n->state = NAMING_INSIDE;
		n->depth = 1;
		n->is_key = true;
		n->key_n = 0;
	} else if (n->lines && n->mark < sizeof(mark) - 1 && c == mark[n->mark]) {
		n->mark++;
	} else if (c != ' ' && c != '\t' && (n->lines || (c != '\n' && c != '\r'))) {
		n->state = NAMING_BEHIND; /* [DONE], "event: name", a comment, no object at all */
	}
}

static void open_bracket(struct naming *n, char c)
{
	bool inner = c == '{' && n->depth == 1 && !n->is_key && key_is(n, SLICE("response"));
	n->depth++;
	if (inner)
		n->response = n->depth;
	n->is_key = c == '{';
	n->key_n = 0;
}

static void close_bracket(struct naming *n)
{
	if (n->depth == n->response)
		n->response = 0;
	n->depth--;
	n->is_key = false;
	if (n->depth == 0)
		n->state = NAMING_BEHIND;
}

/* True: the string that begins here is the one to replace. */
static bool begin_string(struct naming *n)
{
	bool taken = !n->is_key && is_looked_at(n) && key_is(n, SLICE("model"));
	n->state = taken ? NAMING_TAKEN : NAMING_STRING;
	n->escaped = false;
	if (n->is_key)
		n->key_n = 0;
	return taken;
}

static bool inside(struct naming *n, char c)
{
	switch (c) {
	case '"':
		return begin_string(n);
	case '{':
	case '[':
		open_bracket(n, c);
		break;
	case '}':
	case ']':
		close_bracket(n);
		break;
	case ':':
		n->is_key = false;
		break;
	case ',':
		n->is_key = is_looked_at(n);
		n->key_n = 0;
		break;
	default:
		break;
	}
	return false;
}

/* True: its last byte. */
static bool string(struct naming *n, char c)
{
	bool ends = c == '"' && !n->escaped;
	n->escaped = c == '\\' && !n->escaped;
	if (ends)
		n->state = NAMING_INSIDE;
	else if (n->is_key && n->key_n < NAMING_KEY_BYTES)
		n->key[n->key_n++] = c;
	return ends;
}

/* --- */

/* Where nothing is looked for, up to the end of the line or of the bytes. */
static const char *skip(const struct naming *n, const char *p, const char *end)
{
	const char *line = n->lines ? memchr(p, '\n', (size_t)(end - p)) : NULL;
	return line ? line : end;
}

int naming_put(struct naming *n, struct slice bytes, struct buf *out)
{
	const char *p = bytes.p, *end = bytes.p + bytes.n, *from = p;
	while (p < end) {
		if (n->state == NAMING_BEHIND && (p = skip(n, p, end)) == end)
			break;
		char c = *p++;
		if (c == '\n' && n->lines) {
			if (n->state == NAMING_TAKEN)
				from = p - 1;
			begin_line(n);
		} else if (n->state == NAMING_BEFORE) {
			before(n, c);
		} else if (n->state == NAMING_INSIDE) {
			if (!inside(n, c))
				continue;
			buf_add(out, from, (size_t)(p - 1 - from));
			buf_add_slice(out, buf_slice(&n->name));
		} else {
			bool taken = n->state == NAMING_TAKEN;
			if (!string(n, c) || !taken)
				continue;
			n->state = NAMING_BEHIND;
			from = p;
		}
	}
	if (n->state != NAMING_TAKEN)
		buf_add(out, from, (size_t)(end - from));
	return buf_error(out);
}
