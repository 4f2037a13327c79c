/*
 * The parts of `tandemctl top`:
 *
 *   top.c       asks, waits for keys, what they do
 *   top_data.c  the documents as rows
 *   top_notes.c events worth seeing
 *   top_draw.c  the rows as a screen
 *   top_open.c  one request or conversation, opened
 *
 * Texts of rows are safe for a terminal (ctl_text()). Lists are cut at TOP_LIST_MAX.
 */
#ifndef TANDEM_CTL_TOP_H
#define TANDEM_CTL_TOP_H

#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/grid.h"

#define TOP_LIST_MAX 1024
#define TOP_DEVICES_MAX 64
#define TOP_NOTES_MAX 64
#define TOP_NAME_BYTES 64
#define TOP_ID_BYTES 40

struct top_device {
	char name[TOP_NAME_BYTES], state[24], model[128], why[256];
	long slots, inflight, waiting, restarts;
	double read, write; /* tokens/s */
	bool warming, noting;
	char kept[32]; /* conversations on disk: "3, 66.1 MiB" */
};

struct top_request {
	char id[TOP_ID_BYTES], kind[16], class[16], state[16], device[TOP_NAME_BYTES];
	long job;							/* 0: none */
	double age_ms, running_ms, predicted_ms, prompt, tokens, bytes; /* < 0: not known */
	double rate;							/* tokens/s just now; < 0 */
	struct json_value row;						/* all that is told of it */
};

struct top_session {
	char id[TOP_ID_BYTES], model[128], client[TOP_NAME_BYTES], device[TOP_NAME_BYTES];
	char last[32]; /* what broke it last */
	double turns, idle_ms, tokens, warm, breaks, repairs;
	struct json_value row;
};

/* A step worth seeing: a break of a prefix, a fallback, a death. */
struct top_note {
	char time[16], text[256];
	bool bad;
};

enum top_focus { TOP_REQUESTS, TOP_SESSIONS, TOP_FOCUSES };
enum { TOP_STATUS, TOP_COUNTERS, TOP_GPUS, TOP_JOBS, TOP_TALKS, TOP_DOCUMENTS };

struct top_document {
	struct buf bytes;
	struct json_value root;
};

/* What is remembered of a job for its rate. */
struct top_seen {
	long job;
	double tokens, at_s, rate;
};

struct top {
	struct ctl *ctl;
	struct top_document document[TOP_DOCUMENTS];
	struct top_device device[TOP_DEVICES_MAX];
	size_t devices;
	struct top_request *request;
	struct top_session *session;
	size_t count[TOP_FOCUSES];
	struct top_note note[TOP_NOTES_MAX]; /* the newest last */
	size_t notes;
	struct top_seen *seen;
	size_t seen_count;
	char head[256], sums[256], gpus[256];
	double at_s, chats; /* of the look before, for rates */
	bool looked;

	/* What somebody looks at. */
	enum top_focus focus;
	char at[TOP_FOCUSES][TOP_ID_BYTES]; /* the row that is marked; "" the first */
	size_t index[TOP_FOCUSES], first[TOP_FOCUSES];
	int sort[TOP_FOCUSES];
	bool help, opened;
	char opened_id[TOP_ID_BYTES];
	struct buf opened_row, opened_log; /* JSON: the row as it was last; its events */
	size_t opened_first;		   /* the line that stands first */

	void *sub; /* events; NULL: none are heard */
	struct grid grid;
	bool colour;
};

/* --- top_data.c --- */
enum ctl_exit top_data_begin(struct top *t);
void top_data_end(struct top *t);
/* Asks for all documents and fills the rows. */
enum ctl_exit top_look(struct top *t, struct buf *err);
/* How the rows of a focus are sorted: "age". */
const char *top_sort_name(const struct top *t, enum top_focus f);
/* The next way. */
void top_sort_next(struct top *t, enum top_focus f);
/* The id of a row. */
const char *top_id(const struct top *t, enum top_focus f, size_t i);

/* --- top_notes.c --- */
/* The notes that tandemd has kept. */
void top_notes_kept(struct top *t);
/* Hears what comes from now on; takes what has come. */
void top_listen(struct top *t);
void top_notes_new(struct top *t);

/* --- top_draw.c --- */
/* All of it on a screen of that size; rows 0: as many as it needs. */
void top_draw(struct top *t, size_t rows, size_t columns);

/* --- top_open.c --- */
void top_open(struct top *t);
/* What has come of it since. */
void top_open_look(struct top *t);
void top_open_draw(struct top *t);
void top_help_draw(struct top *t);

#endif
