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
			printf("%-20.*s %.*s\n", (int)key.raw.n - 2, key.raw.p + 1,
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

static void print_histograms(struct json_value root)
{
	static const char *const titles[] = {
		"TIME", "OF", "COUNT", "MEAN MS", "P50", "P90", "P99", "MAX"};
	struct json_iter kinds = json_iter(root);
	struct json_value kind, of, key, h;
	struct ctl_table table;
	char(*row)[CTL_CELL_BYTES];

	ctl_table_init(&table, sizeof(titles) / sizeof(*titles), titles);
	while (json_object_next(&kinds, &kind, &of)) {
		struct json_iter it = json_iter(of);
		while (json_object_next(&it, &key, &h) && (row = ctl_table_row(&table))) {
			double count = ctl_real(h, "count");
			snprintf(row[0], CTL_CELL_BYTES, "%.*s", (int)kind.raw.n - 2,
				kind.raw.p + 1);
			snprintf(row[1], CTL_CELL_BYTES, "%.*s", (int)key.raw.n - 2, key.raw.p + 1);
			snprintf(row[2], CTL_CELL_BYTES, "%.0f", count);
			snprintf(row[3], CTL_CELL_BYTES, "%.0f",
				count > 0 ? ctl_real(h, "sum_ms") / count : 0);
			snprintf(row[4], CTL_CELL_BYTES, "%.0f", ctl_real(h, "p50_ms"));
			snprintf(row[5], CTL_CELL_BYTES, "%.0f", ctl_real(h, "p90_ms"));
			snprintf(row[6], CTL_CELL_BYTES, "%.0f", ctl_real(h, "p99_ms"));
			snprintf(row[7], CTL_CELL_BYTES, "%.0f", ctl_real(h, "max_ms"));
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
