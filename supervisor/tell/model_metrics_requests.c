/* What is measured of requests by their labels (measures.h), as families of samples (prometheus.h). */
#include "supervisor/tell/documents.h"
#include "supervisor/tell/metrics.h"

static const struct measures *measures_of(const void *of)
{
	return &((const struct metrics_view *)of)->tell->requests->measures;
}

/* A part of a series: an outcome, a kind of tokens. */
struct part {
	const struct measure_series *series;
	size_t index;
};

enum { WAY, DIALECT, DEVICE, SIZE };

static void get_label(const void *of, const struct field *f, struct field_value *out)
{
	static const char *(*const names[])(const struct measure_series *s) = {
		[WAY] = measure_way_name,
		[DIALECT] = measure_dialect_name,
		[DEVICE] = measure_device_name,
		[SIZE] = measure_size_name};
	field_say_text(out, names[f->which](of));
}

static const struct field labels[] = {
	LABEL("route", get_label, WAY),
	LABEL("dialect", get_label, DIALECT),
	LABEL("device", get_label, DEVICE),
	LABEL("size", get_label, SIZE),
};
static const struct fields label_members = FIELDS(labels);

static const void *series_of(const void *of)
{
	return ((const struct part *)of)->series;
}

/* A histogram without a value has no sample: a series of embeddings has no first token. */
static void get_times(const void *of, const struct field *f, struct field_value *out)
{
	field_get_histogram(of, f, out);
	if (out->histogram->total == 0)
		out->is = FIELD_LEFT_OUT;
}

#define SERIES_LABELS FIELD_OBJECT_OF(NULL, &label_members, NULL)
#define PART_LABELS FIELD_OBJECT_OF(NULL, &label_members, series_of)
#define TIMES(member_)                                                                             \
	{                                                                                          \
		.name = "value", .type = FIELD_HISTOGRAM, .kind = FIELD_COUNT, .unit = "us",       \
		.get = get_times,                                                                  \
		.which = FIELD_AT(struct measure_series, member_, struct histogram)                \
	}

static const struct field total[] = {SERIES_LABELS, TIMES(total)},
			  first[] = {SERIES_LABELS, TIMES(first)},
			  token[] = {SERIES_LABELS, TIMES(token)},
			  queued[] = {SERIES_LABELS, TIMES(queued)};
static const struct fields total_members = FIELDS(total), first_members = FIELDS(first),
			   token_members = FIELDS(token), queued_members = FIELDS(queued);

static void each_series(const void *of, struct field_list *list)
{
	const struct measures *m = measures_of(of);
	for (size_t i = 0; i < m->count; i++)
		field_item(list, m->of[i]);
}

static void each_part(const void *of, struct field_list *list, size_t parts)
{
	const struct measures *m = measures_of(of);
	for (size_t i = 0; i < m->count; i++)
		for (size_t k = 0; k < parts; k++)
			field_item(list, &(struct part){m->of[i], k});
}

/* Tokens as histograms: of prompts, of answers. */
static void get_usage(const void *of, const struct field *f, struct field_value *out)
{
	const struct part *p = of;
	(void)f;
	out->histogram = p->index ? &p->series->tokens_out : &p->series->tokens_in;
	if (out->histogram->total == 0)
		out->is = FIELD_LEFT_OUT;
}

static void get_usage_kind(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	field_say_text(out, ((const struct part *)of)->index ? "output" : "input");
}

static void each_usage(const void *of, struct field_list *list)
{
	each_part(of, list, 2);
}

static const struct field usage[] = {PART_LABELS, LABEL("gen_ai_token_type", get_usage_kind, 0),
	{.name = "value", .type = FIELD_HISTOGRAM, .kind = FIELD_COUNT, .get = get_usage}};
static const struct fields usage_members = FIELDS(usage);

static void get_outcome(const void *of, const struct field *f, struct field_value *out)
{
	const struct part *p = of;
	(void)f;
	out->number = (int64_t)p->series->outcome[p->index];
}

static void get_outcome_name(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	field_say_text(
		out, measure_outcome_name((enum measure_outcome)((const struct part *)of)->index));
}

static void each_outcome(const void *of, struct field_list *list)
{
	each_part(of, list, MEASURE_OUTCOMES);
}

static const struct field outcomes[] = {
	PART_LABELS, LABEL("outcome", get_outcome_name, 0), COUNT(get_outcome)};
static const struct fields outcome_members = FIELDS(outcomes);

static void get_tokens(const void *of, const struct field *f, struct field_value *out)
{
	const struct part *p = of;
	(void)f;
	out->number = (int64_t)p->series->tokens[p->index];
}

static void get_tokens_name(const void *of, const struct field *f, struct field_value *out)
{
	(void)f;
	field_say_text(
		out, measure_tokens_name((enum measure_tokens)((const struct part *)of)->index));
}

static void each_tokens(const void *of, struct field_list *list)
{
	each_part(of, list, MEASURE_TOKENS);
}

static const struct field tokens[] = {
	PART_LABELS, LABEL("kind", get_tokens_name, 0), COUNT(get_tokens)};
static const struct fields token_count_members = FIELDS(tokens);

/* --- all --- */

static const struct field families[] = {
	FAMILY("gen_ai_server_request_duration_seconds",
		"From the head of a request to the end of its answer, of those that are done.",
		&total_members, each_series),
	FAMILY("gen_ai_server_time_to_first_token_seconds",
		"From the head of a request to the first byte of a streamed answer.",
		&first_members, each_series),
	FAMILY("gen_ai_server_time_per_output_token_seconds", "Per token after the first one.",
		&token_members, each_series),
	FAMILY("gen_ai_client_token_usage",
		"Tokens of a prompt as sent, of an answer, as the backend counts them.",
		&usage_members, each_usage),
	FAMILY("tandem_request_queue_time_seconds", "How long a request waited for a slot.",
		&queued_members, each_series),
	FAMILY("tandem_requests_total", "Requests by how they ended.", &outcome_members,
		each_outcome),
	FAMILY("tandem_tokens_total",
		"Tokens of prompts as they came and as they were sent, of these from the prefix "
		"cache, and of answers.",
		&token_count_members, each_tokens),
};
const struct fields request_metric_families = FIELDS(families);
