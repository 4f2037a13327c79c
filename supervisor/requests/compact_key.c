#include "supervisor/requests/compact_key.h"

#include "common/base/file.h"
#include "common/base/log.h"

#include <uv.h>

void compact_key_open(struct compact_key *k, const char *state_dir)
{
	*k = (struct compact_key){0};
	compact_secret_path(state_dir, k->path);
	k->kept = compact_secret_read(k->path, &k->secret);
	if (!k->kept && uv_random(NULL, NULL, &k->secret, sizeof(k->secret), 0, NULL))
		log_line(LOG_ERROR, "compaction_key", LOG_STR("why", "no random numbers"), LOG_END);
}

void compact_key_look(struct compact_key *k)
{
	struct compact_secret secret;
	if (k->kept || !compact_secret_read(k->path, &secret))
		return;
	k->secret = secret;
	k->kept = true;
}

bool compact_key_claim(struct compact_key *k)
{
	bool first = !k->kept;
	k->kept = true;
	return first;
}

void compact_key_write(const struct compact_key *k)
{
	int rc = file_replace(k->path, (struct slice){(const char *)&k->secret, sizeof(k->secret)});
	if (rc)
		log_line(LOG_WARN, "compaction_key", LOG_STR("file", k->path),
			LOG_STR("why", strerror(-rc)),
			LOG_STR("result", "compaction blocks will not outlast this process"),
			LOG_END);
}
