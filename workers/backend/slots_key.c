/* What of a llama-server's conversations is told from outside: the model, and what clients ask. */
#include "workers/backend/slots.h"

#include "common/base/percent.h"

#include <string.h>
#include <sys/stat.h>

#define FNV_START 14695981039346656037u
#define FNV_PRIME 1099511628211u

/* --- which model --- */

static uint64_t hash_bytes(uint64_t h, const void *p, size_t n)
{
	for (const unsigned char *c = p; n; c++, n--)
		h = (h ^ *c) * FNV_PRIME;
	return h;
}

static uint64_t hash_text(uint64_t h, const char *text)
{
	return hash_bytes(h, text, strlen(text) + 1);
}

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
	uint64_t h = hash_text(FNV_START, model_path);
	h = hash_bytes(h, &st.st_size, sizeof(st.st_size));
	h = hash_bytes(h, &st.st_mtim.tv_sec, sizeof(st.st_mtim.tv_sec));
	h = hash_bytes(h, &st.st_mtim.tv_nsec, sizeof(st.st_mtim.tv_nsec));
	for (char *const *arg = command; arg && *arg; arg++) {
		if (!changes_kv(*arg))
			continue;
		h = hash_text(h, *arg);
		if (arg[1]) /* its value, or at worst the next option */
			h = hash_text(h, arg[1]);
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
