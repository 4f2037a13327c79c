/*
 * What the page at /ui/ gets (docs/ui.md): its files, which are part of the program (ui_files.h), and below /ui/api/
 * what the stats socket tells (commands.h: the documents, never orders), the events (ui_streams.h), what the doctor says
 * (ui_doctor.h), and below content/ what was left out of messages (ui_content.h).
 */
#ifndef TANDEM_UI_H
#define TANDEM_UI_H

#include "supervisor/tell/tell.h"
#include "supervisor/tell/ui_streams.h"

/* For requests_events.page: answers now or later, exactly once. */
void ui_answer(struct tell *t, struct request *r);

#endif
