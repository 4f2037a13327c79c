/* Files of keys, and who has one. */
#include "supervisor/requests/callers.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* SHA-256 of "abc" (FIPS 180-4's example) and of "". */
#define OF_ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define OF_NOTHING "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static char path[] = "/tmp/tandem-keys-XXXXXX";

static void put(struct slice text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
	fclose(f);
}

static int load(struct keys *out, struct buf *err)
{
	buf_free(err);
	return keys_load(path, out, err);
}

static void what_is_read(void **state)
{
	struct keys k;
	struct buf err;
	(void)state;
	buf_init(&err, 0);
	put(SLICE("# a comment\n\n  \t\nfirst " OF_ABC "\r\n"
		  "second-2_ \t SHA256:x # not so\n"));
	assert_int_equal(load(&k, &err), -EINVAL);
	assert_non_null(strstr(buf_cstr(&err), ":5: behind the name"));
	assert_int_equal(k.count, 0);
	put(SLICE("# a comment\n\n  \t\nfirst " OF_ABC "\r\n"
		  "second-2_ \t " OF_NOTHING " requests=7 class=idle # so"));
	assert_int_equal(load(&k, &err), 0);
	assert_int_equal(k.count, 2);
	assert_string_equal(k.of[0].name, "first");
	assert_int_equal(k.of[0].requests, 0);
	assert_string_equal(k.of[0].class, "");
	assert_string_equal(k.of[1].name, "second-2_");
	assert_int_equal(k.of[1].requests, 7);
	assert_string_equal(k.of[1].class, "idle");
	assert_ptr_equal(keys_find(&k, SLICE("abc")), &k.of[0]);
	assert_null(keys_find(&k, SLICE("abd")));
	assert_null(keys_find(&k, SLICE("abc\n")));
	assert_null(keys_find(&k, SLICE(""))); /* though its hash is there */
	keys_free(&k);
	put(SLICE(""));
	assert_int_equal(load(&k, &err), 0);
	assert_int_equal(k.count, 0);
	assert_null(keys_find(&k, SLICE("abc")));
	keys_free(&k);
	buf_free(&err);
}

static void what_is_refused(void **state)
{
	static const struct {
		const char *text, *words;
	} rows[] = {
		{"first\n", "behind the name"},
		{"first sha256:ba78\n", "behind the name"},
		{"first " OF_ABC "0\n", "behind the name"},
		{"First " OF_ABC "\n", "a name of"},
		{"an-uncommonly-long-name-of-a-key " OF_ABC "\n", "a name of"},
		{"a " OF_ABC " requests=\n", "requests= wants"},
		{"a " OF_ABC " requests=-1\n", "requests= wants"},
		{"a " OF_ABC " requests=1x\n", "requests= wants"},
		{"a " OF_ABC " requests=100001\n", "requests= wants"},
		{"a " OF_ABC " requests=99999999999999999999\n", "requests= wants"},
		{"a " OF_ABC " class=\n", "class= must be"},
		{"a " OF_ABC " class=map\n", "class= must be"},
		{"a " OF_ABC " rights=all\n", "an option that is none"},
		{"a " OF_ABC "\na " OF_NOTHING "\n", "the name of an earlier key"},
		{"a " OF_ABC "\nb " OF_ABC "\n", "the hash of an earlier key"},
	};
	struct keys k;
	struct buf err;
	(void)state;
	buf_init(&err, 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		put(slice_str(rows[i].text));
		if (load(&k, &err) != -EINVAL || !strstr(buf_cstr(&err), rows[i].words))
			fail_msg("%s: %s", rows[i].text, buf_cstr(&err));
		assert_null(strstr(buf_cstr(&err), "ba7816bf"));
	}
	buf_free(&err);
}

static void caps(void **state)
{
	struct keys k;
	struct buf err, text;
	(void)state;
	buf_init(&err, 0);
	buf_init(&text, 0);
	for (unsigned i = 0; i < KEYS_MAX; i++)
		buf_printf(&text, "k%u sha256:%064x\n", i, i);
	put(buf_slice(&text));
	assert_int_equal(load(&k, &err), 0);
	assert_int_equal(k.count, KEYS_MAX);
	keys_free(&k);
	for (unsigned i = 0; i < 3; i++)
		buf_printf(&text, "more%u sha256:%064x\n", i, KEYS_MAX + i);
	put(buf_slice(&text));
	assert_int_equal(load(&k, &err), -EINVAL);
	assert_non_null(strstr(buf_cstr(&err), ":1025: more than 1024 keys"));
	assert_null(strstr(buf_cstr(&err), ":1026:"));
	while (text.n <= KEYS_FILE_BYTES)
		buf_add_str(&text, "# and so on, and on, and on\n");
	put(buf_slice(&text));
	assert_int_equal(load(&k, &err), -E2BIG);
	assert_non_null(strstr(buf_cstr(&err), "larger than 1 MiB"));
	buf_free(&text);
	buf_free(&err);
}

