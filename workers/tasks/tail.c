#include "workers/tasks/tail.h"

#include "common/base/json.h"

static void complete(struct tail *t, void (*line)(void *ctx, struct slice text), void *ctx)
{
	while (t->open_n && (t->open[t->open_n - 1] == '\r' || t->open[t->open_n - 1] == ' '))
		t->open_n--;
	if (t->open_n == 0)
		return;
	for (size_t at = 0; at < t->open_n;) {
		at += utf8_valid_prefix((struct slice){t->open + at, t->open_n - at});
		if (at < t->open_n)
			t->open[at++] = '?';
	}
	for (size_t i = 0; i < t->open_n; i++)
		if ((unsigned char)t->open[i] < 0x20 && t->open[i] != '\t')
			t->open[i] = '?';
	size_t slot = t->count++ % TAIL_LINES;
	memcpy(t->lines[slot].text, t->open, t->open_n);
	t->lines[slot].n = t->open_n;
	t->open_n = 0;
	if (line)
		line(ctx, (struct slice){t->lines[slot].text, t->lines[slot].n});
}

void tail_feed(
	struct tail *t, struct slice bytes, void (*line)(void *ctx, struct slice text), void *ctx)
{
	while (bytes.n) {
		const char *nl = memchr(bytes.p, '\n', bytes.n);
		size_t len = nl ? (size_t)(nl - bytes.p) : bytes.n;
		size_t room = TAIL_LINE_BYTES - t->open_n;
		size_t take = len < room ? len : room;
		memcpy(t->open + t->open_n, bytes.p, take);
		t->open_n += take;
		if (!nl)
			return;
		complete(t, line, ctx);
		bytes.p += len + 1;
		bytes.n -= len + 1;
	}
}

void tail_end(struct tail *t, void (*line)(void *ctx, struct slice text), void *ctx)
{
	complete(t, line, ctx);
}

void tail_write(const struct tail *t, size_t max_bytes, struct buf *out)
{
	size_t have = t->count < TAIL_LINES ? t->count : TAIL_LINES, show = 0, bytes = 0;
	while (show < have) {
		bytes += t->lines[(t->count - 1 - show) % TAIL_LINES].n + 1;
		if (bytes > max_bytes)
			break;
		show++;
	}
	for (size_t i = t->count - show; i < t->count; i++) {
		buf_add_char(out, '\n');
		buf_add(out, t->lines[i % TAIL_LINES].text, t->lines[i % TAIL_LINES].n);
	}
}
