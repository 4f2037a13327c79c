#include "supervisor/front/head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* of empty lines before a request line (RFC 9112, 2.2: at least one) */
#define EMPTY_BYTES_MAX 16

static bool fail(struct head_fault *fault, int status, const char *text)
{
	*fault = (struct head_fault){status, text};
	return true;
}

/* --- characters (RFC 9110, 5.6.2 and 5.5) --- */

static bool token_char(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool token(const char *s)
{
	for (const char *p = s; *p; p++)
		if (!token_char((unsigned char)*p))
			return false;
	return *s != '\0';
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

/* --- as the bytes come --- */

/* Within the request line: the method must be a token from its first byte on. */
static bool check_method_byte(
	const struct head_scan *s, unsigned char c, const char *p, struct head_fault *fault)
{
	size_t column = s->at - s->line;
	if (column > HEAD_METHOD_BYTES || memchr(p + s->line, ' ', column))
		return false;
	if (c == ' ' && column > 0)
		return false;
	if (column == HEAD_METHOD_BYTES || !token_char(c))
		return fail(fault, 400, "not an HTTP request");
	return false;
}

static bool ends_with_version(const char *line, size_t n)
{
	return n >= 9 && memcmp(line + n - 9, " HTTP/", 6) == 0;
}

/* At a line feed. True at the end of the head, or at a fault. */
static bool end_line(struct head_scan *s, const char *p, struct head_fault *fault)
{
	size_t length = s->at - s->line - s->cr;
	s->cr = false;
	if (length == 0 && s->lines > 0) {
		s->at++;
		return true;
	}
	if (length == 0) {
		s->empty_bytes += s->at + 1 - s->line;
		if (s->empty_bytes > EMPTY_BYTES_MAX)
			return fail(fault, 400, "empty lines instead of a request");
	} else if (s->lines++ == 0 && !ends_with_version(p + s->line, length)) {
		return fail(fault, 400, "not an HTTP request");
	}
	s->at++;
	s->line = s->at;
	return false;
}

bool head_scan(struct head_scan *s, const char *p, size_t n, struct head_fault *fault)
{
	for (; s->at < n; s->at++) {
		unsigned char c = (unsigned char)p[s->at];
		if (c == '\n') {
			if (end_line(s, p, fault))
				return true;
			s->at--; /* end_line() went on by itself */
			continue;
		}
		if (s->cr)
			return fail(fault, 400, "a carriage return without a line feed");
		if (c == '\r') {
			s->cr = true;
			continue;
		}
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return fail(fault, 400, "a control character in the head");
		if (s->lines > 0 && s->at == s->line && blank((char)c))
			return fail(fault, 400, "a folded header");
		if (s->lines == 0 && check_method_byte(s, c, p, fault))
			return true;
	}
	return false;
}

/* --- targets --- */

static bool port_sound(const char *s)
{
	size_t digits = strspn(s, "0123456789");
	return digits <= 5 && s[digits] == '\0';
}

bool head_authority_sound(const char *s)
{
	if (*s == '[') {
		size_t n = strspn(s + 1, "0123456789abcdefABCDEF:.");
		const char *end = s + 1 + n;
		return n >= 2 && *end == ']' &&
		       (end[1] == '\0' || (end[1] == ':' && port_sound(end + 2)));
	}
	/* Names of hosts, and what resolvers take for one: letters, digits, "-", ".", "_", "%", "~"
	 * and bytes of other scripts. */
	size_t n = 0;
	for (unsigned char c; (c = (unsigned char)s[n]) != '\0' && c != ':'; n++)
		if (c < 0x80 && !token_char(c))
			return false;
	return s[n] == '\0' || (n > 0 && port_sound(s + n + 1));
}

/* "http://host:1/path?query": the path, and the authority that counts instead of Host. */
static bool read_absolute(struct head *h, const char *after_scheme, struct head_fault *fault)
{
	size_t n = strcspn(after_scheme, "/?#");
	const char *rest = after_scheme + n;
	h->authority = strndup(after_scheme, n);
	if (!h->authority)
		return fail(fault, 503, "out of memory");
	if (n == 0 || !head_authority_sound(h->authority))
		return fail(fault, 400, "a target whose host is none");
	if (*rest == '/') {
		h->target = rest;
		return false;
	}
	size_t length = strlen(rest);
	h->made_target = malloc(length + 2);
	if (!h->made_target)
		return fail(fault, 503, "out of memory");
	h->made_target[0] = '/';
	memcpy(h->made_target + 1, rest, length + 1);
	h->target = h->made_target;
	return false;
}

static bool read_target(struct head *h, char *target, struct head_fault *fault)
{
	size_t n = strlen(target);
	if (n > HEAD_TARGET_BYTES)
		return fail(fault, 414, "a target of more than 65535 bytes");
	if (n == 0 || target[strcspn(target, " \t#")])
		return fail(fault, 400, "a target that is none");
	h->target = target;
	if (*target == '/' || (strcmp(target, "*") == 0 && strcmp(h->method, "OPTIONS") == 0))
		return false;
	if (strncasecmp(target, "http://", 7) == 0)
		return read_absolute(h, target + 7, fault);
	if (strncasecmp(target, "https://", 8) == 0)
		return read_absolute(h, target + 8, fault);
	return fail(fault, 400, "a target that is none");
}

/* --- the request line --- */

static bool read_version(struct head *h, const char *version, struct head_fault *fault)
{
	bool shaped = strncmp(version, "HTTP/", 5) == 0 && version[5] >= '0' && version[5] <= '9' &&
		      version[6] == '.' && version[7] >= '0' && version[7] <= '9' &&
		      version[8] == '\0';
	if (!shaped)
		return fail(fault, 400, "not an HTTP request");
	if (version[5] != '1')
		return fail(fault, 505, "HTTP/1.0 or HTTP/1.1 is spoken here");
	h->old_http = version[7] == '0';
	return false;
}

static bool read_request_line(struct head *h, char *line, struct head_fault *fault)
{
	char *target = strchr(line, ' '), *version = strrchr(line, ' ');
	if (!target || target == version)
		return fail(fault, 400, "not an HTTP request");
	*target++ = '\0';
	*version++ = '\0';
	h->method = line;
	if (!token(line))
		return fail(fault, 400, "a method that is none");
	return read_version(h, version, fault) || read_target(h, target, fault);
}

/* --- headers --- */

static bool read_field(struct head *h, char *line, struct head_fault *fault)
{
	char *colon = strchr(line, ':');
	if (!colon)
		return fail(fault, 400, "a header without a colon");
	*colon = '\0';
	if (!token(line))
		return fail(fault, 400, "a header whose name is none");
	char *value = colon + 1 + strspn(colon + 1, " \t");
	h->fields[h->count++] = (struct head_field){line, value};
	return false;
}

/* White space behind a value is not of it; that of Transfer-Encoding stays and makes the value one
 * that nobody knows. */
static void trim(struct head_field *f)
{
	char *end = (char *)f->value + strlen(f->value);
	if (strcasecmp(f->name, "Transfer-Encoding") == 0)
		return;
	while (end > f->value && blank(end[-1]))
		*--end = '\0';
}

/* The next line, its end cut off; NULL at the end of the head. */
static char *next_line(char **at)
{
	char *line = *at, *end = strchr(line, '\n');
	if (!end)
		return NULL;
	*at = end + 1;
	if (end > line && end[-1] == '\r')
		end--;
	*end = '\0';
	return line;
}

static bool allocate_fields(struct head *h, const char *from, size_t max, struct head_fault *fault)
{
	size_t lines = 0;
	for (const char *p = from; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	if (lines > max + 1) /* the empty one is counted, too */
		return fail(fault, 431, "more headers than limits.headers");
	h->fields = calloc(lines + 1, sizeof(*h->fields));
	return !h->fields && fail(fault, 503, "out of memory");
}

static bool read_fields(struct head *h, char *at, size_t max, struct head_fault *fault)
{
	if (allocate_fields(h, at, max, fault))
		return true;
	for (char *line; (line = next_line(&at)) != NULL && *line;) {
		if (read_field(h, line, fault))
			return true;
		trim(&h->fields[h->count - 1]);
	}
	return false;
}

/* --- what the headers say of the request's end --- */

static bool read_length(struct head *h, const char *value, struct head_fault *fault)
{
	size_t digits = strspn(value, "0123456789");
	if (digits == 0 || value[digits])
		return fail(fault, 400, "a Content-Length that is no number");
	errno = 0;
	long long n = strtoll(value, NULL, 10);
	if (errno)
		return fail(fault, 413, "a Content-Length beyond all measure");
	h->body_bytes = n;
	return false;
}

static void read_connection(struct head *h, const char *value)
{
	while (*value) {
		value += strspn(value, ", \t");
		size_t n = strcspn(value, ", \t");
		h->close |= n == 5 && strncasecmp(value, "close", n) == 0;
		h->keep |= n == 10 && strncasecmp(value, "keep-alive", n) == 0;
		value += n;
	}
}

struct framing {
	unsigned hosts, lengths, codings, origins;
};

static bool read_framing_field(
	struct head *h, struct framing *f, const struct head_field *field, struct head_fault *fault)
{
	const char *name = field->name, *value = field->value;
	if (strcasecmp(name, "Host") == 0) {
		f->hosts++;
		return !head_authority_sound(value) && fail(fault, 400, "a Host that is none");
	}
	if (strcasecmp(name, "Content-Length") == 0) {
		f->lengths++;
		return read_length(h, value, fault);
	}
	if (strcasecmp(name, "Transfer-Encoding") == 0) {
		f->codings++;
		return strcasecmp(value, "chunked") != 0 &&
		       fail(fault, 501, "a Transfer-Encoding other than chunked");
	}
	if (strcasecmp(name, "Origin") == 0)
		f->origins++;
	else if (strcasecmp(name, "Connection") == 0)
		read_connection(h, value);
	else if (strcasecmp(name, "Expect") == 0)
		h->expects_continue |= strcasecmp(value, "100-continue") == 0;
	return false;
}

static bool read_framing(struct head *h, struct head_fault *fault)
{
	struct framing f = {0};
	struct head_fault coding = {0}; /* told only when nothing worse is wrong */
	for (size_t i = 0; i < h->count; i++)
		if (read_framing_field(h, &f, &h->fields[i], fault)) {
			if (fault->status != 501)
				return true;
			coding = *fault;
		}
	*fault = (struct head_fault){0};
	if (f.hosts > 1 || (f.hosts == 0 && !h->old_http))
		return fail(fault, 400, "not exactly one Host");
	if (f.lengths > 1 || f.codings > 1 || (f.lengths && f.codings))
		return fail(fault, 400, "more than one header that says where the request ends");
	if (f.codings && h->old_http)
		return fail(fault, 400, "Transfer-Encoding in HTTP/1.0");
	if (f.origins > 1)
		return fail(fault, 400, "more than one Origin");
	if (f.codings)
		h->body_bytes = -1;
	*fault = coding;
	return coding.status != 0;
}

/* --- all of it --- */

void head_parse(
	char *bytes, size_t n, size_t fields_max, struct head *out, struct head_fault *fault)
{
	*out = (struct head){.size = n};
	*fault = (struct head_fault){0};
	char *at = bytes, *line;
	do {
		line = next_line(&at);
	} while (line && !*line);
	if (!line || read_request_line(out, line, fault) ||
		read_fields(out, at, fields_max, fault) || read_framing(out, fault)) {
		if (!fault->status)
			fail(fault, 400, "not an HTTP request");
		head_fini(out);
		return;
	}
	out->bytes = bytes;
}

void head_fini(struct head *h)
{
	if (h->room)
		h->room->used -= h->counted;
	free(h->bytes);
	free(h->fields);
	free(h->made_target);
	free(h->authority);
	*h = (struct head){0};
}

const char *head_value(const struct head *h, const char *name)
{
	if (h->authority && strcasecmp(name, "Host") == 0)
		return h->authority;
	for (size_t i = 0; i < h->count; i++)
		if (strcasecmp(h->fields[i].name, name) == 0)
			return h->fields[i].value;
	return NULL;
}
