#include "common/condense.h"

#include <errno.h>
#include <stdlib.h>

#define SINGLE_MIN_BYTES 4096 /* a message below that is never cut by itself */
#define KEEP_LEAST                                                                                 \
	.02 /* when less than that share would fit, the prompt is too long to be condensed */
#define GAIN_LEAST .1 /* a rewrite must save that share of the prompt's text */

static const char history_intro[] = "[Earlier conversation, condensed: the lines below are "
				    "verbatim, parts left out are marked with their size]\n";
static const char notes_intro[] = "[Notes on the parts left out; every name and number in them was "
				  "checked against the source]\n";
static const char notes_outro[] = "[End of the notes]\n";

/* --- reading --- */

static enum text_role text_role_of(enum chat_role role)
{
	static const enum text_role roles[] = {[CHAT_SYSTEM] = TEXT_SYSTEM,
		[CHAT_USER] = TEXT_USER,
		[CHAT_ASSISTANT] = TEXT_ASSISTANT,
		[CHAT_TOOL] = TEXT_TOOL};
	return roles[role];
}

/* Where the rendered tool calls begin in a message's text: behind its content. */
static size_t content_bytes(const struct chat_message *m)
{
	struct buf b;
	buf_init(&b, 0);
	json_string_decode(m->content, &b);
	size_t n = b.n;
	buf_free(&b);
	return n;
}

#define CALL_NAME_BYTES 120 /* of a call, in the header of its result */

static struct slice unquoted(struct json_value v)
{
	if (!json_is(v, JSON_STRING) || memchr(v.raw.p, '\\', v.raw.n))
		return (struct slice){0};
	return (struct slice){v.raw.p + 1, v.raw.n - 2};
}

/* What a tool result answers: the name it carries, else the first call of the assistant before it.
 */
static struct slice call_of(const struct condense *c, size_t result)
{
	const struct chat_message *m = &c->request->messages[result];
	if (m->role == CHAT_TOOL && json_is(m->raw, JSON_OBJECT)) {
		struct slice name = unquoted(json_get(m->raw, "tool_name"));
		if (name.n == 0)
			name = unquoted(json_get(m->raw, "name"));
		if (name.n)
			return name;
	}
	if (result == 0 || !c->messages[result - 1].calls_tools)
		return (struct slice){0};
	const struct text_message *caller = &c->messages[result - 1];
	struct slice line = {caller->text.p + caller->calls_at, caller->text.n - caller->calls_at};
	while (line.n && *line.p == '\n') {
		line.p++;
		line.n--;
	}
	const char *end = line.n ? memchr(line.p, '\n', line.n) : NULL;
	if (end)
		line.n = (size_t)(end - line.p);
	if (line.n > CALL_NAME_BYTES)
		line.n = CALL_NAME_BYTES;
	line.n = utf8_valid_prefix(line);
	return line;
}

static int read_messages(struct condense *c)
{
	const struct chat_request *r = c->request;
	size_t n = r->count;
	c->texts = calloc(n, sizeof(*c->texts));
	c->messages = calloc(n, sizeof(*c->messages));
	c->single = calloc(n, sizeof(*c->single));
	if (!c->texts || !c->messages || !c->single)
		return -ENOMEM;
	c->count = n;
	for (size_t i = 0; i < n; i++) {
		const struct chat_message *m = &r->messages[i];
		struct text_message *t = &c->messages[i];
		if (chat_message_text(r, i, &c->texts[i]))
			return -ENOMEM;
		t->role = text_role_of(m->role);
		t->text = buf_slice(&c->texts[i]);
		t->calls_tools = m->role == CHAT_ASSISTANT && json_is(m->tool_calls, JSON_ARRAY);
		t->calls_at = t->calls_tools ? content_bytes(m) : 0;
		t->tool_result = m->role == CHAT_TOOL ||
				 (m->role == CHAT_USER && text_is_tool_result(t->text));
		if (t->tool_result)
			t->call = call_of(c, i);
	}
	return 0;
}

