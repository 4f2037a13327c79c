/*
 * The terminal that top draws on: its size, a key that ends it, and its settings, which are as
 * before after screen_end(), also when a signal ended it. One at a time; nothing here is
 * thread-safe.
 */
#ifndef TANDEM_CTL_SCREEN_H
#define TANDEM_CTL_SCREEN_H

#include "common/base/buf.h"

struct screen {
	size_t rows, columns;
};

/* As it is now; 24 x 80 where the terminal does not say. */
struct screen screen_size(void);
/* How many bytes of the line fit so many columns: whole characters, those that may be two columns
 * wide taken for that. Pure. */
size_t screen_fit(struct slice line, size_t columns);

/* Clears it, takes keys without an Enter and without an echo, hears INT, TERM and HUP. */
void screen_begin(void);
/* Waits for so long, or until the size changes. False: a q, an end of input, or a signal to end. */
bool screen_wait(int ms);
/* As it was, with the cursor below what was drawn. */
void screen_end(void);

#endif
