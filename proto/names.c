#include "proto/proto.h"
#include "proto/wire.h"

#define NAME_OF(table, i)                                                                          \
	((size_t)(i) < sizeof(table) / sizeof((table)[0]) && (table)[i] ? (table)[i] : "unknown")

const char *proto_type_name(enum proto_type t)
{
	const struct wire_shape *shape = wire_shape(t);
	return shape ? shape->name : "unknown";
}

const char *proto_cause_name(enum proto_cause c)
{
	static const char *const names[] = {
		[FAIL_NONE] = "none",
		[FAIL_UNREACHABLE] = "unreachable",
		[FAIL_TIMEOUT] = "timeout",
		[FAIL_STATUS] = "status",
		[FAIL_GARBAGE] = "garbage",
		[FAIL_CUT] = "cut",
		[FAIL_OVERFLOW] = "overflow",
		[FAIL_EMPTY] = "empty",
		[FAIL_REFUSED] = "refused",
		[FAIL_TOO_LARGE] = "too_large",
		[FAIL_CANCELLED] = "cancelled",
		[FAIL_DRAINING] = "draining",
		[FAIL_INTERNAL] = "internal",
		[FAIL_CLOSED] = "closed",
		[FAIL_GONE] = "gone",
	};
	return NAME_OF(names, c);
}

const char *proto_kind_name(enum proto_kind k)
{
	static const char *const names[] = {
		[JOB_CHAT] = "chat",
		[JOB_NOTES] = "notes",
		[JOB_PASS] = "pass",
		[JOB_WARM] = "warm",
	};
	return NAME_OF(names, k);
}

const char *proto_state_name(enum proto_backend_state s)
{
	static const char *const names[] = {
		[STATE_STARTING] = "starting",
		[STATE_LOADING] = "loading",
		[STATE_READY] = "ready",
		[STATE_DOWN] = "down",
	};
	return NAME_OF(names, s);
}
