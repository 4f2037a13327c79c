/*
 * Cuts the old part of a history into chunks of about equal size, to be condensed in parallel.
 *
 * Borders fall between groups; a group larger than a chunk is cut at line ends into even parts, and
 * small groups share a chunk. Every byte that is not verbatim is in exactly one chunk (line ends at
 * a cut aside). A huge single message is cut the same way: as one message that is not verbatim
 * (text_single_split() gives its middle).
 */
#ifndef TANDEM_TEXT_CHUNK_H
#define TANDEM_TEXT_CHUNK_H

#include "common/text/text.h"

#define CHUNK_MIN_BYTES 512 /* a smaller chunk_bytes is raised to this */

struct text_chunk {
	struct text_span *spans; /* sorted; one or more of each message it touches */
	size_t count;
	size_t bytes; /* of the spans */
};

/*
 * Cuts what is not verbatim into chunks of about chunk_bytes; they grow until there are no more than
 * max_chunks of them. 0 or -ENOMEM. *out is one array of *count chunks, NULL when there is nothing to cut.
 */
int text_chunks(const struct text_message *m, size_t n, size_t chunk_bytes, size_t max_chunks,
	struct text_chunk **out, size_t *count);

void text_chunks_free(struct text_chunk *chunks, size_t count);

/* Appends a chunk's text with turn headers. buf_error(out). */
int text_chunk_render(const struct text_message *m, const struct text_chunk *c, struct buf *out);

#endif
