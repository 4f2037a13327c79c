#include "supervisor/requests/bench.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int bench_order(struct bench *b, const char *device, uint64_t until_ms)
{
	unsigned char random[(BENCH_TICKET_BYTES - 1) / 2];
	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		return -EAGAIN;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(b->ticket + 2 * i, 3, "%02x", random[i]);
	snprintf(b->device, sizeof(b->device), "%s", device);
	b->until_ms = until_ms;
	return 0;
}

/* In a time that tells nothing of where they differ. */
static bool same(const char *ticket, const char *header)
{
	unsigned char differ = 0;
	if (strlen(header) != BENCH_TICKET_BYTES - 1)
		return false;
	for (size_t i = 0; i < BENCH_TICKET_BYTES - 1; i++)
		differ |= (unsigned char)(ticket[i] ^ header[i]);
	return differ == 0;
}

const char *bench_device(const struct bench *b, const char *header, uint64_t now)
{
	bool valid = header && b->ticket[0] && now < b->until_ms && same(b->ticket, header);
	return valid ? b->device : NULL;
}
