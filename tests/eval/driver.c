/*
 * The server's condensing behind a pipe, for make eval: the same libraries, no copy of anything.
 *
 * Reads "OPERATION ARGUMENT... BYTES\n" and so many bytes of a chat request of OpenAI's form;
 * answers "ok BYTES name=value...\n" and the text, "none 0\n" where there is nothing to shrink, or
 * "error 0 words\n". Ends with its input. Operations:
 *
 *   conversation   begins one: what its characters are in tokens by the start table; cache emptied
 *   layout CHARS   the request laid out for that room, with what the cache knows: its body
 *   early CHARS    after `layout` of the same: the layout that is read while nobody waits, where the
 *                  server would freeze the conversation now (chat_freeze.c); it is frozen from then on
 *   plain CHARS    the same without a cache
 *   noted CHARS    as layout, and digests take notes of a scripted writer (scribe.h)
 *   replay CHARS   as plain, with what was decided about notes
 *   fresh CHARS    one new selection of the history, in one message, that fits the room: its body
 *   select SHARE BYTES  one selection of the old part, SHARE of BYTES long: the text alone
 *   tune NAME VALUE     a constant of selection or layout, for all that follows
 */
#include "common/layout/layout.h"
#include "common/layout/parts.h"
#include "common/layout/state.h"
#include "supervisor/requests/outgrow.h"
#include "tests/eval/scribe.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define BODY_MAX (64u << 20)
#define ARGUMENTS 4
#define KEEP_GROUPS 2
#define DECISIONS 4096
#define EARLY_GAIN .1 /* as chat_freeze.c */
#define INTRO "[Earlier conversation, condensed]\n"

static struct layout_options options;
static struct layout_cache *cache;
static struct scribe scribe;
static double tokens_per_char = 1 / 3.6;
static uint64_t decisions[DECISIONS + 1]; /* early freezes of this conversation, sorted */
static size_t decision_count;

static void answer(const char *status, const struct buf *text, const char *figures)
{
	printf("%s %zu %s\n", status, text ? text->n : 0, figures);
	if (text && text->n)
		fwrite(text->p, 1, text->n, stdout);
	fflush(stdout);
}

static void fail(const char *what)
{
	answer("error", NULL, what);
}

/* --- constants --- */

enum kind { NUMBER, WHOLE, FLAG };

#define OPTION(name, kind)                                                                         \
	{                                                                                          \
#name, kind, offsetof(struct layout_options, name)                                 \
	}
#define SHARE(name)                                                                                \
	{                                                                                          \
#name, NUMBER, offsetof(struct layout_options, select.name)                        \
	}
#define TUNING(name, kind)                                                                         \
	{                                                                                          \
#name, kind, offsetof(struct layout_options, select.tuning.name)                   \
	}

static const struct {
	const char *name;
	enum kind kind;
	size_t at;
} constants[] = {
	OPTION(high, NUMBER),
	OPTION(low, NUMBER),
	OPTION(merge, NUMBER),
	OPTION(digest, NUMBER),
	OPTION(l1, NUMBER),
	OPTION(reach, NUMBER),
	OPTION(notes, NUMBER),
	OPTION(early_low, NUMBER),
	OPTION(early_digest, NUMBER),
	OPTION(append, NUMBER),
	SHARE(constraints),
	SHARE(errors),
	SHARE(one_shots),
	SHARE(facts),
	SHARE(index),
	TUNING(length_exponent, NUMBER),
	TUNING(second_cover, NUMBER),
	TUNING(occurrence, NUMBER),
	TUNING(kinds, FLAG),
	TUNING(header_calls, FLAG),
	TUNING(window, WHOLE),
	TUNING(standing, NUMBER),
	TUNING(headings, FLAG),
	TUNING(company, FLAG),
	TUNING(hashes, FLAG),
};