/* Selection knows text only: a group that carries anything else stays whole. 0 or -ENOMEM. */
static int keep_attachments(struct condense *c, unsigned groups)
{
	bool *carries = calloc(groups ? groups : 1, sizeof(*carries));
	if (!carries)
		return -ENOMEM;
	for (size_t i = 0; i < c->count; i++) {
		const struct chat_message *m = &c->request->messages[i];
		carries[c->messages[i].group] |= m->images > 0 || m->others > 0;
	}
	for (size_t i = 0; i < c->count; i++)
		c->messages[i].verbatim |= carries[c->messages[i].group];
	free(carries);
	return 0;
}

/* --- what may shrink --- */

static size_t last_human(const struct condense *c)
{
	size_t last = c->count;
	for (size_t i = 0; i < c->count; i++)
		if (c->messages[i].role == TEXT_USER && !c->messages[i].tool_result)
			last = i;
	return last;
}

/* Is this message, which stands verbatim, to be cut by itself? */
static bool cut_alone(const struct condense *c, size_t i, size_t human)
{
	const struct text_message *m = &c->messages[i];
	if (!m->verbatim || m->role == TEXT_SYSTEM || m->text.n < SINGLE_MIN_BYTES ||
		m->calls_tools)
		return false;
	if (i == human)
		return c->options.must_shrink || m->text.n > c->history_bytes;
	return c->options.must_shrink;
}

struct budgets {
	size_t single_bytes; /* of the messages cut by themselves */
	double ratio;	     /* what may stay of what may shrink */
};

static enum condense_result share_out(struct condense *c, const bool *alone, struct budgets *b)
{
	size_t fixed = 0;
	b->single_bytes = 0;
	for (size_t i = 0; i < c->count; i++) {
		if (alone[i])
			b->single_bytes += c->messages[i].text.n;
		else if (c->messages[i].verbatim)
			fixed += c->messages[i].text.n;
	}
	c->fixed_bytes = fixed;
	c->source_bytes = c->history_bytes + b->single_bytes;
	b->ratio = c->options.keep_ratio;
	if (c->options.room_bytes) {
		size_t chunks =
			c->options.chunk_bytes ? c->source_bytes / c->options.chunk_bytes + 1 : 0;
		size_t taken = fixed + chunks * c->options.notes_bytes;
		double room =
			c->options.room_bytes > taken ? (double)(c->options.room_bytes - taken) : 0;
		double fits = c->source_bytes ? room / (double)c->source_bytes : 0;
		if (fits < b->ratio)
			b->ratio = fits;
		if (c->source_bytes >= CONDENSE_MIN_BYTES && b->ratio < KEEP_LEAST)
			return CONDENSE_NO_ROOM;
	}
	double gain = (double)c->source_bytes * (1 - b->ratio);
	if (c->source_bytes < CONDENSE_MIN_BYTES ||
		gain < GAIN_LEAST * (double)(c->source_bytes + fixed))
		return CONDENSE_NOTHING;
	return CONDENSE_OK;
}

/* --- selection --- */

static struct select_options select_within(size_t bytes, double ratio)
{
	struct select_options o = select_defaults();
	o.keep_ratio = 0;
	o.budget_bytes = (size_t)((double)bytes * ratio);
	return o;
}

static enum condense_result select_all(struct condense *c, const bool *alone, double ratio)
{
	if (c->history_bytes) {
		struct select_options o = select_within(c->history_bytes, ratio);
		if (text_select(c->messages, c->count, &o, &c->history))
			return CONDENSE_FAILED;
		c->kept_bytes += c->history.rendered_bytes;
		c->omitted_lines += c->history.omitted_lines;
	}
	for (size_t i = 0; i < c->count; i++) {
		if (!alone[i])
			continue;
		struct select_options o = select_within(c->messages[i].text.n, ratio);
		size_t omitted = 0;
		if (text_select_single(c->messages[i].text, &o, &c->single[i], &omitted))
			return CONDENSE_FAILED;
		if (c->single[i].n == 0)
			return CONDENSE_NO_ROOM;
		c->kept_bytes += c->single[i].n;
		c->omitted_lines += omitted;
	}
	return CONDENSE_OK;
}

