/*
 * What `tandemctl doctor --json` says, for the page (GET /ui/api/doctor): that program runs as a child (capture.h), since the
 * doctor reads a lot of /proc, and asks the stats socket as anybody does. Its answer is handed on as it is.
 *
 *   200  what it said
 *   503  {"error":"why"}: it is not there, says nothing that is understood, takes longer than deadlines.doctor_ms, says
 *        more than limits.doctor_bytes
 *
 * One runs at a time: who asks meanwhile gets the same answer, and so does who asks within DOCTOR_FRESH_MS after it. It ends
 * when nobody waits for it any more; the next one begins DOCTOR_FRESH_MS after its beginning at the earliest, and whoever asked
 * waits for that. The deadline is a run's own. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_UI_DOCTOR_H
#define TANDEM_UI_DOCTOR_H

#include "common/config/config.h"

#include <uv.h>

#define DOCTOR_FRESH_MS 2000

struct request;
struct ui_doctor;

/* program: tandemctl's path. All are borrowed; config is looked at anew whenever it counts. NULL: memory is out. */
struct ui_doctor *ui_doctor_create(
	uv_loop_t *loop, const char *program, const char *run_dir, const struct config *config);
/* Who waits is told that we end; d is freed once the loop has let go. NULL: nothing. */
void ui_doctor_destroy(struct ui_doctor *d);
/* Takes a page's request over (page.h). */
void ui_doctor_ask(struct ui_doctor *d, struct request *r);
/* The configuration is another one: what was seen before counts no more; who waits gets what is seen from now on, or, where its key is
 * one no more, a 503 that has it ask again. */
void ui_doctor_anew(struct ui_doctor *d);
/* Who waits is told that this tandemd is about to end. NULL: nothing. */
void ui_doctor_end(struct ui_doctor *d);

#endif
