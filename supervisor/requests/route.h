/*
 * Which kind of request a method and a path are: what is answered here, what is a chat, what passes
 * through, in whose form errors go, and what works a model and so waits for its turn. Pure.
 *
 * Paths are matched as both backends' servers do: percent-encoded letters, doubled slashes and a
 * slash at the end make no other path, and llama-server's paths without "/v1" are the same as with.
 */
#ifndef TANDEM_ROUTE_H
#define TANDEM_ROUTE_H

#include "common/dialect/dialect.h"

enum route_kind {
	ROUTE_CHAT, /* dialect says which */
	ROUTE_ROOT,
	ROUTE_TAGS,    /* GET /api/tags */
	ROUTE_PS,      /* GET /api/ps */
	ROUTE_METRICS, /* GET /metrics */
	ROUTE_PAGE,    /* /ui and all below it, whatever the method */
	ROUTE_MODELS,  /* GET /v1/models */
	ROUTE_MODEL,   /* GET /v1/models/NAME */
	ROUTE_STORED,  /* /v1/responses/...: none is kept */
	ROUTE_PASS,
};

struct route {
	enum route_kind kind;
	enum dialect dialect; /* of the chat, or the shape of errors */
	bool works;	      /* the model works for it: it takes a slot */
	bool writes;	      /* ... and answers with text, not with vectors */
	bool named;	      /* a JSON body names the model */
	bool changes;	  /* it may change the backend's server: nothing says that it only asks */
	const char *path; /* the known path; NULL: the client's is to be passed on as it is */
	const char *v1;	  /* the same path below /v1, where this one is llama-server's alone */
};

/* path: without the query. */
void route_find(const char *method, struct slice path, struct route *out);

/* The path that chats of this dialect come on, without others that mean the same; NULL: it has none. */
const char *route_of_chat(enum dialect d);

/* Appends the decoded NAME of "/v1/models/NAME" (slashes in it are part of it). 0 or the buf's
 * error. */
int route_model(struct slice path, struct buf *out);

#endif
