/* Text that one backend takes and the other refuses, made right for both. */
#include "common/base/json.h"
#include "common/base/json_scan.h"

int json_mend_utf8(struct slice text, struct buf *out)
{
	while (text.n) {
		size_t good = utf8_valid_prefix(text);
		buf_add(out, text.p, good);
		if (good == text.n)
			break;
		int bad = -utf8_sequence(text.p + good, text.p + text.n);
		buf_add_str(out, "\xef\xbf\xbd");
		text.p += good + (size_t)bad;
		text.n -= good + (size_t)bad;
	}
	return buf_error(out);
}

bool json_mend_body(struct buf *body)
{
	struct buf mended;
	if (utf8_valid_prefix(buf_slice(body)) == body->n)
		return false;
	buf_init(&mended, body->max * 2); /* 0: none, as before */
	if (json_mend_utf8(buf_slice(body), &mended)) {
		buf_free(&mended);
		return false;
	}
	buf_free(body);
	*body = mended;
	return true;
}

bool json_mend_tail(struct buf *body)
{
	struct json_value root;
	struct json_error error = {0};
	if (json_parse(buf_slice(body), JSON_MAX_DEPTH, &root, &error) == 0 || !error.more)
		return false;
	body->n = error.offset;
	return true;
}

/* The code of a "\u1234" at p, or -1. */
static int escaped_code(const char *p, const char *end)
{
	return end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? json_hex4(p + 2, end) : -1;
}

size_t json_mend_surrogates(char *text, size_t n)
{
	size_t mended = 0;
	if (n == 0)
		return 0;
	char *p = text, *end = text + n;
	while (p < end && (p = memchr(p, '\\', (size_t)(end - p)))) {
		int code = escaped_code(p, end);
		if (code < 0) {
			p += end - p < 2 ? 1 : 2; /* another escape, "\\" among them */
			continue;
		}
		int next = escaped_code(p + 6, end);
		if (code >= 0xd800 && code < 0xdc00 && next >= 0xdc00 && next < 0xe000) {
			p += 12;
			continue;
		}
		if (code >= 0xd800 && code < 0xe000) {
			memcpy(p + 2, "fffd", 4);
			mended++;
		}
		p += 6;
	}
	return mended;
}
