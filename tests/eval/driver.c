/*
 * The server's condensing behind a pipe, for make eval: the same libraries, no copy of anything.
 *
 * Reads "OPERATION ARGUMENT... BYTES\n" and so many bytes of a chat request of OpenAI's form; answers
 * "ok BYTES name=value...\n" and the text, "none 0\n" where there is nothing to shrink, or "error 0
 * words\n". Ends with its input. Operations:
 *   select RATIO  one selection that keeps so much of the old part: the text of the history alone
 *   fresh CHARS   one selection that makes the request fit: the rewritten body
 *   tune NAME VALUE  a constant of the selection for all that follows
 */
#include "common/condense.h"
#include "common/dialect/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define BODY_MAX (64u << 20)
#define ARGUMENTS 4

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

static void do_select(const struct chat_request *r, double ratio)
{
	struct condense c;
	struct condense_options o = {.keep_ratio = ratio};
	struct buf out;
	buf_init(&out, 0);
	enum condense_result rc = condense_prepare(&c, r, &o);
	if (rc == CONDENSE_OK && c.history_bytes &&
		text_render(c.messages, c.count, &c.history, &out) == 0) {
		char figures[80];
		snprintf(figures, sizeof(figures), "source=%zu rendered=%zu", c.history_bytes,
			c.history.rendered_bytes);
		answer("ok", &out, figures);
	} else {
		answer(rc == CONDENSE_FAILED ? "error" : "none", NULL, "");
	}
	buf_free(&out);
	condense_fini(&c);
}

static void do_fresh(const struct chat_request *r, size_t room)
{
	struct condense c;
	struct condense_options o = {.keep_ratio = .95, .room_bytes = room, .must_shrink = true};
	struct buf out;
	buf_init(&out, 0);
	enum condense_result rc = condense_prepare(&c, r, &o);
	if (rc == CONDENSE_OK)
		rc = condense_assemble(&c, NULL, 0, &out);
	if (rc == CONDENSE_OK)
		answer("ok", &out, "");
	else
		answer(rc == CONDENSE_FAILED ? "error" : "none", NULL, "");
	buf_free(&out);
	condense_fini(&c);
}

static void obey(char **arg, int n, struct slice body)
{
	struct chat_request r;
	struct dialect_error error;
	if (strcmp(arg[0], "tune") == 0) {
		fail("no such constant");
		return;
	}
	if (chat_request_parse(DIALECT_OPENAI_CHAT, body, &r, &error)) {
		fail("no chat request");
		return;
	}
	if (strcmp(arg[0], "select") == 0 && n == 2)
		do_select(&r, strtod(arg[1], NULL));
	else if (strcmp(arg[0], "fresh") == 0 && n == 2)
		do_fresh(&r, (size_t)strtoull(arg[1], NULL, 10));
	else
		fail("no such operation");
	chat_request_fini(&r);
}

int main(void)
{
	char line[512];
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
	return 0;
}