/* --- chunks --- */

static int add_chunks(struct condense *c, const struct text_message *m, size_t n, size_t owner)
{
	struct text_chunk *cut = NULL;
	size_t count = 0;
	size_t room =
		c->options.max_chunks > c->chunk_count ? c->options.max_chunks - c->chunk_count : 1;
	int rc = text_chunks_capped(m, n, c->options.chunk_bytes, room, &cut, &count);
	if (rc || count == 0)
		return rc;
	struct condense_chunk *grown =
		realloc(c->chunks, (c->chunk_count + count) * sizeof(*grown));
	if (!grown) {
		text_chunks_free(cut, count);
		return -ENOMEM;
	}
	c->chunks = grown;
	for (size_t i = 0; i < count && rc == 0; i++) {
		struct condense_chunk *chunk = &c->chunks[c->chunk_count++];
		*chunk = (struct condense_chunk){.owner = owner};
		rc = text_chunk_render(m, &cut[i], &chunk->text);
	}
	text_chunks_free(cut, count);
	return rc;
}

static int cut_chunks(struct condense *c, double ratio)
{
	int rc = 0;
	if (c->options.chunk_bytes == 0)
		return 0;
	if (c->history_bytes)
		rc = add_chunks(c, c->messages, c->count, CONDENSE_HISTORY);
	for (size_t i = 0; i < c->count && rc == 0; i++) {
		if (c->single[i].n == 0)
			continue;
		/* Its head and tail stand verbatim in the prompt: only the middle needs notes. */
		struct text_edges edges;
		text_single_split(c->messages[i].text,
			(size_t)((double)c->messages[i].text.n * ratio), &edges);
		struct text_message middle = {.role = c->messages[i].role, .text = edges.middle};
		rc = add_chunks(c, &middle, 1, i);
	}
	return rc;
}

enum condense_result condense_prepare(
	struct condense *c, const struct chat_request *r, const struct condense_options *o)
{
	struct condense_options options = *o; /* o may stand inside c */
	*c = (struct condense){.request = r, .options = options};
	if (r->count == 0)
		return CONDENSE_NOTHING;
	if (read_messages(c))
		return CONDENSE_FAILED;
	unsigned groups = text_group(c->messages, c->count);
	text_mark_verbatim(c->messages, c->count, CONDENSE_KEEP_GROUPS);
	if (keep_attachments(c, groups))
		return CONDENSE_FAILED;
	c->history_bytes = text_old_bytes(c->messages, c->count);

	bool *alone = calloc(c->count, sizeof(*alone));
	if (!alone)
		return CONDENSE_FAILED;
	size_t human = last_human(c);
	for (size_t i = 0; i < c->count; i++)
		alone[i] = cut_alone(c, i, human);
	struct budgets b;
	enum condense_result result = share_out(c, alone, &b);
	if (result == CONDENSE_OK)
		result = select_all(c, alone, b.ratio);
	if (result == CONDENSE_OK && cut_chunks(c, b.ratio))
		result = CONDENSE_FAILED;
	free(alone);
	return result;
}

size_t condense_chunks(const struct condense *c)
{
	return c->chunk_count;
}

struct slice condense_chunk(const struct condense *c, size_t i)
{
	return buf_slice(&c->chunks[i].text);
}

/* --- assembly --- */

static void put_notes(
	const struct condense *c, const struct slice *notes, size_t owner, struct buf *out)
{
	bool any = false;
	for (size_t i = 0; notes && i < c->chunk_count; i++) {
		if (c->chunks[i].owner != owner || notes[i].n == 0)
			continue;
		if (!any)
			buf_add_str(out, notes_intro);
		any = true;
		size_t most = c->options.notes_bytes, n = notes[i].n;
		if (most && n > most) { /* whole lines only */
			for (n = most; n > 0 && notes[i].p[n - 1] != '\n'; n--)
				;
		}
		buf_add(out, notes[i].p, n);
		if (n && notes[i].p[n - 1] != '\n')
			buf_add_char(out, '\n');
	}
	if (any)
		buf_add_str(out, notes_outro);
}

