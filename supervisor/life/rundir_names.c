/* Which names in a run folder are ours: pure. */
#include "supervisor/life/rundir.h"

#include "supervisor/requests/compact_key.h"

#include <string.h>

#define HEX "0123456789abcdef"
#define DECIMAL "0123456789"
#define DEVICE "abcdefghijklmnopqrstuvwxyz0123456789_-" /* config_check_name() */

static bool literal(const char **at, const char *text)
{
	size_t n = strlen(text);
	if (strncmp(*at, text, n) != 0)
		return false;
	*at += n;
	return true;
}

/* One to `most` characters of the set. */
static bool some(const char **at, const char *set, size_t most)
{
	size_t n = strspn(*at, set);
	*at += n;
	return n > 0 && n <= most;
}

static bool ends(const char *at, const char *const *endings, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(at, endings[i]) == 0)
			return true;
	return false;
}

/* stats.ipc, stats.1a2b.ipc */
static bool is_door(const char *at)
{
	if (!literal(&at, "stats") && !literal(&at, "events"))
		return false;
	return strcmp(at, ".ipc") == 0 ||
	       (literal(&at, ".") && some(&at, HEX, 8) && strcmp(at, ".ipc") == 0);
}

/* w1a2b-0-7.ipc, w1a2b-0-7.ipc.down (worker_process.c, proto/link.c) */
static bool is_link(const char *at)
{
	static const char *const endings[] = {".ipc", ".ipc.down"};
	return literal(&at, "w") && some(&at, HEX, 8) && literal(&at, "-") &&
	       some(&at, DECIMAL, 10) && literal(&at, "-") && some(&at, DECIMAL, 20) &&
	       ends(at, endings, sizeof(endings) / sizeof(endings[0]));
}

/* What stays of backends: backend-gpu0.state (statefile.c), .log (outlog.c), kv-gpu0 (slots.c). */
static bool is_backends(const char *at)
{
	static const char *const endings[] = {".log", ".log.1", ".state", ".state.new"};
	if (literal(&at, "kv-"))
		return some(&at, DEVICE, CONFIG_NAME_BYTES - 1) && !*at;
	return literal(&at, "backend-") && some(&at, DEVICE, CONFIG_NAME_BYTES - 1) &&
	       ends(at, endings, sizeof(endings) / sizeof(endings[0]));
}

/* What lasts over restarts (keep.c, common/base/store.c, compact_key.c). */
static bool is_kept(const char *at)
{
	static const char *const endings[] = {"", "-lock", ".bad"};
	if (strcmp(at, COMPACT_KEY_FILE) == 0 || strcmp(at, COMPACT_KEY_FILE ".new") == 0)
		return true;
	return literal(&at, "tandem.mdb") &&
	       ends(at, endings, sizeof(endings) / sizeof(endings[0]));
}

enum rundir_name rundir_name(const char *name)
{
	if (is_door(name) || is_link(name))
		return RUNDIR_SOCKET;
	if (strcmp(name, RUNDIR_PID_FILE) == 0 || strcmp(name, RUNDIR_PID_FILE ".new") == 0 ||
		strcmp(name, RUNDIR_MARK) == 0 || is_backends(name) || is_kept(name))
		return RUNDIR_FILE;
	return RUNDIR_FOREIGN;
}
