/*
 * The supervisor's own state: one per process, passed to every module; no globals.
 *
 * Who owns what: the supervisor owns the front door, the devices and the counters; a device owns
 * its worker process, link and jobs; a request owns its exchange's context and refers to the jobs
 * it started. All of it lives on the one loop thread.
 */
#ifndef TANDEM_SUPERVISOR_H
#define TANDEM_SUPERVISOR_H

#include "common/base/histogram.h"
#include "common/config/config.h"
#include "common/layout/state.h"
#include "common/tokens.h"
#include "supervisor/devices/adopt.h"
#include "supervisor/devices/device.h"
#include "supervisor/devices/keep.h"
#include "supervisor/devices/totals.h"
#include "supervisor/front/front.h"
#include "supervisor/life/doors.h"
#include "supervisor/life/elders.h"
#include "supervisor/life/life.h"
#include "supervisor/life/notify.h"
#include "supervisor/life/operation.h"
#include "supervisor/life/rundir.h"
#include "supervisor/life/rundir_watch.h"
#include "supervisor/life/service.h"
#include "supervisor/life/successor.h"
#include "supervisor/life/upgrade.h"
#include "supervisor/requests/poison.h"

#include <sys/queue.h>
#include <uv.h>

#define STRATEGIES 3 /* A, B, C */
/* A reload that would leave more behind is refused. */
#define DEVICES_REMOVED_MAX (4 * CONFIG_DEVICES_MAX)

struct counters {
	uint64_t requests, failed, refused, cancelled, fallbacks, passed, coalesced, resumed;
	uint64_t by_strategy[STRATEGIES];
	uint64_t early_freezes; /* conversations shortened while nobody waited */
};

/* How long things took, in ms: requests by way (A, B, C, pass), jobs by enum proto_kind. */
#define TIMED_STRATEGIES (STRATEGIES + 1)
#define TIMED_KINDS 4

struct times {
	struct histogram first_byte[TIMED_STRATEGIES], total[TIMED_STRATEGIES];
	struct histogram queue_wait[TIMED_KINDS], backend[TIMED_KINDS];
};

/* Routing by predicted time: the time to the first byte, by way. */
struct predictions {
	struct histogram error[STRATEGIES];   /* measured - predicted, without sign; ms */
	struct histogram percent[STRATEGIES]; /* measured of predicted; percent */
};

struct request;
struct governor;
TAILQ_HEAD(request_list, request);
struct chat;
TAILQ_HEAD(chat_list, chat);

struct supervisor {
	uv_loop_t *loop;
	struct config config;
	const char *config_path;
	const char *run_dir;	/* of the configuration, or -R */
	char worker_path[4096]; /* the tandem-worker beside this program */
	char program[4096];	/* what we were started as: an upgrade starts it again */
	char **argv;
	struct front *front; /* NULL in a successor that has not taken over */
	struct front *shut[DOORS_SHUT_MAX];
	size_t shut_count;
	struct device *devices[CONFIG_DEVICES_MAX]; /* in the configuration's order */
	size_t device_count;
	struct device *removed[DEVICES_REMOVED_MAX]; /* still finish what they have */
	size_t removed_count;
	struct tokens *tokens;
	struct governor *governor;    /* of Ollama's windows */
	struct layout_cache *layouts; /* what was decided for earlier requests */
	struct rep *stats;
	struct events *events;
	struct nvml *nvml;
	struct request_list requests;
	struct chat_list chats;	   /* those that a retry may join (coalesce.h) */
	uint64_t client_secret[2]; /* keys the hashes of clients (client.h) */
	unsigned active;	   /* requests in the list */
	unsigned queued;	   /* client requests waiting for a slot, all devices */
	size_t held_bytes;	   /* request bodies held in memory */
	uint64_t next_job;
	unsigned next_device;
	uint64_t next_request;
	uint64_t started_ms; /* uv_hrtime based */
	struct counters count;
	struct totals past; /* of devices that are gone */
	struct times times;
	struct predictions predictions;
	struct keep *keep; /* what lasts over restarts; NULL: nothing does */
	struct poison poison;
	struct operations operations;
	unsigned connections_max; /* limits.connections, or fewer for want of descriptors */
	bool loopback;		  /* we listen on loopback only: Host headers are looked at */
	bool stopping;
	bool reloading;
	bool keep_backends; /* a successor has them: our workers leave them running */
	struct rundir rundir;
	struct rundir_watch rundir_watch;
	struct life life;
	struct notify notify;
	struct service service;
	struct elders elders;
	struct upgrade upgrade;
	struct successor successor;
	struct adopt adopt;
};

/* Milliseconds of the monotonic clock. */
static inline uint64_t now_ms(void)
{
	return uv_hrtime() / 1000000u;
}

/* The last request has ended or the last worker is gone: the shutdown looks whether it can go on.
 */
void supervisor_check_stopped(struct supervisor *s);

/* Opens the front door on an already listening socket (ours from then on), or with -1 on a new one.
 * 0 or -errno with words in err. */
int supervisor_open_front(struct supervisor *s, int listen_fd, struct buf *err);

/* We accept and have the known names: from now on we speak for the service (service.h). */
void supervisor_in_charge(struct supervisor *s);
/* A device's state has changed. */
void supervisor_devices_changed(struct supervisor *s);

#endif
