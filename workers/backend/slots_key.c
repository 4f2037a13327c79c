/* What of a llama-server's conversations is told from outside: the model, and what clients ask. */
#include "workers/backend/slots.h"

#include "common/base/hash.h"
#include "common/base/percent.h"

#include <string.h>
#include <sys/stat.h>

/* --- which model --- */

/* Arguments under which the same tokens have other KV. What only its type or size depends on is
 * checked by the server itself. */
static bool changes_kv(const char *arg)
{
	static const char *const starts[] = {"--lora", "--rope", "--yarn", "--override-kv",
		"--control-vector", "--mmproj", NULL};
	for (const char *const *s = starts; *s; s++)
		if (strncmp(arg, *s, strlen(*s)) == 0)
			return true;
	return false;
}

uint64_t slots_key(const char *model_path, char *const *command)
{
	struct stat st;
	if (!model_path || !*model_path || stat(model_path, &st) || !S_ISREG(st.st_mode))
		return 0;
	uint64_t h = hash_fnv_text(HASH_FNV_START, model_path);
	h = hash_fnv(h, &st.st_size, sizeof(st.st_size));
	h = hash_fnv(h, &st.st_mtim.tv_sec, sizeof(st.st_mtim.tv_sec));
	h = hash_fnv(h, &st.st_mtim.tv_nsec, sizeof(st.st_mtim.tv_nsec));
	for (char *const *arg = command; arg && *arg; arg++) {
		if (!changes_kv(*arg))
			continue;
		h = hash_fnv_text(h, *arg);
		if (arg[1]) /* its value, or at worst the next option */
			h = hash_fnv_text(h, arg[1]);
	}
	return h ? h : 1;
}

/* --- what clients ask of them --- */

/* The path's next character, decoded once; -1 at its end. */
static int next_char(struct slice path, size_t *at)
{
	if (*at == path.n || path.p[*at] == '?' || path.p[*at] == '#')
		return -1;
	unsigned code;
	size_t n = percent_escape(path.p + *at, path.p + path.n, &code);
	if (n == 0)
		code = (unsigned char)path.p[*at];
	*at += n ? n : 1;
	return (int)code;
}

bool slots_is_action(struct slice method, struct slice target)
{
	static const char mark[] = "/slots/";
	if (slice_eq(method, SLICE("GET")) || slice_eq(method, SLICE("HEAD")))
		return false;
	size_t matched = 0;
	int c;
	/* '/' begins the mark and is nowhere else in it but at its end. */
	for (size_t at = 0; matched < sizeof(mark) - 1 && (c = next_char(target, &at)) >= 0;)
		matched = c == mark[matched] ? matched + 1 : c == '/' ? 1 : 0;
	return matched == sizeof(mark) - 1;
}
