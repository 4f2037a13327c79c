/* One request or conversation, opened: all that is told of it, and its steps. */
#include "supervisor/ctl/top.h"

#include <stdlib.h>

#define NAME_COLUMNS 22
#define LINES_MOST 5000

static struct json_value row_of(const struct top *t, bool *found)
{
	for (size_t i = 0; i < t->count[t->focus]; i++)
		if (strcmp(top_id(t, t->focus, i), t->opened_id) == 0) {
			*found = true;
			return t->focus == TOP_REQUESTS ? t->request[i].row : t->session[i].row;
		}
	*found = false;
	return (struct json_value){0};
}

/* The row stays as it was last when it is gone. */
static bool keep_row(struct top *t)
{
	bool found;
	struct json_value row = row_of(t, &found);
	if (found) {
		buf_clear(&t->opened_row);
		buf_add_slice(&t->opened_row, row.raw);
	}
	return found;
}

/* Steps of a request by its id; of a conversation those that name it. */
void top_open_look(struct top *t)
{
	char question[TOP_ID_BYTES + 16];
	struct json_value root;
	struct buf err;
	bool request = t->focus == TOP_REQUESTS && strcmp(t->opened_id, "-") != 0;
	keep_row(t);
	snprintf(question, sizeof(question), "recent%s%s", request ? " " : "",
		request ? t->opened_id : "");
	buf_init(&err, 0);
	ctl_ask(t->ctl->run_dir, question, CTL_TIMEOUT_MS, &t->opened_log, &root, &err);
	buf_free(&err);
}

void top_open(struct top *t)
{
	const char *id = top_id(t, t->focus, t->index[t->focus]);
	if (!*id)
		return;
	snprintf(t->opened_id, sizeof(t->opened_id), "%s", id);
	t->opened = true;
	t->opened_first = 0;
	top_open_look(t);
}

/* --- lines --- */

/* Counts lines, and draws those that are in sight. */
struct writer {
	struct top *t;
	size_t line;
};

static void put_line(struct writer *w, const char *name, const char *text, unsigned look)
{
	struct grid *g = &w->t->grid;
	size_t line = w->line++;
	if (line < w->t->opened_first || line - w->t->opened_first + 2 >= g->rows)
		return;
	size_t row = line - w->t->opened_first + 1, at = name ? NAME_COLUMNS : 0;
	if (name)
		grid_put(g, row, 0, NAME_COLUMNS, GRID_DIM, name);
	grid_put(g, row, at, g->columns > at ? g->columns - at : 0, look, text);
}

static void put_members(struct writer *w, struct json_value row)
{
	struct json_iter it = json_iter(row);
	struct json_value key, value;
	while (json_object_next(&it, &key, &value)) {
		char name[64], text[512];
		snprintf(name, sizeof(name), "%.*s", (int)key.raw.n - 2, key.raw.p + 1);
		ctl_text(row, name, text, sizeof(text));
		put_line(w, name, text, 0);
	}
}

static bool is_about(const struct top *t, struct json_value event)
{
	char id[TOP_ID_BYTES];
	if (t->focus == TOP_REQUESTS)
		return true; /* it was asked for */
	ctl_text(event, "conversation", id, sizeof(id));
	return strcmp(id, t->opened_id) == 0;
}

/* An event as `logs` prints it, without the day. */
static void put_event(struct writer *w, struct json_value event)
{
	char *text = NULL, level[16];
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);
	if (!to)
		return;
	ctl_event_print(event, false, to);
	fclose(to);
	if (n && text[n - 1] == '\n')
		text[n - 1] = '\0';
	const char *clock = text ? strchr(text, 'T') : NULL;
	ctl_text(event, "level", level, sizeof(level));
	bool bad = strcmp(level, "warn") == 0 || strcmp(level, "error") == 0;
	if (text)
		put_line(w, NULL, clock ? clock + 1 : text, bad ? GRID_YELLOW : 0);
	free(text);
}

static void put_events(struct writer *w)
{
	struct json_value root, event;
	if (json_parse(buf_slice(&w->t->opened_log), JSON_MAX_DEPTH, &root, NULL))
		return;
	struct json_iter it = json_iter(json_get(root, "events"));
	while (json_array_next(&it, &event) && w->line < LINES_MOST)
		if (is_about(w->t, event))
			put_event(w, event);
}

void top_open_draw(struct top *t)
{
	struct grid *g = &t->grid;
	struct json_value row;
	char title[128];
	bool found;
	row_of(t, &found);
	snprintf(title, sizeof(title), "%s %s%s",
		t->focus == TOP_REQUESTS ? "request" : "conversation", t->opened_id,
		found ? "" : ": over");
	for (int again = 0; again < 2; again++) { /* scrolled too far: once more, up to the end */
		struct writer w = {.t = t};
		size_t shown = g->rows > 2 ? g->rows - 2 : 0;
		grid_begin(g, g->rows, g->columns);
		if (json_parse(buf_slice(&t->opened_row), JSON_MAX_DEPTH, &row, NULL) == 0)
			put_members(&w, row);
		put_line(&w, NULL, "", 0);
		put_events(&w);
		size_t last = w.line > shown ? w.line - shown : 0;
		if (t->opened_first <= last)
			break;
		t->opened_first = last;
	}
	grid_put(g, 0, 0, g->columns, GRID_BOLD, title);
	if (g->rows > 1)
		grid_put(g, g->rows - 1, 0, g->columns, GRID_DIM,
			"Esc back   arrows, PgUp, PgDn scroll   q quit");
}

/* --- help --- */

void top_help_draw(struct top *t)
{
	static const char *const lines[] = {"keys", "", "q          quit",
		"arrows     the row above, below (also k, j)", "PgUp PgDn  a page",
		"Home End   the first row, the last", "Tab        requests, conversations",
		"Enter      open the row: all that is told of it, and its steps", "Esc        back",
		"s          sort by something else", "?          this help", "",
		"BUSY is slots in use of all; READ/S and WRITE/S are learned tokens a second.",
		"WARM is what of a conversation the device has in its cache.",
		"TOK/S is what an answer got in the last second."};
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		grid_put(&t->grid, i, 0, t->grid.columns, i ? 0 : GRID_BOLD, lines[i]);
}
