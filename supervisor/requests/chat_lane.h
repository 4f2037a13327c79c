/*
 * A small request, on a small device and back (docs/routing.md#the-small-lane). The request owns the state, which owns its
 * buffer. Loop thread only; nothing blocks.
 */
#ifndef TANDEM_CHAT_LANE_H
#define TANDEM_CHAT_LANE_H

#include "common/base/buf.h"
#include "common/config/config.h"
#include "supervisor/requests/lane.h"

struct chat;

enum lane_state {
	LANE_UNSEEN, /* nobody has asked yet */
	LANE_OFF,    /* not small, or no small device takes it */
	LANE_ON,     /* the device is a small one */
	LANE_LEFT,   /* it has been, and a main one takes its place */
};

struct chat_lane {
	enum lane_state state;
	char why[LANE_WHY_BYTES]; /* for X-Tandem-Reason; "" where it is nothing small */
	struct buf model;	  /* that a main device is asked for */
	bool named;		  /* c->alias is there for this alone */
	char pinned[CONFIG_NAME_BYTES];
	int64_t wait_ms; /* for a slot */
};

/* Is it small, and is there a device for it? True: the body is being read again. */
bool chat_lane(struct chat *c);
/* The plan of what is small. */
void chat_lane_plan(struct chat *c);
/* Its job waits, or is silent, for too long, or its device will not come? True: a main one has it now. */
bool chat_lane_waited(struct chat *c);
/* Nobody has seen a byte of an answer: a main device answers instead. */
void chat_lane_leave(struct chat *c, const char *cause);

#endif
