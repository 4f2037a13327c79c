/*
 * The screen of top: devices, requests under way, conversations, and what went wrong last, in as
 * many rows and columns as there are. 80 x 24 holds all of them; what is wider shows more columns.
 */
#include "supervisor/ctl/top.h"

#define BAR 12 /* columns of a bar */
#define NOTES_SHOWN 4
#define NOTES_FROM 16 /* rows of a screen with notes */
#define CELL 160

struct column {
	const char *title;
	size_t width; /* 0: what is left of the line */
	size_t from;  /* columns of a screen that shows it */
	bool right;
};

/* One row's texts, and how each looks. */
struct cells {
	char text[16][CELL];
	unsigned look[16];
};

/* --- a line of columns --- */

static void put_cell(struct grid *g, size_t row, size_t at, size_t width, bool right, unsigned look,
	const char *text)
{
	size_t n = grid_width(text);
	size_t pad = right && n < width ? width - n : 0;
	grid_put(g, row, at, width, look, "");
	grid_put(g, row, at + pad, width - pad, look, text);
}

static void put_line(struct grid *g, size_t row, const struct column *columns, size_t n,
	const struct cells *cells, unsigned look)
{
	size_t at = 0;
	for (size_t i = 0; i < n && at < g->columns; i++) {
		const struct column *c = &columns[i];
		size_t width = c->width ? c->width : g->columns - at;
		if (c->from > g->columns)
			continue;
		put_cell(g, row, at, width, c->right, look | cells->look[i], cells->text[i]);
		at += width + 1;
	}
}

static void put_titles(struct grid *g, size_t row, const struct column *columns, size_t n)
{
	struct cells titles = {0};
	for (size_t i = 0; i < n; i++)
		snprintf(titles.text[i], CELL, "%s", columns[i].title);
	put_line(g, row, columns, n, &titles, GRID_BOLD);
}

/* --- what stands in cells --- */

/* "[####......]": the share of it. */
static void put_bar(char *to, double part, double whole)
{
	int inner = BAR - 2, n = whole > 0 && part > 0 ? (int)(part / whole * inner + 0.5) : 0;
	n = n > inner ? inner : n;
	to[0] = '[';
	for (int i = 0; i < inner; i++)
		to[1 + i] = i < n ? '#' : '.';
	to[BAR - 1] = ']';
	to[BAR] = '\0';
}

static unsigned look_of_state(const char *state)
{
	static const char *const good[] = {"ready", "writing", "reading", NULL};
	static const char *const bad[] = {"failed", "back-off", "cancelled", "down", NULL};
	for (size_t i = 0; good[i]; i++)
		if (strcmp(state, good[i]) == 0)
			return GRID_GREEN;
	for (size_t i = 0; bad[i]; i++)
		if (strcmp(state, bad[i]) == 0)
			return GRID_RED;
	return GRID_YELLOW;
}

/* --- devices --- */

static const struct column device_columns[] = {{"DEVICE", 10, 0, false}, {"STATE", 9, 0, false},
	{"BUSY", 6, 0, true}, {"WAIT", 4, 0, true}, {"READ/S", 7, 0, true}, {"WRITE/S", 7, 0, true},
	{"IDLE WORK", 9, 100, false}, {"RESTARTS", 8, 110, true}, {"KEPT", 13, 120, false},
	{"MODEL", 0, 0, false}};
#define DEVICE_COLUMNS (sizeof(device_columns) / sizeof(*device_columns))

static void fill_device(const struct top_device *d, struct cells *c)
{
	bool ready = strcmp(d->state, "ready") == 0;
	snprintf(c->text[0], CELL, "%s", d->name);
	snprintf(c->text[1], CELL, "%s", d->state);
	c->look[1] = look_of_state(d->state);
	snprintf(c->text[2], CELL, "%ld/%ld", d->inflight, d->slots);
	snprintf(c->text[3], CELL, "%ld", d->waiting);
	ctl_rate(d->read, c->text[4], CELL);
	ctl_rate(d->write, c->text[5], CELL);
	snprintf(c->text[6], CELL, "%s", d->warming ? "warming" : d->noting ? "notes" : "-");
	snprintf(c->text[7], CELL, "%ld", d->restarts);
	snprintf(c->text[8], CELL, "%s", d->kept);
	if (ready || strcmp(d->why, "-") == 0)
		snprintf(c->text[9], CELL, "%.150s", d->model);
	else
		snprintf(c->text[9], CELL, "%.150s", d->why);
}

static size_t draw_devices(struct top *t, size_t row, size_t most)
{
	put_titles(&t->grid, row++, device_columns, DEVICE_COLUMNS);
	for (size_t i = 0; i < t->devices && i < most; i++) {
		struct cells c = {0};
		fill_device(&t->device[i], &c);
		put_line(&t->grid, row++, device_columns, DEVICE_COLUMNS, &c, 0);
	}
	return row;
}

