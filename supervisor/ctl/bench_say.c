/* What is under way, and the time that is left for it. */
#include "supervisor/ctl/bench.h"

#include <time.h>
#include <unistd.h>

double bench_clock_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

int64_t bench_now_ms(void)
{
	return (int64_t)bench_clock_ms();
}

int64_t bench_left_ms(const struct benching *b)
{
	int64_t left = b->deadline_ms - bench_now_ms();
	return left > 0 ? left : 0;
}

void bench_say(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("tandemctl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

void bench_progress(const struct benching *b, const char *fmt, ...)
{
	va_list ap;
	if (!isatty(STDERR_FILENO))
		return;
	va_start(ap, fmt);
	fprintf(stderr, "%s: ", b->device);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, ", %lld s left\n", (long long)(bench_left_ms(b) / 1000));
	va_end(ap);
}
