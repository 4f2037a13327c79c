#include "tests/fake/prompt.h"
#include "tests/fake/mem.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define MARK 0xFF

void prompt_init(struct prompt *p)
{
	*p = (struct prompt){0};
	buf_init(&p->text, PROMPT_MAX);
}

void prompt_fini(struct prompt *p)
{
	buf_free(&p->text);
	free(p->pieces);
}

int prompt_error(const struct prompt *p)
{
	return buf_error(&p->text);
}

void prompt_message(struct prompt *p, char role, bool keep)
{
	char mark[2] = {(char)MARK, role};

	if (p->count == PROMPT_MESSAGES_MAX) {
		p->text.error = -E2BIG;
		return;
	}
	if (p->count == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 16;
		p->pieces = mem_grow(p->pieces, p->cap * sizeof(*p->pieces));
	}
	p->pieces[p->count++] = (struct prompt_piece){p->text.n, keep};
	buf_add(&p->text, mark, 2);
}

void prompt_string(struct prompt *p, struct json_value v)
{
	if (json_is(v, JSON_STRING))
		json_string_decode(v, &p->text);
}

void prompt_raw(struct prompt *p, struct slice s)
{
	buf_add_slice(&p->text, s);
}

void prompt_image(struct prompt *p, struct slice base64)
{
	uint64_t hash = 14695981039346656037ull; /* FNV-1a */
	char mark[2 + 11] = {(char)MARK, 'i'};

	for (size_t i = 0; i < base64.n; i++)
		hash = (hash ^ (unsigned char)base64.p[i]) * 1099511628211ull;
	for (int i = 0; i < 11; i++, hash >>= 6)
		mark[2 + i] = (char)(0x80 | (hash & 0x3F));
	buf_add(&p->text, mark, sizeof(mark));
}

struct measure {
	size_t chars, images;
};

static struct measure measure(struct slice text)
{
	const unsigned char *p = (const unsigned char *)text.p;
	struct measure m = {0, 0};
	size_t marks = 0;

	for (size_t i = 0; i < text.n; i++)
		m.chars += (p[i] & 0xC0) != 0x80;
	for (size_t i = 0; i + 1 < text.n; i++) {
		const unsigned char *mark = memchr(p + i, MARK, text.n - 1 - i);

		if (!mark)
			break;
		i = (size_t)(mark - p);
		marks++;
		m.images += mark[1] == 'i';
	}
	m.chars -= marks * 2 < m.chars ? marks * 2 : m.chars;
	return m;
}

size_t prompt_tokens(struct slice text, double chars_per_token)
{
	struct measure m = measure(text);

	return (size_t)ceil((double)m.chars / chars_per_token) + m.images * IMAGE_TOKENS;
}

size_t prompt_shared(struct slice text, struct slice kv, double chars_per_token)
{
	size_t n = text.n < kv.n ? text.n : kv.n, i = 0;
	struct measure m;

	while (i + 4096 <= n && memcmp(text.p + i, kv.p + i, 4096) == 0)
		i += 4096;
	while (i < n && text.p[i] == kv.p[i])
		i++;
	if (i && (unsigned char)text.p[i - 1] == MARK)
		i--; /* half a marker */
	if (i == text.n && i == kv.n)
		return prompt_tokens(text, chars_per_token);
	m = measure((struct slice){text.p, i});
	return (size_t)((double)m.chars / chars_per_token) + m.images * IMAGE_TOKENS;
}

size_t prompt_prefix(struct slice text, size_t tokens, double chars_per_token)
{
	const unsigned char *p = (const unsigned char *)text.p;
	double left = (double)tokens * chars_per_token;
	size_t i = 0;

	while (i < text.n) {
		size_t len = 1;
		double cost = 1;

		if (p[i] == MARK && i + 1 < text.n) {
			len = 2;
			cost = p[i + 1] == 'i' ? IMAGE_TOKENS * chars_per_token : 0;
		}
		while (i + len < text.n && (p[i + len] & 0xC0) == 0x80)
			len++;
		if (cost > left)
			break;
		left -= cost;
		i += len;
	}
	return i;
}

static void remove_span(struct prompt *p, size_t start, size_t end)
{
	memmove(p->text.p + start, p->text.p + end, p->text.n - end);
	p->text.n -= end - start;
}

bool prompt_drop_oldest(struct prompt *p)
{
	for (size_t i = 0; i + 1 < p->count; i++) {
		size_t start = p->pieces[i].start, gone = p->pieces[i + 1].start - start;

		if (p->pieces[i].keep)
			continue;
		remove_span(p, start, start + gone);
		memmove(&p->pieces[i], &p->pieces[i + 1], (p->count - i - 1) * sizeof(*p->pieces));
		p->count--;
		for (; i < p->count; i++)
			p->pieces[i].start -= gone;
		return true;
	}
	return false;
}

void prompt_cut(struct prompt *p, size_t front, size_t tail, double chars_per_token)
{
	size_t all = prompt_tokens(buf_slice(&p->text), chars_per_token);
	size_t start, end;

	if (front + tail >= all)
		return;
	start = prompt_prefix(buf_slice(&p->text), front, chars_per_token);
	end = prompt_prefix(buf_slice(&p->text), all - tail, chars_per_token);
	remove_span(p, start, end);
}
