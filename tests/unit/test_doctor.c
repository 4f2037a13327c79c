/* The doctor's looks: each at both sides of its bounds, over facts made up. */
#include "supervisor/ctl/doctor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

/* --- facts --- */

/* A pair that is well, and has worked. */
static struct doctor_facts well(void)
{
	struct doctor_facts f;
	doctor_facts_init(&f);
	f.running = f.knows_sums = f.knows_keys = f.knows_sessions = f.knows_gpus = true;
	snprintf(f.listen, sizeof(f.listen), "127.0.0.1:8512");
	snprintf(f.routing, sizeof(f.routing), "adaptive");
	f.uptime_s = 3600;
	f.requests = f.chats = 1000;
	f.first_byte_ms = 1000000;
	f.devices = 2;
	for (size_t i = 0; i < f.devices; i++) {
		struct doctor_device *d = &f.device[i];
		doctor_device_init(d);
		d->main = i == 0;
		d->condense = i == 1;
		d->slots = d->reported_slots = d->sessions = d->loads = d->models = 1;
		d->window = d->loaded_window = 16384;
		d->done = 500;
		d->load_ms = 4000;
		d->prefill = i ? 900 : 1500;
		d->decode = 40;
		d->reach = REACH_LOCAL;
		d->port = 11434;
		d->model_bytes = d->gpu_bytes = 6LL << 30;
		d->weight_bytes = 5LL << 30;
		d->gpu_percent = 100;
		d->gpus = d->flash = d->speculation = 1;
		d->keep_s = INT32_MAX;
		snprintf(d->cache_type, sizeof(d->cache_type), "f16");
		snprintf(d->name, sizeof(d->name), "gpu%zu", i);
		snprintf(d->type, sizeof(d->type), "ollama");
		snprintf(d->state, sizeof(d->state), "ready");
		snprintf(d->url, sizeof(d->url), "http://127.0.0.1:11434");
		f.gpu[i] = (struct doctor_gpu){
			.index = (int64_t)i, .used = 6LL << 30, .total = 8LL << 30, .load = 50};
	}
	f.gpus = 2;
	return f;
}

static void ids_of(const struct doctor_facts *f, char *out, size_t size)
{
	struct doctor_report r;
	assert_int_equal(doctor_look(f, &r), 0);
	out[0] = '\0';
	for (size_t i = 0; i < r.count; i++) {
		size_t n = strlen(out);
		snprintf(out + n, size - n, "%s%s:%s", n ? " " : "", r.of[i].check->id,
			doctor_severity_name(r.of[i].severity));
		assert_true(r.of[i].what.n > 0 && r.of[i].advice.n > 0);
		assert_int_equal(r.of[i].what.p[r.of[i].what.n - 1], '.');
		assert_int_equal(r.of[i].advice.p[r.of[i].advice.n - 1], '.');
	}
	doctor_report_free(&r);
}

#define FINDS(facts, expected)                                                                     \
	do {                                                                                       \
		char ids[512];                                                                     \
		ids_of((facts), ids, sizeof(ids));                                                 \
		assert_string_equal(ids, (expected));                                              \
	} while (0)

/* --- looks --- */

static void a_healthy_pair_has_none(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	FINDS(&f, "");
}

static void nothing_known_is_nothing_found(void **state)
{
	(void)state;
	struct doctor_facts f;
	struct doctor_report r;
	doctor_facts_init(&f);
	FINDS(&f, "");
	f.devices = 1;
	doctor_device_init(&f.device[0]);
	assert_int_equal(doctor_look(&f, &r), 0);
	for (size_t i = 0; i < doctor_check_count; i++) /* but for what needs no facts to be fine */
		assert_true(r.unknown[i] || strcmp(doctor_checks[i].id, "small-slow") == 0);
	doctor_report_free(&r);
}

