/*
 * /fake/: how a test steers and asks the fake backend itself.
 */
#include "tests/fake/api.h"
#include "tests/fake/engine.h"
#include "tests/fake/stats.h"

static void add_rule(struct request *r)
{
	if (rules_add(&r->fake->rules, r->json) < 0)
		http_reply(r->x, 400, "text/plain", SLICE("fake-backend: no such rule\n"));
	else
		http_reply(r->x, 200, "application/json", SLICE("{\"ok\":true}"));
}

static void reset(struct request *r)
{
	rules_clear(&r->fake->rules);
	stats_reset(r->fake);
	engine_forget(r->fake->engine);
	http_reply(r->x, 200, "application/json", SLICE("{\"ok\":true}"));
}

static void go_on(struct request *r)
{
	int64_t hang_after = -1;

	json_to_int(json_get(r->json, "hang_after"), &hang_after);
	engine_go_on(r->fake->engine, hang_after);
	for (struct request *it = stats_under_way(r->fake); it; it = it->next)
		if (it->delay.armed)
			clock_at(&r->fake->clock, &it->delay, clock_now());
	http_reply(r->x, 200, "application/json", SLICE("{\"ok\":true}"));
}

static void stats(struct request *r)
{
	struct buf out;

	buf_init(&out, 64u << 20);
	stats_json(r->fake, &out);
	http_reply(r->x, 200, "application/json", buf_slice(&out));
	buf_free(&out);
}

const struct route control_routes[] = {
	{"POST", "/fake/control", add_rule, 0},
	{"POST", "/fake/reset", reset, 0},
	{"POST", "/fake/go", go_on, 0},
	{"GET", "/fake/stats", stats, 0},
	{0},
};
