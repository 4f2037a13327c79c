#include "supervisor/life/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VARIABLE "TANDEM_UPGRADE"

/* --- writing --- */

static int put_fd(int fd, int fds[HANDOVER_FDS_MAX], size_t *n)
{
	fds[*n] = fd;
	return (int)(*n)++;
}

size_t handover_write(const struct handover *h, struct buf *env, int fds[HANDOVER_FDS_MAX])
{
	size_t n = HANDOVER_FIRST_FD;
	buf_printf(env, VARIABLE "=talk=%d", put_fd(h->talk_fd, fds, &n));
	buf_printf(env, " listen=%d", put_fd(h->listen_fd, fds, &n));
	buf_printf(env, " lock=%d", put_fd(h->lock_fd, fds, &n));
	buf_printf(env, " given=%d", h->given);
	buf_printf(env, " operation=%llu", (unsigned long long)h->operation);
	for (size_t i = 0; i < h->old_count; i++)
		buf_printf(env, " old=%d:%d", (int)h->old[i].pid, put_fd(h->old[i].fd, fds, &n));
	for (size_t i = 0; i < h->extra_count; i++)
		buf_printf(env, " %s=%d", h->extra[i].name, put_fd(h->extra[i].fd, fds, &n));
	for (size_t i = 0; i < h->wait_count; i++)
		buf_printf(env, " wait=%s", h->wait[i]);
	buf_add_char(env, '\0');
	return n;
}

/* --- reading --- */

/* A number that uses up its whole word. */
static int read_number(const char *word, unsigned long long *out)
{
	char *end;
	errno = 0;
	*out = strtoull(word, &end, 10);
	return errno || end == word || *end || *word == '-' ? -EINVAL : 0;
}

static int read_fd(const char *word, int *out)
{
	unsigned long long fd;
	if (read_number(word, &fd) || fd < HANDOVER_FIRST_FD || fd > 65535)
		return -EINVAL;
	*out = (int)fd;
	return fcntl(*out, F_SETFD, FD_CLOEXEC) ? -errno : 0;
}

static int read_old(struct handover *h, char *word)
{
	unsigned long long pid;
	char *colon = strchr(word, ':');
	if (!colon || h->old_count == HANDOVER_OLD_MAX)
		return -EINVAL;
	*colon = '\0';
	if (read_number(word, &pid) || pid == 0 || pid > INT32_MAX)
		return -EINVAL;
	h->old[h->old_count].pid = (pid_t)pid;
	return read_fd(colon + 1, &h->old[h->old_count++].fd);
}

static int read_wait(struct handover *h, const char *word)
{
	if (h->wait_count == CONFIG_DEVICES_MAX || strlen(word) >= CONFIG_NAME_BYTES)
		return -EINVAL;
	snprintf(h->wait[h->wait_count++], CONFIG_NAME_BYTES, "%s", word);
	return 0;
}

static int read_extra(struct handover *h, const char *name, const char *word)
{
	struct handover_extra *e = &h->extra[h->extra_count];
	if (h->extra_count == HANDOVER_EXTRA_MAX || strlen(name) >= sizeof(e->name))
		return -EINVAL;
	snprintf(e->name, sizeof(e->name), "%s", name);
	h->extra_count++;
	return read_fd(word, &e->fd);
}

static int read_word(struct handover *h, char *word)
{
	unsigned long long number;
	char *value = strchr(word, '=');
	if (!value)
		return -EINVAL;
	*value++ = '\0';
	if (strcmp(word, "talk") == 0)
		return read_fd(value, &h->talk_fd);
	if (strcmp(word, "listen") == 0)
		return read_fd(value, &h->listen_fd);
	if (strcmp(word, "lock") == 0)
		return read_fd(value, &h->lock_fd);
	if (strcmp(word, "old") == 0)
		return read_old(h, value);
	if (strcmp(word, "wait") == 0)
		return read_wait(h, value);
	bool given = strcmp(word, "given") == 0;
	if (!given && strcmp(word, "operation") != 0)
		return read_extra(h, word, value);
	int rc = read_number(value, &number);
	if (given)
		h->given = number;
	else
		h->operation = number;
	return rc;
}

int handover_read(struct handover *h, struct buf *err)
{
	*h = (struct handover){.talk_fd = -1, .listen_fd = -1, .lock_fd = -1};
	const char *variable = getenv(VARIABLE);
	if (!variable)
		return 0;
	char *text = strdup(variable), *rest = NULL;
	int rc = text ? 0 : -ENOMEM;
	unsetenv(VARIABLE);
	for (char *word = text ? strtok_r(text, " ", &rest) : NULL; word && rc == 0;
		word = strtok_r(NULL, " ", &rest))
		rc = read_word(h, word);
	free(text);
	if (rc == 0 && h->talk_fd >= 0 && h->listen_fd >= 0 && h->lock_fd >= 0)
		return 1;
	buf_add_str(err, VARIABLE ": not what a tandemd hands over");
	return -EINVAL;
}

int handover_take_extra(struct handover *h, const char *name)
{
	for (size_t i = 0; i < h->extra_count; i++) {
		int fd = h->extra[i].fd;
		if (strcmp(h->extra[i].name, name) == 0) {
			h->extra[i].fd = -1;
			return fd;
		}
	}
	return -1;
}