static void windows(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	f.shortened_to_fit = 99;
	FINDS(&f, "");
	f.shortened_to_fit = 100;
	FINDS(&f, "window-cuts:advice cache-type:advice");
	snprintf(f.device[0].cache_type, sizeof(f.device[0].cache_type), "q8_0");
	FINDS(&f, "window-cuts:advice");
	f.too_long = 1;
	FINDS(&f, "window-cuts:warning");
	f = well();
	f.device[0].loaded_window = 4096;
	FINDS(&f, "window-other:warning");
	f.device[0].client_num_ctx = true; /* then it is as it was asked for */
	FINDS(&f, "");
	f.device[0].client_num_ctx = false;
	snprintf(f.device[0].type, sizeof(f.device[0].type), "llama-server");
	FINDS(&f, "");
}

static void loads(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	f.device[0].loads = 3; /* two beyond the first */
	FINDS(&f, "");
	f.device[0].loads = 12;
	FINDS(&f, "reloads:warning");
	f.device[0].loads = 10; /* of 500 answers: noise */
	FINDS(&f, "");
	f.device[0].loads = 101;
	FINDS(&f, "reloads:serious");
}

static void memory(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	struct doctor_device *d = &f.device[0];
	d->gpu_percent = 99;
	d->gpu_bytes = d->model_bytes - 1;
	FINDS(&f, "window-spills:serious cache-type:advice"); /* the weights fit */
	d->weight_bytes = d->model_bytes;
	FINDS(&f, "cpu:serious cache-type:advice");
	snprintf(d->cache_type, sizeof(d->cache_type), "q8_0");
	FINDS(&f, "cpu:serious");
	d->gpu_percent = d->gpu_bytes = 0;
	FINDS(&f, "cpu:serious");
	f.knows_gpus = false; /* there is none */
	FINDS(&f, "cpu:warning");
	f = well();
	f.device[1].gpu_percent = f.device[1].gpu_bytes = 0; /* the small one */
	FINDS(&f, "cpu:warning cache-type:advice");
	f = well();
	d->gpu_percent = d->gpu_bytes = d->model_bytes =
		-1; /* it does not say, but its card is empty */
	d->pinned_used = (5LL << 30) / 2;
	FINDS(&f, "");
	d->pinned_used--;
	FINDS(&f, "cpu:serious");
	d->pinned_used = -1;
	FINDS(&f, "");
}

static void a_window_that_fits_is_named(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	struct doctor_device *d = &f.device[0];
	struct doctor_report r;
	d->window = d->loaded_window = 32768; /* 128 KiB a token */
	d->weight_bytes = 4LL << 30;
	d->model_bytes = 8LL << 30;
	d->gpu_bytes = 6LL << 30;
	d->gpu_percent = 75;
	assert_int_equal(doctor_look(&f, &r), 0);
	assert_string_equal(r.of[0].check->id, "window-spills");
	assert_non_null(strstr(buf_cstr(&r.of[0].advice), "num_ctx = 16384 "));
	doctor_report_free(&r);
}

static void engines(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	struct doctor_device *d = &f.device[0];
	d->flash = 0;
	FINDS(&f, "flash-attention:warning");
	d->flash = -1;
	d->speculation = 0;
	FINDS(&f, "speculation:advice");
	d->decode = -1; /* nothing was written yet */
	FINDS(&f, "");
	f = well();
	f.device[1].speculation = 0; /* it writes little */
	FINDS(&f, "");
	f = well();
	d->gpus = 2;
	FINDS(&f, ""); /* alike */
	f.gpu[0].total = 12LL << 30;
	FINDS(&f, "split:warning");
	d->model_bytes = d->gpu_bytes = 11LL << 30; /* there is no other way */
	FINDS(&f, "");
	f = well();
	f.shortened_to_fit = 500;
	FINDS(&f, "window-cuts:advice cache-type:advice");
}

static void models_and_their_time(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	struct doctor_device *d = &f.device[0];
	d->models = 2;
	FINDS(&f, "");
	d->loads = 4;
	FINDS(&f, "models:warning");
	d->models = 1;
	FINDS(&f, "");
	d->keep_s = 3600;
	FINDS(&f, "");
	d->keep_s = 300;
	FINDS(&f, "keep-alive:advice");
}

