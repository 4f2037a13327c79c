/* Who reaches the ports that backends of this machine listen at, as the kernel tells it. */
#include "supervisor/ctl/doctor.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LIST_BYTES (4 << 20) /* of each list; what does not fit is not looked at */
#define LISTENING 0x0a

int doctor_local_port(const char *url)
{
	static const char *const hosts[] = {"localhost", "127.", "[::1]"};
	const char *host = strstr(url, "://");
	if (!host)
		return 0;
	bool tls = strncasecmp(url, "https", 5) == 0, local = false;
	host += 3;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++)
		local |= strncasecmp(host, hosts[i], strlen(hosts[i])) == 0;
	if (!local)
		return 0;
	size_t n = strcspn(host, "/");
	const char *colon = memrchr(host, ':', n);
	if (!colon || (host[0] == '[' && colon < strchr(host, ']')))
		return tls ? 443 : 80;
	long port = strtol(colon + 1, NULL, 10);
	return port > 0 && port < 65536 ? (int)port : 0;
}

/* 127.0.0.0/8, ::1, or ::ffff:127.0.0.0/104; an address as the kernel writes it: words in the
 * machine's order, of which little-endian ones are known. */
static bool is_loopback(const char *hex, size_t n)
{
	static const char one[] = "00000000000000000000000001000000",
			  mapped[] = "0000000000000000FFFF0000";
	if (n == 8)
		return strncmp(hex + 6, "7F", 2) == 0;
	if (n != 32)
		return false;
	return strncmp(hex, one, 32) == 0 ||
	       (strncmp(hex, mapped, 24) == 0 && strncmp(hex + 30, "7F", 2) == 0);
}

enum doctor_reach doctor_reach_in(struct slice list, int port)
{
	enum doctor_reach reach = REACH_UNKNOWN;
	for (size_t at = 0; at < list.n;) {
		const char *end = memchr(list.p + at, '\n', list.n - at);
		size_t n = end ? (size_t)(end - list.p) - at : list.n - at;
		char line[160], address[40];
		unsigned at_port, state;
		snprintf(line, sizeof(line), "%.*s", (int)n, list.p + at);
		at += n + 1;
		if (sscanf(line, " %*u: %39[0-9A-F]:%x %*s %x", address, &at_port, &state) != 3 ||
			state != LISTENING || at_port != (unsigned)port)
			continue;
		if (!is_loopback(address, strlen(address)))
			return REACH_NETWORK;
		reach = REACH_LOCAL;
	}
	return reach;
}

static void read_list(const char *path, struct buf *out)
{
	FILE *f = fopen(path, "re");
	char piece[16384];
	size_t n;
	while (f && (n = fread(piece, 1, sizeof(piece), f)) > 0 && buf_add(out, piece, n) == 0)
		;
	if (f)
		fclose(f);
}

void doctor_look_at_ports(struct doctor_facts *f)
{
	static const char *const lists[] = {"/proc/net/tcp", "/proc/net/tcp6"};
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		struct buf list;
		buf_init(&list, LIST_BYTES);
		read_list(lists[i], &list);
		for (size_t k = 0; k < f->devices; k++) {
			struct doctor_device *d = &f->device[k];
			d->port = doctor_local_port(d->url);
			enum doctor_reach r = d->port ? doctor_reach_in(buf_slice(&list), d->port)
						      : REACH_UNKNOWN;
			d->reach = r > d->reach ? r : d->reach;
		}
		buf_free(&list);
	}
}
