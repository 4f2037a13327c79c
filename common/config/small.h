/*
 * Which requests are small: those that a small device answers as well as the main one, whose prefix
 * cache they would cost (`small.rules` of the configuration; docs/routing.md#the-small-lane).
 *
 * A rule holds where all that it says does. The first one that holds decides; where the file has no
 * rules, those of small_defaults() do. Pure; nothing blocks.
 */
#ifndef TANDEM_CONFIG_SMALL_H
#define TANDEM_CONFIG_SMALL_H

#include "common/config/config.h"

#define SMALL_ROLE "small" /* `use`: a device of that role, or one that lends a hand */
#define SMALL_MAIN "main"  /* `use`: the request is not small */

/* Of a request; borrowed. */
struct small_facts {
	enum small_kind kind;
	struct slice text;  /* how the newest message of a person begins, decoded; empty: unknown */
	struct slice model; /* as the client calls it */
	struct slice path;  /* without the query */
};

/* "any", "title", "tags", "follow-ups", "autocomplete", "embeddings" */
const char *small_kind_name(enum small_kind kind);

/* Each kind has a rule, which the role answers. */
void small_defaults(struct config *c);

/* The first rule that holds, or NULL: the request is not small. */
const struct config_small_rule *small_rule(const struct config *c, const struct small_facts *f);

#endif