static void prefixes(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	f.broken = 100;
	f.lost_ms = 1999;
	FINDS(&f, "");
	f.lost_ms = 2000;
	FINDS(&f, "prefix:warning");
	f.lost_ms = 200000;
	FINDS(&f, "prefix:serious");
	f.broken = 2;
	FINDS(&f, "");
}

static void slots(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	f.device[0].sessions = 3;
	f.device[0].cold = 1;
	FINDS(&f, "");
	f.device[0].cold = 2;
	f.device[0].cold_tokens = 30000;
	FINDS(&f, "shared-slot:warning");
	f.device[0].slots = f.device[0].reported_slots = 3; /* each has its own */
	FINDS(&f, "");
	f.device[0].slots = 4;
	FINDS(&f, "slots:warning");
}

static void cards(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	f.gpu[1].used = 1 << 20;
	f.gpu[1].load = 0;
	FINDS(&f, "idle-gpu:advice");
	f.gpu[1].load = -1; /* old cards do not tell */
	FINDS(&f, "idle-gpu:advice");
	f.gpu[1].load = 60;
	FINDS(&f, "");
	f.gpu[1].load = 0;
	f.gpu[1].pinned = true;
	FINDS(&f, "");
	f.gpu[1].pinned = false;
	f.gpu[1].total = 1LL << 30; /* the one of a screen */
	f.gpu[1].used = 0;
	FINDS(&f, "");
	f.gpu[0].used = f.gpu[0].load = 0; /* all idle: nothing runs on them */
	f.gpu[1].total = 8LL << 30;
	FINDS(&f, "");
}

static void small_devices(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	f.device[1].done = 0;
	FINDS(&f, "idle-device:advice");
	f = well();
	snprintf(f.routing, sizeof(f.routing), "threshold");
	FINDS(&f, "small-slow:warning");
	f.device[1].prefill = 1500;
	FINDS(&f, "");
	f.device[1].prefill = 800;
	f.device[1].slots = f.device[1].reported_slots = 2;
	FINDS(&f, "");
	f = well();
	f.notes_written = 20;
	FINDS(&f, "notes:advice");
	f.notes_used = 1;
	FINDS(&f, "");
	f.notes_models_off = 1;
	FINDS(&f, "notes:advice");
}

static void doors(void **state)
{
	(void)state;
	static const char *const local[] = {"127.0.0.1:1", "127.9.0.1:1", "[::1]:8512",
		"localhost:1"},
				 *const open[] = {"0.0.0.0:1", "[::]:1", "192.168.0.2:8512"};
	struct doctor_facts f = well();
	for (size_t i = 0; i < sizeof(local) / sizeof(*local); i++) {
		snprintf(f.listen, sizeof(f.listen), "%s", local[i]);
		FINDS(&f, "");
	}
	for (size_t i = 0; i < sizeof(open) / sizeof(*open); i++) {
		snprintf(f.listen, sizeof(f.listen), "%s", open[i]);
		FINDS(&f, "open-port:serious");
	}
	f.needs_key = true;
	FINDS(&f, "");
	f.device[1].reach = REACH_NETWORK;
	FINDS(&f, "open-backend:serious");
	f.device[1].has_key = true; /* which an Ollama does not look at */
	FINDS(&f, "open-backend:serious");
	snprintf(f.device[1].type, sizeof(f.device[1].type), "openai");
	FINDS(&f, "");
}

static void ends(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	f.device[0].restarts = 1;
	FINDS(&f, "");
	f.device[0].restarts = 2;
	FINDS(&f, "restarts:warning");
	f.uptime_s = 3 * 86400;
	FINDS(&f, "");
	f = well();
	f.device[0].failed = 4;
	FINDS(&f, "");
	f.device[0].failed = 26;
	FINDS(&f, "");
	f.device[0].failed = 27;
	FINDS(&f, "failures:warning");
	f = well();
	snprintf(f.device[0].state, sizeof(f.device[0].state), "loading");
	snprintf(f.device[0].backend_state, sizeof(f.device[0].backend_state), "loading");
	FINDS(&f, "away:serious");
	f.uptime_s = 20;
	FINDS(&f, "away:warning");
	snprintf(f.device[0].backend_state, sizeof(f.device[0].backend_state), "down");
	FINDS(&f, "away:serious");
}

