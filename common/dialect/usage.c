#include "common/dialect/usage.h"

#include "common/base/json.h"

#include <string.h>

/* Behind the empty line that ends the event at the beginning of s; s.n where none does. */
static size_t event_end(struct slice s)
{
	for (size_t i = 0; i + 1 < s.n; i++) {
		if (s.p[i] != '\n')
			continue;
		if (s.p[i + 1] == '\n')
			return i + 2;
		if (s.p[i + 1] == '\r' && i + 2 < s.n && s.p[i + 2] == '\n')
			return i + 3;
	}
	return s.n;
}

static bool is_usage(struct slice event)
{
	static const char mark[] = "data:";
	const char *at = memmem(event.p, event.n, mark, sizeof(mark) - 1);
	struct json_value root, choices, first;
	struct slice object = at ? (struct slice){at + sizeof(mark) - 1,
					   (size_t)(event.p + event.n - at) - (sizeof(mark) - 1)}
				 : (struct slice){0};
	/* Nearly all events have a choice: no word of "usage" saves the parser's work. */
	if (!at || !memmem(object.p, object.n, "\"usage\"", 7) ||
		json_parse(object, JSON_MAX_DEPTH, &root, NULL))
		return false;
	choices = json_get(root, "choices");
	struct json_iter it = json_iter(choices);
	return json_is(choices, JSON_ARRAY) && !json_array_next(&it, &first) &&
	       json_is(json_get(root, "usage"), JSON_OBJECT);
}

struct slice usage_event(struct slice events)
{
	while (events.n) {
		struct slice event = {events.p, event_end(events)};
		if (is_usage(event))
			return event;
		events = (struct slice){events.p + event.n, events.n - event.n};
	}
	return events;
}
