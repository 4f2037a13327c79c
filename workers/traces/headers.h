/*
 * Headers for the collector (a key, a tenant) in a file of lines "Name: value"; empty lines and those that begin
 * with # do not count. The file must not be readable by everybody; its values are in no log.
 */
#ifndef TANDEM_TRACES_HEADERS_H
#define TANDEM_TRACES_HEADERS_H

#include "common/base/buf.h"
#include "proto/proto.h"

#define TRACES_HEADERS_MAX 32
#define TRACES_HEADERS_BYTES 16384 /* of the file */

struct traces_headers {
	struct proto_header of[TRACES_HEADERS_MAX]; /* into text */
	size_t count;
	struct buf text;
};

/* Reads the file; blocks for the disk. 0, or -errno with words in why. headers_fini() is due either way. */
int headers_read(struct traces_headers *h, const char *path, struct buf *why);
/* The same of a text that is there. Pure. 0 or -EINVAL. */
int headers_parse(struct traces_headers *h, struct buf *why);
void headers_fini(struct traces_headers *h);

#endif
