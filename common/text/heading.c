#include "common/text/heading.h"

#include "common/text/piece.h"

static bool opens(struct slice line, const char *tag)
{
	size_t n = strlen(tag);
	return line.n >= n && memcmp(line.p, tag, n) == 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "12:text", "12-text": a match without its file's name. */
static bool is_match(struct slice line)
{
	size_t i = 0;
	while (i < line.n && is_digit(line.p[i]))
		i++;
	return i > 0 && i < 8 && i < line.n && (line.p[i] == ':' || line.p[i] == '-');
}

/* A path and nothing else, perhaps with a colon, or "==> path <==". */
static bool is_path(struct slice line)
{
	line = slice_trim(line);
	if (opens(line, "==> ") && line.n > 8)
		return true;
	if (line.n && line.p[line.n - 1] == ':')
		line.n--;
	if (line.n < 3 || line.n > 200 || memchr(line.p, ' ', line.n) ||
		memchr(line.p, '(', line.n) || memchr(line.p, '=', line.n))
		return false;
	const char *slash = memchr(line.p, '/', line.n), *dot = memrchr(line.p, '.', line.n);
	return slash || (dot && dot > line.p && (size_t)(line.p + line.n - dot) <= 6 &&
				dot + 1 < line.p + line.n && !is_digit(dot[1]));
}

/* Three words in capitals, or the first row of a Markdown table. */
static bool is_table_head(struct slice line)
{
	const char *at = line.p, *end = line.p + line.n;
	struct token t;
	unsigned words = 0;
	if (opens(line, "|"))
		return true;
	while (token_next(&at, end, &t)) {
		for (size_t i = 0; i < t.n; i++)
			if (t.p[i] >= 'a' && t.p[i] <= 'z')
				return false;
		words += !t.numeric;
	}
	return words >= 3;
}

static void belongs(struct heading *h, uint32_t line, uint32_t head)
{
	if (!head)
		return;
	h->corpus->line[line].head = head - 1;
}

/* Lines of a diff; false when this is none. */
static bool diff_line(struct heading *h, uint32_t line, struct slice text)
{
	if (opens(text, "diff --git ") || opens(text, "Index: ")) {
		h->file = line + 1;
		h->hunk = 0;
		return true;
	}
	if (opens(text, "@@ ")) {
		belongs(h, line, h->file);
		h->hunk = line + 1;
		return true;
	}
	if (!h->hunk && opens(text, "+++ ")) {
		if (!h->file)
			h->file = line + 1;
		return true;
	}
	if (h->file && !h->hunk)
		return opens(text, "--- ") || opens(text, "index ") || opens(text, "new file") ||
		       opens(text, "deleted file") || opens(text, "rename ") ||
		       opens(text, "similarity ");
	if (h->hunk && text.n && strchr(" +-\\", text.p[0])) {
		belongs(h, line, h->hunk);
		return true;
	}
	h->file = h->hunk = 0;
	return false;
}

/* Of "head" and "tail" over several files: all that follows belongs to it. */
static bool banner(const struct heading *h)
{
	return opens(corpus_text(h->corpus, h->message, h->list - 1), "==> ");
}

void heading_line(struct heading *h, uint32_t line)
{
	struct slice text = corpus_text(h->corpus, h->message, line);
	bool first = !h->any;
	h->any = true;
	if (h->corpus->line[line].flags & LINE_PART)
		return;
	if (diff_line(h, line, text)) {
		h->list = h->table = 0;
		return;
	}
	if (is_match(text) || (h->list && !is_path(text) && banner(h))) {
		belongs(h, line, h->list);
		return;
	}
	if (is_path(text)) {
		h->list = line + 1;
		return;
	}
	if (opens(slice_trim(text), "|")) {
		if (!h->table)
			h->table = line + 1;
		else
			belongs(h, line, h->table);
		return;
	}
	if (first && is_table_head(text)) {
		h->table = line + 1;
		return;
	}
	if (h->table && !opens(corpus_text(h->corpus, h->message, h->table - 1), "|"))
		belongs(h, line, h->table);
	else
		h->table = 0;
	if (!opens(text, "--"))
		h->list = 0;
}
