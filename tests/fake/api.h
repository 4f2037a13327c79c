/*
 * From an HTTP exchange to a dialect: the life of a request, the scripted faults before its answer,
 * routing.
 */
#ifndef FAKE_API_H
#define FAKE_API_H

#include "tests/fake/fake.h"

enum route_flags {
	ROUTE_GENERATES = 1, /* asks for an answer: directives and rules without "match" apply */
	ROUTE_DISCARD = 2,   /* the body is counted, not kept */
	ROUTE_BODILESS = 4,  /* there is none to dump */
};

struct route {
	const char *method;
	const char *path; /* a last '*' stands for any rest */
	void (*run)(struct request *r);
	unsigned flags;
};

extern const struct http_handler api_handler; /* its arg is the struct fake */

/* Each ends with a route whose method is NULL. */
extern const struct route ollama_routes[], llama_routes[], compat_routes[], control_routes[];

/* An error in the dialect that r's path speaks; an empty message picks the usual one of that
 * status. */
void api_error(struct request *r, int status, struct slice message);
void api_errorf(struct request *r, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The dialects' own, for api_error(). */
void ollama_error(struct request *r, int status, struct slice message);
void llama_error(struct request *r, int status, struct slice message);
void compat_error(struct request *r, int status, struct slice message);

/* vLLM's check of the key. False: replied. */
bool compat_admits(struct request *r);

/* Sends a client from another spelling of a path to the right one. False: it is the right one. */
bool ollama_redirects(struct request *r);

/* Ollama's check of Host and Origin (docs/protocols.md#what-is-not-handed-on). */
bool ollama_admits(const struct request *r);

/* A JSON reply with the faults that hit a reply not streamed; frees body. r may be gone
 * on return. */
void api_reply(struct request *r, int status, struct buf *body);

/* The content type of r's dialect for JSON. */
const char *api_json_type(const struct request *r);

/* The body as a JSON object; otherwise replies 400 and returns false. */
bool api_object(struct request *r);

#endif
