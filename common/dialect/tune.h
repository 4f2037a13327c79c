/*
 * What is added to a client's own Ollama request on its way to Ollama: the device's window in place
 * of whatever window the client asks for, so that no request makes Ollama load its model anew; and
 * "truncate": false, so that a prompt that does not fit is an error and not cut in silence. An
 * Ollama that is too old to know the member ignores it. All other bytes stay the client's.
 *
 * Pure; any thread.
 */
#ifndef TANDEM_DIALECT_TUNE_H
#define TANDEM_DIALECT_TUNE_H

#include "common/dialect/request.h"

/*
 * Appends r's body with options.num_ctx = num_ctx (0: without one, as Ollama was started) and
 * "truncate": false unless the client says itself what it wants. Appends nothing where the body is
 * that already. Requests that unload are left alone. 0, -ENOMEM, -E2BIG.
 */
int chat_request_tune(const struct chat_request *r, int64_t num_ctx, struct buf *out);

#endif
