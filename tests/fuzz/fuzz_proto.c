/*
 * Frames from nowhere. What the reader accepts the writer must be able to write, and what was
 * written must be read as the same bytes again: a limit that only one of them checks, or a field
 * that only one of them knows, ends here.
 */
#include "proto/proto.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes again what the frame says. False when it is refused. */
static bool rewrite(struct proto_reader *reader, struct slice frame, struct proto_writer *out)
{
	static struct proto_record r;
	uint64_t generation;
	int rc = proto_reader_open(reader, frame, &generation);
	if (rc == 0)
		proto_writer_init(out, generation);
	else
		return false;
	while ((rc = proto_reader_next(reader, &r)) > 0)
		if (proto_put(out, &r) != 0)
			abort();
	return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct proto_reader *reader;
	struct proto_writer once = {0}, twice = {0};
	if (!reader && !(reader = proto_reader_create()))
		abort();
	if (rewrite(reader, (struct slice){(const char *)data, size}, &once) && once.count > 0) {
		struct slice a = proto_writer_frame(&once);
		if (!rewrite(reader, a, &twice) || !slice_eq(a, proto_writer_frame(&twice)))
			abort();
	}
	proto_writer_fini(&once);
	proto_writer_fini(&twice);
	return 0;
}
