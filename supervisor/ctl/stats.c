/* stats: the counters, and the histograms as a line of percentiles each. */
#include "supervisor/ctl/ctl.h"

static void print_counters(struct json_value root)
{
	static const char *const titles[] = {"DEVICE", "JOBS DONE", "FAILED", "STARTS", "RESTARTS",
		"HEARTBEATS", "BYTES IN", "BYTES OUT"};
	static const char *const members[] = {"device", "jobs_done", "jobs_failed", "starts",
		"restarts", "heartbeats", "bytes_in", "bytes_out"};
	const size_t columns = sizeof(titles) / sizeof(*titles);
	struct json_iter it = json_iter(root);
	struct json_value key, value, device;
	struct ctl_table table;
	char(*row)[CTL_CELL_BYTES];

	while (json_object_next(&it, &key, &value))
		if (json_is(value, JSON_NUMBER))
			printf("%-22.*s %.*s\n", (int)key.raw.n - 2, key.raw.p + 1,
				(int)value.raw.n, value.raw.p);
	putchar('\n');
	ctl_table_init(&table, columns, titles);
	it = json_iter(json_get(root, "devices"));
	while (json_array_next(&it, &device) && (row = ctl_table_row(&table))) {
		for (size_t c = 0; c < columns; c++)
			ctl_text(device, members[c], row[c], CTL_CELL_BYTES);
		for (size_t c = columns - 2; c < columns; c++)
			ctl_bytes(ctl_real(device, members[c]), row[c], CTL_CELL_BYTES);
	}
	ctl_table_print(&table, stdout);
}

/* A histogram's member in the unit that it has: milliseconds, which the title says, or percent. */
static double member(struct json_value h, const char *name, bool percent)
{
	char text[32];
	snprintf(text, sizeof(text), "%s_%s", name, percent ? "percent" : "ms");
	return ctl_real(h, text);
}

static void print_histograms(struct json_value root)
{
	static const char *const titles[] = {
		"TIME", "OF", "COUNT", "MEAN MS", "P50", "P90", "P99", "MAX"};
	static const char *const members[] = {"sum", "p50", "p90", "p99", "max"};
	const size_t first = 3; /* column of these */
	struct json_iter kinds = json_iter(root);
	struct json_value kind, of, key, h;
	struct ctl_table table;
	char(*row)[CTL_CELL_BYTES];

	ctl_table_init(&table, sizeof(titles) / sizeof(*titles), titles);
	while (json_object_next(&kinds, &kind, &of)) {
		struct json_iter it = json_iter(of);
		while (json_object_next(&it, &key, &h) && (row = ctl_table_row(&table))) {
			double count = ctl_real(h, "count");
			bool percent = json_is(json_get(h, "sum_percent"), JSON_NUMBER);
			snprintf(row[0], CTL_CELL_BYTES, "%.*s", (int)kind.raw.n - 2,
				kind.raw.p + 1);
			snprintf(row[1], CTL_CELL_BYTES, "%.*s", (int)key.raw.n - 2, key.raw.p + 1);
			snprintf(row[2], CTL_CELL_BYTES, "%.0f", count);
			for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
				double of_all = i == 0 && count > 0 ? count : 1; /* a sum's mean */
				snprintf(row[first + i], CTL_CELL_BYTES, "%.0f%s",
					member(h, members[i], percent) / of_all,
					percent ? "%" : "");
			}
		}
	}
	ctl_table_print(&table, stdout);
}

enum ctl_exit ctl_stats(struct ctl *ctl)
{
	struct buf answers[2], err;
	struct json_value counters, histograms;

	buf_init(&answers[0], CTL_ANSWER_BYTES);
	buf_init(&answers[1], CTL_ANSWER_BYTES);
	buf_init(&err, 0);
	enum ctl_exit rc =
		ctl_ask(ctl->run_dir, "counters", CTL_TIMEOUT_MS, &answers[0], &counters, &err);
	if (rc == CTL_OK)
		rc = ctl_ask(
			ctl->run_dir, "histograms", CTL_TIMEOUT_MS, &answers[1], &histograms, &err);
	if (rc != CTL_OK) {
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
	} else if (ctl->json) {
		printf("{\"counters\":%.*s,\"histograms\":%.*s}\n", (int)counters.raw.n,
			counters.raw.p, (int)histograms.raw.n, histograms.raw.p);
	} else {
		print_counters(counters);
		putchar('\n');
		print_histograms(histograms);
	}
	buf_free(&answers[0]);
	buf_free(&answers[1]);
	buf_free(&err);
	return rc;
}
