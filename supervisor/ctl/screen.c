#include "supervisor/ctl/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define WIDE_FROM 0x1100 /* below it no character takes two columns */

static struct {
	struct termios before;
	bool changed;
	sigset_t mask; /* in which signals are heard */
} terminal;

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

/* Bytes of the character, and whether it may be wide; the text is valid UTF-8 or the byte stands
 * for itself. */
static size_t character(struct slice s, bool *wide)
{
	unsigned char c = (unsigned char)s.p[0];
	size_t n = c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
	unsigned code = n == 1 ? c : c & (0x7Fu >> n);
	if (n > s.n)
		n = s.n;
	for (size_t i = 1; i < n; i++)
		code = code << 6 | ((unsigned char)s.p[i] & 0x3F);
	*wide = code >= WIDE_FROM;
	return n;
}

size_t screen_fit(struct slice line, size_t columns)
{
	size_t at = 0, used = 0;
	while (at < line.n) {
		bool wide;
		size_t n = character((struct slice){line.p + at, line.n - at}, &wide);
		used += wide ? 2 : 1;
		if (used > columns)
			break;
		at += n;
	}
	return at;
}

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
	fputs("\033[2J", stdout);
	fflush(stdout);
}

bool screen_wait(int ms)
{
	struct pollfd key = {.fd = terminal.changed ? STDIN_FILENO : -1, .events = POLLIN};
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	char c = 0;
	resized = 0;
	int rc = ppoll(&key, 1, &time, &terminal.mask);
	if (ended)
		return false;
	if (rc <= 0) /* the time is over, or the size is another */
		return true;
	ssize_t n = read(STDIN_FILENO, &c, 1);
	return n == 1 && c != 'q' && c != 'Q' && c != 4; /* Ctrl-D */
}

void screen_end(void)
{
	if (terminal.changed)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal.before);
	terminal.changed = false;
	fputs("\n", stdout);
	fflush(stdout);
	sigprocmask(SIG_SETMASK, &terminal.mask, NULL);
	if (ended) { /* ends us as if nobody had heard it: a shell wants to know */
		signal(ended, SIG_DFL);
		raise(ended);
	}
}
