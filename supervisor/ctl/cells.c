/* How numbers look to people, in cells and lines. */
#include "supervisor/ctl/ctl.h"

void ctl_duration(double s, char *out, size_t size)
{
	long all = s > 0 && s < 1e12 ? (long)s : 0;
	long days = all / 86400, hours = all / 3600 % 24, minutes = all / 60 % 60;
	if (days)
		snprintf(out, size, "%ldd%02ldh", days, hours);
	else if (hours)
		snprintf(out, size, "%ldh%02ldm", hours, minutes);
	else if (minutes)
		snprintf(out, size, "%ldm%02lds", minutes, all % 60);
	else
		snprintf(out, size, "%lds", all);
}

void ctl_bytes(double bytes, char *out, size_t size)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;
	for (; bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(*units); unit++)
		bytes /= 1024;
	snprintf(out, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

static bool unknown(double n, char *out, size_t size)
{
	if (n < 0)
		snprintf(out, size, "-");
	return n < 0;
}

void ctl_ms(double ms, char *out, size_t size)
{
	if (unknown(ms, out, size))
		return;
	if (ms < 1000)
		snprintf(out, size, "%.0f ms", ms);
	else
		snprintf(out, size, "%.1f s", ms / 1000);
}

void ctl_age(double ms, char *out, size_t size)
{
	if (unknown(ms, out, size))
		return;
	if (ms < 10000)
		snprintf(out, size, "%.1fs", ms / 1000);
	else
		ctl_duration(ms / 1000, out, size);
}

void ctl_rate(double tok_s, char *out, size_t size)
{
	if (!unknown(tok_s > 0 ? tok_s : -1, out, size))
		snprintf(out, size, tok_s < 100 ? "%.1f" : "%.0f", tok_s);
}

void ctl_whole(double n, char *out, size_t size)
{
	if (!unknown(n, out, size))
		snprintf(out, size, "%.0f", n);
}

void ctl_count(double n, char *out, size_t size)
{
	if (n < 10000)
		ctl_whole(n, out, size);
	else
		snprintf(out, size, "%.1fK", n / 1000);
}