static void files(void **state)
{
	struct keys k;
	struct buf err;
	(void)state;
	buf_init(&err, 0);
	put(SLICE("a " OF_ABC "\n"));
	chmod(path, 0666);
	assert_int_equal(load(&k, &err), -EINVAL);
	assert_non_null(strstr(buf_cstr(&err), "chmod o-w"));
	chmod(path, 0644);
	assert_int_equal(load(&k, &err), 0);
	keys_free(&k);
	buf_free(&err);
	/* Many problems: the first ones are told, in a text that has room for them. */
	struct buf many;
	buf_init(&many, 0);
	for (int i = 0; i < 100; i++)
		buf_add_str(&many, "Nobody\n");
	put(buf_slice(&many));
	buf_init(&err, 2048);
	assert_int_equal(load(&k, &err), -EINVAL);
	assert_non_null(strstr(buf_cstr(&err), ":8: "));
	assert_null(strstr(buf_cstr(&err), ":9: "));
	/* 1 MiB is read, a byte more is told. */
	for (size_t more = 0; more < 2; more++) {
		buf_clear(&many);
		while (many.n < KEYS_FILE_BYTES + more)
			buf_add_char(&many, '#');
		put(buf_slice(&many));
		assert_int_equal(load(&k, &err), more ? -E2BIG : 0);
		assert_true(!strstr(buf_cstr(&err), "larger than 1 MiB") == !more);
		keys_free(&k);
	}
	buf_free(&many);
	buf_free(&err);
	buf_init(&err, 0);
	assert_int_equal(keys_load("/dev/null", &k, &err), -EINVAL);
	buf_free(&err);
	assert_int_equal(keys_load("/nowhere/at/all", &k, &err), -ENOENT);
	buf_free(&err);
}

static void a_new_key(void **state)
{
	char text[2][KEY_TEXT_BYTES], line[KEY_LINE_BYTES];
	struct keys k;
	struct buf err;
	(void)state;
	buf_init(&err, 0);
	assert_int_equal(key_make("a", text[0], line), 0);
	assert_int_equal(key_make("an-uncommonly-long-name-of-keys", text[1], line), 0);
	assert_int_equal(strlen(text[1]), KEY_TEXT_BYTES - 1);
	assert_string_not_equal(text[0], text[1]);
	put(slice_str(line));
	assert_int_equal(load(&k, &err), 0);
	assert_string_equal(
		keys_find(&k, slice_str(text[1]))->name, "an-uncommonly-long-name-of-keys");
	assert_null(keys_find(&k, slice_str(text[0])));
	keys_free(&k);
	buf_free(&err);
}

/* --- callers --- */

static void who_is_remembered(void **state)
{
	struct key known[] = {{.name = "a", .requests = 2, .class = "idle"}, {.name = "b"}};
	struct keys all = {2, known}, less = {1, known + 1};
	struct callers c;
	(void)state;
	callers_init(&c);
	assert_null(callers_find(&c, &known[0]));
	struct caller *a = callers_get(&c, &known[0]), *b = callers_get(&c, &known[1]);
	assert_ptr_equal(callers_get(&c, &known[0]), a);
	assert_true(callers_room(a, &known[0]));
	callers_begin(a, &known[0]);
	callers_begin(a, &known[0]);
	assert_string_equal(a->class, "idle");
	assert_false(callers_room(a, &known[0]));
	for (int i = 0; i < 1000; i++)
		callers_begin(b, &known[1]);
	assert_true(callers_room(b, &known[1]));
	callers_answered(a); /* its room is free before its last reference is gone */
	assert_true(callers_room(a, &known[0]));
	callers_reloaded(&c, &less);
	assert_ptr_equal(callers_find(&c, &known[0]), a);
	callers_release(a, &less);
	callers_answered(a);
	assert_ptr_equal(callers_find(&c, &known[0]), a);
	callers_release(a, &less);
	assert_null(callers_find(&c, &known[0]));
	a = callers_get(&c, &known[0]);
	callers_begin(a, &known[0]);
	callers_answered(a);
	callers_release(a, &all);
	assert_ptr_equal(callers_find(&c, &known[0]), a);
	assert_int_equal(a->requests, 1);
	callers_reloaded(&c, &less);
	assert_null(callers_find(&c, &known[0]));
	callers_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_read),
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(caps),
		cmocka_unit_test(files),
		cmocka_unit_test(a_new_key),
		cmocka_unit_test(who_is_remembered),
	};
	close(mkstemp(path));
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return rc;
}
