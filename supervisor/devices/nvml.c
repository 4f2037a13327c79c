#include "supervisor/devices/nvml.h"

#include "common/base/buf.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define LIBRARY "libnvidia-ml.so.1"
#define TEMPERATURE_GPU 0 /* nvmlTemperatureSensors_t */

/* The few declarations of nvml.h that we use. */
typedef void *nvml_device;
struct nvml_memory {
	unsigned long long total, free, used;
};
struct nvml_utilization {
	unsigned gpu, memory;
};

struct driver {
	void *library;
	bool up; /* nvmlInit has succeeded */
	int (*init)(void);
	int (*count)(unsigned *);
	int (*handle)(unsigned, nvml_device *);
	int (*name)(nvml_device, char *, unsigned);
	int (*uuid)(nvml_device, char *, unsigned);
	int (*memory)(nvml_device, struct nvml_memory *);
	int (*load)(nvml_device, struct nvml_utilization *);
	int (*temperature)(nvml_device, int, unsigned *);
	int (*power)(nvml_device, unsigned *);
	const char *(*error)(int);
};

struct waiter {
	SLIST_ENTRY(waiter) link;
	nvml_fn *fn;
	void *ctx;
};

enum { IDLE, WORKING, DONE, ABANDONED };

/* What a thread of its own works on: a driver may hang for good, and libuv's pool would be waited
 * for at the end of the loop and of the process. */
struct probe {
	atomic_int state;
	uv_thread_t thread;
	uv_async_t *wake;	  /* the loop's; gone once we are ABANDONED */
	struct driver driver;	  /* the thread's while WORKING */
	struct nvml_sample fresh; /* the thread's while WORKING */
};

struct nvml {
	uv_timer_t timer; /* who waits has waited long enough */
	uv_async_t wake;  /* the thread is done */
	unsigned handles;
	struct probe *probe;	   /* NULL: destroyed */
	struct nvml_sample sample; /* the last whole one */
	SLIST_HEAD(, waiter) waiters;
};

/* --- on the thread --- */

/* False: why says what is missing. */
static bool driver_open(struct driver *d, char why[NVML_WHY_BYTES])
{
	const struct {
		const char *name;
		void *to;
	} symbols[] = {
		{"nvmlInit_v2", &d->init},
		{"nvmlDeviceGetCount_v2", &d->count},
		{"nvmlDeviceGetHandleByIndex_v2", &d->handle},
		{"nvmlDeviceGetName", &d->name},
		{"nvmlDeviceGetUUID", &d->uuid},
		{"nvmlDeviceGetMemoryInfo", &d->memory},
		{"nvmlDeviceGetUtilizationRates", &d->load},
		{"nvmlDeviceGetTemperature", &d->temperature},
		{"nvmlDeviceGetPowerUsage", &d->power},
		{"nvmlErrorString", &d->error},
	};
	if (d->up)
		return true;
	if (!d->library)
		d->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!d->library) {
		const char *text = dlerror();
		snprintf(why, NVML_WHY_BYTES, "%s", text ? text : "cannot load " LIBRARY);
		return false;
	}
	for (size_t i = 0; i < sizeof(symbols) / sizeof(*symbols); i++) {
		void *symbol = dlsym(d->library, symbols[i].name);
		if (!symbol) {
			snprintf(why, NVML_WHY_BYTES, LIBRARY " has no %s", symbols[i].name);
			return false;
		}
		memcpy(symbols[i].to, &symbol, sizeof(symbol));
	}
	int rc = d->init();
	if (rc)
		snprintf(why, NVML_WHY_BYTES, "nvmlInit: %s", d->error(rc));
	d->up = rc == 0;
	return d->up;
}

static void read_gpu(const struct driver *d, nvml_device handle, struct nvml_gpu *g)
{
	struct nvml_memory memory;
	struct nvml_utilization load;
	unsigned value;
	if (d->name(handle, g->name, sizeof(g->name)))
		g->name[0] = '\0';
	if (d->uuid(handle, g->uuid, sizeof(g->uuid)))
		g->uuid[0] = '\0';
	if (d->memory(handle, &memory) == 0) {
		g->memory_used = memory.used;
		g->memory_total = memory.total;
	}
	g->load = d->load(handle, &load) ? -1 : (int)load.gpu;
	g->temperature = d->temperature(handle, TEMPERATURE_GPU, &value) ? -1 : (int)value;
	g->power = d->power(handle, &value) ? -1 : value / 1000.0;
}

