/* What stands in RUNDIR/backend-DEVICE.state. */
#include "supervisor/devices/adopt.h"

#include "common/base/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t adopt_hash(const struct config_device *conf)
{
	uint64_t h = hash_fnv_text(HASH_FNV_START, backend_type_name(conf->backend.type));
	h = hash_fnv_text(h, conf->pin);
	for (char **arg = conf->backend.command; arg && *arg; arg++)
		h = hash_fnv_text(h, *arg);
	return h ? h : 1;
}

void adopt_print(const struct adopt_backend *b, const char *boot_id, struct buf *out)
{
	buf_printf(out,
		"tandem-backend 1\nboot %s\npid %" PRId64 "\nstart %" PRIu64 "\nhash %016" PRIx64
		"\nurl %s\n",
		boot_id, b->pid, b->start, b->hash, b->url);
}

/* The rest of the line after "name ", as a string of at most n - 1 bytes. */
static bool take(struct slice *text, const char *name, char *to, size_t n)
{
	size_t len = strlen(name);
	const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
	size_t line = end ? (size_t)(end - text->p) : 0;
	if (!end || line < len + 1 || memcmp(text->p, name, len) != 0 || text->p[len] != ' ' ||
		line - len - 1 >= n)
		return false;
	memcpy(to, text->p + len + 1, line - len - 1);
	to[line - len - 1] = '\0';
	text->p += line + 1;
	text->n -= line + 1;
	return strlen(to) == line - len - 1;
}

static bool number(const char *text, int base, uint64_t *out)
{
	char *end;
	errno = 0;
	*out = strtoull(text, &end, base);
	return errno == 0 && *text != '-' && end > text && !*end;
}

bool adopt_parse(struct slice text, const char *boot_id, struct adopt_backend *out)
{
	char value[ADOPT_URL_BYTES];
	uint64_t pid;
	*out = (struct adopt_backend){0};
	bool ok = take(&text, "tandem-backend", value, sizeof(value)) && strcmp(value, "1") == 0 &&
		  take(&text, "boot", value, sizeof(value)) && strcmp(value, boot_id) == 0 &&
		  take(&text, "pid", value, sizeof(value)) && number(value, 10, &pid) && pid > 1 &&
		  pid <= INT32_MAX && take(&text, "start", value, sizeof(value)) &&
		  number(value, 10, &out->start) && out->start > 0 &&
		  take(&text, "hash", value, sizeof(value)) && number(value, 16, &out->hash) &&
		  take(&text, "url", out->url, sizeof(out->url)) && text.n == 0;
	if (ok)
		out->pid = (int64_t)pid;
	else
		*out = (struct adopt_backend){0};
	return ok;
}
