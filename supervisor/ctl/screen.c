#include "supervisor/ctl/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE_MS 50		     /* a key alone, or the beginning of a sequence */
#define ENTER "\033[?1049h\033[?25l" /* another page, no cursor */
#define LEAVE "\033[?25h\033[?1049l"

static struct {
	struct termios before;
	bool changed;
	sigset_t mask; /* in which signals are heard */
} terminal;

static struct {
	char p[64];
	size_t n;
} keys; /* typed, and not taken */

static volatile sig_atomic_t ended, resized;

static void on_signal(int number)
{
	if (number == SIGWINCH)
		resized = 1;
	else
		ended = number;
}

struct screen screen_size(void)
{
	struct winsize w;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || w.ws_row == 0 || w.ws_col == 0)
		return (struct screen){24, 80};
	return (struct screen){w.ws_row, w.ws_col};
}

/* --- keys --- */

/* What terminals send behind an escape and '[' or 'O' (xterm, VT220, the Linux console). */
static const struct {
	const char *text;
	int key;
} sequences[] = {
	{"A", KEY_UP},
	{"B", KEY_DOWN},
	{"H", KEY_HOME},
	{"F", KEY_LAST},
	{"1~", KEY_HOME},
	{"7~", KEY_HOME},
	{"4~", KEY_LAST},
	{"8~", KEY_LAST},
	{"5~", KEY_PAGE_UP},
	{"6~", KEY_PAGE_DOWN},
};

static int escaped(struct slice s, size_t *used)
{
	for (size_t i = 0; i < sizeof(sequences) / sizeof(*sequences); i++) {
		size_t n = strlen(sequences[i].text);
		if (s.n >= n && memcmp(s.p, sequences[i].text, n) == 0) {
			*used = 2 + n;
			return sequences[i].key;
		}
	}
	size_t n = 0; /* up to its last byte (ECMA-48, 5.4) */
	while (n < s.n && (s.p[n] < 0x40 || s.p[n] > 0x7e))
		n++;
	*used = 2 + (n < s.n ? n + 1 : n);
	return KEY_OTHER;
}

int screen_key(struct slice typed, size_t *used)
{
	unsigned char c = (unsigned char)typed.p[0];
	*used = 1;
	if (c == 27 && typed.n > 2 && (typed.p[1] == '[' || typed.p[1] == 'O'))
		return escaped((struct slice){typed.p + 2, typed.n - 2}, used);
	if (c == 27)
		return KEY_ESCAPE;
	if (c == '\r' || c == '\n')
		return KEY_ENTER;
	return c == 4 ? KEY_END_OF_INPUT : c < 0x7f ? c : KEY_OTHER; /* 4: Ctrl-D */
}

/* --- the terminal --- */

/* In the foreground: else a change of the terminal would stop us. */
static void take_keys(void)
{
	struct termios t;
	if (tcgetpgrp(STDIN_FILENO) != getpgrp() || tcgetattr(STDIN_FILENO, &terminal.before))
		return;
	t = terminal.before;
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	terminal.changed = tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0;
}

void screen_begin(void)
{
	static const int heard[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
	struct sigaction act = {.sa_handler = on_signal};
	sigset_t block;
	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(heard) / sizeof(heard[0]); i++) {
		sigaddset(&block, heard[i]);
		sigaction(heard[i], &act, NULL);
	}
	sigprocmask(SIG_BLOCK, &block, &terminal.mask); /* else only while we wait */
	for (size_t i = 0; i < sizeof(heard) / sizeof(heard[0]); i++)
		sigdelset(&terminal.mask, heard[i]);
	take_keys();
	fputs(ENTER, stdout);
	fflush(stdout);
}

/* Something is typed within the time; 0: nothing, < 0: a signal. */
static int typed(int ms)
{
	struct pollfd key = {.fd = terminal.changed ? STDIN_FILENO : -1, .events = POLLIN};
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	return ppoll(&key, 1, &time, &terminal.mask);
}

/* Of an escape the rest may come a little later. */
static bool is_open(void)
{
	return keys.n > 0 && keys.n < 3 && keys.p[0] == 27;
}

static bool read_keys(void)
{
	do {
		ssize_t n = read(STDIN_FILENO, keys.p + keys.n, sizeof(keys.p) - keys.n);
		if (n <= 0)
			return false;
		keys.n += (size_t)n;
	} while (is_open() && typed(ESCAPE_MS) > 0);
	return true;
}

static int next_key(void)
{
	size_t used;
	int key = screen_key((struct slice){keys.p, keys.n}, &used);
	keys.n -= used;
	memmove(keys.p, keys.p + used, keys.n);
	return key;
}

int screen_wait(int ms)
{
	if (keys.n)
		return next_key();
	resized = 0;
	int rc = typed(ms);
	if (ended)
		return KEY_END_OF_INPUT;
	if (rc > 0)
		return read_keys() ? next_key() : KEY_END_OF_INPUT;
	return rc < 0 || resized ? KEY_RESIZED : KEY_NONE;
}

void screen_end(void)
{
	if (terminal.changed)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal.before);
	terminal.changed = false;
	fputs(LEAVE, stdout);
	fflush(stdout);
	sigprocmask(SIG_SETMASK, &terminal.mask, NULL);
	if (ended) { /* ends us as if nobody had heard it: a shell wants to know */
		signal(ended, SIG_DFL);
		raise(ended);
	}
}
