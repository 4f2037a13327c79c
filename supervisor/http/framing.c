/*
 * The headers that say where a request ends. libmicrohttpd lets the first of several Content-Length
 * win, ignores Content-Length beside Transfer-Encoding and reads any coding but chunked until the
 * connection closes; whoever stands before us may see another request.
 */
#include "supervisor/http/internal.h"

#include <strings.h>

struct framing {
	unsigned hosts, lengths, codings;
	bool chunked;
};

static enum MHD_Result see_header(
	void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct framing *f = cls;
	(void)kind;
	if (strcasecmp(name, "Host") == 0) {
		f->hosts++;
	} else if (strcasecmp(name, "Content-Length") == 0) {
		f->lengths++;
	} else if (strcasecmp(name, "Transfer-Encoding") == 0) {
		f->codings++;
		f->chunked = value && strcasecmp(value, "chunked") == 0;
	}
	return MHD_YES;
}

int framing_check(struct MHD_Connection *mhd, bool old_http)
{
	struct framing f = {0};
	MHD_get_connection_values(mhd, MHD_HEADER_KIND, see_header, &f);
	if (f.hosts > 1 || (f.hosts == 0 && !old_http))
		return MHD_HTTP_BAD_REQUEST;
	if (f.lengths > 1 || f.codings > 1 || (f.lengths && f.codings) || (f.codings && old_http))
		return MHD_HTTP_BAD_REQUEST;
	if (f.codings && !f.chunked)
		return MHD_HTTP_NOT_IMPLEMENTED;
	return 0;
}
