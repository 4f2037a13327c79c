/*
 * Scanning shared by the json_*.c files; private to them. Each function looks only at [p, end).
 *
 * json_plain() is where a request's bytes are spent: a 20 MB body is nearly all string contents. It
 * reads 16 bytes a step with SSE2, 8 elsewhere, and needs no alignment and no padding behind the
 * text.
 */
#ifndef TANDEM_JSON_SCAN_H
#define TANDEM_JSON_SCAN_H

#include "common/base/hex.h"
#include "common/base/json.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define SWAR_ONES UINT64_C(0x0101010101010101)
#define SWAR_HIGH UINT64_C(0x8080808080808080)

static inline bool json_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline const char *json_skip_space(const char *p, const char *end)
{
	while (p < end && json_space(*p))
		p++;
	return p;
}

/* ASCII that stands for itself in every JSON string, read or written. */
static inline bool json_plain_byte(char c)
{
	unsigned char u = (unsigned char)c;
	return u >= 0x20 && u < 0x7f && u != '"' && u != '\\';
}

/* The first byte that is not plain: a quote, a backslash, a control character, DEL, or a byte from
 * 0x80. */
static inline const char *json_plain(const char *p, const char *end)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'),
		      del = _mm_set1_epi8('\x7f'), space = _mm_set1_epi8(' ');
	for (; end - p >= 16; p += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)p);
		/* As signed bytes both the controls and everything from 0x80 lie below
		 * the space. */
		__m128i odd = _mm_or_si128(
			_mm_or_si128(_mm_cmplt_epi8(v, space), _mm_cmpeq_epi8(v, del)),
			_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)));
		unsigned mask = (unsigned)_mm_movemask_epi8(odd);
		if (mask)
			return p + __builtin_ctz(mask);
	}
#else
	for (; end - p >= 8; p += 8) {
		uint64_t v;
		memcpy(&v, p, 8);
		uint64_t quote = v ^ SWAR_ONES * '"', backslash = v ^ SWAR_ONES * '\\';
		/* A borrow or carry can only mark a byte above one that is marked rightly. */
		uint64_t odd = (v - SWAR_ONES * ' ') | (quote - SWAR_ONES) |
			       (backslash - SWAR_ONES) | (v + SWAR_ONES) | v;
		if (odd & SWAR_HIGH)
			break;
	}
#endif
	while (p < end && json_plain_byte(*p))
		p++;
	return p;
}

/*
 * One UTF-8 sequence at p < end: its length, or minus the bytes to give up when it is broken or cut
 * (the maximal subpart of the Unicode Standard, 3.9, table 3-8, so replacing it by U+FFFD agrees
 * with other programs).
 */
static inline int utf8_sequence(const char *p, const char *end)
{
	const unsigned char *s = (const unsigned char *)p;
	size_t left = (size_t)(end - p);
	unsigned char low = 0x80, high = 0xbf; /* what the second byte may be */
	int len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return -1;
	if (s[0] < 0xe0) {
		len = 2;
	} else if (s[0] < 0xf0) {
		len = 3;
		if (s[0] == 0xe0)
			low = 0xa0; /* below: overlong */
		if (s[0] == 0xed)
			high = 0x9f; /* above: surrogates */
	} else {
		len = 4;
		if (s[0] == 0xf0)
			low = 0x90; /* below: overlong */
		if (s[0] == 0xf4)
			high = 0x8f; /* above: past U+10FFFF */
	}
	if (left < 2 || s[1] < low || s[1] > high)
		return -1;
	for (int i = 2; i < len; i++)
		if ((size_t)i >= left || (s[i] & 0xc0) != 0x80)
			return -i;
	return len;
}

/* The value of four hex digits, or -1. */
static inline int json_hex4(const char *p, const char *end)
{
	if (end - p < 4)
		return -1;
	int v = 0;
	for (int i = 0; i < 4; i++) {
		int digit = hex_digit(p[i]);
		if (digit < 0)
			return -1;
		v = v << 4 | digit;
	}
	return v;
}

/* The typed slice of one validated value; JSON_NONE where none begins. */
static inline struct json_value json_value_at(const char *start, const char *stop)
{
	static const unsigned char type[256] = {
		['n'] = JSON_NULL,
		['f'] = JSON_FALSE,
		['t'] = JSON_TRUE,
		['-'] = JSON_NUMBER,
		['0' ... '9'] = JSON_NUMBER,
		['"'] = JSON_STRING,
		['['] = JSON_ARRAY,
		['{'] = JSON_OBJECT,
	};
	return (struct json_value){
		.type = (enum json_type)type[(unsigned char)*start],
		.raw = {start, (size_t)(stop - start)},
	};
}

#endif
