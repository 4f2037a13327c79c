#include "common/base/hop.h"

static bool is_one_of(struct slice name, const char *const *names)
{
	for (; *names; names++)
		if (slice_ieq(name, slice_str(*names)))
			return true;
	return false;
}

bool hop_header(struct slice name)
{
	static const char *const names[] = {"connection", "keep-alive", "transfer-encoding",
		"content-length", "expect", "upgrade", "te", "trailer", NULL};
	static const struct slice proxy = SLICE("proxy-");
	return is_one_of(name, names) ||
	       (name.n >= proxy.n && slice_ieq((struct slice){name.p, proxy.n}, proxy));
}

bool hop_client_side(struct slice name)
{
	static const char *const names[] = {"host", "origin", "referer", "cookie",
		"accept-encoding", "x-conversation-id", NULL};
	return is_one_of(name, names);
}
