/* common/config: what a good file gives, and the exact words about each kind of bad one. */
#include "common/config/config.h"
#include "common/config/config_schema.h"
#include "common/config/config_suggest.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MAIN_DEVICE                                                                                \
	"{ name = \"gpu0\"; roles = [ \"main\" ]; "                                                \
	"backend = { type = \"ollama\"; url = \"http://127.0.0.1:11434\"; }; }"
#define DEVICES "devices = ( " MAIN_DEVICE " );\n"
/* A device whose members after the name are given. */
#define DEVICE(members) "devices = ( { name = \"a\"; " members " } );\n"
#define BACKEND(members) DEVICE("roles = [ \"main\" ]; backend = { " members " };")

struct folder {
	char path[64];
	char conf[96];
	struct buf err;
};

static int setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));
	if (!f)
		return -1;
	strcpy(f->path, "/tmp/tandem-config-XXXXXX");
	if (!mkdtemp(f->path))
		return -1;
	snprintf(f->conf, sizeof(f->conf), "%s/t.conf", f->path);
	buf_init(&f->err, 1 << 20);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
	int rc = system(command);
	buf_free(&f->err);
	free(f);
	return rc;
}

static void write_bytes(struct folder *f, const char *name, const char *p, size_t n)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", f->path, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(p, 1, n, file), n);
	assert_int_equal(fclose(file), 0);
}

static void write_file(struct folder *f, const char *name, const char *text)
{
	write_bytes(f, name, text, strlen(text));
}

static int load(struct folder *f, const char *text, struct config *c)
{
	write_file(f, "t.conf", text);
	buf_clear(&f->err);
	return config_load(f->conf, c, &f->err);
}

/* text is refused, and the message is FILE followed by `words`, exactly one line of it. */
static void refused(struct folder *f, const char *text, const char *words)
{
	struct config c;
	char want[1024];
	int rc = load(f, text, &c);
	const char *got = buf_cstr(&f->err);

	snprintf(want, sizeof(want), "%s%s\n", f->conf, words);
	if (rc != -EINVAL || strcmp(got, want) != 0)
		fail_msg("rc %d for:\n%s\nwant: %sgot:  %s", rc, text, want, got);
	assert_int_equal(c.device_count, 0);
	assert_null(c.run_dir);
}

static void gives_defaults(void **state)
{
	struct config c, defaults;
	assert_int_equal(load(*state, DEVICES "# no newline at the end", &c), 0);
	assert_int_equal(config_defaults(&defaults), 0);
	assert_string_equal(c.listen.address, "127.0.0.1");
	assert_int_equal(c.listen.port, 8512);
	assert_string_equal(c.run_dir, "/run/tandem");
	assert_int_equal(c.log.level, LOG_INFO);
	assert_int_equal(c.routing.mode, ROUTING_ADAPTIVE);
	assert_int_equal(c.routing.a_max_tokens, 2000);
	assert_int_equal(c.routing.min_gain_ms, 2000);
	assert_true(c.routing.min_gain == 0.3 && c.routing.warm);
	assert_int_equal(c.prefix.repair, PREFIX_SAFE);
	assert_true(c.condense.keep_ratio_b == 0.35);
	assert_int_equal(c.limits.body_total_bytes, 1073741824);
	assert_memory_equal(&c.routing, &defaults.routing, sizeof(c.routing));
	assert_memory_equal(&c.condense, &defaults.condense, sizeof(c.condense));
	assert_memory_equal(&c.deadlines, &defaults.deadlines, sizeof(c.deadlines));
	assert_memory_equal(&c.limits, &defaults.limits, sizeof(c.limits));
	assert_memory_equal(&c.backoff, &defaults.backoff, sizeof(c.backoff));
	assert_int_equal(c.device_count, 1);
	assert_int_equal(c.devices[0].slots, 1);
	assert_int_equal(c.devices[0].num_ctx, 0);
	assert_null(c.devices[0].model);
	assert_null(c.devices[0].pin);
	assert_null(c.devices[0].backend.command);
	config_free(&c);
	config_free(&defaults);
}

