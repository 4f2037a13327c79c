/*
 * A device whose workers have neither process nor link: what the tables do to them is written down. For unit tests of
 * the tables.
 */
#ifndef TANDEM_TESTS_WORKERS_H
#define TANDEM_TESTS_WORKERS_H

#include "supervisor/devices/devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct workers {
	uv_loop_t loop;
	struct config config;
	struct devices devices;
	struct device *d;
	char done[4096]; /* what was done and told, word by word; taken by workers_done() */
	char taken[4096];
	int spawn_rc;
};

static struct workers *workers;

static void workers_note(const char *word)
{
	size_t n = strlen(workers->done);
	snprintf(workers->done + n, sizeof(workers->done) - n, "%s%s", n ? " " : "", word);
}

static inline const char *workers_done(void)
{
	memcpy(workers->taken, workers->done, sizeof(workers->taken));
	workers->done[0] = '\0';
	return workers->taken;
}

static int workers_spawn(struct worker *w)
{
	if (workers->spawn_rc)
		return workers->spawn_rc;
	w->generation = ++w->device->generation;
	w->process = calloc(1, sizeof(*w->process));
	w->pid = 1000 + (int)w->generation;
	workers_note("spawn");
	return 0;
}

static void workers_kill(struct worker *w, int signum)
{
	char word[32];
	if (!w->process)
		return;
	snprintf(word, sizeof(word), "kill:%s",
		signum == SIGTERM   ? "TERM"
		: signum == SIGKILL ? "KILL"
		: signum == SIGABRT ? "ABRT"
				    : "CONT");
	workers_note(word);
}

static void workers_abandon(struct worker *w)
{
	(void)w;
	workers_note("abandon");
}

static void workers_ack(struct worker *w)
{
	(void)w;
	workers_note("ack");
}

static void workers_drain(struct worker *w)
{
	workers_note(w->keep_backend ? "drain:keep" : "drain");
}

static void workers_watch(struct worker *w)
{
	(void)w;
}

/* Its process has ended. May free it. */
static inline void workers_exit(struct worker *w)
{
	w->asked_to_end = w->state == WORKER_STOPPING || w->state == WORKER_DRAINING;
	worker_event(w, EV_EXIT);
	free(w->process);
	w->process = NULL;
	w->pid = 0;
	w->on->gone(w);
}

static void workers_changed(void *ctx)
{
	(void)ctx;
}

static void workers_part_ended(void *ctx, uint64_t operation, bool ok, const char *why)
{
	char text[600];
	(void)ctx;
	snprintf(text, sizeof(text), "[%d %s %s]", (int)operation, ok ? "ok" : "failed", why);
	workers_note(text);
}

static uint64_t workers_no_request(void *ctx)
{
	(void)ctx;
	return UINT64_MAX;
}

/* One device with a stopped worker. */
static void workers_setup(void)
{
	static const struct devices_events events = {.changed = workers_changed,
		.idle = workers_changed,
		.flushed = workers_changed,
		.part_ended = workers_part_ended,
		.run_dir_used = workers_changed,
		.oldest_request_ms = workers_no_request};
	static const struct worker_hands hands = {.spawn = workers_spawn,
		.kill = workers_kill,
		.abandon = workers_abandon,
		.ack = workers_ack,
		.drain = workers_drain,
		.watch = workers_watch};
	struct config_device conf = {.name = "gpu0", .slots = 1};
	workers = calloc(1, sizeof(*workers));
	uv_loop_init(&workers->loop);
	config_defaults(&workers->config);
	workers->devices.config = &workers->config;
	workers->devices.run_dir = "/nowhere";
	TAILQ_INIT(&workers->devices.orphans.endings);
	devices_init(&workers->devices, &workers->loop, &events, NULL);
	workers->devices.worker_hands = &hands;
	workers->d = device_create(&workers->devices, &conf);
	workers->devices.of[workers->devices.count++] = workers->d;
}

static void workers_teardown(void)
{
	struct worker *w;
	TAILQ_FOREACH(w, &workers->d->workers, link)
		free(w->process);
	device_destroy(workers->d);
	while (uv_run(&workers->loop, UV_RUN_DEFAULT)) /* it may have been stopped */
		;
	uv_loop_close(&workers->loop);
	config_free(&workers->config);
	free(workers);
}

#endif
