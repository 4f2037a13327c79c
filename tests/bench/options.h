/*
 * What bench-load is told to do, and the request it sends.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONNECTIONS_MAX 4096
#define BODY_MAX (256u << 20)

struct load_options {
	int port;
	const char *path, *body;
	unsigned connections;
	uint64_t requests; /* of all connections together; 0: only the time counts */
	uint64_t ms;	   /* no request starts later than that */
	uint64_t limit_ms; /* all over by then, or it is an error */
	uint64_t pause_us; /* between a reply and the next request of its connection */
	unsigned skip;	   /* first replies of each connection that no histogram counts */
	bool announce;	   /* "streaming" on stderr once every connection has a first body byte */
	bool hold;	   /* send once; end when stdin does, whatever arrived */
};

/* 0, or -EINVAL after a line on stderr. */
int load_options_parse(struct load_options *o, int argc, char **argv);

/* Reads the body and puts the head before it, in one block that the caller frees. 0 or -errno. */
int load_request_build(const struct load_options *o, char **request, size_t *len);

#endif
