/*
 * One request that tandemctl explains. The decisions are the server's own functions (weigh.h,
 * decide.h, condense.h). What a server with the same configuration has kept in its state_dir
 * (rates, what models taught about tokens, early freezes, windows, notes) is read; what only a running one
 * knows is taken at its start: nothing cached, nothing waiting, every device ready.
 */
#ifndef TANDEM_CTL_EXPLAINING_H
#define TANDEM_CTL_EXPLAINING_H

#include "common/config/config.h"
#include "supervisor/devices/keep.h"
#include "supervisor/requests/compact_make.h"
#include "supervisor/requests/explain.h"
#include "supervisor/requests/notes_table.h"

struct explain_asked {
	const char *conf, *run_dir, *dialect, *file;
	long window;
	bool json, sent;
};

struct explaining {
	struct explain_asked asked;
	struct config conf;
	struct buf body, model, sent;
	struct keep *keep; /* NULL: nothing of a server is there to read */
	struct tokens *tokens;
	struct layout_cache *layouts;
	struct notes_table notes;
	struct notes_offer offer;   /* to the layout */
	struct foresight foresight; /* of the main device; without a map */
	enum dialect dialect;
	struct chat_request request;
	const struct config_device *main, *small;
	const struct config_device *lane; /* a small device answers; NULL: the main one does */
	const struct backend_profile *backend;
	struct plan_facts facts;
	struct plan plan;
	struct condense condense;
	struct prefix_chain chain;
	struct weighed weighed;
	bool by_time;
	bool compacts; /* the conversation is to be compacted, whether that can be done or not */
	bool wished;   /* a compaction, and what comes of it: */
	struct explain_compaction compaction;
	struct explanation explanation;
};

/* Reads what a server has kept, where the options name one; says on stderr what cannot be read. 0
 * or -ENOMEM. */
int explaining_learn(struct explaining *w);

/* The request is parsed, conf read: fills the rest up to explanation. 0 or -errno, *error filled where the request
 * is at fault. */
int explaining_decide(struct explaining *w, struct dialect_error *error);

/* The folder that the options name for what a server keeps; NULL: none. */
const char *explaining_state_dir(const struct explaining *w);

/* --- explain_compact.c: both change the request as a server would. 0, or -errno with *error filled where the
 * request is at fault --- */

/* The messages that a compaction block stands for. Says on stderr where its key is not known. */
int explaining_read_block(struct explaining *w, struct dialect_error *error);
/* What a wish for one comes to; the model is known. window: of the main device, 0 unknown. */
int explaining_compact(struct explaining *w, int64_t window, struct dialect_error *error);

#endif
