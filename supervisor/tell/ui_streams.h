/*
 * Pages that hear events (events.h): each is an endless answer of server-sent events (HTML, 9.2), one event a message,
 * and a comment where deadlines.heartbeat_ms passed without one.
 *
 * A page that reads too slowly (limits.stream_bytes wait for it) loses events, and is told how many as soon as there is
 * room again: {"event":"lost","count":N}. limits.ui_readers bounds how many there are. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_UI_STREAMS_H
#define TANDEM_UI_STREAMS_H

#include "common/base/buf.h"

#include <stdint.h>
#include <uv.h>

struct request;
struct ui_streams;

/* heartbeat_ms: borrowed, looked at anew whenever it counts. NULL: memory is out. */
struct ui_streams *ui_streams_create(uv_loop_t *loop, const int64_t *heartbeat_ms);
/* Ends them all; s is freed once the loop has let go. NULL: nothing. */
void ui_streams_destroy(struct ui_streams *s);
/* Takes a page's request over (page.h). */
void ui_streams_add(struct ui_streams *s, struct request *r);
/* Ends them all; others may come. NULL: nothing. */
void ui_streams_end(struct ui_streams *s);
/* For events_hear(): ctx is a struct ui_streams. */
bool ui_streams_hear(void *ctx, const struct slice *event);

#endif