static void tune(const char *name, const char *value)
{
	for (size_t i = 0; i < sizeof(constants) / sizeof(*constants); i++) {
		char *at = (char *)&options + constants[i].at, *end;
		double v = strtod(value, &end);
		if (strcmp(name, constants[i].name))
			continue;
		if (end == value || *end) {
			fail("no number");
			return;
		}
		if (constants[i].kind == NUMBER)
			*(double *)(void *)at = v;
		else if (constants[i].kind == WHOLE)
			*(unsigned *)(void *)at = (unsigned)v;
		else
			*(bool *)at = v != 0;
		answer("ok", NULL, "");
		return;
	}
	fail("no such constant");
}

/* --- one selection --- */

/* The messages as selection sees them: what is fixed, a person's newest words and the newest groups
 * are verbatim. The bytes of the rest. */
static size_t mark_old(const struct layout *l, struct text_message *m)
{
	size_t bytes = 0, human = l->count;
	for (size_t i = 0; i < l->count; i++)
		if (l->messages[i].flags & PART_HUMAN)
			human = i;
	for (size_t i = 0; i < l->count; i++) {
		m[i] = l->text[i];
		m[i].group = l->messages[i].group;
		m[i].verbatim = l->messages[i].level == LAYOUT_FIXED || i == human ||
				m[i].group + KEEP_GROUPS >= l->groups;
		bytes += m[i].verbatim ? 0 : m[i].text.n;
	}
	return bytes;
}

/* Reads the request without a window; nothing is raised. 0 or a negative errno. */
static int read_whole(struct layout *l, const struct chat_request *r)
{
	struct layout_options o = options;
	o.window = 0;
	if (layout_make(l, r, &o, NULL) == LAYOUT_FAILED)
		return -ENOMEM;
	return layout_need_texts(l);
}

static int select_within(struct layout *l, struct text_message *m, size_t budget, struct buf *out)
{
	struct select_options o = options.select;
	struct select_result r;
	o.keep_ratio = 0;
	o.budget_bytes = budget;
	int rc = text_select(m, l->count, &o, &r);
	if (rc == 0)
		rc = text_render(m, l->count, &r, out);
	select_result_free(&r);
	return rc;
}

static size_t text_chars(const struct layout *l, const struct text_message *m)
{
	size_t chars = 0;
	for (size_t i = 0; i < l->count; i++)
		if (m[i].verbatim && l->messages[i].level != LAYOUT_FIXED)
			chars += utf8_chars(m[i].text);
	return chars;
}

static int fresh_body(struct layout *l, struct text_message *m, size_t room, struct buf *out)
{
	struct chat_edit *edits = calloc(l->count + 1, sizeof(*edits));
	struct buf history;
	size_t taken = text_chars(l, m) + sizeof(INTRO);
	bool first = true;
	int rc = edits ? 0 : -ENOMEM;
	buf_init(&history, 0);
	buf_add_str(&history, INTRO);
	if (rc == 0)
		rc = select_within(l, m, room > taken ? room - taken : 0, &history);
	for (size_t i = 0; i < l->count && rc == 0; i++) {
		if (m[i].verbatim)
			continue;
		edits[i].kind = first ? CHAT_INSERT_BEFORE_DROP : CHAT_DROP;
		edits[i].text = buf_slice(&history);
		first = false;
	}
	if (rc == 0)
		rc = chat_request_rewrite(l->request, edits, 0, out);
	free(edits);
	buf_free(&history);
	return rc;
}

typedef int selection_fn(struct layout *l, struct text_message *m, size_t room, struct buf *out);

/* Answers with what `make` makes of the old part within room bytes. */
static void do_selection(const struct chat_request *r, selection_fn *make, size_t room)
{
	struct layout l;
	struct buf out;
	struct text_message *m = calloc(r->count + 1, sizeof(*m));
	buf_init(&out, 0);
	int rc = m ? read_whole(&l, r) : -ENOMEM;
	if (rc == 0 && mark_old(&l, m) == 0)
		answer("none", NULL, "");
	else if (rc == 0 && make(&l, m, room, &out) == 0)
		answer("ok", &out, "");
	else
		fail("memory");
	if (m)
		layout_fini(&l);
	free(m);
	buf_free(&out);
}