static void look(struct probe *p)
{
	struct nvml_sample *s = &p->fresh;
	struct driver *driver = &p->driver;
	unsigned count = 0;
	*s = (struct nvml_sample){0};
	if (!driver_open(driver, s->why))
		return;
	int rc = driver->count(&count);
	if (rc)
		snprintf(s->why, sizeof(s->why), "%s", driver->error(rc));
	for (unsigned i = 0; i < count && s->count < NVML_GPUS_MAX; i++) {
		nvml_device handle;
		rc = driver->handle(i, &handle);
		if (rc) { /* one that has fallen off the bus hides no other */
			snprintf(s->why, sizeof(s->why), "GPU %u: %s", i, driver->error(rc));
			continue;
		}
		s->gpu[s->count].index = i;
		read_gpu(driver, handle, &s->gpu[s->count++]);
	}
}

static void run(void *arg)
{
	struct probe *p = arg;
	look(p);
	if (atomic_exchange(&p->state, DONE) == ABANDONED)
		free(p); /* nobody waits any more */
	else
		uv_async_send(p->wake); /* on_done() joins before anything is closed */
}

/* --- on the loop --- */

static void answer_all(struct nvml *n)
{
	struct waiter *w;
	uv_timer_stop(&n->timer);
	while ((w = SLIST_FIRST(&n->waiters))) {
		SLIST_REMOVE_HEAD(&n->waiters, link);
		w->fn(w->ctx, &n->sample);
		free(w);
	}
}

static uint64_t clock_ms(void)
{
	return uv_hrtime() / 1000000u;
}

static void on_done(uv_async_t *wake)
{
	struct nvml *n = wake->data;
	struct probe *p = n->probe;
	if (!p || atomic_load(&p->state) != DONE)
		return;
	uv_thread_join(&p->thread); /* it has nothing left to do */
	atomic_store(&p->state, IDLE);
	n->sample = p->fresh;
	n->sample.taken_ms = clock_ms();
	answer_all(n);
}

static void on_waited(uv_timer_t *t)
{
	struct nvml *n = t->data;
	snprintf(n->sample.why, sizeof(n->sample.why), "the driver does not answer within %d ms",
		NVML_WAIT_MS);
	answer_all(n);
}

int nvml_create(uv_loop_t *loop, struct nvml **out)
{
	struct nvml *n = calloc(1, sizeof(*n));
	struct probe *p = calloc(1, sizeof(*p));
	int rc = n && p ? uv_async_init(loop, &n->wake, on_done) : -ENOMEM;
	if (rc) {
		free(n);
		free(p);
		return rc;
	}
	uv_unref((uv_handle_t *)&n->wake);
	uv_timer_init(loop, &n->timer);
	n->timer.data = n->wake.data = n;
	n->handles = 2;
	n->probe = p;
	p->wake = &n->wake;
	*out = n;
	return 0;
}

static int start_thread(struct probe *p)
{
	if (atomic_load(&p->state) != IDLE)
		return 0; /* one is at it */
	atomic_store(&p->state, WORKING);
	int rc = uv_thread_create(&p->thread, run, p);
	if (rc)
		atomic_store(&p->state, IDLE);
	return rc;
}

int nvml_ask(struct nvml *n, nvml_fn *fn, void *ctx)
{
	if (n->sample.taken_ms && clock_ms() - n->sample.taken_ms < NVML_FRESH_MS) {
		fn(ctx, &n->sample);
		return 0;
	}
	struct waiter *w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	int rc = start_thread(n->probe);
	if (rc) {
		free(w);
		return rc;
	}
	*w = (struct waiter){.fn = fn, .ctx = ctx};
	SLIST_INSERT_HEAD(&n->waiters, w, link);
	if (!uv_is_active((uv_handle_t *)&n->timer))
		uv_timer_start(&n->timer, on_waited, NVML_WAIT_MS, 0);
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	struct nvml *n = h->data;
	if (--n->handles == 0)
		free(n); /* the library stays: it ends with the process */
}

void nvml_destroy(struct nvml *n)
{
	struct probe *p = n->probe;
	answer_all(n);
	n->probe = NULL;
	int state = atomic_exchange(&p->state, ABANDONED);
	if (state == DONE)
		uv_thread_join(&p->thread);
	if (state != WORKING) /* else the thread frees it, should the driver ever answer */
		free(p);
	uv_close((uv_handle_t *)&n->timer, on_closed);
	uv_close((uv_handle_t *)&n->wake, on_closed);
}

bool nvml_pinned(const char *pin, const struct nvml_gpu *gpu)
{
	char number[16];
	snprintf(number, sizeof(number), "%u", gpu->index);
	struct slice list = slice_str(pin);
	return slice_lists(list, slice_str(number)) ||
	       (gpu->uuid[0] && slice_lists(list, slice_str(gpu->uuid)));
}
