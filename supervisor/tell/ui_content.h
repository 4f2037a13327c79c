/*
 * What the page at /ui/ may ask of the messages of a request (contents.h): not a document of the stats socket, since who may read it
 * is decided by the key that is looked with.
 *
 *   REQUEST    {"request", "content", "why", "messages"}: whether their texts are there, else why not, in words; how many
 *   REQUEST/N  that one (content_text.h); 404 where it is not there for who asks
 */
#ifndef TANDEM_UI_CONTENT_H
#define TANDEM_UI_CONTENT_H

#include "supervisor/tell/tell.h"

/* name: what stands behind "content/". Answers at once. False: it names nothing that is there; r waits for its answer. */
bool ui_content_answer(struct tell *t, struct request *r, struct slice name);

#endif