/* --- the layout --- */

static void do_conversation(const struct chat_request *r)
{
	struct layout l;
	double chars = 0, tokens = 0;
	int rc = read_whole(&l, r);
	for (size_t i = 0; i < l.count && rc == 0; i++) {
		chars += (double)utf8_chars(l.text[i].text);
		tokens += l.messages[i].tokens_in;
	}
	if (chars > 0)
		tokens_per_char = tokens / chars;
	layout_fini(&l);
	layout_cache_destroy(cache);
	cache = layout_cache_create(LAYOUT_CACHE_BYTES);
	scribe_forget(&scribe);
	decision_count = 0;
	char figures[48];
	snprintf(figures, sizeof(figures), "tokens_per_char=%.5f", tokens_per_char);
	if (cache && rc == 0)
		answer("ok", NULL, figures);
	else
		fail("memory");
}

static double fixed_tokens(const struct chat_request *r)
{
	struct layout l;
	double tokens = 0;
	if (read_whole(&l, r) == 0)
		for (size_t i = 0; i < l.count && l.messages[i].group == 0; i++)
			if (l.messages[i].level == LAYOUT_FIXED)
				tokens += l.messages[i].tokens_in;
	layout_fini(&l);
	return tokens;
}

/* The system prompt of the transcripts is a stub: the window is the room and it. */
static void make_layout(const struct chat_request *r, double chars, struct layout_state *from,
	struct slice offered, struct layout *l)
{
	struct layout_options o = options;
	o.noted = scribe.noted;
	o.noted_count = scribe.count;
	o.offered = offered;
	struct chat_request head = *r;
	if (head.count > 1)
		head.count = 1;
	o.window = chars * tokens_per_char + fixed_tokens(&head);
	o.forced = decisions;
	o.forced_count = decision_count;
	layout_make(l, r, &o, from);
}

static void tell_layout(const struct layout *l)
{
	static const char letters[LAYOUT_LEVELS] = {'f', '0', '1', '2', 'c'};
	struct buf out, figures;
	buf_init(&out, 0);
	buf_init(&figures, 0);
	buf_printf(&figures, "noted=%zu result=%d freezes=%u room=%.0f size=%.0f in=%.0f out=%.0f",
		l->noted_bytes, (int)l->result, l->freezes, l->room, l->size, l->tokens_in,
		l->tokens_out);
	buf_add_str(&figures, " levels=");
	for (size_t i = 0; i < l->count; i++)
		buf_add_char(&figures, letters[l->messages[i].level]);
	if (l->result == LAYOUT_FAILED || chat_request_rewrite(l->request, l->edits, 0, &out))
		fail("memory");
	else
		answer("ok", &out, buf_cstr(&figures));
	buf_free(&out);
	buf_free(&figures);
}

static void do_layout(const struct chat_request *r, double chars, bool cached, bool noted)
{
	struct buf offered;
	struct layout l;
	uint64_t *chains = calloc(r->count + 1, sizeof(*chains));
	uint32_t *groups = calloc(r->count + 1, sizeof(*groups));
	struct layout_state *from = NULL;
	buf_init(&offered, LAYOUT_NOTES_MAX);
	if (!chains || !groups || (noted && scribe_offer(r, &offered) == -ENOMEM)) {
		fail("memory");
		goto out;
	}
	layout_chains(r, chains, groups);
	if (cached && cache)
		from = layout_cache_find(cache, chains, groups, r->count);
	make_layout(r, chars, from, buf_slice(&offered), &l);
	tell_layout(&l);
	if (cached && cache)
		layout_cache_put(cache, layout_state_save(&l));
	scribe_keep(&scribe, &l);
	layout_fini(&l);
out:
	layout_state_release(from);
	buf_free(&offered);
	free(chains);
	free(groups);
}