struct assembly {
	struct chat_edit *edits;
	struct buf *texts;  /* behind the edits */
	struct buf history; /* all rendered parts, for the check of the forced lines */
};

static void edit_single(
	const struct condense *c, const struct slice *notes, size_t i, struct assembly *a)
{
	put_notes(c, notes, i, &a->texts[i]);
	buf_add_slice(&a->texts[i], buf_slice(&c->single[i]));
	a->edits[i].kind = CHAT_REPLACE_TEXT;
}

/* A run of old messages [from, to) becomes one message in its place; the last run carries index and
 * notes. */
static void edit_run(const struct condense *c, const struct slice *notes, size_t from, size_t to,
	bool last, struct assembly *a)
{
	struct buf *text = &a->texts[from];
	size_t thinking = 0;
	for (size_t i = from; i < to; i++)
		thinking += c->request->messages[i].thinking;
	buf_add_str(text, history_intro);
	size_t begin = text->n;
	text_render_part(c->messages, c->count, &c->history, from, to, text);
	if (text->n == begin)
		buf_printf(text, "[omitted %zu messages]\n", to - from);
	if (!buf_error(text))
		buf_add(&a->history, text->p + begin, text->n - begin);
	if (thinking)
		buf_printf(text, "[omitted %zu characters of thinking]\n", thinking);
	if (last && c->history.index)
		buf_printf(text, "%s\n", c->history.index);
	if (last)
		put_notes(c, notes, CONDENSE_HISTORY, text);
	a->edits[from].kind = CHAT_INSERT_BEFORE_DROP;
	for (size_t i = from + 1; i < to; i++)
		a->edits[i].kind = CHAT_DROP;
}

static void edit_history(const struct condense *c, const struct slice *notes, struct assembly *a)
{
	size_t last_old = 0;
	for (size_t i = 0; i < c->count; i++)
		if (!c->messages[i].verbatim)
			last_old = i;
	for (size_t i = 0; i < c->count;) {
		size_t to = i;
		while (to < c->count && !c->messages[to].verbatim)
			to++;
		if (to > i)
			edit_run(c, notes, i, to, to > last_old, a);
		i = to + 1;
	}
}

enum condense_result condense_assemble(
	const struct condense *c, const struct slice *notes, int64_t set_num_ctx, struct buf *body)
{
	enum condense_result result = CONDENSE_FAILED;
	struct assembly a = {.edits = calloc(c->count, sizeof(*a.edits)),
		.texts = calloc(c->count, sizeof(*a.texts))};
	if (!a.edits || !a.texts)
		goto out;
	if (c->history_bytes)
		edit_history(c, notes, &a);
	for (size_t i = 0; i < c->count; i++)
		if (c->single[i].n)
			edit_single(c, notes, i, &a);
	for (size_t i = 0; i < c->count; i++) {
		if (buf_error(&a.texts[i]))
			goto out;
		a.edits[i].text = buf_slice(&a.texts[i]);
	}
	if (buf_error(&a.history) ||
		(c->history_bytes &&
			!text_verify_forced(c->messages, &c->history, buf_slice(&a.history))))
		goto out;
	if (chat_request_rewrite(c->request, a.edits, set_num_ctx, body) == 0)
		result = CONDENSE_OK;
out:
	for (size_t i = 0; a.texts && i < c->count; i++)
		buf_free(&a.texts[i]);
	buf_free(&a.history);
	free(a.texts);
	free(a.edits);
	return result;
}

void condense_fini(struct condense *c)
{
	for (size_t i = 0; i < c->count; i++) {
		buf_free(&c->texts[i]);
		buf_free(&c->single[i]);
	}
	for (size_t i = 0; i < c->chunk_count; i++)
		buf_free(&c->chunks[i].text);
	free(c->texts);
	free(c->messages);
	free(c->single);
	free(c->chunks);
	select_result_free(&c->history);
	*c = (struct condense){0};
}
