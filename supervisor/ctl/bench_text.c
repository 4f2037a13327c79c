/* Made-up prompts: words of every day in an order of no meaning, so that nothing of a client is
 * read and nothing of them is cached. */
#include "supervisor/ctl/bench.h"

#include <inttypes.h>

#define LINE_WORDS 10
#define RESULT_TOKENS 700 /* of one tool's result in a session */

static const char *const words[] = {"river", "table", "winter", "garden", "letter", "engine",
	"morning", "window", "market", "signal", "bridge", "paper", "station", "number", "village",
	"picture", "summer", "harbour", "machine", "question", "forest", "kitchen", "island",
	"message", "answer", "valley", "copper", "silver", "journey", "ladder", "mirror", "pocket",
	"basket", "castle", "corner", "feather", "hammer", "lantern", "meadow", "needle", "orchard",
	"pebble", "quarter", "ribbon", "saddle", "timber", "umbrella", "violin"};

#define WORDS (sizeof(words) / sizeof(*words))

/* splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). */
static uint64_t next(struct benching *b)
{
	uint64_t z = (b->random += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* "17 river table ...\n", in JSON's escapes. */
static void put_line(struct benching *b, unsigned number, struct buf *out)
{
	buf_printf(out, "%u", number);
	for (int i = 0; i < LINE_WORDS; i++)
		buf_printf(out, " %s", words[next(b) % WORDS]);
	buf_add_str(out, ".\\n");
}

/* About so many tokens of text, whose first word no other has. */
static void put_text(struct benching *b, double tokens, struct buf *out)
{
	size_t start = out->n, want = (size_t)(tokens * b->chars_a_token);
	buf_printf(out, "%08" PRIx64 " is the number of this list.\\n", next(b) & 0xffffffff);
	for (unsigned i = 1; out->n - start < want && !buf_error(out); i++)
		put_line(b, i, out);
}

void bench_prompt_make(struct benching *b, struct bench_prompt *p, int64_t tokens)
{
	buf_clear(&p->text);
	put_text(b, (double)tokens, &p->text);
	p->chars = p->text.n;
}

static void put_message(struct buf *body, const char *role, struct slice text, const char *more)
{
	buf_printf(body, "%s{\"role\":\"%s\",\"content\":\"",
		body->p[body->n - 1] == '[' ? "" : ",", role);
	buf_add_slice(body, text);
	buf_printf(body, "%s\"}", more);
}

void bench_prompt_put(const struct bench_prompt *p, int turns, struct buf *body)
{
	buf_add_str(body, ",\"messages\":[");
	if (buf_error(body))
		return;
	put_message(body, "user", buf_slice(&p->text),
		"Tell a long story in which many of these words occur.");
	if (turns > 1) {
		put_message(body, "assistant",
			SLICE("Once upon a time, in a village by the river,"), "");
		put_message(body, "user",
			SLICE("Tell the whole story, in many long sentences, from the beginning."),
			"");
	}
	buf_add_str(body, "]");
}

static void put_step(struct benching *b, int step, struct buf *body)
{
	buf_printf(body,
		",{\"role\":\"assistant\",\"content\":\"I read part %d.\",\"tool_calls\":[{"
		"\"function\":{\"name\":\"read_file\",\"arguments\":{\"path\":\"src/part%d.c\"}}}]}"
		",{\"role\":\"tool\",\"tool_name\":\"read_file\",\"content\":\"",
		step, step);
	put_text(b, RESULT_TOKENS, body);
	buf_add_str(body, "\"}");
}

void bench_session_put(struct benching *b, int64_t tokens, struct buf *body)
{
	buf_add_str(body,
		",\"messages\":[{\"role\":\"system\",\"content\":\"You are a coding "
		"agent.\"},{\"role\":\"user\",\"content\":\"Which part counts the lists? ");
	put_text(b, 64, body);
	buf_add_str(body, "\"}");
	int64_t steps = (tokens + RESULT_TOKENS / 2) / RESULT_TOKENS;
	for (int step = 1; step <= (steps > 2 ? steps : 2) && !buf_error(body); step++)
		put_step(b, step, body);
	buf_add_str(body, "]");
}