static int by_chain(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void decide(uint64_t chain)
{
	decisions[decision_count++] = chain;
	qsort(decisions, decision_count, sizeof(*decisions), by_chain);
}

static void undo(uint64_t chain)
{
	size_t at = 0;
	while (at < decision_count && decisions[at] != chain)
		at++;
	memmove(decisions + at, decisions + at + 1, (--decision_count - at) * sizeof(*decisions));
}

static bool is_near(const struct layout *l)
{
	const struct outgrow_facts f = {.layout = l,
		.original = l->result == LAYOUT_AS_SENT,
		.tokens = l->tokens_in,
		.room = l->options.window,
		.scale = 1};
	return decision_count < DECISIONS && outgrow_is_near(&f);
}

static void do_early(const struct chat_request *r, double chars)
{
	struct layout now, l;
	make_layout(r, chars, NULL, (struct slice){0}, &now);
	bool near = now.result != LAYOUT_FAILED && is_near(&now);
	uint64_t chain = near ? now.messages[now.count - 1].chain : 0;
	double size = now.size;
	layout_fini(&now);
	if (!near) {
		answer("none", NULL, "");
		return;
	}
	decide(chain);
	make_layout(r, chars, NULL, (struct slice){0}, &l);
	if (l.result == LAYOUT_RAISED && l.frozen_at == l.groups &&
		size - l.size >= EARLY_GAIN * l.soft) {
		tell_layout(&l);
		layout_cache_put(cache, layout_state_save(&l));
	} else {
		undo(chain);
		answer("none", NULL, "");
	}
	layout_fini(&l);
}

/* --- the pipe --- */

static void obey(char **arg, int n, struct slice body)
{
	struct chat_request r;
	struct dialect_error error;
	if (strcmp(arg[0], "tune") == 0 && n == 3) {
		tune(arg[1], arg[2]);
		return;
	}
	if (chat_request_parse(DIALECT_OPENAI_CHAT, body, &r, &error)) {
		fail("no chat request");
		return;
	}
	if (strcmp(arg[0], "select") == 0 && n == 3)
		do_selection(&r, select_within,
			(size_t)(strtod(arg[1], NULL) * (double)strtoull(arg[2], NULL, 10)));
	else if (strcmp(arg[0], "fresh") == 0 && n == 2)
		do_selection(&r, fresh_body, (size_t)strtoull(arg[1], NULL, 10));
	else if (strcmp(arg[0], "layout") == 0 && n == 2)
		do_layout(&r, strtod(arg[1], NULL), true, false);
	else if (strcmp(arg[0], "noted") == 0 && n == 2)
		do_layout(&r, strtod(arg[1], NULL), true, true);
	else if (strcmp(arg[0], "early") == 0 && n == 2)
		do_early(&r, strtod(arg[1], NULL));
	else if ((strcmp(arg[0], "plain") == 0 || strcmp(arg[0], "replay") == 0) && n == 2)
		do_layout(&r, strtod(arg[1], NULL), false, false);
	else if (strcmp(arg[0], "conversation") == 0 && n == 1)
		do_conversation(&r);
	else
		fail("no such operation");
	chat_request_fini(&r);
}

int main(void)
{
	char line[512];
	options = layout_defaults();
	while (fgets(line, sizeof(line), stdin)) {
		char *arg[ARGUMENTS + 1], *save = NULL;
		int n = 0;
		for (char *word = strtok_r(line, " \n", &save); word && n <= ARGUMENTS;
			word = strtok_r(NULL, " \n", &save))
			arg[n++] = word;
		size_t bytes = n >= 2 ? (size_t)strtoull(arg[n - 1], NULL, 10) : BODY_MAX + 1;
		char *body = bytes <= BODY_MAX ? malloc(bytes + 1) : NULL;
		if (!body || fread(body, 1, bytes, stdin) != bytes) {
			free(body);
			return 1;
		}
		obey(arg, n - 1, (struct slice){body, bytes});
		free(body);
	}
	layout_cache_destroy(cache);
	scribe_forget(&scribe);
	return 0;
}