/* --- requests and conversations --- */

static const struct column request_columns[] = {{"REQUEST", 13, 0, false}, {"DOES", 10, 0, false},
	{"ON", 8, 0, false}, {"AGE", 6, 0, true}, {"PROMPT", 7, 0, true}, {"TOKENS", 6, 0, true},
	{"TOK/S", 6, 0, true}, {"READ", BAR, 120, false}, {"KIND", 6, 100, false},
	{"CLASS", 0, 0, false}};
static const struct column session_columns[] = {{"SESSION", 8, 0, false}, {"TURNS", 5, 0, true},
	{"IDLE", 6, 0, true}, {"TOKENS", 7, 0, true}, {"WARM", BAR, 0, false}, {"ON", 8, 0, false},
	{"BREAKS", 6, 0, true}, {"MENDED", 6, 110, true}, {"LAST", 10, 110, false},
	{"MODEL", 24, 120, false}, {"CLIENT", 0, 0, false}};
#define REQUEST_COLUMNS (sizeof(request_columns) / sizeof(*request_columns))
#define SESSION_COLUMNS (sizeof(session_columns) / sizeof(*session_columns))

static void fill_request(const struct top_request *r, struct cells *c)
{
	bool reads = strcmp(r->state, "reading") == 0;
	snprintf(c->text[0], CELL, "%s", r->id);
	snprintf(c->text[1], CELL, "%s", r->state);
	c->look[1] = look_of_state(r->state);
	snprintf(c->text[2], CELL, "%s", r->device);
	ctl_age(r->age_ms, c->text[3], CELL);
	ctl_count(r->prompt, c->text[4], CELL);
	ctl_count(r->tokens, c->text[5], CELL);
	ctl_rate(r->rate, c->text[6], CELL);
	if (reads && r->predicted_ms > 0)
		put_bar(c->text[7], r->running_ms, r->predicted_ms);
	else
		snprintf(c->text[7], CELL, "-");
	snprintf(c->text[8], CELL, "%s", r->kind);
	snprintf(c->text[9], CELL, "%s", r->class);
}

static void fill_session(const struct top_session *s, struct cells *c)
{
	snprintf(c->text[0], CELL, "%s", s->id);
	ctl_count(s->turns, c->text[1], CELL);
	ctl_age(s->idle_ms, c->text[2], CELL);
	ctl_count(s->tokens, c->text[3], CELL);
	if (s->tokens > 0) {
		put_bar(c->text[4], s->warm, s->tokens);
		c->look[4] = s->warm > s->tokens / 2 ? GRID_GREEN : GRID_YELLOW;
	} else {
		snprintf(c->text[4], CELL, "-");
	}
	snprintf(c->text[5], CELL, "%s", s->device);
	ctl_count(s->breaks, c->text[6], CELL);
	c->look[6] = s->breaks > 0 ? GRID_RED : 0;
	ctl_count(s->repairs, c->text[7], CELL);
	snprintf(c->text[8], CELL, "%s", s->last);
	snprintf(c->text[9], CELL, "%s", s->model);
	snprintf(c->text[10], CELL, "%s", s->client);
}

/* The mark stays on its row wherever that goes, and stays in sight. */
static void follow_mark(struct top *t, enum top_focus f, size_t shown)
{
	size_t n = t->count[f];
	for (size_t i = 0; t->at[f][0] && i < n; i++)
		if (strcmp(top_id(t, f, i), t->at[f]) == 0)
			t->index[f] = i;
	if (t->index[f] >= n)
		t->index[f] = n ? n - 1 : 0;
	snprintf(t->at[f], TOP_ID_BYTES, "%s", top_id(t, f, t->index[f]));
	if (t->index[f] < t->first[f])
		t->first[f] = t->index[f];
	if (shown && t->index[f] >= t->first[f] + shown)
		t->first[f] = t->index[f] - shown + 1;
	if (t->first[f] + shown > n)
		t->first[f] = n > shown ? n - shown : 0;
}

static size_t draw_list(struct top *t, enum top_focus f, size_t row, size_t shown)
{
	const struct column *columns = f == TOP_REQUESTS ? request_columns : session_columns;
	size_t count = f == TOP_REQUESTS ? REQUEST_COLUMNS : SESSION_COLUMNS;
	char title[CELL];
	follow_mark(t, f, shown);
	snprintf(title, sizeof(title), "%s: %zu, by %s%s",
		f == TOP_REQUESTS ? "under way" : "conversations", t->count[f], top_sort_name(t, f),
		t->count[f] > shown ? ", more with the arrows" : "");
	grid_put(&t->grid, row++, 0, t->grid.columns, GRID_DIM, title);
	put_titles(&t->grid, row++, columns, count);
	for (size_t i = t->first[f]; i < t->count[f] && i < t->first[f] + shown; i++) {
		struct cells c = {0};
		bool marked = !t->ctl->once && t->focus == f && i == t->index[f];
		if (f == TOP_REQUESTS)
			fill_request(&t->request[i], &c);
		else
			fill_session(&t->session[i], &c);
		put_line(&t->grid, row, columns, count, &c, 0);
		if (marked)
			grid_look(&t->grid, row, 0, t->grid.columns, GRID_REVERSE);
		row++;
	}
	return row;
}

