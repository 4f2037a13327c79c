#include "common/base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STAT_BYTES 1024
#define STAT_STATE 3 /* fields, numbered as proc(5) does */
#define STAT_START 22

void proc_keep_std(void)
{
	int fd;
	do { /* the lowest free number comes first */
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

bool proc_parse_stat(struct slice text, char *state, uint64_t *start)
{
	char copy[STAT_BYTES + 1], *end;
	if (text.n == 0 || text.n > STAT_BYTES)
		return false;
	memcpy(copy, text.p, text.n);
	copy[text.n] = '\0';
	/* "pid (name) S ...": the name may hold anything, brackets too */
	char *at = strrchr(copy, ')');
	if (!at || at[1] != ' ' || !at[2] || at[3] != ' ')
		return false;
	*state = at[2];
	at += 3;
	for (int field = STAT_STATE; field < STAT_START - 1; field++) {
		at = strchr(at + 1, ' ');
		if (!at)
			return false;
	}
	errno = 0;
	*start = strtoull(at + 1, &end, 10);
	return errno == 0 && end > at + 1 && (*end == ' ' || *end == '\n' || !*end);
}

uint64_t proc_start(int64_t pid)
{
	char path[32], text[STAT_BYTES], state;
	uint64_t start;
	if (pid <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text));
	close(fd);
	if (n <= 0 || !proc_parse_stat((struct slice){text, (size_t)n}, &state, &start))
		return 0;
	return state == 'Z' || state == 'X' ? 0 : start;
}
