/*
 * Bodies that clients send packed (common/base/unpack.h): how much they may come to, and the words for
 * those that we do not take or that are broken.
 */
#ifndef TANDEM_PACKED_H
#define TANDEM_PACKED_H

#include "common/base/unpack.h"
#include "supervisor/requests/request.h"

#define PACKED_TEXT_BYTES 256

/* What one may come to: its own limit, and what is left for all. */
size_t packed_room(const struct requests *s);
/* Its Content-Encoding is none of ours: words for the client, and a header that names those that
 * are. The status is 415. */
void packed_unknown(struct request *r, char text[PACKED_TEXT_BYTES]);
/* What unpack() returned, which is not 0: words for the client. The status. */
int packed_broken(const struct request *r, int rc, char text[PACKED_TEXT_BYTES]);

#endif
