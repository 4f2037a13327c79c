/* The lists of the stats socket as tables: which members stand in which column, and how. */
#include "supervisor/ctl/ctl.h"

#include <inttypes.h>

enum form { TEXT, NUMBER, MS, BYTES, PERCENT, CELSIUS, WATTS };

struct column {
	const char *title, *member;
	enum form form;
};

#define LIST_COLUMNS_MAX 13

static const struct list {
	/* What is asked; the array in the answer. A second one of the same answer follows the first,
	 * where it is not empty. */
	const char *request, *member;
	struct column columns[LIST_COLUMNS_MAX + 1];
} lists[] = {
	{"workers", "workers",
		{{"DEVICE", "device", TEXT}, {"STATE", "state", TEXT}, {"PID", "pid", TEXT},
			{"GENERATION", "generation", NUMBER}, {"UP", "uptime_ms", MS},
			{"HEARTBEAT", "heartbeat_ms", MS}, {"JOBS", "active_jobs", TEXT},
			{"MEMORY", "rss_bytes", BYTES}, {"RESTARTS", "restarts", NUMBER},
			{"LAST EXIT", "last_exit", TEXT}}},
	{"jobs", "jobs",
		{{"JOB", "job", NUMBER}, {"REQUEST", "request", TEXT}, {"KIND", "kind", TEXT},
			{"DEVICE", "device", TEXT}, {"STATE", "state", TEXT}, {"AGE", "age_ms", MS},
			{"BODY", "body_bytes", BYTES}, {"ANSWER", "answer_bytes", BYTES}}},
	{"queues", "queues",
		{{"DEVICE", "device", TEXT}, {"WAITING", "waiting", NUMBER},
			{"OLDEST", "oldest_ms", MS}, {"INFLIGHT", "inflight", NUMBER},
			{"SLOTS", "slots", NUMBER}}},
	{"sessions", "sessions",
		{{"SESSION", "session", NUMBER}, {"MODEL", "model", TEXT},
			{"TURNS", "turns", NUMBER}, {"IDLE", "idle_ms", MS},
			{"TOKENS", "tokens", NUMBER}, {"L0", "l0_tokens", NUMBER},
			{"L1", "l1_tokens", NUMBER}, {"DIGEST", "digest_tokens", NUMBER},
			{"WARM", "warm_tokens", NUMBER}, {"ON", "device", TEXT},
			{"BREAKS", "breaks", NUMBER}, {"REPAIRS", "repairs", NUMBER},
			{"CLIENT", "client", TEXT}}},
	{"requests", "requests",
		{{"REQUEST", "request", TEXT}, {"STATE", "state", TEXT}, {"TOOK", "ms", MS},
			{"FIRST", "first_ms", MS}, {"WAY", "strategy", TEXT},
			{"DEVICE", "device", TEXT}, {"IN", "tokens_in", NUMBER},
			{"SENT", "tokens_sent", NUMBER}, {"CACHED", "cached_tokens", NUMBER},
			{"OUT", "output_tokens", NUMBER}, {"STATUS", "status", NUMBER},
			{"MODEL", "model", TEXT}, {"PATH", "path", TEXT}}},
	{"request", "steps",
		{{"AT", "start_ms", MS}, {"TOOK", "ms", MS}, {"STEP", "kind", TEXT},
			{"DEVICE", "device", TEXT}, {"OUTCOME", "outcome", TEXT},
			{"TOKENS", "tokens", NUMBER}, {"CACHED", "cached_tokens", NUMBER},
			{"TIMES", "count", NUMBER}, {"WHY", "why", TEXT}}},
	{"backends", "backends",
		{{"DEVICE", "device", TEXT}, {"TYPE", "type", TEXT}, {"STATE", "state", TEXT},
			{"PID", "pid", TEXT}, {"WINDOW", "window", NUMBER},
			{"MODELS", "models", NUMBER}, {"MODEL", "model", TEXT},
			{"URL", "url", TEXT}, {"DETAIL", "detail", TEXT}}},
	{"backends", "aliases",
		{{"ALIAS", "match", TEXT}, {"USES", "use", TEXT}, {"DEVICE", "device", TEXT},
			{"MODEL", "model", TEXT}}},
	{"devices", "gpus",
		{{"GPU", "index", NUMBER}, {"LOAD", "load_percent", PERCENT},
			{"MEMORY", "memory_used_bytes", BYTES}, {"OF", "memory_total_bytes", BYTES},
			{"TEMPERATURE", "temperature_c", CELSIUS}, {"POWER", "power_w", WATTS},
			{"PINNED", "pinned", TEXT}, {"NAME", "name", TEXT}}},
	{"keys", "keys",
		{{"KEY", "name", TEXT}, {"CLASS", "class", TEXT}, {"ACTIVE", "active", NUMBER},
			{"LIMIT", "limit", NUMBER}, {"REQUESTS", "requests", NUMBER},
			{"REFUSED", "refused", NUMBER}}},
};

