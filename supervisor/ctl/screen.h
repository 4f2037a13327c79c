/*
 * The terminal that top draws on: its size, its keys, and its settings, which are as before after
 * screen_end(), also when a signal ended it. One at a time; nothing here is thread-safe.
 */
#ifndef TANDEM_CTL_SCREEN_H
#define TANDEM_CTL_SCREEN_H

#include "common/base/buf.h"

struct screen {
	size_t rows, columns;
};

/* What screen_wait() returns beside characters. */
enum screen_key {
	KEY_NONE = 0x100, /* the time is over */
	KEY_RESIZED,
	KEY_END_OF_INPUT, /* or a signal to end */
	KEY_UP,
	KEY_DOWN,
	KEY_PAGE_UP,
	KEY_PAGE_DOWN,
	KEY_HOME,
	KEY_LAST,
	KEY_ENTER,
	KEY_ESCAPE,
	KEY_OTHER,
};

/* As it is now; 24 x 80 where the terminal does not say. */
struct screen screen_size(void);
/* One key of what was typed: enum screen_key or a character; *used: its bytes. Pure. */
int screen_key(struct slice typed, size_t *used);

/* Another page than the shell's, without a cursor; takes keys without an Enter and without an echo,
 * hears INT, TERM and HUP. */
void screen_begin(void);
/* Waits for so long, for a key, or until the size changes. */
int screen_wait(int ms);
/* As it was. */
void screen_end(void);

#endif
