#include "supervisor/ctl/ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS 10
#define CELL_BYTES CTL_CELL_BYTES

static const char *const titles[COLUMNS] = {"DEVICE", "ROLES", "STATE", "PID", "BACKEND", "MODEL",
	"INFLIGHT", "DONE", "FAILED", "RESTARTS"};

static void add_device(struct ctl_table *t, struct json_value device)
{
	struct json_value backend = json_get(device, "backend"), role;
	struct json_value jobs = json_get(device, "jobs");
	struct json_iter roles = json_iter(json_get(device, "roles"));
	char(*row)[CELL_BYTES] = ctl_table_row(t);
	char type[24], url[CELL_BYTES - 25];
	struct buf names;

	if (!row)
		return;
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

void ctl_print_status_head(struct json_value status, FILE *to)
{
	char version[32], listen[80], uptime[32];

	ctl_text(status, "version", version, sizeof(version));
	ctl_text(status, "listen", listen, sizeof(listen));
	ctl_duration(ctl_real(status, "uptime_s"), uptime, sizeof(uptime));
	fprintf(to, "tandemd %s, pid %" PRId64 ", up %s, listening on %s\n", version,
		ctl_int(status, "pid"), uptime, listen);
}

void ctl_print_requests(struct json_value status, FILE *to)
{
	struct json_value requests = json_get(status, "requests");
	struct json_value by = json_get(requests, "by_strategy");

	fprintf(to,
		"requests: %" PRId64 " active, %" PRId64 " waiting, %" PRId64 " total (A %" PRId64
		", B %" PRId64 ", C %" PRId64 ", small %" PRId64 "), %" PRId64
		" fallbacks, %" PRId64 " failed, %" PRId64 " refused, %" PRId64 " cancelled\n",
		ctl_int(requests, "active"), ctl_int(json_get(status, "queue"), "waiting"),
		ctl_int(requests, "total"), ctl_int(by, "A"), ctl_int(by, "B"), ctl_int(by, "C"),
		ctl_int(by, "small"), ctl_int(requests, "fallbacks"), ctl_int(requests, "failed"),
		ctl_int(requests, "refused"), ctl_int(requests, "cancelled"));
}

static void print_status(struct json_value status, void *ctx)
{
	struct json_value devices = json_get(status, "devices"), device;
	struct json_iter it = json_iter(devices);
	struct ctl_table table;
	(void)ctx;

	ctl_print_status_head(status, stdout);
	putchar('\n');
	ctl_table_init(&table, COLUMNS, titles);
	while (json_array_next(&it, &device))
		add_device(&table, device);
	ctl_table_print(&table, stdout);
	print_troubles(devices);
	putchar('\n');
	ctl_print_requests(status, stdout);
}

enum ctl_exit ctl_status(struct ctl *ctl)
{
	return ctl_show(ctl, "status", print_status, NULL);
}
