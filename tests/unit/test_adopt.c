#include "common/base/proc.h"
#include "supervisor/devices/statefile.h"
#include "workers/backend/slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define T(text) ((char[]){text}) /* what libconfig's copies are: not const */

/* --- who a process is --- */

static void reads_stat(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool ok;
		char letter;
		uint64_t start;
	} cases[] = {
		{"7 (sh) S 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 4321 9 9\n", true, 'S', 4321},
		{"7 (a b) R 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 4321 9\n", true, 'R', 4321},
		{"7 (x) S 0) Z 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 18446744073709551615 9\n",
			true, 'Z', UINT64_MAX},
		{"7 (sh) S 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 18446744073709551616 9", false, 0,
			0},
		{"7 (sh) S 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0", false, 0, 0},
		{"7 (sh) S 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 x", false, 0, 0},
		{"7 sh S 1", false, 0, 0},
		{"7 (sh)", false, 0, 0},
		{"", false, 0, 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char letter = 0;
		uint64_t start = 0;
		assert_int_equal(
			proc_parse_stat(slice_str(cases[i].text), &letter, &start), cases[i].ok);
		if (!cases[i].ok)
			continue;
		assert_int_equal(letter, cases[i].letter);
		assert_true(start == cases[i].start);
	}
}

static void knows_who_runs(void **state)
{
	(void)state;
	uint64_t mine = proc_start(getpid());
	assert_true(mine > 0 && proc_alive(getpid(), mine));
	assert_false(proc_alive(getpid(), mine + 1));
	assert_false(proc_alive(getpid(), 0));
	assert_true(proc_start(0) == 0 && proc_start(-1) == 0);
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	assert_true(proc_start(child) == 0); /* a zombie does not run */
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(proc_start(child) == 0);
}

/* --- state files --- */

static const struct warm_backend sample = {
	.pid = 4711, .start = 123456, .hash = 0xfedcba9876543210u, .url = "http://127.0.0.1:8080"};

static void reads_what_it_wrote(void **state)
{
	(void)state;
	struct buf text;
	struct warm_backend b;
	buf_init(&text, 0);
	statefile_print(&sample, "b-1", &text);
	assert_true(text.n < STATEFILE_BYTES);
	assert_true(statefile_parse(buf_slice(&text), "b-1", &b));
	assert_int_equal(b.pid, sample.pid);
	assert_true(b.start == sample.start && b.hash == sample.hash);
	assert_string_equal(b.url, sample.url);
	assert_false(
		statefile_parse(buf_slice(&text), "b-2", &b)); /* another boot of the machine */
	assert_int_equal(b.pid, 0);
	/* every cut of it, and every changed byte, is refused or is another whole one */
	for (size_t n = 0; n < text.n; n++)
		assert_false(statefile_parse((struct slice){text.p, n}, "b-1", &b));
	for (size_t n = 0; n < text.n; n++) {
		text.p[n] ^= 1;
		if (statefile_parse(buf_slice(&text), "b-1", &b))
			assert_true(b.pid > 1 && b.start > 0);
		text.p[n] ^= 1;
	}
	buf_free(&text);
}

static void refuses_other_texts(void **state)
{
	(void)state;
	static const char *const cases[] = {"", "\n", "tandem-backend 2\n",
		"tandem-backend 1\nboot b\npid 1\nstart 5\nhash 1\nurl u\n",
		"tandem-backend 1\nboot b\npid -4\nstart 5\nhash 1\nurl u\n",
		"tandem-backend 1\nboot b\npid 99999999999\nstart 5\nhash 1\nurl u\n",
		"tandem-backend 1\nboot b\npid 44\nstart 0\nhash 1\nurl u\n",
		"tandem-backend 1\nboot b\npid 44x\nstart 5\nhash 1\nurl u\n",
		"tandem-backend 1\nboot b\npid 44\nstart 5\nhash g\nurl u\n",
		"tandem-backend 1\nboot b\npid 44\nstart 5\nhash 1\nurl u\nmore\n"};
	struct warm_backend b;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_false(statefile_parse(slice_str(cases[i]), "b", &b));
	assert_true(statefile_parse(
		SLICE("tandem-backend 1\nboot b\npid 44\nstart 5\nhash 1\nurl u\n"), "b", &b));
}

static void hashes_what_is_run(void **state)
{
	(void)state;
	char *one[] = {T("a"), T("bc"), NULL}, *two[] = {T("ab"), T("c"), NULL},
	     *more[] = {T("a"), T("bc"), T(""), NULL};
	struct config_device d = {.backend = {.type = BACKEND_TYPE_LLAMA_SERVER, .command = one}};
	uint64_t h = statefile_hash(&d);
	assert_true(h != 0 && h == statefile_hash(&d));
	d.num_ctx = 5;
	d.slots = 9;
	d.model = T("m");
	assert_true(statefile_hash(&d) == h); /* these are the worker's */
	d.pin = T("1");
	assert_true(statefile_hash(&d) != h);
	d.pin = NULL;
	d.backend.command = two;
	assert_true(statefile_hash(&d) != h);
	d.backend.command = more;
	assert_true(statefile_hash(&d) != h);
	d.backend.command = one;
	d.backend.type = BACKEND_TYPE_OLLAMA;
	assert_true(statefile_hash(&d) != h);
}

/* --- saved conversations --- */

static void keys_models(void **state)
{
	(void)state;
	char path[] = "/tmp/tandem-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	char *plain[] = {T("llama-server"), T("-m"), T("x"), NULL},
	     *calm[] = {T("llama-server"), T("-m"), T("x"), T("-ngl"), T("99"), NULL},
	     *lora[] = {T("llama-server"), T("--lora"), T("a"), NULL},
	     *lora2[] = {T("llama-server"), T("--lora"), T("b"), NULL};
	uint64_t key = slots_key(path, plain);
	assert_true(key != 0 && slots_key(path, calm) == key);
	assert_true(
		slots_key(path, lora) != key && slots_key(path, lora) != slots_key(path, lora2));
	assert_int_equal(write(fd, "x", 1), 1);
	assert_true(slots_key(path, plain) != key);
	close(fd);
	unlink(path);
	assert_true(slots_key(path, plain) == 0 && slots_key(NULL, plain) == 0 &&
		    slots_key("/tmp", plain) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(reads_stat),
		cmocka_unit_test(knows_who_runs), cmocka_unit_test(reads_what_it_wrote),
		cmocka_unit_test(refuses_other_texts), cmocka_unit_test(hashes_what_is_run),
		cmocka_unit_test(keys_models)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
