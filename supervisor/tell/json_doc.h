/* The writer of documents as JSON (field.h): what is not known is null. */
#ifndef TANDEM_JSON_DOC_H
#define TANDEM_JSON_DOC_H

#include "supervisor/tell/field.h"

/* Appends the members of the document; whoever calls has the braces around them. Memory: out's. */
void json_document(const struct fields *fields, const void *of, struct buf *out);

#endif
