/* Anthropic's /v1/messages: its rows, errors, and how an answer is gone on with. */
#include "common/dialect/front_anthropic.h"
#include "common/dialect/compaction_form.h"
#include "common/dialect/pieces.h"

#include "common/base/json.h"

#include <inttypes.h>

#define PING "event: ping\ndata: {\"type\":\"ping\"}\n\n"
#define OVERLOADED 529 /* its own status for "not now" */

/* --- errors --- */

static const char *error_type(int status)
{
	switch (status) {
	case 413:
		return "request_too_large";
	case 503:
	case OVERLOADED:
		return "overloaded_error";
	case 504:
		return "timeout_error";
	case 401:
	case 403:
	case 404:
	case 429:
		return front_error_type(status);
	default:
		return status >= 400 && status < 500 ? "invalid_request_error" : "api_error";
	}
}

static void put_error(int status, struct slice message, struct buf *out)
{
	buf_printf(out,
		"{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", error_type(status));
	json_put_string(out, message);
	buf_add_str(out, "}}");
}

/* Agents take the numbers out of this very sentence. */
static void put_overflow(struct slice message, uint64_t prompt, uint64_t window, struct buf *out)
{
	struct buf text;
	(void)message;
	buf_init(&text, DIALECT_ERROR_TEXT_BYTES);
	buf_add_str(&text, "prompt is too long");
	if (prompt > 0 && window > 0)
		buf_printf(&text, ": %" PRIu64 " tokens > %" PRIu64 " maximum", prompt, window);
	put_error(400, buf_slice(&text), out);
	buf_free(&text);
}

/* --- going on with an answer --- */

static const char *resume_refused_chat(const struct chat_request *r)
{
	struct json_value config, older, format;
	FIELDS_GET(r->root, {"output_config", &config}, {"output_format", &older});
	FIELDS_GET(config, {"format", &format});
	return !is_absent(format) || !is_absent(older) ? "the answer has a prescribed form" : NULL;
}

/* --- the rows --- */

#define ANTHROPIC_ROW                                                                              \
	.errors = DIALECT_ANTHROPIC_OTHER, .api = API_ANTHROPIC, .sse = true,                      \
	.patience_ms = 300000, .error = put_error, .overflow = put_overflow,                       \
	.error_event = "event: error\n", .heartbeat = PING, .overloaded = OVERLOADED,              \
	.request_id = "request-id"

const struct front_dialect front_anthropic = {
	.name = "anthropic",
	.number = DIALECT_ANTHROPIC,
	ANTHROPIC_ROW,
	.compacts = &compaction_anthropic,
	.read = anthropic_read,
	.rewrite = anthropic_rewrite,
	.order = anthropic_order,
	.mend = anthropic_mend,
	.resume = {.refused = resume_refused_chat, .limits = {"max_tokens"}},
	.writer = &writer_anthropic,
};

/* /v1/messages/count_tokens: read, and never asked of a backend. */
const struct front_dialect front_anthropic_count = {
	.name = "anthropic count",
	.number = DIALECT_ANTHROPIC_COUNT,
	ANTHROPIC_ROW,
	.counts = true,
	.compacts = &compaction_anthropic,
	.read = anthropic_read_count,
	.rewrite = anthropic_rewrite,
	.order = anthropic_order,
	.mend = anthropic_mend,
	.writer = &writer_anthropic,
};

const struct front_dialect front_anthropic_other = {
	.name = "anthropic other",
	.number = DIALECT_ANTHROPIC_OTHER,
	ANTHROPIC_ROW,
};