static void cell(struct json_value row, const struct column *c, char out[CTL_CELL_BYTES])
{
	struct json_value v = json_get(row, c->member);
	double real = ctl_real(row, c->member);
	if (json_is(v, JSON_NONE) || json_is(v, JSON_NULL)) {
		snprintf(out, CTL_CELL_BYTES, "-");
		return;
	}
	switch (c->form) {
	case TEXT:
		ctl_text(row, c->member, out, CTL_CELL_BYTES);
		break;
	case NUMBER:
		snprintf(out, CTL_CELL_BYTES, "%" PRId64, ctl_int(row, c->member));
		break;
	case MS:
		if (real < 1000)
			snprintf(out, CTL_CELL_BYTES, "%.0f ms", real);
		else
			ctl_duration(real / 1000, out, CTL_CELL_BYTES);
		break;
	case BYTES:
		ctl_bytes(real, out, CTL_CELL_BYTES);
		break;
	case PERCENT:
		snprintf(out, CTL_CELL_BYTES, "%.0f %%", real);
		break;
	case CELSIUS:
		snprintf(out, CTL_CELL_BYTES, "%.0f C", real);
		break;
	case WATTS:
		snprintf(out, CTL_CELL_BYTES, "%.0f W", real);
		break;
	}
}

static const struct list *list_of(const char *name)
{
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		if (strcmp(lists[i].request, name) == 0)
			return &lists[i];
	return &lists[0];
}

static void print_rows(const struct list *list, struct json_value root, size_t most, FILE *to)
{
	const char *titles[LIST_COLUMNS_MAX];
	struct json_iter it = json_iter(json_get(root, list->member));
	struct json_value row;
	struct ctl_table table;
	char(*cells)[CTL_CELL_BYTES];
	size_t columns = 0, left = 0;

	for (; list->columns[columns].title; columns++)
		titles[columns] = list->columns[columns].title;
	ctl_table_init(&table, columns, titles);
	while (json_array_next(&it, &row)) {
		if (table.rows > most || !(cells = ctl_table_row(&table))) {
			left++;
			continue;
		}
		for (size_t c = 0; c < columns; c++)
			cell(row, &list->columns[c], cells[c]);
	}
	ctl_table_print(&table, to);
	if (left)
		fprintf(to, "and %zu more\n", left);
}

void ctl_print_list(const char *name, struct json_value root, size_t most, FILE *to)
{
	print_rows(list_of(name), root, most, to);
	if (json_is(json_get(root, "reason"), JSON_STRING)) {
		char why[512];
		ctl_text(root, "reason", why, sizeof(why));
		fprintf(to, "(%s)\n", why);
	}
}

static void print(struct json_value root, void *ctx)
{
	const struct list *first = list_of(ctx), *end = lists + sizeof(lists) / sizeof(*lists);
	struct json_value row;
	ctl_print_list(ctx, root, SIZE_MAX - 1, stdout);
	for (const struct list *l = first + 1; l < end && strcmp(l->request, ctx) == 0; l++) {
		struct json_iter it = json_iter(json_get(root, l->member));
		if (!json_array_next(&it, &row))
			continue;
		putchar('\n');
		print_rows(l, root, SIZE_MAX - 1, stdout);
	}
}

enum ctl_exit ctl_list(struct ctl *ctl)
{
	const char *name = ctl->command->name, *argument = ctl->argument;
	char request[CTL_REQUEST_BYTES];
	int n = snprintf(request, sizeof(request), "%s%s%s", name, argument ? " " : "",
		argument ? argument : "");
	if (n < 0 || (size_t)n >= sizeof(request))
		return ctl_usage("%s: that is too long", name);
	return ctl_show(ctl, request, print, (void *)(uintptr_t)name);
}

/* --- one request --- */

static void print_request(struct json_value root, void *ctx)
{
	char id[CTL_CELL_BYTES], state[CTL_CELL_BYTES], way[CTL_CELL_BYTES], device[CTL_CELL_BYTES],
		reason[512];
	(void)ctx;
	ctl_text(root, "request", id, sizeof(id));
	ctl_text(root, "state", state, sizeof(state));
	ctl_text(root, "strategy", way, sizeof(way));
	ctl_text(root, "device", device, sizeof(device));
	ctl_text(root, "reason", reason, sizeof(reason));
	printf("%s: %s, way %s, device %s, %" PRId64 " ms\n%s\n\n", id, state, way, device,
		ctl_int(root, "ms"), reason);
	print_rows(list_of("request"), root, SIZE_MAX - 1, stdout);
	if (ctl_int(root, "steps_lost"))
		printf("and %" PRId64 " more that were not kept\n", ctl_int(root, "steps_lost"));
}

enum ctl_exit ctl_request(struct ctl *ctl)
{
	char request[CTL_REQUEST_BYTES];
	int n = snprintf(request, sizeof(request), "request %s", ctl->argument);
	if (n < 0 || (size_t)n >= sizeof(request))
		return ctl_usage("request: that is too long");
	return ctl_show(ctl, request, print_request, NULL);
}
