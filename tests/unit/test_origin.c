#include "supervisor/front/origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

struct row {
	const char *value;
	bool allowed;
};

#define CHECK(rows, function)                                                                      \
	for (size_t i = 0; i < sizeof(rows) / sizeof(*(rows)); i++)                                \
		if (function((rows)[i].value) != (rows)[i].allowed)                                \
	fail_msg("%s(\"%s\") is not %d", #function, (rows)[i].value, (rows)[i].allowed)

static void origins(void **state)
{
	static const struct row rows[] = {
		{"http://localhost", true},
		{"https://localhost", true},
		{"http://localhost:3000", true},
		{"HTTP://LOCALHOST:3000", true},
		{"https://127.0.0.1:8443", true},
		{"http://0.0.0.0", true},
		{"http://0.0.0.0:1", true},
		{"app://obsidian.md", true},
		{"file://", true},
		{"tauri://localhost", true},
		{"vscode-webview://1a2b", true},
		{"vscode-file://vscode-app", true},
		{"", false},
		{"null", false},
		{"http://example.com", false},
		{"https://localhost.example.com", false},
		{"http://localhost:", false},
		{"http://localhost:80@example.com", false},
		{"http://localhost:80.example.com", false},
		{"http://localhost@example.com", false},
		{"http://127.0.0.1.example.com", false},
		{"http://127.0.0.2", false},
		{"http://[::1]", false},
		{"http://192.168.1.2:3000", false},
		{"ftp://localhost", false},
		{"xhttp://localhost", false},
		{"chrome-extension://abcdef",
			false}, /* with Ollama, too, only OLLAMA_ORIGINS lets it in */
		{"myapp://x", false},
	};
	(void)state;
	CHECK(rows, origin_allowed);
}

static void patterns(void **state)
{
	static const struct {
		const char *pattern, *origin;
		bool matches;
	} rows[] = {
		{"*", "http://example.com", true},
		{"*", "null", true},
		{"*", "", true},
		{"chrome-extension://*", "chrome-extension://abc", true},
		{"chrome-extension://*", "Chrome-Extension://abc", true},
		{"chrome-extension://*", "chrome-extension:/abc", false},
		{"chrome-extension://*", "xchrome-extension://abc", false},
		{"http://a.b:*", "http://a.b:80", true},
		{"http://a.b:*", "http://a.b", false},
		{"http://a.b:*", "http://a.b.c:80", false},
		{"http://*.a.b", "http://x.a.b", true},
		{"http://*.a.b", "http://a.b", false},
		{"http://*.a.b", "http://xa.b", false},
		{"http://*.a.b", "http://x.a.b.c", false},
		{"http://aa*aa", "http://aaa", false}, /* no byte counts twice */
		{"http://a.b", "HTTP://A.B", true},
		{"http://a.b", "http://a.b:80", false},
		{"http://a.b", "http://a.bc", false},
		{"", "http://a.b", false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (origin_matches(slice_str(rows[i].pattern), rows[i].origin) != rows[i].matches)
			fail_msg("%s, %s", rows[i].pattern, rows[i].origin);
}

static void hosts(void **state)
{
	static const struct row rows[] = {
		{"", true},
		{"localhost", true},
		{"LocalHost:8512", true},
		{"127.0.0.1", true},
		{"127.0.0.1:8512", true},
		{"127.9.9.9:1", true},
		{"0.0.0.0:8512", true},
		{"10.1.2.3", true},
		{"172.16.0.1", true},
		{"172.31.255.255:80", true},
		{"192.168.0.1:8512", true},
		{"[::1]:8512", true},
		{"[::1]", true},
		{"::1", true},
		{"[::]", true},
		{"[fd00::1]:80", true},
		{"[::ffff:127.0.0.1]:80", true},
		{"[::ffff:8.8.8.8]:80", false},
		{"gpu.local", true},
		{"gpu.local:8512", true},
		{"a.b.internal", true},
		{"app.localhost:3000", true},
		{"host.docker.internal:8512", true},
		{".local", false},
		{"local", false},
		{"example.com", false},
		{"example.com:8512", false},
		{"localhost.example.com", false},
		{"notlocalhost", false},
		{"local.example.com", false},
		{"evillocal", false},
		{"172.15.0.1", false},
		{"172.32.0.1", false},
		{"192.169.0.1", false},
		{"8.8.8.8", false},
		{"126.0.0.1", false},
		{"[2001:db8::1]:80", false},
		{"127.0.0.1.example.com", false},
	};
	(void)state;
	CHECK(rows, host_allowed);
}

static void own_name(void **state)
{
	char name[256], with_port[300];
	(void)state;
	assert_int_equal(gethostname(name, sizeof(name)), 0);
	snprintf(with_port, sizeof(with_port), "%s:8512", name);
	assert_true(host_allowed(name));
	assert_true(host_allowed(with_port));
}

static void long_name(void **state)
{
	static char name[100000];
	(void)state;
	memset(name, 'a', sizeof(name) - 1);
	memcpy(name + sizeof(name) - 7, ".local", 6);
	assert_false(host_allowed(name));
	assert_false(origin_allowed(name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(origins),
		cmocka_unit_test(patterns),
		cmocka_unit_test(hosts),
		cmocka_unit_test(own_name),
		cmocka_unit_test(long_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
