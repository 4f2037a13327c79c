#include "supervisor/tell/ui.h"

#include "supervisor/requests/page.h"
#include "supervisor/tell/ask_gpus.h"
#include "supervisor/tell/commands.h"
#include "supervisor/tell/documents.h"
#include "supervisor/tell/ui_content.h"
#include "supervisor/tell/ui_doctor.h"
#include "supervisor/tell/ui_files.h"

#define QUESTION_BYTES (COMMAND_WORDS_MAX * COMMAND_WORD_BYTES)

static void answer_nothing(struct request *r)
{
	page_answer(r, 404, SLICE("{\"error\":\"nothing of that name is here\"}"));
}

/* --- documents --- */

static void answer_text(struct request *r, int status, struct buf *text)
{
	page_answer(r, status, buf_error(text) ? (struct slice){0} : buf_slice(text));
	buf_free(text);
}

/* "requests/20" asks what the words "requests 20" ask of the stats socket. */
static bool answer_document(struct tell *t, struct request *r, struct slice name)
{
	static const char error[] = "{\"error\":";
	char words[QUESTION_BYTES];
	struct buf text;
	if (name.n >= sizeof(words) || memchr(name.p, ' ', name.n))
		return false;
	for (size_t i = 0; i < name.n; i++)
		words[i] = name.p[i] == '/' ? ' ' : name.p[i];
	buf_init(&text, 0);
	if (!commands_look(t, (struct slice){words, name.n}, &text)) {
		buf_free(&text);
		return false;
	}
	bool refused = text.n >= strlen(error) && memcmp(text.p, error, strlen(error)) == 0;
	answer_text(r, refused ? 404 : 200, &text);
	return true;
}

static void answer_gpus(struct tell *t, struct request *r, const struct nvml_sample *gpus)
{
	struct buf text;
	if (page_wanted(r) && !page_may(r)) {
		page_answer(
			r, 503, SLICE("{\"error\":\"the keys are other ones now; ask again\"}"));
		return;
	}
	buf_init(&text, 0);
	buf_add_char(&text, '{');
	documents_gpus_of(t, gpus, &text);
	buf_add_char(&text, '}');
	answer_text(r, 200, &text);
}

/* --- the table of what there is --- */

/* What stands behind such a beginning; empty: it has another. */
static struct slice behind(struct slice name, const char *begin)
{
	size_t n = strlen(begin);
	bool has = name.n > n && memcmp(name.p, begin, n) == 0;
	return has ? (struct slice){name.p + n, name.n - n} : (struct slice){0};
}

static void answer_question(struct tell *t, struct request *r)
{
	struct slice name = page_name(r), content = behind(name, "content/");
	bool events = slice_eq(name, SLICE("events")), doctor = slice_eq(name, SLICE("doctor"));
	if ((events || doctor) && t->life->state != LIFE_RUNNING)
		page_answer(r, 503, SLICE("{\"error\":\"this tandemd is about to end\"}"));
	else if (events)
		ui_streams_add(t->streams, r);
	else if (doctor)
		ui_doctor_ask(t->doctor, r);
	else if (slice_eq(name, SLICE("devices")))
		ask_gpus(t, r, answer_gpus);
	else if (content.n ? !ui_content_answer(t, r, content) : !answer_document(t, r, name))
		answer_nothing(r);
}

void ui_answer(struct tell *t, struct request *r)
{
	const struct page_file *file;
	if (page_asks(r))
		answer_question(t, r);
	else if ((file = ui_files_find(page_name(r))))
		page_send_file(r, file);
	else
		answer_nothing(r);
}
