#include "supervisor/life/successor.h"

#include "common/base/log.h"
#include "supervisor/devices/worker.h"
#include "supervisor/life/life.h"
#include "supervisor/life/listener.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- the conversation --- */

static void give_up(struct life *l, const char *why)
{
	log_line(LOG_ERROR, "upgrade_given_up", LOG_STR("why", why), LOG_END);
	talk_say(l->successor.talk, "failed %s", why);
	life_event(l, LIFE_END);
}

/* On the same socket, unless the configuration has another address by now (and no socket unit has
 * the last word): then clients of the old one are refused from here on, as was asked for. */
static int open_front(struct life *l, struct buf *err)
{
	struct successor *n = &l->successor;
	const struct config *c = l->config;
	bool same = false;
	int fd = n->handover.listen_fd;
	n->handover.listen_fd = -1;
	int rc = front_check_listener(fd, c->listen.address, c->listen.port, &same, err);
	if (rc == 0 && (same || n->handover.given))
		return doors_open(l, fd, err);
	close(fd);
	if (rc == 0)
		rc = doors_open(l, -1, err);
	if (rc)
		return rc;
	l->notify.quiet = false;
	notify_say(&l->notify, "FDSTOREREMOVE=1\nFDNAME=" LISTENER_STORED_NAME);
	l->service.stored = false; /* the new one is to be */
	talk_say(n->talk, "elsewhere");
	return 0;
}

static void take_over(struct life *l)
{
	struct successor *n = &l->successor;
	struct buf err;
	buf_init(&err, 512);
	int rc = open_front(l, &err);
	if (rc)
		give_up(l, buf_cstr(&err));
	buf_free(&err);
	if (rc)
		return;
	n->waiting = false;
	compact_key_look(&l->requests->compact_key);
	rundir_take(&l->rundir);
	warm_take_over(l->devices);
	for (size_t i = 0; i < n->handover.old_count; i++)
		elders_add(l, n->handover.old[i].pid, n->handover.old[i].fd);
	n->handover.old_count = 0;
	/* tandemctl, which asked the old one, asks us for the outcome. */
	char why[64];
	snprintf(why, sizeof(why), "pid %d took over", (int)getpid());
	operation_part_ended(&l->operations, n->handover.operation, true, why, now_ms());
	talk_say(n->talk, "taken");
	service_in_charge(l);
}

/* The predecessor waits for our end, perhaps called off while we had just taken over: so we wait
 * for nobody's. */
static void stop(struct life *l)
{
	elders_fini(l);
	life_event(l, LIFE_END);
}

static void on_line(void *ctx, const char *line)
{
	struct life *l = ctx;
	if (strcmp(line, "take") == 0 && l->successor.ready && l->successor.waiting &&
		l->state == LIFE_RUNNING)
		take_over(l);
	else if (strcmp(line, "stop") == 0)
		stop(l);
}

static void on_end(void *ctx)
{
	struct life *l = ctx;
	talk_close(l->successor.talk);
	l->successor.talk = NULL;
	if (!l->successor.waiting)
		return;
	log_line(LOG_ERROR, "upgrade_given_up", LOG_STR("why", "the old tandemd is gone"), LOG_END);
	life_event(l, LIFE_END);
}

/* --- what is waited for --- */

static const struct device *not_ready(const struct life *l)
{
	const struct handover *h = &l->successor.handover;
	for (size_t w = 0; w < h->wait_count; w++)
		for (size_t i = 0; i < l->devices->count; i++) {
			const struct device *d = l->devices->of[i];
			if (strcmp(d->conf->name, h->wait[w]) == 0 && d->state != WORKER_READY)
				return d;
		}
	return NULL; /* a device that the new configuration lacks is not waited for */
}

void successor_look(struct life *l)
{
	struct successor *n = &l->successor;
	if (!n->waiting || n->ready || !n->talk || l->state != LIFE_RUNNING)
		return;
	const struct device *d = not_ready(l);
	if (d) {
		const char *detail =
			d->current->backend.detail[0] ? d->current->backend.detail : d->last_exit;
		talk_say(n->talk, "waiting device %s is %s%s%s", d->conf->name,
			worker_state_name(d->state), detail[0] ? ": " : "", detail);
		return;
	}
	n->ready = true;
	talk_say(n->talk, "ready");
}

/* --- life --- */

int successor_read(struct life *l, struct buf *err)
{
	int rc = handover_read(&l->successor.handover, err);
	l->successor.waiting = rc > 0;
	return rc < 0 ? rc : 0;
}

int successor_start(struct life *l)
{
	static const struct talk_events events = {.line = on_line, .end = on_end};
	struct successor *n = &l->successor;
	if (n->handover.operation) { /* our own operations' numbers go on from there */
		l->operations.last_id = n->handover.operation - 1;
		operation_begin(&l->operations, "upgrade", "all", 1, now_ms());
	}
	int rc = talk_open(l->loop, n->handover.talk_fd, &events, l, &n->talk);
	n->handover.talk_fd = -1;
	return rc;
}

void successor_failed(struct life *l, const char *why)
{
	struct successor *n = &l->successor;
	if (n->talk) {
		talk_say(n->talk, "failed %s", why);
	} else if (n->waiting && n->handover.talk_fd >= 0) {
		char line[TALK_LINE_BYTES];
		int length = snprintf(line, sizeof(line), "failed %.900s\n", why);
		(void)send(n->handover.talk_fd, line, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

void successor_stop(struct life *l)
{
	if (l->successor.waiting && l->successor.talk)
		talk_say(l->successor.talk, "failed it was told to stop");
}

void successor_fini(struct life *l)
{
	struct successor *n = &l->successor;
	talk_close(n->talk);
	n->talk = NULL;
	if (n->handover.listen_fd >= 0)
		close(n->handover.listen_fd);
	n->handover.listen_fd = -1;
}
