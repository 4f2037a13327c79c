/*
 * What a selection costs: the exact length of its rendered text, kept up to date as lines join it.
 *
 * Rendered, a message with a picked line is its header, runs of picked lines, and a gap marker for
 * each run left out; whole messages left out between two shown ones share one omitted marker. An
 * assistant that is shown shows the headers of its tool results too.
 */
#ifndef TANDEM_TEXT_COST_H
#define TANDEM_TEXT_COST_H

#include "common/text/bitset.h"
#include "common/text/source.h"

struct cost {
	const struct source *s;
	struct bitset picked; /* lines */
	struct bitset shown; /* messages; verbatim ones count as shown, as no marker crosses them */
	uint32_t *header;    /* bytes of each message's header */
	bool hashes;	     /* whole messages leave a marker with the hash of their bytes */
	bool with_company;   /* an assistant that is shown brings its results along */
	uint32_t *company;   /* bytes of the headers and gaps of an assistant's results */
	uint32_t *company_end; /* the message after the last of them */
	bool bare;	       /* no headers; every message is shown */
	struct slice mark;     /* what a header begins with */
	bool calls;	       /* headers name the call that a result answers */
	size_t used;	       /* bytes of the rendered text */
};

/* Borrows s. 0 or -ENOMEM. */
int cost_init(struct cost *l, const struct source *s, const struct select_options *o);
void cost_fini(struct cost *l);

/* The bytes that picking lines [a..b) of one message would add, at most; may be negative. */
ptrdiff_t cost_of(const struct cost *l, uint32_t a, uint32_t b);

/* Picks them; used grows by no more than cost_of() said. */
void cost_pick(struct cost *l, uint32_t a, uint32_t b);

/* The bytes of lines [from..to), which stand side by side in one message. */
size_t cost_span_bytes(const struct source *s, uint32_t from, uint32_t to);

/* The end of the run of messages from i on that are not shown. */
size_t cost_hidden_end(const struct cost *l, size_t i);

#endif
