/*
 * The chunk of an OpenAI stream that holds its counts and nothing else. It comes to those who ask for
 * it (stream_options.include_usage), so a client that did not may stumble over its empty choices.
 *
 * Pure; any thread.
 */
#ifndef TANDEM_DIALECT_USAGE_H
#define TANDEM_DIALECT_USAGE_H

#include "common/base/buf.h"

/*
 * The first such event among whole events, its empty line included; empty, and behind the last byte,
 * where there is none.
 */
struct slice usage_event(struct slice events);

#endif
