#include "supervisor/tell/ui_doctor.h"

#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/now.h"
#include "supervisor/requests/page.h"
#include "supervisor/tell/capture.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/queue.h>

#define WHY_BYTES 256

struct asker {
	TAILQ_ENTRY(asker) link;
	struct ui_doctor *all;
	struct request *request;
};

struct ui_doctor {
	uv_loop_t *loop;
	const char *program, *run_dir;
	const struct config *config;
	TAILQ_HEAD(, asker) askers;
	uv_timer_t patience; /* active while there are any */
	uv_timer_t turn;     /* active while a run waits for its turn */
	unsigned handles;    /* that the loop still has */
	uint64_t begun_ms;   /* the last run; 0: none was */
	struct capture *run; /* NULL: none */
	bool unwanted;	     /* the run is being killed: nobody hears what it said */
	struct buf answer;   /* the last one; empty: none that counts */
	int status;
	uint64_t answered_ms;
};

/* --- those who wait --- */

static struct request *leave(struct asker *a)
{
	struct request *r = a->request;
	TAILQ_REMOVE(&a->all->askers, a, link);
	free(a);
	return r;
}

static void answer_all(struct ui_doctor *d, int status, struct slice json)
{
	uv_timer_stop(&d->patience);
	uv_timer_stop(&d->turn);
	while (!TAILQ_EMPTY(&d->askers))
		page_answer(leave(TAILQ_FIRST(&d->askers)), status, json);
}

static void put_error(struct buf *out, const char *why)
{
	buf_add_char(out, '{');
	json_put_key(out, "error");
	json_put_string(out, slice_str(why));
	buf_add_char(out, '}');
}

static void refuse_all(struct ui_doctor *d, const char *why)
{
	struct buf text;
	buf_init(&text, 0);
	put_error(&text, why);
	answer_all(d, 503, buf_error(&text) ? (struct slice){0} : buf_slice(&text));
	buf_free(&text);
}

/* What runs is of no use. It is gone soon, or already. */
static void stop_run(struct ui_doctor *d)
{
	if (!d->run)
		return;
	d->unwanted = true;
	capture_kill(d->run);
}

static void forget(struct ui_doctor *d)
{
	buf_free(&d->answer);
}

/* --- a run --- */

/* For those who wait, and who come soon. */
static void answered(struct ui_doctor *d, int status)
{
	d->status = status;
	d->answered_ms = now_ms();
	if (buf_error(&d->answer))
		forget(d);
	answer_all(d, status, buf_slice(&d->answer));
}

static void failed(struct ui_doctor *d, const char *why)
{
	log_line(LOG_WARN, "doctor_failed", LOG_STR("program", d->program), LOG_STR("why", why),
		LOG_END);
	put_error(&d->answer, why);
	answered(d, 503);
}

/* What it answers, an object; or none, and why. Its exit status tells no more than the answer: how bad it is. */
static struct slice judge(
	const struct ui_doctor *d, const struct captured *what, char why[WHY_BYTES])
{
	struct json_value root;
	bool running = false;
	if (what->too_large) {
		snprintf(why, WHY_BYTES, "the doctor says more than limits.doctor_bytes = %" PRId64,
			d->config->limits.doctor_bytes);
	} else if (what->signal) {
		snprintf(why, WHY_BYTES, "tandemctl doctor was ended by signal %d", what->signal);
	} else if (json_parse(what->said, JSON_MAX_DEPTH, &root, NULL) ||
		   !json_is(root, JSON_OBJECT) ||
		   !json_is(json_get(root, "findings"), JSON_ARRAY)) {
		snprintf(why, WHY_BYTES,
			"tandemctl doctor ended with status %d and no answer; in a terminal it "
			"says why",
			what->status);
	} else if (!json_to_bool(json_get(root, "running"), &running) || !running) {
		snprintf(why, WHY_BYTES, "the doctor could not ask this tandemd; try again");
	} else {
		return root.raw;
	}
	return (struct slice){0};
}

static void begin_in_turn(struct ui_doctor *d);

static void on_end(void *ctx, const struct captured *what)
{
	struct ui_doctor *d = ctx;
	char why[WHY_BYTES];
	d->run = NULL;
	if (d->unwanted) {
		d->unwanted = false;
		if (!TAILQ_EMPTY(&d->askers))
			begin_in_turn(d);
		return;
	}
	forget(d);
	struct slice answer = judge(d, what, why);
	if (answer.n == 0) {
		failed(d, why);
	} else {
		buf_add_slice(&d->answer, answer);
		answered(d, 200);
	}
}

static void on_late(uv_timer_t *timer);

/* A run has all of its time, whatever those who wait for it waited for before. */
static void be_patient(struct ui_doctor *d, uint64_t first_ms)
{
	uv_timer_start(
		&d->patience, on_late, first_ms + (uint64_t)d->config->deadlines.doctor_ms, 0);
}

