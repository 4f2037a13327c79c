/*
 * GET /metrics: a request that is answered by who knows it all, which stands above (requests_events.scrape).
 *
 * The answer may come later, since the GPUs' driver is asked; the request is held until then, also when its client has
 * left.
 */
#ifndef TANDEM_SCRAPE_H
#define TANDEM_SCRAPE_H

#include "supervisor/requests/requests.h"

/* 503 while metrics.readers others are under way: each holds a whole answer until it is read. */
void scrape_begin(struct requests *s, struct exchange *x);
/* Its client still waits; at the end of all, when nothing is left to tell of, none does. */
bool scrape_wanted(const struct request *r);
/* The text, or empty: memory was out, or it is not wanted. Exactly once for each request that was handed out. */
void scrape_answer(struct request *r, struct slice text);

#endif
