#include "common/text/speaker.h"

#include "common/text/piece.h"

/* By the end of their opening tag, so that <answer> and <answer id="1"> both count. */
static const struct {
	const char *open, *close;
	bool human;
} tags[] = {
	{"<feedback", "</feedback>", true},
	{"<answer", "</answer>", true},
	{"<user_message", "</user_message>", true},
	{"<user_feedback", "</user_feedback>", true},
	{"<user_query", "</user_query>", true},
	{"<system-reminder", "</system-reminder>", false},
	{"<environment_details", "</environment_details>", false},
	{"<environment_context", "</environment_context>", false},
	{"<local-command-stdout", "</local-command-stdout>", false},
	{"<user_environment", "</user_environment>", false},
};

#define TAGS (sizeof(tags) / sizeof(*tags))

static const char *find(struct slice line, const char *word)
{
	return line.n ? memmem(line.p, line.n, word, strlen(word)) : NULL;
}

void speaker_begin(struct speaker *s, const struct text_message *m)
{
	*s = (struct speaker){.human = m->role == TEXT_USER && !m->tool_result && !m->machine};
}

static bool opens_here(struct slice line, const char *at, const char *open)
{
	const char *after = at + strlen(open);
	return after < line.p + line.n && (*after == '>' || *after == ' ');
}

/* The first opening tag that we know, wherever it stands in the line: clients put them behind
 * escaped line ends and other tags. */
static const char *opening(struct slice line, size_t *tag)
{
	const char *less = memchr(line.p, '<', line.n);
	for (; less; less = memchr(less + 1, '<', (size_t)(line.p + line.n - less - 1))) {
		if (less + 1 == line.p + line.n || less[1] < 'a' || less[1] > 'z')
			continue;
		for (size_t i = 0; i < TAGS; i++) {
			size_t n = strlen(tags[i].open);
			if ((size_t)(line.p + line.n - less) > n &&
				memcmp(less, tags[i].open, n) == 0 &&
				opens_here(line, less, tags[i].open)) {
				*tag = i;
				return less;
			}
		}
	}
	return NULL;
}

bool speaker_line(struct speaker *s, struct slice line, bool *machine)
{
	bool human = s->inside ? s->inside_human : s->human;
	*machine = false;
	if (line.n == 0)
		return human;
	if (!s->inside) {
		size_t tag;
		const char *at = opening(line, &tag);
		if (!at)
			return human;
		s->inside = tags[tag].close;
		s->inside_human = human = tags[tag].human;
	}
	*machine = s->human && !s->inside_human;
	if (find(line, s->inside))
		s->inside = NULL;
	return human;
}

size_t speaker_human_bytes(const struct text_message *m)
{
	struct speaker s;
	struct piece p;
	size_t bytes = 0;
	bool machine;
	speaker_begin(&s, m);
	for (size_t at = 0; piece_next(m->text, &at, false, &p);)
		if (speaker_line(
			    &s, (struct slice){m->text.p + p.begin, p.end - p.begin}, &machine))
			bytes += p.end - p.begin + 1;
	return bytes;
}

bool speaker_is_carrier(struct slice text)
{
	static const struct slice begins[] = {
		SLICE("Attached image(s) from tool"),
		SLICE("Attached media from tool"),
		SLICE("[Image from tool"),
		SLICE("Here is the image"),
		SLICE("[Screenshot"),
		SLICE("(see attached image)"),
	};
	text = slice_trim(text);
	for (size_t i = 0; i < sizeof(begins) / sizeof(*begins); i++)
		if (text.n >= begins[i].n && memcmp(text.p, begins[i].p, begins[i].n) == 0)
			return true;
	return text.n == 0;
}
