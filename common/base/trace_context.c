#include "common/base/trace_context.h"

#include "common/base/sip.h"

#include <stdio.h>

/* Where the fields of a traceparent begin: 00-trace-span-flags */
enum { AT_TRACE = 3, AT_SPAN = 36, AT_FLAGS = 53, PARENT_LENGTH = 55 };
#define VERSION_FORBIDDEN 0xff
#define FLAG_SAMPLED 1

/* --- hexadecimal, lower case only --- */

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *p, size_t n, uint8_t *out)
{
	for (size_t i = 0; i < n; i++) {
		int high = digit(p[2 * i]), low = digit(p[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

void trace_hex(const uint8_t *id, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[id[i] >> 4];
		out[2 * i + 1] = digits[id[i] & 15];
	}
	out[2 * n] = '\0';
}

static bool is_zero(const uint8_t *id, size_t n)
{
	uint8_t any = 0;
	for (size_t i = 0; i < n; i++)
		any |= id[i];
	return any == 0;
}

/* --- traceparent --- */

bool trace_parent_read(struct slice text, struct trace_context *out)
{
	struct trace_context t;
	uint8_t version, flags;
	if (text.n < PARENT_LENGTH || !read_hex(text.p, 1, &version) ||
		version == VERSION_FORBIDDEN)
		return false;
	if (text.n > PARENT_LENGTH && (version == 0 || text.p[PARENT_LENGTH] != '-'))
		return false;
	if (text.p[AT_TRACE - 1] != '-' || text.p[AT_SPAN - 1] != '-' ||
		text.p[AT_FLAGS - 1] != '-')
		return false;
	if (!read_hex(text.p + AT_TRACE, TRACE_ID_BYTES, t.trace) ||
		!read_hex(text.p + AT_SPAN, TRACE_SPAN_BYTES, t.span) ||
		!read_hex(text.p + AT_FLAGS, 1, &flags))
		return false;
	if (is_zero(t.trace, TRACE_ID_BYTES) || is_zero(t.span, TRACE_SPAN_BYTES))
		return false;
	t.sampled = flags & FLAG_SAMPLED;
	*out = t;
	return true;
}

void trace_parent_write(const struct trace_context *t, char out[TRACE_PARENT_BYTES])
{
	char trace[2 * TRACE_ID_BYTES + 1], span[2 * TRACE_SPAN_BYTES + 1];
	trace_hex(t->trace, TRACE_ID_BYTES, trace);
	trace_hex(t->span, TRACE_SPAN_BYTES, span);
	snprintf(out, TRACE_PARENT_BYTES, "00-%s-%s-%s", trace, span, t->sampled ? "01" : "00");
}

/* --- tracestate --- */

#define KEY_BYTES 256
#define VALUE_BYTES 256

static bool lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_key(struct slice key)
{
	if (key.n == 0 || key.n > KEY_BYTES || !lower_or_digit(key.p[0]))
		return false;
	for (size_t i = 1; i < key.n; i++)
		if (!lower_or_digit(key.p[i]) && !memchr("_-*/@", key.p[i], 5))
			return false;
	return true;
}

static bool is_value(struct slice value)
{
	if (value.n == 0 || value.n > VALUE_BYTES || value.p[value.n - 1] == ' ')
		return false;
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] < ' ' || value.p[i] > '~' || value.p[i] == '=')
			return false;
	return true;
}

static bool is_member(struct slice m)
{
	const char *equals = m.n ? memchr(m.p, '=', m.n) : NULL;
	if (!equals)
		return false;
	size_t n = (size_t)(equals - m.p);
	return is_key((struct slice){m.p, n}) && is_value((struct slice){equals + 1, m.n - n - 1});
}

static struct slice trim(const char *p, size_t n)
{
	while (n && (*p == ' ' || *p == '\t'))
		p++, n--;
	while (n && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	return (struct slice){p, n};
}

/* How many; -1: one of them is none, or there are too many. */
static int split(struct slice joined, struct slice member[TRACE_STATE_MEMBERS])
{
	int count = 0;
	for (size_t i = 0; i < joined.n;) {
		const char *comma = memchr(joined.p + i, ',', joined.n - i);
		size_t n = comma ? (size_t)(comma - joined.p) - i : joined.n - i;
		struct slice m = trim(joined.p + i, n);
		i += n + 1;
		if (m.n == 0)
			continue;
		if (count == TRACE_STATE_MEMBERS || !is_member(m))
			return -1;
		member[count++] = m;
	}
	return count;
}

static size_t length_of(const struct slice *member, int count)
{
	size_t n = 0;
	for (int i = 0; i < count; i++)
		n += member[i].n ? member[i].n + (n > 0) : 0;
	return n;
}

/* Long members go first, then those at the end, as the specification has it. */
static void shorten(struct slice *member, int count)
{
	for (int i = count; i-- > 0 && length_of(member, count) > TRACE_STATE_BYTES;)
		if (member[i].n > TRACE_STATE_LONG_BYTES)
			member[i].n = 0;
	for (int i = count; i-- > 0 && length_of(member, count) > TRACE_STATE_BYTES;)
		member[i].n = 0;
}

bool trace_state_read(struct slice joined, struct buf *out)
{
	struct slice member[TRACE_STATE_MEMBERS];
	int count = split(joined, member);
	buf_clear(out);
	if (count < 0)
		return false;
	shorten(member, count);
	for (int i = 0; i < count; i++) {
		if (member[i].n == 0)
			continue;
		if (out->n)
			buf_add_char(out, ',');
		buf_add_slice(out, member[i]);
	}
	if (!buf_error(out))
		return true;
	buf_clear(out);
	return false;
}

/* --- decisions and ids --- */

static uint64_t number_of(const uint8_t *p)
{
	uint64_t n = 0;
	for (int i = 0; i < 8; i++)
		n = n << 8 | p[i];
	return n;
}

/* Of its last 56 bits, which are the random ones (W3C Trace Context 2, random-trace-id). */
bool trace_is_sampled(const uint8_t trace[TRACE_ID_BYTES], double ratio)
{
	const double all = (double)(UINT64_C(1) << 56);
	uint64_t n = number_of(trace + 8) & ((UINT64_C(1) << 56) - 1);
	return (double)n < ratio * all;
}

void trace_span_within(
	const struct trace_context *t, char tag, unsigned number, uint8_t out[TRACE_SPAN_BYTES])
{
	const uint64_t key[2] = {number_of(t->trace), number_of(t->trace + 8)};
	struct sip s;
	sip_init(&s, key);
	sip_add(&s, t->span, sizeof(t->span));
	sip_add(&s, &tag, 1);
	sip_add(&s, &number, sizeof(number));
	uint64_t id = sip_end(&s);
	id += id == 0;
	memcpy(out, &id, sizeof(id));
}
