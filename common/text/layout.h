/*
 * What a selection costs: the exact length of its rendered text, kept up to date as lines join it.
 *
 * Rendered, a message with a picked line is its header, runs of picked lines, and a gap marker for
 * each run left out; whole messages left out between two shown ones share one omitted marker. An
 * assistant that is shown shows the headers of its tool results too.
 */
#ifndef TANDEM_TEXT_LAYOUT_H
#define TANDEM_TEXT_LAYOUT_H

#include "common/text/bitset.h"
#include "common/text/source.h"

struct layout {
	const struct source *s;
	struct bitset picked; /* lines */
	struct bitset shown; /* messages; verbatim ones count as shown, as no marker crosses them */
	uint32_t *header;    /* bytes of each message's header */
	uint32_t *company;   /* bytes of the headers and gaps of an assistant's results */
	uint32_t *company_end; /* the message after the last of them */
	bool bare;	       /* no headers; every message is shown */
	size_t used;	       /* bytes of the rendered text */
};

/* Borrows s. 0 or -ENOMEM. */
int layout_init(struct layout *l, const struct source *s, bool bare);
void layout_fini(struct layout *l);

/* The bytes that picking lines [a..b) of one message would add, at most; may be negative. */
ptrdiff_t layout_cost(const struct layout *l, uint32_t a, uint32_t b);

/* Picks them; used grows by no more than layout_cost() said. */
void layout_pick(struct layout *l, uint32_t a, uint32_t b);

/* Bytes of the markers for rows source lines: 0 for none. */
size_t layout_gap_bytes(uint32_t rows);
size_t layout_omitted_bytes(uint32_t rows);

/* The end of the run of messages from i on that are not shown. */
size_t layout_hidden_end(const struct layout *l, size_t i);

#endif
