/* What a text value must look like. */
#include "common/config/config_schema.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <sys/stat.h>

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
#define STATE_DIR_BYTES 1024

static bool all_of(const char *text, const char *set)
{
	return text[strspn(text, set)] == '\0';
}

static bool printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

const char *config_check_address(const char *text)
{
	unsigned char address[sizeof(struct in6_addr)];
	if (strcmp(text, "localhost") == 0 || inet_pton(AF_INET, text, address) == 1 ||
		inet_pton(AF_INET6, text, address) == 1)
		return NULL;
	return "must be an IPv4 or IPv6 address or \"localhost\"";
}

bool config_address_is_local(const char *address)
{
	struct in_addr v4;
	struct in6_addr v6;
	if (inet_pton(AF_INET, address, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
	if (inet_pton(AF_INET6, address, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return strcmp(address, "localhost") == 0;
}

const char *config_check_run_dir(const char *text)
{
	if (*text != '/' || !printable(text))
		return "must be an absolute path";
	if (strlen(text) > CONFIG_RUN_DIR_MAX)
		return "must be at most " TEXT(
			CONFIG_RUN_DIR_MAX) " bytes long (socket paths stand below it)";
	return NULL;
}

const char *config_check_state_dir(const char *text)
{
	if (*text != '/' || !printable(text))
		return "must be an absolute path";
	return strlen(text) > STATE_DIR_BYTES ? "must be at most 1024 bytes long" : NULL;
}

const char *config_check_origin(const char *text)
{
	const char *star = strchr(text, '*');
	if (strcmp(text, "*") == 0)
		return NULL;
	for (const char *p = text; *p; p++)
		if (*p <= ' ' || *p >= 0x7f || strchr("?#@", *p))
			return "must be scheme://host without spaces, paths or other odd "
			       "characters";
	const char *host = strstr(text, "://");
	if (!host || strchr(host + 3, '/') || (star && strchr(star + 1, '*')))
		return "must be scheme://host[:port], with one \"*\" at most, or \"*\" alone";
	return NULL;
}

const char *config_check_name(const char *text)
{
	if (!*text || !all_of(text, "abcdefghijklmnopqrstuvwxyz0123456789_-"))
		return "must consist of a-z, 0-9, '_' and '-'";
	if (strlen(text) >= CONFIG_NAME_BYTES)
		return "must be at most 31 bytes long";
	return NULL;
}

const char *config_check_model(const char *text)
{
	return *text && printable(text) ? NULL
					: "must be a model's name (leave the key out for any)";
}

const char *config_check_pin(const char *text)
{
	/* "1", "0,1", "GPU-8a2c...", "level_zero:0" */
	if (*text &&
		all_of(text,
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-:,./"))
		return NULL;
	return "must be device numbers or names as the GPU runtimes take them, like \"1\" or "
	       "\"0,1\"";
}

static const char *check_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	long port = digits <= 5 ? strtol(text, NULL, 10) : 0;
	if (digits == 0)
		return "must name the port: http://host:port[/path]";
	return port >= 1 && port <= 65535 ? NULL : "must have a port between 1 and 65535";
}

const char *config_check_file(const char *text)
{
	return *text == '/' && printable(text) ? NULL : "must be an absolute path";
}

const char *config_check_key_file(const char *text)
{
	struct stat st;
	const char *problem = config_check_file(text);
	/* It may be there for the gateway's user alone, or come later: its worker says so then. */
	if (!problem && stat(text, &st) == 0 && st.st_mode & S_IROTH)
		problem = "must not be readable by everybody (chmod o-r)";
	return problem;
}

#define URL_WORDS "must be http://host:port[/path] or https://host[:port][/path]"

/* Behind "://". *port: what follows the colon; NULL: none. */
static const char *check_host(const char *host, const char **port)
{
	size_t n = strcspn(host, "/");
	const char *colon = host + strcspn(host, ":/");
	if (memchr(host, '@', n))
		return "must hold no user or password";
	if (*host == '[') {
		const char *bracket = memchr(host, ']', n);
		char literal[INET6_ADDRSTRLEN] = "";
		struct in6_addr address;
		if (bracket && (size_t)(bracket - host) <= sizeof(literal))
			memcpy(literal, host + 1, (size_t)(bracket - host - 1));
		if (inet_pton(AF_INET6, literal, &address) != 1)
			return "must have an IPv6 address in its brackets";
		colon = bracket + 1;
	} else if (colon == host) {
		return "must name a host: http://host:port[/path]";
	}
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): "" is no address */
	if (*colon != ':' && colon != host + n)
		return URL_WORDS;
	*port = *colon == ':' ? colon + 1 : NULL;
	return NULL;
}

const char *config_check_url(const char *text)
{
	const char *host = strstr(text, "://"), *port = NULL;
	size_t scheme = host ? (size_t)(host - text) : 0;
	bool tls = scheme == 5 && strncmp(text, "https", 5) == 0;

	if (!tls && (scheme != 4 || strncmp(text, "http", 4) != 0))
		return URL_WORDS;
	host += 3;
	for (const char *p = host; *p; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return URL_WORDS " without spaces or other odd characters";
	if (strpbrk(host, "?#"))
		return "must have no '?' or '#': it is a base, paths are appended to it";
	const char *problem = check_host(host, &port);
	if (!problem && !port)
		problem = tls ? NULL : "must name the port: http://host:port[/path]";
	else if (!problem)
		problem = check_port(port);
	if (!problem && port && port[strspn(port, "0123456789")] != '/' &&
		port[strspn(port, "0123456789")])
		problem = URL_WORDS;
	return problem;
}
