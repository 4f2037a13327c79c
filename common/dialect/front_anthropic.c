/* Anthropic's API: the shape of errors. */
#include "common/dialect/front.h"

#include "common/base/json.h"

static const char *error_type(int status)
{
	switch (status) {
	case 413:
		return "request_too_large";
	case 503:
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

const struct front_dialect front_anthropic_other = {
	.name = "anthropic",
	.number = DIALECT_ANTHROPIC_OTHER,
	.errors = DIALECT_ANTHROPIC_OTHER,
	.api = API_ANTHROPIC,
	.sse = true,
	.patience_ms = 300000,
	.error = put_error,
	.error_event = "event: error\n",
};
