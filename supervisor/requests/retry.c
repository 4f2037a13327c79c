#include "supervisor/requests/retry.h"

#include "supervisor/devices/job.h"

/* Counts a death. False: the request is not given to another worker. */
static bool outlives(const struct retry_facts *f, struct retry_counts *n, struct retry_decision *d)
{
	d->death = true;
	if (f->blameless)
		return true;
	n->deaths++;
	n->idle_deaths = f->advanced ? 0 : n->idle_deaths + 1;
	if (n->idle_deaths >= f->poison_at) {
		d->what = RETRY_POISON;
		return false;
	}
	return n->deaths <= f->deaths_max;
}

/*
 * A connection that was closed without a word, and nobody answers there now: a container's proxy
 * whose backend restarts, or a backend that died of the request. Each further time comes after the
 * backend was seen well again, and by then weather is the less likely cause.
 */
static bool outlives_weather(
	const struct retry_facts *f, struct retry_counts *n, struct retry_decision *d)
{
	return n->closed++ < RETRY_CLOSED_FREE || outlives(f, n, d);
}

/* A worker reports its backend as down, or dies, soon after; the job then waits for the next READY.
 * The pause is for the turns in between. */
static void again(const struct retry_facts *f, struct retry_counts *n, struct retry_decision *d)
{
	d->what = RETRY_AGAIN;
	if (f->cause == JOB_LOST || f->cause == FAIL_GONE || !f->same_device)
		return;
	if (f->advanced || !f->same_worker)
		n->tries = 0;
	d->what = n->tries < RETRY_MAX ? RETRY_PAUSE : RETRY_NOT;
	if (d->what == RETRY_PAUSE)
		d->pause_ms = (uint64_t)RETRY_MS << n->tries++;
}

static void decide_whole(
	const struct retry_facts *f, struct retry_counts *n, struct retry_decision *d)
{
	switch (f->cause) {
	case FAIL_CUT:
	case JOB_LOST:
		if (f->cause == FAIL_CUT && f->original)
			d->what = RETRY_ORIGINAL;
		else if (outlives(f, n, d))
			again(f, n, d);
		break;
	case FAIL_CLOSED:
		if (outlives_weather(f, n, d))
			again(f, n, d);
		break;
	case FAIL_UNREACHABLE:
	case FAIL_DRAINING:
	case FAIL_GONE: /* the death before it was counted */
		again(f, n, d);
		break;
	case FAIL_OVERFLOW:
		d->what = f->shorter ? RETRY_SHORTER : RETRY_NOT;
		break;
	case FAIL_GARBAGE:
	case FAIL_STATUS:
		/* A condensing failure is never an error that the client would not have had: the
		 * original decides. */
		d->what = f->original ? RETRY_ORIGINAL : RETRY_NOT;
		break;
	default:
		break;
	}
}

static void go_on(const struct retry_facts *f, struct retry_counts *n, struct retry_decision *d)
{
	if (f->stuck)
		d->what = RETRY_STUCK;
	else
		again(f, n, d);
}

static void decide_from_here(
	const struct retry_facts *f, struct retry_counts *n, struct retry_decision *d)
{
	switch (f->cause) {
	case FAIL_TIMEOUT: /* a backend that hangs: once, since each time costs backend_idle_ms */
		if (n->timeouts++ > 0)
			break;
		/* fall through */
	case JOB_LOST:
	case FAIL_CUT:
		if (outlives(f, n, d))
			go_on(f, n, d);
		break;
	case FAIL_UNREACHABLE:
	case FAIL_DRAINING:
	case FAIL_GONE:
		go_on(f, n, d);
		break;
	case FAIL_CLOSED:
		if (outlives_weather(f, n, d))
			go_on(f, n, d);
		break;
	default:
		break;
	}
}

struct retry_decision retry_decide(const struct retry_facts *f, struct retry_counts *n)
{
	struct retry_decision d = {.what = RETRY_NOT};
	if (f->begun)
		decide_from_here(f, n, &d);
	else
		decide_whole(f, n, &d);
	return d;
}