/* --- notes --- */

/* The last rows above `end`. */
static void draw_notes(struct top *t, size_t end, size_t most)
{
	char line[CELL * 2];
	size_t n = t->notes < most ? t->notes : most, row = end - n - 1;
	grid_put(&t->grid, row++, 0, t->grid.columns, GRID_DIM,
		n ? "last breaks and fallbacks" : "no breaks and no fallbacks yet");
	for (size_t i = t->notes - n; i < t->notes; i++) {
		const struct top_note *note = &t->note[i];
		snprintf(line, sizeof(line), "%s %s", note->time, note->text);
		grid_put(&t->grid, row++, 0, t->grid.columns, note->bad ? GRID_YELLOW : 0, line);
	}
}

/* --- the whole --- */

/* Rows of each part. */
struct parts {
	size_t devices, lists[TOP_FOCUSES], notes, all;
	bool has_notes;
};

#define FIXED_ROWS 4 /* two lines of sums, the titles of devices, the last line */
#define LIST_HEADS 2

static struct parts whole_parts(const struct top *t)
{
	struct parts p = {.devices = t->devices,
		.lists = {t->count[TOP_REQUESTS], t->count[TOP_SESSIONS]},
		.notes = t->notes < TOP_NOTES_MAX ? t->notes : TOP_NOTES_MAX,
		.has_notes = true};
	p.all = FIXED_ROWS - 1 + (t->gpus[0] != '\0') + p.devices + 2 * LIST_HEADS + p.lists[0] +
		p.lists[1] + 1 + p.notes;
	return p;
}

/* Both lists get what they need, as far as that is there: half of the rest each, and what the other
 * one leaves. */
static struct parts fit_parts(const struct top *t, size_t rows)
{
	struct parts p = {.all = rows, .has_notes = rows >= NOTES_FROM};
	size_t used = FIXED_ROWS + (t->gpus[0] != '\0') + 2 * LIST_HEADS;
	p.notes = p.has_notes ? (rows >= 40 ? 2 * NOTES_SHOWN : NOTES_SHOWN) : 0;
	used += p.notes + p.has_notes;
	size_t most = rows / 4 > 1 ? rows / 4 : 1;
	p.devices = t->devices < most ? t->devices : most;
	used += p.devices;
	size_t left = rows > used ? rows - used : 0, half = left / 2;
	size_t a = t->count[TOP_REQUESTS], b = t->count[TOP_SESSIONS];
	p.lists[TOP_REQUESTS] = a <= half ? a : b < left - half ? left - b : half;
	if (p.lists[TOP_REQUESTS] > a)
		p.lists[TOP_REQUESTS] = a;
	p.lists[TOP_SESSIONS] = left - p.lists[TOP_REQUESTS];
	return p;
}

static void draw_parts(struct top *t, const struct parts *p)
{
	struct grid *g = &t->grid;
	size_t row = 0;
	grid_put(g, row++, 0, g->columns, GRID_BOLD, t->head);
	grid_put(g, row++, 0, g->columns, 0, t->sums);
	if (t->gpus[0])
		grid_put(g, row++, 0, g->columns, 0, t->gpus);
	row = draw_devices(t, row, p->devices);
	row = draw_list(t, TOP_REQUESTS, row, p->lists[TOP_REQUESTS]);
	draw_list(t, TOP_SESSIONS, row, p->lists[TOP_SESSIONS]);
	if (p->has_notes)
		draw_notes(t, g->rows - !t->ctl->once, p->notes);
	if (!t->ctl->once && g->rows > FIXED_ROWS)
		grid_put(g, g->rows - 1, 0, g->columns, GRID_DIM,
			"q quit   arrows, Tab move   Enter open   s sort   ? help");
}

void top_draw(struct top *t, size_t rows, size_t columns)
{
	struct parts p = rows ? fit_parts(t, rows) : whole_parts(t);
	grid_begin(&t->grid, p.all, columns);
	if (!t->grid.now || !t->grid.rows)
		return;
	if (t->help)
		top_help_draw(t);
	else if (t->opened)
		top_open_draw(t);
	else
		draw_parts(t, &p);
}
