/* top: what a person wants at a glance, once a second, until q is pressed or it is interrupted. */
#include "supervisor/ctl/top.h"

#include "supervisor/ctl/screen.h"

#include <time.h>
#include <unistd.h>

#define PERIOD_MS 1000
#define PAGE 10
#define PRINTED_COLUMNS 160 /* where no terminal says how many */

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- keys --- */

/* By so many rows; at an end of a list the other one goes on. */
static void move(struct top *t, long by)
{
	if (t->opened) {
		long to = (long)t->opened_first + by;
		t->opened_first = to > 0 ? (size_t)to : 0;
		return;
	}
	enum top_focus f = t->focus;
	long to = (long)t->index[f] + by, last = (long)t->count[f] - 1;
	if (to > last && by == 1 && f == TOP_REQUESTS && t->count[TOP_SESSIONS]) {
		t->focus = TOP_SESSIONS;
		return;
	}
	if (to < 0 && by == -1 && f == TOP_SESSIONS && t->count[TOP_REQUESTS]) {
		t->focus = TOP_REQUESTS;
		return;
	}
	to = to > last ? last : to;
	t->index[f] = to > 0 ? (size_t)to : 0;
	snprintf(t->at[f], TOP_ID_BYTES, "%s", top_id(t, f, t->index[f]));
}

static void go_back(struct top *t)
{
	if (t->help)
		t->help = false;
	else
		t->opened = false;
}

/* False: it is the end. */
static bool press(struct top *t, int key)
{
	switch (key) {
	case KEY_END_OF_INPUT:
	case 'q':
	case 'Q':
		return false;
	case KEY_UP:
	case 'k':
		move(t, -1);
		break;
	case KEY_DOWN:
	case 'j':
		move(t, 1);
		break;
	case KEY_PAGE_UP:
		move(t, -PAGE);
		break;
	case KEY_PAGE_DOWN:
		move(t, PAGE);
		break;
	case KEY_HOME:
		move(t, -(long)CTL_ANSWER_BYTES);
		break;
	case KEY_LAST:
		move(t, CTL_ANSWER_BYTES);
		break;
	case '\t':
		if (!t->opened)
			t->focus = (t->focus + 1) % TOP_FOCUSES;
		break;
	case KEY_ENTER:
		if (!t->opened && !t->help)
			top_open(t);
		break;
	case KEY_ESCAPE:
		go_back(t);
		break;
	case 's':
		if (!t->opened)
			top_sort_next(t, t->focus);
		break;
	case '?':
		t->help = !t->help;
		break;
	default:
		break;
	}
	return true;
}

/* --- the loop --- */

static void draw(struct top *t)
{
	struct screen s = screen_size();
	top_draw(t, s.rows, s.columns);
	grid_draw(&t->grid, t->colour, stdout);
}

/* Keys until the next look is due. False: somebody has had enough. */
static bool until_next_look(struct top *t, int64_t due)
{
	for (int64_t left; (left = due - now_ms()) > 0;) {
		int key = screen_wait((int)left);
		if (key == KEY_NONE)
			return true;
		if (key == KEY_RESIZED)
			grid_forget(&t->grid);
		else if (!press(t, key))
			return false;
		draw(t);
	}
	return true;
}

/* Draws until somebody has had enough, or tandemd no longer answers. */
static enum ctl_exit watch(struct top *t, struct buf *err)
{
	enum ctl_exit rc;
	t->colour = ctl_colour(stdout);
	top_listen(t);
	top_notes_kept(t);
	screen_begin();
	do {
		rc = top_look(t, err);
		if (rc != CTL_OK)
			break;
		top_notes_new(t);
		if (t->opened)
			top_open_look(t);
		if (t->count[TOP_REQUESTS] == 0 && !t->opened)
			t->focus = TOP_SESSIONS;
		draw(t);
	} while (until_next_look(t, now_ms() + PERIOD_MS));
	screen_end();
	return rc;
}

static enum ctl_exit print(struct top *t, struct buf *err)
{
	enum ctl_exit rc = top_look(t, err);
	if (rc != CTL_OK)
		return rc;
	top_notes_kept(t);
	top_draw(t, 0, isatty(STDOUT_FILENO) ? screen_size().columns : PRINTED_COLUMNS);
	grid_print(&t->grid, stdout);
	return CTL_OK;
}

enum ctl_exit ctl_top(struct ctl *ctl)
{
	static struct top t; /* large */
	struct buf err;
	t.ctl = ctl;
	buf_init(&err, 0);
	enum ctl_exit rc = top_data_begin(&t);
	ctl->once = ctl->once || !isatty(STDOUT_FILENO);
	if (rc != CTL_OK)
		buf_printf(&err, "out of memory");
	else
		rc = ctl->once ? print(&t, &err) : watch(&t, &err);
	if (err.n)
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
	top_data_end(&t);
	buf_free(&err);
	return rc;
}
