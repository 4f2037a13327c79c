#include "supervisor/front/origin.h"

#include "common/base/log.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define PREFLIGHT_HEADERS_BYTES 4096 /* of names that a preflight may ask for */
#define HOST_MAX 256		     /* a DNS name has at most 253 characters */

static bool starts_with(const char *s, const char *prefix)
{
	return strncasecmp(s, prefix, strlen(prefix)) == 0;
}

/* --- Origin --- */

/* "" or ":8080" */
static bool port_or_nothing(const char *s)
{
	return *s == '\0' || (s[0] == ':' && s[1] && s[1 + strspn(s + 1, "0123456789")] == '\0');
}

bool origin_allowed(const char *origin)
{
	static const char *const applications[] = {
		"app://", "file://", "tauri://", "vscode-webview://", "vscode-file://"};
	static const char *const pages[] = {"http://localhost", "https://localhost",
		"http://127.0.0.1", "https://127.0.0.1", "http://0.0.0.0", "https://0.0.0.0"};
	for (size_t i = 0; i < sizeof(applications) / sizeof(*applications); i++)
		if (starts_with(origin, applications[i]))
			return true;
	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++)
		if (starts_with(origin, pages[i]) && port_or_nothing(origin + strlen(pages[i])))
			return true;
	return false;
}

bool origin_matches(struct slice pattern, const char *origin)
{
	size_t n = strlen(origin);
	const char *star = pattern.n ? memchr(pattern.p, '*', pattern.n) : NULL;
	if (!star)
		return slice_ieq(pattern, (struct slice){origin, n});
	size_t before = (size_t)(star - pattern.p), after = pattern.n - before - 1;
	return n >= before + after && strncasecmp(origin, pattern.p, before) == 0 &&
	       strncasecmp(origin + n - after, star + 1, after) == 0;
}

/* "http://a,http://b:*", as Ollama has it */
static bool environment_has(const char *list, const char *origin)
{
	while (list && *list) {
		list += strspn(list, ", ");
		size_t n = strcspn(list, ", ");
		if (n > 0 && origin_matches((struct slice){list, n}, origin))
			return true;
		list += n;
	}
	return false;
}

static bool configured(char *const *origins, const char *origin)
{
	for (; origins && *origins; origins++)
		if (origin_matches(slice_str(*origins), origin))
			return true;
	return environment_has(getenv("OLLAMA_ORIGINS"), origin);
}

/* A page that was itself served under this host: not a cross-origin request. */
static bool own_origin(const char *origin, const char *host)
{
	if (starts_with(origin, "http://"))
		return strcasecmp(origin + 7, host) == 0;
	return starts_with(origin, "https://") && strcasecmp(origin + 8, host) == 0;
}

bool origin_is_own(const struct exchange *x)
{
	const char *origin = exchange_header(x, "Origin"), *host = exchange_header(x, "Host");
	const char *site = exchange_header(x, "Sec-Fetch-Site");
	if (origin && *origin && !own_origin(origin, host ? host : ""))
		return false;
	return !site || strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0;
}

/* --- Host --- */

/* "name:80", "[::1]:80" and "::1" without port and brackets. False when it is too long. */
static bool split_host(const char *value, char host[HOST_MAX])
{
	size_t n = strlen(value);
	if (*value == '[') {
		value++;
		n = strcspn(value, "]");
	} else if (strchr(value, ':') == strrchr(value, ':')) {
		n = strcspn(value, ":");
	}
	if (n >= HOST_MAX)
		return false;
	memcpy(host, value, n);
	host[n] = '\0';
	return true;
}

static bool near_ipv4(uint32_t a)
{
	return a == 0 || a >> 24 == 127 || a >> 24 == 10 || a >> 20 == (172 << 4 | 1) ||
	       a >> 16 == (192 << 8 | 168);
}

static bool near_ipv6(const struct in6_addr *a)
{
	if (IN6_IS_ADDR_V4MAPPED(a)) {
		uint32_t v4;
		memcpy(&v4, a->s6_addr + 12, sizeof(v4));
		return near_ipv4(ntohl(v4));
	}
	return IN6_IS_ADDR_LOOPBACK(a) || IN6_IS_ADDR_UNSPECIFIED(a) ||
	       (a->s6_addr[0] & 0xfe) == 0xfc;
}

static bool of_an_interface(int family, const void *address)
{
	struct ifaddrs *list;
	bool found = false;
	if (getifaddrs(&list))
		return false;
	for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != family)
			continue;
		if (family == AF_INET)
			found = memcmp(&((struct sockaddr_in *)i->ifa_addr)->sin_addr, address,
					sizeof(struct in_addr)) == 0;
		else
			found = memcmp(&((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr, address,
					sizeof(struct in6_addr)) == 0;
	}
	freeifaddrs(list);
	return found;
}

