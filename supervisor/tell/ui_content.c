#include "supervisor/tell/ui_content.h"

#include "common/base/json.h"
#include "supervisor/requests/page.h"

#include <stdlib.h>

#define NUMBER_BYTES 8 /* CHAT_MAX_MESSAGES has fewer digits */

/* How it stands with the texts of a request, for who asks. */
struct standing {
	const char *state, *why;
	const struct content *content; /* where they are there, and may be seen */
};

/* Nothing is said here that the list of requests does not say. */
static struct standing without(const struct tell *t, const struct record *r)
{
	const struct config *conf = t->requests->config;
	const struct measure *m = &r->measure;
	if (!r->over)
		return (struct standing){"running", "It is under way.", NULL};
	if (m->outcome == MEASURE_JOINED)
		return (struct standing){"joined",
			"It got the answer of an equal request that was under way: what was sent "
			"is told there.",
			NULL};
	if (m->taken_over)
		return (struct standing){"taken_over",
			"Its client left; an equal request went on with it: what was sent is told "
			"there.",
			NULL};
	if (!m->layout)
		return (struct standing){
			"whole", "Nothing was left out: none of its messages was shortened.", NULL};
	if (!conf->log.content)
		return (struct standing){
			"off", "No text of a message is kept: log.content is off.", NULL};
	if (conf->limits.content_bytes == 0)
		return (struct standing){
			"off", "No text of a message is kept: limits.content_bytes is 0.", NULL};
	return (struct standing){
		"gone", "Its texts are kept no more, or it began before log.content was on.", NULL};
}

static struct standing with(const struct content *c, const struct content_owner *who)
{
	if (!content_same_owner(&c->owner, who))
		return (struct standing){"other_key",
			who->keyed ? "Its texts are not shown: it was not made with your key."
				   : "Its texts are not shown: it was made with a key.",
			NULL};
	switch (c->state) {
	case CONTENT_COMING:
		return (struct standing){"coming", "Its texts are being written.", NULL};
	case CONTENT_TOO_LARGE:
		return (struct standing){"too_large",
			"Its texts are not kept: they are larger than limits.content_bytes.", NULL};
	case CONTENT_NO_MEMORY:
		return (struct standing){
			"no_memory", "Its texts are not kept: memory was out.", NULL};
	default:
		return (struct standing){"kept", "", c};
	}
}

static bool stands(struct tell *t, const struct request *r, const char *id, struct standing *out)
{
	const struct content *c = contents_find(&t->requests->contents, id);
	const struct record *record = history_find(&t->requests->history, id);
	struct content_owner who = content_owner(page_key(r));
	if (c)
		*out = with(c, &who);
	else if (record)
		*out = without(t, record);
	return c || record;
}

static void answer_standing(struct request *r, const char *id, const struct standing *s)
{
	struct buf text;
	buf_init(&text, 0);
	buf_add_char(&text, '{');
	json_put_key(&text, "request");
	json_put_string(&text, slice_str(id));
	json_put_key(&text, "content");
	json_put_string(&text, slice_str(s->state));
	json_put_key(&text, "why");
	json_put_string(&text, slice_str(s->why));
	json_put_key(&text, "messages");
	json_put_int(&text, s->content ? (int64_t)s->content->text.count : 0);
	buf_add_char(&text, '}');
	page_answer(r, 200, buf_error(&text) ? (struct slice){0} : buf_slice(&text));
	buf_free(&text);
}

static bool number_of(struct slice digits, size_t *out)
{
	*out = 0;
	for (size_t i = 0; i < digits.n; i++) {
		if (digits.p[i] < '0' || digits.p[i] > '9')
			return false;
		*out = *out * 10 + (size_t)(digits.p[i] - '0');
	}
	return digits.n > 0 && digits.n < NUMBER_BYTES;
}

bool ui_content_answer(struct tell *t, struct request *r, struct slice name)
{
	const char *slash = name.n ? memchr(name.p, '/', name.n) : NULL;
	size_t n = slash ? (size_t)(slash - name.p) : name.n, message;
	char id[RECORD_ID_BYTES];
	struct standing s;
	if (n >= sizeof(id))
		return false;
	record_text(id, sizeof(id), (struct slice){name.p, n});
	if (!stands(t, r, id, &s))
		return false;
	if (!slash) {
		answer_standing(r, id, &s);
		return true;
	}
	if (!s.content || !number_of((struct slice){slash + 1, name.n - n - 1}, &message))
		return false;
	struct slice text = content_text_of(&s.content->text, message);
	if (text.n)
		page_answer(r, 200, text);
	return text.n > 0;
}
