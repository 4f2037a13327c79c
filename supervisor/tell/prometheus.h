/*
 * The writer of documents (field.h) as Prometheus' text format, exposition version 0.0.4
 * (prometheus.io/docs/instrumenting/exposition_formats).
 *
 * The document is a list of families: a field that is a plain value, or a list whose elements have labels (fields of
 * type FIELD_TEXT) and, last, one value, with which a sample is written. A field's name is the family's, its `help` the
 * HELP line. Counts are counters, all other numbers gauges. Values are told in base units: "us" and "ms" become seconds,
 * "percent" a ratio. A label that is unknown is left out, a value that is unknown leaves its sample out.
 */
#ifndef TANDEM_PROMETHEUS_H
#define TANDEM_PROMETHEUS_H

#include "supervisor/tell/field.h"

/* Appends the whole text. Memory: out's. */
void prometheus_document(const struct fields *fields, const void *of, struct buf *out);

#endif
