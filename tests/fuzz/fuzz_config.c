/*
 * libFuzzer target for configuration files: any text is either taken or refused with words that
 * name the place. What is taken is complete, and the same when it is read or copied again.
 *
 * libconfig is not instrumented: what is looked for is its crashes and exits, and ours.
 */
#include "common/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fd = -1;
static char folder[64], path[80];

static void remove_file(void)
{
	unlink(path);
	rmdir(folder);
}

static void put_file(const uint8_t *data, size_t size)
{
	if (fd < 0) {
		strcpy(folder, "/tmp/tandem-fuzz-config-XXXXXX");
		REQUIRE(mkdtemp(folder));
		snprintf(path, sizeof(path), "%s/t", folder);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		atexit(remove_file);
	}
	REQUIRE(fd >= 0 && ftruncate(fd, 0) == 0);
	REQUIRE(pwrite(fd, data, size, 0) == (ssize_t)size);
}

/* Files of this machine are no part of an input, and some would block. */
static bool reaches_out(struct slice text)
{
	static const char include[] = "@include";
	for (const char *p = text.p, *end = text.p + text.n;
		(p = memmem(p, (size_t)(end - p), include, strlen(include))) != NULL;) {
		p += strlen(include);
		const char *line = memchr(p, '\n', (size_t)(end - p));
		if (memchr(p, '/', (size_t)((line ? line : end) - p)))
			return true;
	}
	return false;
}

static void on_difference(void *ctx, const char *group, const char *name)
{
	(void)ctx, (void)group, (void)name;
	abort();
}

static void check_same(const struct config *a, const struct config *b)
{
	config_differences(a, b, on_difference, NULL);
	REQUIRE(a->device_count == b->device_count);
	for (size_t i = 0; i < a->device_count; i++) {
		struct config_device copy;
		const struct config_device *d = &a->devices[i];
		config_device_differences(d, &b->devices[i], on_difference, NULL);
		REQUIRE(config_device_copy(&copy, d) == 0);
		config_device_differences(d, &copy, on_difference, NULL);
		config_device_free(&copy);
		REQUIRE(*d->name && config_device(a, d->name) == d);
		REQUIRE(d->roles != 0 && d->slots > 0);
		REQUIRE(d->backend.url || d->backend.command);
	}
}

/* One problem a line, each with the file's name in front. */
static void check_words(const struct buf *err)
{
	REQUIRE(err->n > 0 && err->p[err->n - 1] == '\n');
	REQUIRE(err->n >= strlen(path) && memcmp(err->p, path, strlen(path)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config c, again;
	struct buf err;
	if (reaches_out((struct slice){(const char *)data, size}))
		return 0;
	put_file(data, size);
	buf_init(&err, 1 << 20);
	int rc = config_load(path, &c, &err);
	REQUIRE(rc == 0 || rc == -EINVAL);
	if (rc == 0) {
		REQUIRE(c.device_count > 0 && c.device_count <= CONFIG_DEVICES_MAX);
		REQUIRE(config_load(path, &again, &err) == 0);
		check_same(&c, &again);
		config_free(&again);
		config_free(&c);
	} else {
		check_words(&err);
	}
	buf_free(&err);
	return 0;
}