static void worst_comes_first(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	f.shortened_to_fit = 500;
	snprintf(f.device[0].cache_type, sizeof(f.device[0].cache_type), "q8_0");
	f.device[0].loads = 12; /* 44 s */
	f.device[0].load_ms = 48000;
	f.broken = 10;
	f.lost_ms = 60000;
	snprintf(f.device[1].state, sizeof(f.device[1].state), "back-off");
	FINDS(&f, "prefix:warning reloads:warning away:warning window-cuts:advice");
	snprintf(f.device[0].state, sizeof(f.device[0].state), "failed");
	FINDS(&f, "away:serious prefix:warning reloads:warning away:warning window-cuts:advice");
}

/* --- ports --- */

#define HEAD "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
#define ROW(n, address, st)                                                                        \
	"   " n ": " address " 00000000:0000 " st " 00000000:00000000 00:00000000 00000000     "   \
	"0\n"

static void ports_in_the_kernels_list(void **state)
{
	(void)state;
	static const struct {
		const char *list;
		enum doctor_reach reach;
	} cases[] = {
		{HEAD, REACH_UNKNOWN},
		{"", REACH_UNKNOWN},
		{"nonsense\n:::\n", REACH_UNKNOWN},
		{HEAD ROW("0", "0100007F:2CAA", "0A"), REACH_LOCAL},
		{HEAD ROW("0", "00000000:2CAA", "0A"), REACH_NETWORK},
		{HEAD ROW("0", "0200A8C0:2CAA", "0A"), REACH_NETWORK},
		{HEAD ROW("0", "00000000:2CAA", "01"), REACH_UNKNOWN}, /* a connection */
		{HEAD ROW("0", "00000000:2CAB", "0A"), REACH_UNKNOWN},
		{HEAD ROW("0", "0100007F:2CAA", "0A") ROW("1", "00000000:2CAA", "0A"),
			REACH_NETWORK},
		{HEAD ROW("0", "00000000000000000000000001000000:2CAA", "0A"), REACH_LOCAL},
		{HEAD ROW("0", "00000000000000000000000000000000:2CAA", "0A"), REACH_NETWORK},
		{HEAD ROW("0", "0000000000000000FFFF00000100007F:2CAA", "0A"), REACH_LOCAL},
		{HEAD ROW("12", "00000000:2CAA", "0A"), REACH_NETWORK},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(doctor_reach_in(slice_str(cases[i].list), 11434), cases[i].reach);
}

static void ports_of_urls(void **state)
{
	(void)state;
	assert_int_equal(doctor_local_port("http://127.0.0.1:11434"), 11434);
	assert_int_equal(doctor_local_port("http://localhost:8080/base"), 8080);
	assert_int_equal(doctor_local_port("http://[::1]:9000"), 9000);
	assert_int_equal(doctor_local_port("http://[::1]"), 80);
	assert_int_equal(doctor_local_port("https://localhost"), 443);
	assert_int_equal(doctor_local_port("http://192.168.1.2:11434"), 0);
	assert_int_equal(doctor_local_port("http://127.0.0.1:99999"), 0);
	assert_int_equal(doctor_local_port(""), 0);
}

/* --- command lines --- */

#define WORDS(text) ((struct slice){(text), sizeof(text)})

static void command_lines(void **state)
{
	(void)state;
	struct doctor_process p = {0};
	assert_true(doctor_read_command(WORDS("/usr/lib/ollama/llama-server\0--model\0x\0--port\0"
					      "40123\0-c\0"
					      "32768\0-np\0"
					      "2\0--cache-type-k\0q8_0\0-ngl\0"
					      "0\0--flash-attn\0on"),
		&p));
	assert_false(p.ollama);
	assert_int_equal(p.args.port, 40123);
	assert_int_equal(p.args.window, 32768);
	assert_int_equal(p.args.slots, 2);
	assert_int_equal(p.args.gpu_layers, 0);
	assert_int_equal(p.args.flash, 1);
	assert_string_equal(p.args.cache_type, "q8_0");
	assert_true(doctor_read_command(WORDS("llama-server\0--embedding\0-c"), &p));
	assert_true(p.args.embedding && p.args.window == 0 && p.args.flash == -1);
	assert_true(doctor_read_command(WORDS("llama-server\0-c\0-5\0-np\0many\0--port\0"
					      "99999"),
		&p));
	assert_true(p.args.window == 0 && p.args.slots == 0 && p.args.port == 0);
	assert_true(doctor_read_command(WORDS("/usr/local/bin/ollama\0serve"), &p));
	assert_true(p.ollama);
	assert_false(doctor_read_command(WORDS("ollama\0run\0x"), &p));
	assert_false(doctor_read_command(WORDS("ollama"), &p));
	assert_false(doctor_read_command(WORDS("vim\0llama-server"), &p));
	assert_false(doctor_read_command((struct slice){"", 0}, &p));
	assert_false(doctor_read_command((struct slice){"llama-server", 12}, &p)); /* no end */
}

static void ports_of_ollamas(void **state)
{
	(void)state;
	assert_int_equal(doctor_ollama_port(WORDS("A=1\0OLLAMA_HOST=0.0.0.0:11500\0B=2")), 11500);
	assert_int_equal(doctor_ollama_port(WORDS("OLLAMA_HOST=http://127.0.0.1:9")), 9);
	assert_int_equal(doctor_ollama_port(WORDS("OLLAMA_HOST=127.0.0.1")), 11434);
	assert_int_equal(doctor_ollama_port(WORDS("OLLAMA_HOST=[::1]")), 11434);
	assert_int_equal(doctor_ollama_port(WORDS("OLLAMA_HOST=http://[::]:11500")), 11500);
	assert_int_equal(doctor_ollama_port(WORDS("HOME=/")), 11434);
	assert_int_equal(doctor_ollama_port((struct slice){"", 0}), 0); /* not for us to read */
}

static struct doctor_process engine_of(int64_t pid, int64_t parent, int64_t window, int flash)
{
	struct doctor_process p = {.pid = pid, .parent = parent};
	engine_args_init(&p.args);
	p.args.window = window;
	p.args.slots = 1;
	p.args.flash = flash;
	return p;
}

static void engines_are_matched(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	struct doctor_device *d = &f.device[0];
	f.devices = 1;
	d->flash = -1;
	d->cache_type[0] = '\0';
	d->reported_slots = 0;
	struct doctor_process p[] = {{.pid = 7, .ollama = true, .port = 11434},
		engine_of(8, 7, 16384, 0), engine_of(9, 7, 4096, 1), engine_of(10, 1, 16384, 1)};
	struct doctor_facts before = f;
	doctor_match_processes(&f, p, 4);
	assert_int_equal(d->flash, 0); /* the one with the window of this device */
	assert_string_equal(d->cache_type, "f16");
	assert_int_equal(d->reported_slots, 1);
	f = before;
	p[2].args.window = 16384; /* two that look alike */
	doctor_match_processes(&f, p, 4);
	assert_int_equal(d->flash, -1);
	p[2].args.embedding = true;
	doctor_match_processes(&f, p, 4);
	assert_int_equal(d->flash, 0);
	f = before;
	p[0].port = 11435; /* another Ollama */
	doctor_match_processes(&f, p, 4);
	assert_int_equal(d->flash, -1);
	p[0].port = 0; /* the only one */
	doctor_match_processes(&f, p, 4);
	assert_int_equal(d->flash, 0);
	f = before;
	snprintf(d->type, sizeof(d->type), "llama-server");
	p[3].args.port = 11434;
	doctor_match_processes(&f, p, 4);
	assert_int_equal(d->flash, 1);
	d->flash = 0; /* what the backend tells stays */
	doctor_match_processes(&f, p, 4);
	assert_int_equal(d->flash, 0);
}

/* --- what is told --- */

static void text_is_wrapped(void **state)
{
	(void)state;
	struct buf out;
	buf_init(&out, 0);
	doctor_wrap(SLICE("one two  three four five six seven"), 2, 22, &out);
	assert_string_equal(buf_cstr(&out), "  one two three four\n  five six seven\n");
	buf_clear(&out);
	doctor_wrap(SLICE("http://a-word-that-is-longer-than-a-line.example/ end"), 0, 20, &out);
	assert_string_equal(
		buf_cstr(&out), "http://a-word-that-is-longer-than-a-line.example/\nend\n");
	buf_free(&out);
}

static void json_is_json(void **state)
{
	(void)state;
	struct doctor_facts f = well();
	struct doctor_report r;
	struct buf out;
	struct json_value root, one;
	f.broken = 10;
	f.lost_ms = 3500;
	snprintf(f.worst_client, sizeof(f.worst_client), "a \"client\"");
	f.worst_lost = 1;
	f.at_ms = 1700000000123;
	assert_int_equal(doctor_look(&f, &r), 0);
	buf_init(&out, 0);
	doctor_json(&f, &r, NULL, &out);
	assert_int_equal(json_parse(buf_slice(&out), JSON_MAX_DEPTH, &root, NULL), 0);
	int64_t at_ms = 0;
	assert_true(json_to_int(json_get(root, "at_ms"), &at_ms) && at_ms == f.at_ms);
	struct json_iter it = json_iter(json_get(root, "findings"));
	assert_true(json_array_next(&it, &one));
	assert_true(json_string_is(json_get(one, "id"), "prefix"));
	assert_true(json_is(json_get(one, "device"), JSON_NULL));
	double lost = 0;
	assert_true(json_to_double(json_get(one, "lost_s"), &lost) && lost > 3.4 && lost < 3.6);
	assert_false(json_array_next(&it, &one));
	doctor_report_free(&r);
	buf_free(&out);
}

static void documents_may_lack_anything(void **state)
{
	(void)state;
	static const char *const odd[] = {"{}",
		"{\"devices\":5,\"backends\":{},\"gpus\":[1,\"x\"]}",
		"{\"devices\":[{}],\"backends\":[{\"device\":\"\"}],\"gpus\":[{}],\"sessions\":[{}]"
		","
		"\"prefix_kinds\":[{}],\"first_byte\":{\"A\":1}}"};
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		struct doctor_facts f;
		struct json_value root;
		assert_int_equal(json_parse(slice_str(odd[i]), JSON_MAX_DEPTH, &root, NULL), 0);
		doctor_facts_init(&f);
		doctor_take_status(&f, root);
		doctor_take_backends(&f, root);
		doctor_take_gpus(&f, root);
		doctor_take_sessions(&f, root);
		doctor_take_counters(&f, root);
		doctor_take_histograms(&f, root);
		doctor_take_keys(&f, root);
		struct doctor_report r;
		assert_int_equal(doctor_look(&f, &r), 0);
		doctor_report_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_healthy_pair_has_none),
		cmocka_unit_test(nothing_known_is_nothing_found),
		cmocka_unit_test(windows),
		cmocka_unit_test(loads),
		cmocka_unit_test(memory),
		cmocka_unit_test(a_window_that_fits_is_named),
		cmocka_unit_test(engines),
		cmocka_unit_test(models_and_their_time),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(slots),
		cmocka_unit_test(cards),
		cmocka_unit_test(small_devices),
		cmocka_unit_test(doors),
		cmocka_unit_test(ends),
		cmocka_unit_test(worst_comes_first),
		cmocka_unit_test(ports_in_the_kernels_list),
		cmocka_unit_test(ports_of_urls),
		cmocka_unit_test(command_lines),
		cmocka_unit_test(ports_of_ollamas),
		cmocka_unit_test(engines_are_matched),
		cmocka_unit_test(text_is_wrapped),
		cmocka_unit_test(json_is_json),
		cmocka_unit_test(documents_may_lack_anything),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