static void reads_every_key(void **state)
{
	struct config c;
	int rc = load(*state,
		"listen = { address = \"::1\"; port = 0; };\n"
		"run_dir = \"/tmp/r\"; log = { level = \"warn\"; format = \"json\"; content = "
		"true; };\n"
		"devices = ( " MAIN_DEVICE ",\n"
		"{ name = \"gpu-1\"; roles = ( \"condense\", \"main\" ); slots = 2; model = "
		"\"m:1\";\n"
		"  num_ctx = 4096; pin = \"0,1\"; backend = { type = \"llama-server\";\n"
		"  url = \"http://[::1]:8080/base/\"; command = ( \"llama-server\", \"-m\", \"x\" "
		"); }; });\n"
		"routing = { mode = \"threshold\"; a_max_tokens = 10; b_max_tokens = 10; "
		"min_gain_ms "
		"= 0;\n"
		"  min_gain = 1; warm = false; };\n"
		"prefix = { repair = \"volatile\"; };\n"
		"condense = { keep_ratio_b = 1; keep_ratio_c = 0.5; };\n"
		"models = ( { match = \"claude-*haiku*\"; use = \"gpu-1\"; },\n"
		"  { match = \"claude-*\", use = \"org/m:1\" } );\n"
		"limits = { body_bytes = 5000000000; body_total_bytes = 5000000000L; queue = 0x10; "
		"};\n",
		&c);
	struct folder *f = *state;
	if (rc)
		fail_msg("%s", buf_cstr(&f->err));
	assert_string_equal(c.listen.address, "::1");
	assert_int_equal(c.listen.port, 0);
	assert_string_equal(c.run_dir, "/tmp/r");
	assert_int_equal(c.log.level, LOG_WARN);
	assert_int_equal(c.log.format, LOG_JSON);
	assert_true(c.log.content);
	assert_int_equal(c.device_count, 2);
	const struct config_device *d = config_device(&c, "gpu-1");
	assert_ptr_equal(d, &c.devices[1]);
	assert_int_equal(d->roles, ROLE_MAIN | ROLE_CONDENSE);
	assert_int_equal(d->slots, 2);
	assert_string_equal(d->model, "m:1");
	assert_int_equal(d->num_ctx, 4096);
	assert_string_equal(d->pin, "0,1");
	assert_int_equal(d->backend.type, BACKEND_TYPE_LLAMA_SERVER);
	assert_string_equal(d->backend.url, "http://[::1]:8080/base");
	assert_string_equal(d->backend.command[2], "x");
	assert_null(d->backend.command[3]);
	assert_int_equal(c.routing.mode, ROUTING_THRESHOLD);
	assert_true(c.routing.min_gain == 1 && c.routing.min_gain_ms == 0 && !c.routing.warm);
	assert_int_equal(c.prefix.repair, PREFIX_VOLATILE);
	assert_true(c.condense.keep_ratio_b == 1.0);
	assert_int_equal(c.limits.body_bytes, 5000000000);
	assert_int_equal(c.limits.queue, 16);
	assert_null(config_device(&c, "gpu-2"));
	assert_int_equal(c.alias_count, 2);
	assert_string_equal(c.aliases[0].match, "claude-*haiku*");
	assert_string_equal(c.aliases[0].use, "gpu-1");
	assert_string_equal(c.aliases[1].use, "org/m:1");
	config_free(&c);
}