static bool local_name(const char *host)
{
	static const char *const ends[] = {".localhost", ".local", ".internal"};
	char own[HOST_MAX];
	size_t n = strlen(host);
	if (n == 0 || strcasecmp(host, "localhost") == 0)
		return true;
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		if (n > strlen(ends[i]) && strcasecmp(host + n - strlen(ends[i]), ends[i]) == 0)
			return true;
	return gethostname(own, sizeof(own)) == 0 && strcasecmp(host, own) == 0;
}

bool host_allowed(const char *value)
{
	char host[HOST_MAX];
	struct in_addr v4;
	struct in6_addr v6;
	if (!split_host(value, host))
		return false;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return near_ipv4(ntohl(v4.s_addr)) || of_an_interface(AF_INET, &v4);
	if (inet_pton(AF_INET6, host, &v6) == 1)
		return near_ipv6(&v6) || of_an_interface(AF_INET6, &v6);
	return local_name(host);
}

/* --- the gate --- */

static void answer_empty(struct exchange *x, int status)
{
	if (exchange_head(x, status, 0) == 0)
		exchange_end(x);
}

static bool refuse(struct exchange *x, const char *header, const char *value)
{
	/* An origin has no path, query or user; what a client puts there may be a secret. */
	struct slice shown = {value, strcspn(value, "?#@")};
	log_line(LOG_INFO, "origin_refused", LOG_STR("header", header), LOG_SLICE("value", shown),
		LOG_STR("peer", exchange_peer(x)), LOG_END);
	answer_empty(x, 403);
	return true;
}

/* Any header that the page wants to send: who may send requests may send these. */
static void allow_headers(struct exchange *x)
{
	static const char known[] =
		"Authorization,Content-Type,User-Agent,Accept,X-Requested-With,X-Conversation-Id,"
		"OpenAI-Beta,X-Tandem-Class,X-Tandem-Route,X-Tandem-Explain,X-Title,X-Api-Key,"
		"HTTP-Referer,Anthropic-Version,"
		"Anthropic-Beta,Anthropic-Dangerous-Direct-Browser-Access,X-Stainless-Arch,"
		"X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,"
		"X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,"
		"X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
		"X-Stainless-Runtime-Version,X-Stainless-Timeout";
	const char *wanted = exchange_header(x, "Access-Control-Request-Headers");
	char all[sizeof(known) + PREFLIGHT_HEADERS_BYTES + 1];
	if (wanted && (strlen(wanted) >= PREFLIGHT_HEADERS_BYTES || strpbrk(wanted, ":;*\"")))
		wanted = NULL;
	snprintf(all, sizeof(all), "%s%s%s", known, wanted && *wanted ? "," : "",
		wanted ? wanted : "");
	exchange_add_header(x, "Access-Control-Allow-Headers", slice_str(all));
}

static void answer_preflight(struct exchange *x, const char *origin)
{
	static const struct {
		const char *name, *value;
	} headers[] = {
		{"Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"},
		{"Access-Control-Max-Age", "43200"},
		{"Vary", "Origin, Access-Control-Request-Method, "
			 "Access-Control-Request-Headers"},
	};
	exchange_add_header(x, "Access-Control-Allow-Origin", slice_str(origin));
	allow_headers(x);
	for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++)
		exchange_add_header(x, headers[i].name, slice_str(headers[i].value));
	answer_empty(x, 204);
}

bool origin_gate(struct exchange *x, bool loopback, char *const *origins)
{
	const char *origin = exchange_header(x, "Origin"), *host = exchange_header(x, "Host");
	if (!host)
		host = "";
	bool cross = origin && *origin && !own_origin(origin, host);
	if (cross && !origin_allowed(origin) && !configured(origins, origin))
		return refuse(x, "Origin", origin);
	if (loopback && !host_allowed(host))
		return refuse(x, "Host", host);
	if (!cross)
		return false;
	if (strcmp(exchange_method(x), "OPTIONS") == 0) {
		answer_preflight(x, origin);
		return true;
	}
	exchange_add_header(x, "Access-Control-Allow-Origin", slice_str(origin));
	exchange_add_header(x, "Access-Control-Expose-Headers",
		SLICE("X-Tandem-Request-Id,X-Tandem-Strategy,X-Tandem-Tokens,"
		      "X-Tandem-Reason,X-Tandem-Device,X-Tandem-Model,X-Tandem-Prefix"));
	exchange_add_header(x, "Vary", SLICE("Origin"));
	return false;
}
