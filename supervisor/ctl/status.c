#include "supervisor/ctl/ctl.h"

#include "common/config.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS 10
#define CELL_BYTES 80

struct table {
	char cell[CONFIG_DEVICES_MAX + 1][COLUMNS][CELL_BYTES];
	size_t rows;
};

static const char *const titles[COLUMNS] = {"DEVICE", "ROLES", "STATE", "PID", "BACKEND", "MODEL",
	"INFLIGHT", "DONE", "FAILED", "RESTARTS"};

static void format_uptime(double s, char *out, size_t size)
{
	long all = s > 0 && s < 1e12 ? (long)s : 0;
	long days = all / 86400, hours = all / 3600 % 24, minutes = all / 60 % 60;
	if (days)
		snprintf(out, size, "%ldd%02ldh", days, hours);
	else if (hours)
		snprintf(out, size, "%ldh%02ldm", hours, minutes);
	else if (minutes)
		snprintf(out, size, "%ldm%02lds", minutes, all % 60);
	else
		snprintf(out, size, "%lds", all);
}

static void add_device(struct table *t, struct json_value device)
{
	struct json_value backend = json_get(device, "backend"), role;
	struct json_value jobs = json_get(device, "jobs");
	struct json_iter roles = json_iter(json_get(device, "roles"));
	char(*row)[CELL_BYTES] = t->cell[t->rows++];
	char type[24], url[CELL_BYTES - 25];
	struct buf names;

	ctl_text(device, "name", row[0], CELL_BYTES);
	buf_init(&names, CELL_BYTES);
	while (json_array_next(&roles, &role)) {
		if (names.n)
			buf_add_char(&names, '+');
		json_string_decode(role, &names);
	}
	snprintf(row[1], CELL_BYTES, "%.*s", (int)names.n, names.n ? names.p : "");
	buf_free(&names);
	ctl_text(device, "state", row[2], CELL_BYTES);
	ctl_text(device, "pid", row[3], CELL_BYTES);
	ctl_text(backend, "type", type, sizeof(type));
	ctl_text(backend, "url", url, sizeof(url));
	snprintf(row[4], CELL_BYTES, "%s %s", type, url);
	ctl_text(backend, "model", row[5], CELL_BYTES);
	snprintf(row[6], CELL_BYTES, "%" PRId64, ctl_int(device, "inflight"));
	snprintf(row[7], CELL_BYTES, "%" PRId64, ctl_int(jobs, "done"));
	snprintf(row[8], CELL_BYTES, "%" PRId64, ctl_int(jobs, "failed"));
	snprintf(row[9], CELL_BYTES, "%" PRId64, ctl_int(device, "restarts"));
}

static void print_table(const struct table *t)
{
	size_t width[COLUMNS] = {0};
	for (size_t r = 0; r < t->rows; r++)
		for (size_t c = 0; c < COLUMNS; c++)
			if (strlen(t->cell[r][c]) > width[c])
				width[c] = strlen(t->cell[r][c]);
	width[COLUMNS - 1] = 0; /* nothing to align behind the last one */
	for (size_t r = 0; r < t->rows; r++)
		for (size_t c = 0; c < COLUMNS; c++)
			printf("%-*s%s", (int)width[c], t->cell[r][c],
				c + 1 < COLUMNS ? "  " : "\n");
}

/* What is not ready says why, on a line of its own. */
static void print_troubles(struct json_value devices)
{
	struct json_iter it = json_iter(devices);
	struct json_value device;
	while (json_array_next(&it, &device)) {
		char name[CELL_BYTES], state[24], why[512];
		ctl_text(device, "name", name, sizeof(name));
		ctl_text(device, "state", state, sizeof(state));
		ctl_text(json_get(device, "backend"), "detail", why, sizeof(why));
		if (strcmp(why, "-") == 0)
			ctl_text(device, "last_exit", why, sizeof(why));
		if (strcmp(state, "ready") != 0 && strcmp(why, "-") != 0)
			printf("%s is %s: %s\n", name, state, why);
	}
}

void ctl_print_status(struct json_value status)
{
	struct json_value devices = json_get(status, "devices"), device;
	struct json_value requests = json_get(status, "requests");
	struct json_value by = json_get(requests, "by_strategy");
	struct json_iter it = json_iter(devices);
	struct table table = {.rows = 1};
	char version[32], listen[80], uptime[32];
	double uptime_s = 0;

	ctl_text(status, "version", version, sizeof(version));
	ctl_text(status, "listen", listen, sizeof(listen));
	json_to_double(json_get(status, "uptime_s"), &uptime_s);
	format_uptime(uptime_s, uptime, sizeof(uptime));
	printf("tandemd %s, pid %" PRId64 ", up %s, listening on %s\n\n", version,
		ctl_int(status, "pid"), uptime, listen);

	for (size_t c = 0; c < COLUMNS; c++)
		snprintf(table.cell[0][c], CELL_BYTES, "%s", titles[c]);
	while (table.rows <= CONFIG_DEVICES_MAX && json_array_next(&it, &device))
		add_device(&table, device);
	print_table(&table);
	print_troubles(devices);

	printf("\nrequests: %" PRId64 " active, %" PRId64 " waiting, %" PRId64 " total"
	       " (A %" PRId64 ", B %" PRId64 ", C %" PRId64 "), %" PRId64 " fallbacks, %" PRId64
	       " failed, %" PRId64 " cancelled\n",
		ctl_int(requests, "active"), ctl_int(json_get(status, "queue"), "waiting"),
		ctl_int(requests, "total"), ctl_int(by, "A"), ctl_int(by, "B"), ctl_int(by, "C"),
		ctl_int(requests, "fallbacks"), ctl_int(requests, "failed"),
		ctl_int(requests, "cancelled"));
}

enum ctl_exit ctl_status(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"rundir", required_argument, NULL, 'R'},
		{0},
	};
	struct buf answer, err;
	struct json_value root;
	int c;

	while ((c = getopt_long(argc, argv, "R:", options, NULL)) != -1) {
		if (c == '?')
			return CTL_USAGE;
		if (c == 'R')
			ctl->run_dir = optarg;
		else
			ctl->json = true;
	}
	if (optind < argc)
		return ctl_usage("status takes no argument '%s'", argv[optind]);

	buf_init(&answer, CTL_ANSWER_BYTES);
	buf_init(&err, 0);
	enum ctl_exit rc = ctl_query_status(ctl->run_dir, CTL_TIMEOUT_MS, &answer, &root, &err);
	if (rc != CTL_OK)
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
	else if (ctl->json)
		printf("%.*s\n", (int)root.raw.n, root.raw.p);
	else
		ctl_print_status(root);
	buf_free(&answer);
	buf_free(&err);
	return rc;
}
