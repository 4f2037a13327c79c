/*
 * What a document can tell, from its tables alone: for each field its name, type, kind and unit, so
 * that a reader (a page, a collector of metrics) need not guess.
 */
#ifndef TANDEM_DESCRIBE_H
#define TANDEM_DESCRIBE_H

#include "supervisor/tell/field.h"

/* Appends a JSON array: [{"name":..,"type":..,"kind":..,"unit":..|null,"fields":[..]},...]. Things
 * within things of their own kind are not followed. */
void fields_describe(const struct fields *fields, struct buf *out);

#endif