static void refuses_with_place_and_words(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		/* syntax */
		{DEVICES "routing = { a_max_tokens = ; };\n",
			":2: syntax error in or before 'routing = { a_max_tokens = ; };'"},
		{DEVICES "\nrun_dir = \"/a\";\nrun_dir = \"/b\";\n",
			":4: duplicate setting name in or before 'run_dir = \"/b\";'"},
		{DEVICES "/* never\nclosed\n", ":2: this comment is never closed"},
		{DEVICES "run_dir = \"/a\n;\n", ":2: this string is never closed"},
		/* unknown keys, everywhere */
		{DEVICES "rout = { };\n", ":2: rout: unknown key"},
		{DEVICES "routin = { };\n", ":2: routin: unknown key, did you mean 'routing'?"},
		{DEVICES "run_dri = \"/a\";\n",
			":2: run_dri: unknown key, did you mean 'run_dir'?"},
		{DEVICES "\ncondense = {\n  keep_ration_b = 0.5;\n};\n",
			":4: condense.keep_ration_b: unknown key, did you mean 'keep_ratio_b'?"},
		{DEVICES "limits = { a_max_tokens = 1; };\n",
			":2: limits.a_max_tokens: unknown key here, it belongs into 'routing'"},
		{DEVICES "port = 1;\n", ":2: port: unknown key here, it belongs into 'listen'"},
		{DEVICES "log = { run_dir = \"/a\"; };\n",
			":2: log.run_dir: unknown key here, it belongs outside of 'log'"},
		{"devices = ( " MAIN_DEVICE
		 ",\n {\n name = \"b\";\n slot = 1;\n roles = [\"main\"];\n"
		 "backend = { type = \"ollama\"; url = \"http://h:1\"; }; } );\n",
			":4: devices[1].slot: unknown key, did you mean 'slots'?"},
		{BACKEND("type = \"ollama\"; ulr = \"x\"; url = \"http://h:1\";"),
			":1: devices[0].backend.ulr: unknown key, did you mean 'url'?"},
		/* types */
		{DEVICES "routing = 5;\n", ":2: routing: must be a group, not a whole number"},
		{DEVICES "routing = { a_max_tokens = 2.5; };\n",
			":2: routing.a_max_tokens: must be a whole number, not a number with a "
			"fraction"},
		{DEVICES "routing = { a_max_tokens = \"5\"; };\n",
			":2: routing.a_max_tokens: must be a whole number, not a string"},
		{DEVICES "condense = { keep_ratio_b = true; };\n",
			":2: condense.keep_ratio_b: must be a number, not true or false"},
		{DEVICES "log = { content = 1; };\n",
			":2: log.content: must be true or false, not a whole number"},
		{DEVICES "run_dir = 5;\n", ":2: run_dir: must be a string, not a whole number"},
		{DEVICE("roles = \"main\"; backend = { type = \"ollama\"; url = \"http://h:1\"; "
			"};"),
			":1: devices[0].roles: must be an array of strings, not a string"},
		{BACKEND("type = \"ollama\"; command = ( \"a\", 5 );"),
			":1: devices[0].backend.command[1]: must be a string, not a whole number"},
		{DEVICE("roles = [ \"main\" ]; backend = \"ollama\";"),
			":1: devices[0].backend: must be a group, not a string"},
		/* ranges */
		{DEVICES "listen = { port = 65536; };\n",
			":2: listen.port: must be between 0 and 65535, not 65536"},
		{DEVICES "condense = { keep_ratio_c = 0.01; };\n",
			":2: condense.keep_ratio_c: must be between 0.02 and 1, not 0.01"},
		{DEVICES "limits = { queue = 99999999999; };\n",
			":2: limits.queue: must be between 0 and 1000000, not 99999999999"},
		{DEVICES "limits = { queue = 99999999999999999999999; };\n",
			":2: limits.queue: must be between 0 and 1000000, not "
			"9.22337203685478e+18"},
		{DEVICES "limits = { queue = -1; };\n",
			":2: limits.queue: must be between 0 and 1000000, not -1"},
		{DEVICE("slots = 0; roles = [ \"main\" ];"
			"backend = { type = \"ollama\"; url = \"http://h:1\"; };"),
			":1: devices[0].slots: must be between 1 and 256, not 0"},
		/* values */
		{DEVICES "log = { level = \"wran\"; };\n",
			":2: log.level: unknown value \"wran\", did you mean 'warn'? "
			"(one of: debug, info, warn, error)"},
		{DEVICE("roles = [ \"mian\" ]; backend = { type = \"ollama\"; url = "
			"\"http://h:1\"; };"),
			":1: devices[0].roles[0]: unknown value \"mian\", did you mean 'main'? "
			"(one of: main, condense, small)"},
		{BACKEND("type = \"vllm\"; url = \"http://h:1\";"),
			":1: devices[0].backend.type: unknown value \"vllm\" (one of: ollama, "
			"llama-server, openai)"},
		{DEVICES "listen = { address = \"example.org\"; };\n",
			":2: listen.address: must be an IPv4 or IPv6 address or \"localhost\", "
			"not \"example.org\""},
		{DEVICES "run_dir = \"run\";\n",
			":2: run_dir: must be an absolute path, not \"run\""},
		{"devices = ( { name = \"GPU 0\"; roles = [ \"main\" ];\n"
		 "backend = { type = \"ollama\"; url = \"http://h:1\"; }; } );\n",
			":1: devices[0].name: must consist of a-z, 0-9, '_' and '-', not \"GPU "
			"0\""},
		{DEVICE("pin = \"\"; roles = [ \"main\" ];"
			"backend = { type = \"ollama\"; url = \"http://h:1\"; };"),
			":1: devices[0].pin: must be device numbers or names as the GPU runtimes "
			"take them, "
			"like \"1\" or \"0,1\", not \"\""},
		/* devices */
		{"", ": devices: no device is configured"},
		{"devices = ( );\n", ":1: devices: no device is configured"},
		{"devices = { };\n",
			":1: devices: must be a list of groups: devices = ( { ... }, { ... } );"},
		{"devices = ( 5 );\n", ":1: devices[0]: must be a group: { name = \"gpu0\"; ... }"},
		{"\ndevices = ( { name = \"a\"; roles = [ \"condense\" ];\n"
		 "backend = { type = \"ollama\"; url = \"http://h:1\"; }; } );\n",
			":2: devices: no device has the role \"main\""},
		{"devices = ( " MAIN_DEVICE ",\n" MAIN_DEVICE " );\n",
			":2: devices[1].name: \"gpu0\" is the name of an earlier device"},
		{"devices = ( { roles = [ \"main\" ];\n"
		 "backend = { type = \"ollama\"; url = \"http://h:1\"; }; } );\n",
			":1: devices[0].name: missing: every device needs one"},
		{DEVICE("backend = { type = \"ollama\"; url = \"http://h:1\"; };"),
			":1: devices[0].roles: missing: roles = [ \"main\" ]; or [ \"condense\" ], "
			"[ \"small\" ] or several"},
		{DEVICE("roles = []; backend = { type = \"ollama\"; url = \"http://h:1\"; };"),
			":1: devices[0].roles: must name at least one role (main, condense, "
			"small)"},
		{DEVICE("roles = [ \"main\" ];"),
			":1: devices[0].backend: missing: "
			"backend = { type = \"ollama\"; url = \"http://127.0.0.1:11434\"; };"},
		{BACKEND("url = \"http://h:1\";"), ":1: devices[0].backend.type: missing (one of: "
						   "ollama, llama-server, openai)"},
		{BACKEND("type = \"ollama\";"),
			":1: devices[0].backend: needs url (attach), command (start), or both "
			"(attach, else start)"},
		{BACKEND("type = \"ollama\"; command = [];"),
			":1: devices[0].backend.command: must have 1 to 128 words, not 0"},
		{BACKEND("type = \"ollama\"; command = [\"\"];"),
			":1: devices[0].backend.command: must begin with a program"},
		{BACKEND("type = \"ollama\"; command = [\"x\", \"--port\", \"1\"];"),
			":1: devices[0].backend.command: must not hold --port: "
			"tandem picks the address and appends it"},
		/* small */
		{DEVICES "small = { rules = { kind = \"title\"; }; };\n",
			":2: small.rules: must be a list of groups: rules = ( { kind = \"title\"; "
			"} );"},
		{DEVICES "small = { rules = ( \"title\" ); };\n",
			":2: small.rules[0]: must be a group: { kind = \"title\"; }"},
		{DEVICES "small = { rules = ( { kind = \"titel\"; } ); };\n",
			":2: small.rules[0].kind: unknown value \"titel\", did you mean 'title'? "
			"(one "
			"of: any, title, tags, follow-ups, autocomplete, embeddings)"},
		{DEVICES "small = { rules = ( { knid = \"title\"; kind = \"tags\"; } ); };\n",
			":2: small.rules[0].knid: unknown key, did you mean 'kind'?"},
		{DEVICES "small = { rules = ( { use = \"gpu0\"; } ); };\n",
			":2: small.rules[0]: says of no request that it is small: it needs kind, "
			"text, "
			"model or path"},
		{DEVICES "small = { rules = ( { kind = \"tags\"; use = \"gpu9\"; } ); };\n",
			":2: small.rules[0].use: no device \"gpu9\", did you mean 'gpu0'?"},
		{DEVICES "small = { rules = ( { kind = \"tags\"; use = \"elsewhere\"; } ); };\n",
			":2: small.rules[0].use: no device \"elsewhere\" (a device's name, or "
			"\"small\", or \"main\")"},
		{DEVICES "small = { rules = ( { path = \"v1\"; } ); };\n",
			":2: small.rules[0].path: must begin with \"/\", or with \"*\", not "
			"\"v1\""},
		{DEVICES "small = { rules = ( { text = \"\"; } ); };\n",
			":2: small.rules[0].text: must be a pattern of 1 to 512 bytes, not \"\""},
		{DEVICES "small = { wait_m = 5; };\n",
			":2: small.wait_m: unknown key, did you mean 'wait_ms'?"},
		/* models */
		{DEVICES "models = { };\n", ":2: models: must be a list of groups: models = ( { "
					    "match = \"claude-*\"; use "
					    "= \"gpu0\"; } );"},
		{DEVICES "models = ( \"gpu0\" );\n", ":2: models[0]: must be a group: { match = "
						     "\"claude-*\"; use = \"gpu0\"; }"},
		{DEVICES "models = ( { match = \"a\"; } );\n",
			":2: models[0].use: missing: { match = \"claude-*\"; use = \"gpu0\"; }"},
		{DEVICES "models = ( { use = \"a\"; } );\n",
			":2: models[0].match: missing: { match = \"claude-*\"; use = \"gpu0\"; }"},
		{DEVICES "models = ( { match = \"a\"; use = \"b\"; mach = \"c\"; } );\n",
			":2: models[0].mach: unknown key, did you mean 'match'?"},
		{DEVICES "models = ( { match = 5; use = \"b\"; } );\n",
			":2: models[0].match: must be a string, not a whole number"},
		{DEVICES "models = ( { match = \"\"; use = \"b\"; } );\n",
			":2: models[0].match: must be a name of 1 to 256 bytes, not \"\""},
		{DEVICES "models = ( { match = \"a b\"; use = \"b\"; } );\n",
			":2: models[0].match: must be a name without spaces or control characters, "
			"not \"a b\""},
		{DEVICES "models = ( { match = \"a\"; use = \"gpu*\"; } );\n",
			":2: models[0].use: must be one device's or one model's name, without "
			"wildcards, not \"gpu*\""},
		{DEVICES "models = ( { match = \"claude-*\"; use = \"gpu0\"; },\n"
			 "{ match = \"gpt\"; use = \"gpu0\"; },\n"
			 "{ match = \"Claude-*haiku?\"; use = \"gpu0\"; } );\n",
			":4: models[2].match: \"Claude-*haiku?\" is never reached: the earlier "
			"\"claude-*\" matches all of it"},
		/* between keys */
		{DEVICES "routing = { a_max_tokens = 7000; };\n",
			":2: routing.a_max_tokens: a_max_tokens (7000) must not be larger than "
			"b_max_tokens (6000)"},
		{DEVICES "routing = { b_max_tokens = 7; };\n",
			":2: routing.b_max_tokens: a_max_tokens (2000) must not be larger than "
			"b_max_tokens (7)"},
		{DEVICES "backoff = { first_ms = 50000; };\n",
			":2: backoff.first_ms: first_ms (50000) must not be larger than max_ms "
			"(30000)"},
		{DEVICES "limits = { body_total_bytes = 1024; };\n",
			":2: limits.body_total_bytes: body_bytes (134217728) must not be larger "
			"than "
			"body_total_bytes (1024)"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refused(*state, cases[i].text, cases[i].words);
}

#define URLS "must be http://host:port[/path] or https://host[:port][/path]"

static void checks_urls(void **state)
{
	static const struct {
		const char *url, *problem;
	} cases[] = {
		{"http://127.0.0.1:11434", NULL},
		{"http://gpu.example:443/ollama", NULL},
		{"https://gpu.example:443/ollama", NULL},
		{"https://api.example/openai/v1", NULL},
		{"https://[::1]", NULL},
		{"https://", "must name a host: http://host:port[/path]"},
		{"https://host:", "must name the port: http://host:port[/path]"},
		{"https://host:0", "must have a port between 1 and 65535"},
		{"https://k@host", "must hold no user or password"},
		{"httpss://host", URLS},
		{"http://[::1]:1/", NULL},
		{"127.0.0.1:11434", URLS},
		{"ftp://h:1", URLS},
		{"http://", "must name a host: http://host:port[/path]"},
		{"http://:80", "must name a host: http://host:port[/path]"},
		{"http://host", "must name the port: http://host:port[/path]"},
		{"http://host:", "must name the port: http://host:port[/path]"},
		{"http://host:0", "must have a port between 1 and 65535"},
		{"http://host:65536", "must have a port between 1 and 65535"},
		{"http://host:99999999999", "must have a port between 1 and 65535"},
		{"http://host:80x", URLS},
		{"http://u:p@host:80", "must hold no user or password"},
		{"http://host:80/?q",
			"must have no '?' or '#': it is a base, paths are appended to it"},
		{"http://host:80/a b", URLS " without spaces or other odd characters"},
		{"http://[::1:80", "must have an IPv6 address in its brackets"},
		{"http://[zz]:80", "must have an IPv6 address in its brackets"},
		{"http://"
		 "[0123456789012345678901234567890123456789012345678901234567890123456789]:80",
			"must have an IPv6 address in its brackets"},
		{"http://[::1]80", URLS},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *got = config_check_url(cases[i].url);
		if (!got != !cases[i].problem || (got && strcmp(got, cases[i].problem) != 0))
			fail_msg("%s: %s", cases[i].url, got ? got : "(fine)");
	}
}

static void bounds_its_aliases(void **state)
{
	struct folder *f = *state;
	struct config c;
	for (int n = CONFIG_ALIASES_MAX; n <= CONFIG_ALIASES_MAX + 1; n++) {
		struct buf text;
		buf_init(&text, 0);
		buf_add_str(&text, DEVICES "models = (");
		for (int i = 0; i < n; i++)
			buf_printf(&text, "%s\n{ match = \"m%d-*\"; use = \"gpu0\"; }",
				i ? "," : "", i);
		buf_add_str(&text, ");\n");
		if (n > CONFIG_ALIASES_MAX) {
			refused(f, buf_cstr(&text), ":2: models: more than 64 entries");
		} else {
			assert_int_equal(load(f, buf_cstr(&text), &c), 0);
			assert_int_equal(c.alias_count, CONFIG_ALIASES_MAX);
			config_free(&c);
		}
		buf_free(&text);
	}
	for (int n = CONFIG_ALIAS_BYTES; n <= CONFIG_ALIAS_BYTES + 1; n++) {
		struct buf text;
		buf_init(&text, 0);
		buf_printf(&text, DEVICES "models = ( { match = \"%0*d\"; use = \"gpu0\"; } );\n",
			n, 7);
		assert_int_equal(
			load(f, buf_cstr(&text), &c), n > CONFIG_ALIAS_BYTES ? -EINVAL : 0);
		config_free(&c);
		buf_free(&text);
	}
}

static void reports_all_problems(void **state)
{
	struct folder *f = *state;
	struct config c;
	char want[512];
	assert_int_equal(load(f,
				 DEVICES "listen = { prt = 1; };\nlog = { level = 5; };\n"
					 "limits = { queue = -5; };\n",
				 &c),
		-EINVAL);
	snprintf(want, sizeof(want),
		"%s:2: listen.prt: unknown key, did you mean 'port'?\n"
		"%s:3: log.level: must be a string, not a whole number\n"
		"%s:4: limits.queue: must be between 0 and 1000000, not -5\n",
		f->conf, f->conf, f->conf);
	assert_string_equal(buf_cstr(&f->err), want);

	struct buf text;
	buf_init(&text, 0);
	buf_add_str(&text, DEVICES);
	for (int i = 0; i < 60; i++)
		buf_printf(&text, "zzzzzzzz%d = 1;\n", i);
	assert_int_equal(load(f, buf_cstr(&text), &c), -EINVAL);
	assert_non_null(
		strstr(buf_cstr(&f->err), "zzzzzzzz49: unknown key\nand 10 more problems\n"));
	buf_free(&text);
}

static void caps_the_device_list(void **state)
{
	struct folder *f = *state;
	struct config c;
	struct buf text;
	for (int n = CONFIG_DEVICES_MAX; n <= CONFIG_DEVICES_MAX + 1; n++) {
		buf_init(&text, 0);
		buf_add_str(&text, "devices = (");
		for (int i = 0; i < n; i++)
			buf_printf(&text,
				"%s{ name = \"g%d\"; roles = [ \"main\" ]; backend = { type = "
				"\"ollama\"; "
				"url = \"http://h:1\"; }; }",
				i ? "," : "", i);
		buf_add_str(&text, ");\n");
		int rc = load(f, buf_cstr(&text), &c);
		assert_int_equal(rc, n > CONFIG_DEVICES_MAX ? -EINVAL : 0);
		if (rc)
			assert_non_null(
				strstr(buf_cstr(&f->err), ":1: devices: more than 16 devices\n"));
		else
			config_free(&c);
		buf_free(&text);
	}
}

static void refuses_what_is_no_file(void **state)
{
	struct folder *f = *state;
	struct config c;
	char path[128];

	snprintf(path, sizeof(path), "%s/none.conf", f->path);
	assert_int_equal(config_load(path, &c, &f->err), -ENOENT);
	assert_non_null(strstr(buf_cstr(&f->err), "none.conf: No such file or directory\n"));

	buf_clear(&f->err);
	assert_int_equal(config_load(f->path, &c, &f->err), -EINVAL);
	assert_non_null(strstr(buf_cstr(&f->err), ": Is a directory\n"));

	if (geteuid() != 0) {
		buf_clear(&f->err);
		write_file(f, "t.conf", DEVICES);
		chmod(f->conf, 0);
		assert_int_equal(config_load(f->conf, &c, &f->err), -EACCES);
		chmod(f->conf, 0600);
	}

	buf_clear(&f->err);
	write_bytes(f, "t.conf", "run\0dir", 7);
	assert_int_equal(config_load(f->conf, &c, &f->err), -EINVAL);
	assert_non_null(strstr(buf_cstr(&f->err), ":1: holds NUL bytes: not a text file\n"));
}

static void caps_the_file(void **state)
{
	struct folder *f = *state;
	struct config c;
	struct buf text;
	buf_init(&text, 0);
	buf_add_str(&text, DEVICES);
	while (text.n < CONFIG_TEXT_BYTES)
		buf_add_char(&text, text.n % 100 ? '#' : '\n');
	text.p[text.n - 1] = '\n';
	assert_int_equal(load(f, buf_cstr(&text), &c), 0);
	config_free(&c);
	buf_add_char(&text, '\n');
	assert_int_equal(load(f, buf_cstr(&text), &c), -EINVAL);
	assert_non_null(strstr(buf_cstr(&f->err), "larger than 1 MiB"));
	buf_add_str(&text, "#");
	while (text.n < 3 * CONFIG_TEXT_BYTES)
		buf_add_char(&text, '#');
	assert_int_equal(load(f, buf_cstr(&text), &c), -EINVAL);
	assert_non_null(strstr(buf_cstr(&f->err), "t.conf: larger than 1 MiB\n"));
	buf_free(&text);
}

static void follows_includes(void **state)
{
	struct folder *f = *state;
	struct config c;
	char path[128], want[512];

	/* Relative to the including file; a comment or string that looks like one is none. */
	snprintf(path, sizeof(path), "%s/sub", f->path);
	assert_int_equal(mkdir(path, 0700), 0);
	write_file(f, "sub/a.conf", "@include \"b.conf\"\nrouting = { a_max_tokens = 11; };");
	write_file(f, "sub/b.conf", "listen = { port = 99; };");
	const char *good = "\xef\xbb\xbf/*\n@include \"nope\"\n*/\n  @include \"sub/a.conf\" # "
			   "words\n" DEVICES;
	int rc = load(f, good, &c);
	if (rc)
		fail_msg("%s", buf_cstr(&f->err));
	assert_int_equal(c.listen.port, 99);
	assert_int_equal(c.routing.a_max_tokens, 11);
	config_free(&c);

	/* Places are those of the files. */
	write_file(f, "sub/b.conf", "\nlisten = { port = 99999; };\n");
	assert_int_equal(
		load(f, "@include \"sub/a.conf\"\n" DEVICES "\nrunn_dir = 1;\n", &c), -EINVAL);
	snprintf(want, sizeof(want),
		"%s/sub/b.conf:2: listen.port: must be between 0 and 65535, not 99999\n"
		"%s:4: runn_dir: unknown key, did you mean 'run_dir'?\n",
		f->path, f->conf);
	assert_string_equal(buf_cstr(&f->err), want);
	write_file(f, "sub/b.conf", "\n\nlisten = \n");
	assert_int_equal(load(f, "@include \"sub/a.conf\"\n" DEVICES, &c), -EINVAL);
	assert_non_null(strstr(buf_cstr(&f->err), "/sub/a.conf:2: syntax error"));

	write_file(f, "self.conf", "\n@include \"self.conf\"\n");
	assert_int_equal(load(f, "@include \"self.conf\"\n", &c), -EINVAL);
	assert_non_null(strstr(buf_cstr(&f->err), "/self.conf:2: @include: "));
	assert_non_null(
		strstr(buf_cstr(&f->err), "nested too deeply (does a file include itself?)\n"));

	static const struct {
		const char *text, *words;
	} cases[] = {
		{"\n@include \"nope.conf\"\n",
			":2: @include: %s/nope.conf: No such file or directory\n"},
		{"@include \"sub\"\n", ":1: @include: %s/sub: Is a directory\n"},
		{"@include nope\n", ":1: @include needs a file name in quotes\n"},
		{"@include \"\"\n", ":1: @include needs a file name in quotes\n"},
		{"@include \"a\nb\"\n", ":1: @include needs a file name in quotes\n"},
		{"@include", ":1: @include needs a file name in quotes\n"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char words[256];
		snprintf(words, sizeof(words), cases[i].words, f->path);
		snprintf(want, sizeof(want), "%s%s", f->conf, words);
		assert_int_equal(load(f, cases[i].text, &c), -EINVAL);
		assert_string_equal(buf_cstr(&f->err), want);
	}

	struct buf many;
	buf_init(&many, 0);
	write_file(f, "empty.conf", "");
	for (int i = 0; i < CONFIG_FILES_MAX; i++)
		buf_add_str(&many, "@include \"empty.conf\"\n");
	assert_int_equal(load(f, buf_cstr(&many), &c), -EINVAL);
	assert_non_null(strstr(buf_cstr(&f->err), ":32: @include: "));
	assert_non_null(strstr(buf_cstr(&f->err), ": too many included files\n"));
	buf_free(&many);
}

static void reads_what_is_small(void **state)
{
	struct folder *f = *state;
	struct config c;
	assert_int_equal(load(f, DEVICES "small = { };\n", &c), 0);
	assert_int_equal(c.small.rule_count, SMALL_KINDS - 1);
	config_free(&c);
	assert_int_equal(load(f, DEVICES "small = { rules = [ ]; };\n", &c), 0);
	assert_int_equal(c.small.rule_count, 0);
	config_free(&c);
	assert_int_equal(load(f, DEVICES "small = { rules = ( ); condensers = false; };\n", &c), 0);
	assert_int_equal(c.small.rule_count, 0);
	assert_false(c.small.condensers);
	config_free(&c);
	assert_int_equal(
		load(f,
			DEVICES "small = { wait_ms = 5; rules = ( { kind = \"tags\"; use = "
				"\"main\"; }, { text = \"a*\"; model = \"m\"; path = "
				"\"/v1/*\"; use = \"gpu0\"; } ); };\n",
			&c),
		0);
	assert_int_equal(c.small.rule_count, 2);
	assert_int_equal(c.small.wait_ms, 5);
	assert_int_equal(c.small.rules[0].kind, SMALL_TAGS);
	assert_string_equal(c.small.rules[0].use, "main");
	assert_string_equal(c.small.rules[1].text, "a*");
	assert_string_equal(c.small.rules[1].path, "/v1/*");
	config_free(&c);
}

static void bounds_its_small_rules(void **state)
{
	struct folder *f = *state;
	struct config c;
	for (int n = CONFIG_SMALL_RULES_MAX; n <= CONFIG_SMALL_RULES_MAX + 1; n++) {
		struct buf text;
		buf_init(&text, 0);
		buf_add_str(&text, DEVICES "small = { rules = (");
		for (int i = 0; i < n; i++)
			buf_printf(&text, "%s{ text = \"t%d\"; }", i ? "," : "", i);
		buf_add_str(&text, "); };\n");
		if (n > CONFIG_SMALL_RULES_MAX) {
			refused(f, buf_cstr(&text), ":2: small.rules: more than 64 rules");
		} else {
			assert_int_equal(load(f, buf_cstr(&text), &c), 0);
			config_free(&c);
		}
		buf_free(&text);
	}
}

static void the_example_holds_every_default(void **state)
{
	struct config c, defaults;
	struct folder *f = *state;
	int rc = config_load("etc/tandem.conf", &c, &f->err);
	if (rc)
		fail_msg("%s", buf_cstr(&f->err));
	assert_int_equal(config_defaults(&defaults), 0);
	assert_string_equal(c.listen.address, defaults.listen.address);
	assert_int_equal(c.listen.port, defaults.listen.port);
	assert_memory_equal(&c.metrics, &defaults.metrics, sizeof(c.metrics));
	assert_string_equal(c.run_dir, defaults.run_dir);
	assert_int_equal(c.log.level, defaults.log.level);
	assert_memory_equal(&c.routing, &defaults.routing, sizeof(c.routing));
	assert_memory_equal(&c.condense, &defaults.condense, sizeof(c.condense));
	assert_memory_equal(&c.deadlines, &defaults.deadlines, sizeof(c.deadlines));
	assert_memory_equal(&c.limits, &defaults.limits, sizeof(c.limits));
	assert_memory_equal(&c.backoff, &defaults.backoff, sizeof(c.backoff));
	assert_memory_equal(&c.small, &defaults.small, sizeof(c.small));
	assert_int_equal(c.device_count, 2);
	config_free(&c);
	config_free(&defaults);

	/* Every key of the tables stands in it. */
	struct config_text text;
	assert_int_equal(config_text_init(&text, "etc/tandem.conf", &f->err), 0);
	const char *all = buf_cstr(&text.text);
	const struct config_schema schemas[] = {
		config_schema_main, config_schema_device, config_schema_alias, config_schema_small};
	for (size_t i = 0; i < 4; i++) {
		for (size_t k = 0; k < schemas[i].count; k++) {
			const char *name = schemas[i].keys[k].name;
			const char *p = strstr(all, name);
			while (p && p[strlen(name) + strspn(p + strlen(name), " ")] != '=')
				p = strstr(p + 1, name);
			if (!p)
				fail_msg("etc/tandem.conf lacks %s", name);
		}
	}
	config_text_fini(&text);
}

static void measures_distance(void **state)
{
	static const struct {
		const char *a, *b;
		size_t d;
	} cases[] = {
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"abc", "abc", 0},
		{"ABC", "abc", 0},
		{"abc", "acb", 1},
		{"abc", "ab", 1},
		{"abc", "abd", 1},
		{"abc", "xabc", 1},
		{"ca", "abc", 3},
		{"keep_ration_b", "keep_ratio_b", 1},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(suggest_distance(cases[i].a, cases[i].b), cases[i].d);

	struct suggest s;
	suggest_init(&s, "statsu");
	suggest_offer(&s, "init");
	assert_null(s.best);
	suggest_offer(&s, "status");
	assert_string_equal(s.best, "status");
	char lengthy[100];
	memset(lengthy, 'a', sizeof(lengthy) - 1);
	lengthy[sizeof(lengthy) - 1] = '\0';
	suggest_init(&s, lengthy);
	suggest_offer(&s, "a");
	assert_null(s.best);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(gives_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(reads_every_key, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_with_place_and_words, setup, teardown),
		cmocka_unit_test_setup_teardown(bounds_its_aliases, setup, teardown),
		cmocka_unit_test_setup_teardown(reads_what_is_small, setup, teardown),
		cmocka_unit_test_setup_teardown(bounds_its_small_rules, setup, teardown),
		cmocka_unit_test(checks_urls),
		cmocka_unit_test_setup_teardown(reports_all_problems, setup, teardown),
		cmocka_unit_test_setup_teardown(caps_the_device_list, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_is_no_file, setup, teardown),
		cmocka_unit_test_setup_teardown(caps_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(follows_includes, setup, teardown),
		cmocka_unit_test_setup_teardown(the_example_holds_every_default, setup, teardown),
		cmocka_unit_test(measures_distance),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
