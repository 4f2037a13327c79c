/*
 * Who asks, and how urgent it is: what fairness, bounds and coalescing call a client, and the class
 * of a chat request. Pure functions; nothing here sees prompt text beyond the mark of a side task.
 */
#ifndef TANDEM_CLIENT_H
#define TANDEM_CLIENT_H

#include "common/base/buf.h"
#include "common/config/config.h"
#include "supervisor/devices/queue.h"

#define CLIENT_LARGE_TOKENS 4000 /* a longer prompt is an agent's */
#define CLIENT_HOST_BYTES 64

/* Headers that tell clients behind one address apart, ended by NULL. Not the User-Agent: whoever
 * sends another one with each request would be as many clients. */
extern const char *const client_headers[];

/* A client's header, or NULL; ctx is the caller's. */
typedef const char *client_header_fn(const void *ctx, const char *name);

/* "127.0.0.1:40000", "[::1]:40000": the address without the port. */
struct slice client_host(const char *peer);

/*
 * 64 bits for the address (without port) and client_headers, keyed with a secret so that a log
 * which names them gives away no API key (SipHash-2-4). Equal keys are no proof of equal clients.
 */
uint64_t client_key(
	const uint64_t secret[2], const char *peer, client_header_fn *header, const void *ctx);

struct client_facts {
	const char *wish;	/* X-Tandem-Class, or NULL */
	const char *user_agent; /* or NULL */
	bool tools;		/* the request offers tools */
	uint64_t tokens;	/* of its prompt, an estimate */
	struct slice last;	/* raw JSON of the last human message's text; may be empty */
};

/* What a web interface asks for beside a conversation, by how its prompt begins (raw JSON of the text); SMALL_ANY: none
 * of these. Autocomplete is waited for, the others are not. */
enum small_kind client_side_task(struct slice text);

/* The wish where it is one of interactive, agent, idle; else a guess. */
enum job_class client_class(const struct client_facts *f);

#endif
