#include "supervisor/requests/client.h"

#include "common/base/sip.h"

#include <strings.h>

const char *const client_headers[] = {"Authorization", "X-Api-Key", "X-OpenWebUI-User-Id", NULL};

struct slice client_host(const char *peer)
{
	const char *colon = peer ? strrchr(peer, ':') : NULL;
	return (struct slice){peer, colon ? (size_t)(colon - peer) : peer ? strlen(peer) : 0};
}

/* --- key --- */

uint64_t client_key(
	const uint64_t secret[2], const char *peer, client_header_fn *header, const void *ctx)
{
	struct sip s;
	struct slice host = client_host(peer);
	sip_init(&s, secret);
	sip_add(&s, host.p, host.n);
	for (size_t i = 0; client_headers[i]; i++) {
		const char *value = header(ctx, client_headers[i]);
		/* Absent and empty differ, and no value runs into the next. */
		sip_add(&s, value ? "\1" : "\0", 1);
		if (value)
			sip_add(&s, value, strlen(value) + 1);
	}
	return sip_end(&s);
}

/* --- class --- */

static bool wished(const char *wish, enum job_class *out)
{
	static const enum job_class may[] = {CLASS_INTERACTIVE, CLASS_AGENT, CLASS_IDLE};
	for (size_t i = 0; wish && i < sizeof(may) / sizeof(*may); i++)
		if (strcasecmp(wish, job_class_name(may[i])) == 0) {
			*out = may[i];
			return true;
		}
	return false;
}

static bool mentions(const char *text, const char *word)
{
	size_t n = strlen(word);
	for (; *text; text++)
		if (strncasecmp(text, word, n) == 0)
			return true;
	return false;
}

static bool names_agent(const char *user_agent)
{
	static const char *const agents[] = {"cline", "aider", "litellm", "roo-code", "openhands",
		"opencode", "codex", "claude-cli", "claude-code", "goose", "kilo-code"};
	for (size_t i = 0; user_agent && i < sizeof(agents) / sizeof(*agents); i++)
		if (mentions(user_agent, agents[i]))
			return true;
	return false;
}

/*
 * Passes the mark of a prompt that Open WebUI builds, and the white space behind it: what the task
 * is stands there. Raw JSON: a line feed is two bytes, "\\n".
 */
static bool skip_mark(struct slice *text)
{
	static const char mark[] = "\"### Task:";
	const size_t n = sizeof(mark) - 1;
	if (text->n < n || memcmp(text->p, mark, n) != 0)
		return false;
	*text = (struct slice){text->p + n, text->n - n};
	for (;;) {
		size_t step = text->n && *text->p == ' ' ? 1 : 0;
		if (text->n >= 2 && text->p[0] == '\\' && strchr("nrt", text->p[1]))
			step = 2;
		if (!step)
			return true;
		*text = (struct slice){text->p + step, text->n - step};
	}
}

/* Does the word (lower case) begin somewhere in the line? */
static bool line_mentions(struct slice line, const char *word)
{
	size_t n = strlen(word);
	for (size_t i = 0; i + n <= line.n; i++)
		if (strncasecmp(line.p + i, word, n) == 0)
			return true;
	return false;
}

/* Does the line begin with the words? */
static bool line_begins(struct slice line, const char *words)
{
	size_t n = strlen(words);
	return line.n >= n && strncasecmp(line.p, words, n) == 0;
}

/*
 * Open WebUI asks for a title, tags and follow-ups after an answer, unasked: nobody waits for them.
 * Its questions about documents, search queries and completions begin with the same mark, and
 * somebody does: only what the line behind it says tells them apart.
 */
enum small_kind client_side_task(struct slice text)
{
	static const char *const starts[] = {"Generate ", "Suggest ", "Create "};
	static const struct {
		const char *word;
		enum small_kind kind;
	} asked[] = {
		{" title", SMALL_TITLE}, {" tags", SMALL_TAGS}, {" follow-up", SMALL_FOLLOW_UPS}};
	if (!skip_mark(&text))
		return SMALL_ANY;
	size_t end = 0;
	while (end < text.n && text.p[end] != '\\' && text.p[end] != '"')
		end++;
	struct slice line = {text.p, end};
	if (line_begins(line, "You are an autocompletion system"))
		return SMALL_AUTOCOMPLETE;
	for (size_t i = 0; i < sizeof(starts) / sizeof(*starts); i++) {
		if (!line_begins(line, starts[i]))
			continue;
		for (size_t k = 0; k < sizeof(asked) / sizeof(*asked); k++)
			if (line_mentions(line, asked[k].word))
				return asked[k].kind;
	}
	return SMALL_ANY;
}

enum job_class client_class(const struct client_facts *f)
{
	enum job_class wish;
	if (wished(f->wish, &wish))
		return wish;
	enum small_kind side = client_side_task(f->last);
	if (side != SMALL_ANY && side != SMALL_AUTOCOMPLETE)
		return CLASS_IDLE;
	if (f->tools || f->tokens > CLIENT_LARGE_TOKENS || names_agent(f->user_agent))
		return CLASS_AGENT;
	return CLASS_INTERACTIVE;
}
