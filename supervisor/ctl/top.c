/* top: status, GPUs and jobs, once a second, until q is pressed or it is interrupted. */
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/screen.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_MS 1000
#define JOBS_SHOWN 20

/* One document and the bytes it stands in. */
struct document {
	struct buf bytes;
	struct json_value root;
};

enum { STATUS, COUNTERS, DEVICES, JOBS, DOCUMENTS };
static const char *const requests[DOCUMENTS] = {"status", "counters", "devices", "jobs"};

/* Sums of the last look, for rates. */
struct before {
	bool known;
	double at_s, requests, passed;
};

static double clock_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void print_devices(struct json_value status, FILE *to)
{
	static const char *const titles[] = {"DEVICE", "STATE", "BUSY", "WAITING", "DONE", "FAILED",
		"RESTARTS", "IDLE WORK", "WARMED", "NOTES", "KEPT", "READ TOK/S", "WRITE TOK/S",
		"MODEL"};
	struct json_iter it = json_iter(json_get(status, "devices"));
	struct json_value device;
	struct ctl_table table;
	char(*row)[CTL_CELL_BYTES];

	ctl_table_init(&table, sizeof(titles) / sizeof(*titles), titles);
	while (json_array_next(&it, &device) && (row = ctl_table_row(&table))) {
		struct json_value jobs = json_get(device, "jobs");
		ctl_text(device, "name", row[0], CTL_CELL_BYTES);
		ctl_text(device, "state", row[1], CTL_CELL_BYTES);
		snprintf(row[2], CTL_CELL_BYTES, "%lld/%lld",
			(long long)ctl_int(device, "inflight"),
			(long long)ctl_int(device, "slots"));
		ctl_text(device, "waiting", row[3], CTL_CELL_BYTES);
		ctl_text(jobs, "done", row[4], CTL_CELL_BYTES);
		ctl_text(jobs, "failed", row[5], CTL_CELL_BYTES);
		ctl_text(device, "restarts", row[6], CTL_CELL_BYTES);
		struct json_value warming = json_get(device, "warming");
		struct json_value notes = json_get(device, "notes");
		snprintf(row[7], CTL_CELL_BYTES, "%s",
			ctl_int(warming, "running") > 0 ? "warming"
			: ctl_int(notes, "running") > 0 ? "notes"
							: "-");
		ctl_text(warming, "done", row[8], CTL_CELL_BYTES);
		ctl_text(notes, "done", row[9], CTL_CELL_BYTES);
		ctl_text(json_get(device, "kept"), "conversations", row[10], CTL_CELL_BYTES);
		snprintf(row[11], CTL_CELL_BYTES, "%.0f", ctl_real(device, "prefill_tok_s"));
		snprintf(row[12], CTL_CELL_BYTES, "%.0f", ctl_real(device, "decode_tok_s"));
		ctl_text(json_get(device, "backend"), "model", row[13], CTL_CELL_BYTES);
	}
	ctl_table_print(&table, to);
}

static void print_rates(struct json_value counters, struct before *before, FILE *to)
{
	struct before now = {
		true, clock_s(), ctl_real(counters, "requests"), ctl_real(counters, "passed")};
	double s = now.at_s - before->at_s;
	if (before->known && s > 0)
		fprintf(to, "rates: %.1f chats/s, %.1f others/s\n",
			(now.requests - before->requests) / s, (now.passed - before->passed) / s);
	*before = now;
}

static void print_screen(const struct document *d, struct before *before, FILE *to)
{
	ctl_print_status_head(d[STATUS].root, to);
	ctl_print_requests(d[STATUS].root, to);
	print_rates(d[COUNTERS].root, before, to);
	fputc('\n', to);
	print_devices(d[STATUS].root, to);
	fputc('\n', to);
	ctl_print_list("devices", d[DEVICES].root, SIZE_MAX - 1, to);
	fputc('\n', to);
	ctl_print_list("jobs", d[JOBS].root, JOBS_SHOWN, to);
}

/* Over what stands there, line by line, so that nothing flickers; what the screen has no room for
 * is left out. */
static void refresh(const char *text, size_t n)
{
	struct screen screen = screen_size();
	size_t row = 1;
	fputs("\033[H", stdout);
	while (n && row <= screen.rows) {
		const char *end = memchr(text, '\n', n);
		size_t length = end ? (size_t)(end - text) : n, used = end ? length + 1 : n;
		size_t shown = screen_fit((struct slice){text, length}, screen.columns);
		printf("\033[K%.*s", (int)shown, text);
		text += used;
		n -= used;
		if (n && row < screen.rows)
			putchar('\n'); /* after the last row it would scroll */
		row++;
	}
	if (row <= screen.rows)
		fputs("\033[J", stdout);
	fflush(stdout);
}

static enum ctl_exit look(struct ctl *ctl, struct document *d, struct buf *err)
{
	enum ctl_exit rc = CTL_OK;
	for (size_t i = 0; i < DOCUMENTS && rc == CTL_OK; i++)
		rc = ctl_ask(
			ctl->run_dir, requests[i], CTL_TIMEOUT_MS, &d[i].bytes, &d[i].root, err);
	return rc;
}

/* Draws until somebody has had enough, or tandemd no longer answers. */
static enum ctl_exit watch(
	struct ctl *ctl, struct document *d, struct before *before, struct buf *err)
{
	enum ctl_exit rc;
	screen_begin();
	do {
		char *text = NULL;
		size_t n = 0;
		FILE *to;
		rc = look(ctl, d, err);
		if (rc != CTL_OK || !(to = open_memstream(&text, &n)))
			break;
		print_screen(d, before, to);
		fclose(to);
		refresh(text, n);
		free(text);
	} while (screen_wait(PERIOD_MS));
	screen_end();
	return rc;
}

enum ctl_exit ctl_top(struct ctl *ctl)
{
	struct document d[DOCUMENTS];
	struct before before = {0};
	struct buf err;
	enum ctl_exit rc;

	buf_init(&err, 0);
	for (size_t i = 0; i < DOCUMENTS; i++)
		buf_init(&d[i].bytes, CTL_ANSWER_BYTES);
	if (!ctl->once && isatty(STDOUT_FILENO)) {
		rc = watch(ctl, d, &before, &err);
	} else {
		rc = look(ctl, d, &err);
		if (rc == CTL_OK)
			print_screen(d, &before, stdout);
	}
	if (rc != CTL_OK)
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
	for (size_t i = 0; i < DOCUMENTS; i++)
		buf_free(&d[i].bytes);
	buf_free(&err);
	return rc;
}