static void begin(struct ui_doctor *d)
{
	const char *args[] = {d->program, "-R", d->run_dir, "doctor", "--json", NULL};
	char why[WHY_BYTES];
	be_patient(d, 0);
	d->begun_ms = now_ms();
	int rc = capture_start(
		d->loop, args, (size_t)d->config->limits.doctor_bytes, on_end, d, &d->run);
	if (rc == 0)
		return;
	forget(d);
	snprintf(why, sizeof(why), "the tandemctl beside tandemd cannot be started: %s",
		uv_strerror(rc));
	failed(d, why);
}

static void on_turn(uv_timer_t *timer)
{
	begin(timer->data);
}

/* Who asks and leaves, again and again, has no process started each time. */
static void begin_in_turn(struct ui_doctor *d)
{
	uint64_t since = now_ms() - d->begun_ms;
	if (d->begun_ms == 0 || since >= DOCTOR_FRESH_MS) {
		begin(d);
		return;
	}
	be_patient(d, DOCTOR_FRESH_MS - since);
	uv_timer_start(&d->turn, on_turn, DOCTOR_FRESH_MS - since, 0);
}

static void on_late(uv_timer_t *timer)
{
	struct ui_doctor *d = timer->data;
	char why[WHY_BYTES];
	snprintf(why, sizeof(why), "the doctor takes longer than deadlines.doctor_ms = %" PRId64,
		d->config->deadlines.doctor_ms);
	log_line(LOG_WARN, "doctor_failed", LOG_STR("program", d->program), LOG_STR("why", why),
		LOG_END);
	refuse_all(d, why);
	stop_run(d);
}

/* --- asked --- */

static void on_gone(void *ctx)
{
	struct ui_doctor *d = ((struct asker *)ctx)->all;
	leave(ctx);
	if (!TAILQ_EMPTY(&d->askers))
		return;
	uv_timer_stop(&d->patience);
	uv_timer_stop(&d->turn);
	stop_run(d);
}

void ui_doctor_ask(struct ui_doctor *d, struct request *r)
{
	if (d->answer.n && now_ms() - d->answered_ms < DOCTOR_FRESH_MS) {
		page_answer(r, d->status, buf_slice(&d->answer));
		return;
	}
	struct asker *a = calloc(1, sizeof(*a));
	if (!a) {
		page_answer(r, 503, (struct slice){0});
		return;
	}
	*a = (struct asker){.all = d, .request = r};
	TAILQ_INSERT_TAIL(&d->askers, a, link);
	if (!page_wait(r, on_gone, a)) {
		leave(a);
		return;
	}
	if (!uv_is_active((uv_handle_t *)&d->patience))
		be_patient(d, 0);
	if (!d->run && !uv_is_active((uv_handle_t *)&d->turn))
		begin_in_turn(d);
}

/* Whose key a reload took away hears nothing that was seen after it. */
static void refuse_strangers(struct ui_doctor *d)
{
	struct asker *a, *next;
	for (a = TAILQ_FIRST(&d->askers); a; a = next) {
		next = TAILQ_NEXT(a, link);
		if (!page_may(a->request))
			page_answer(leave(a), 503,
				SLICE("{\"error\":\"the keys are other ones now; ask again\"}"));
	}
	if (TAILQ_EMPTY(&d->askers)) {
		uv_timer_stop(&d->patience);
		uv_timer_stop(&d->turn);
	}
}

void ui_doctor_anew(struct ui_doctor *d)
{
	forget(d);
	refuse_strangers(d);
	stop_run(d);
}

void ui_doctor_end(struct ui_doctor *d)
{
	if (!d)
		return;
	forget(d);
	refuse_all(d, "this tandemd is about to end");
	stop_run(d);
}

/* --- life --- */

struct ui_doctor *ui_doctor_create(
	uv_loop_t *loop, const char *program, const char *run_dir, const struct config *config)
{
	struct ui_doctor *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->loop = loop;
	d->program = program;
	d->run_dir = run_dir;
	d->config = config;
	TAILQ_INIT(&d->askers);
	buf_init(&d->answer, 0);
	uv_timer_init(loop, &d->patience);
	uv_timer_init(loop, &d->turn);
	d->patience.data = d->turn.data = d;
	d->handles = 2;
	return d;
}

static void on_closed(uv_handle_t *h)
{
	struct ui_doctor *d = h->data;
	if (--d->handles)
		return;
	buf_free(&d->answer);
	free(d);
}

void ui_doctor_destroy(struct ui_doctor *d)
{
	if (!d)
		return;
	ui_doctor_end(d);
	capture_drop(d->run);
	d->run = NULL;
	uv_close((uv_handle_t *)&d->patience, on_closed);
	uv_close((uv_handle_t *)&d->turn, on_closed);
}
