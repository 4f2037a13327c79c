/*
 * Names of models that clients ask for and that no backend has: `models` of the configuration says
 * what answers in their place.
 *
 * A pattern is a name in which "*" stands for any bytes, also none, and "?" for one. Names are compared as
 * Ollama does: the case of ASCII does not matter, and ":latest" is implied. Pure; nothing blocks. Time
 * is bounded by CONFIG_ALIAS_BYTES: a longer name is nobody's.
 */
#ifndef TANDEM_CONFIG_MODELS_H
#define TANDEM_CONFIG_MODELS_H

#include "common/config/config.h"

/* The first alias that matches the name, or NULL. */
const struct config_alias *models_alias(const struct config *c, struct slice name);

/* Does the pattern match all of the text? ASCII's case does not matter. */
bool models_match(struct slice pattern, struct slice text);

/* Does the pattern match the name, ":latest" being implied? */
bool models_match_name(struct slice pattern, struct slice name);

/* Its `match` is one name and can be listed: it has no wildcard. */
bool models_is_name(const struct config_alias *a);

#endif
