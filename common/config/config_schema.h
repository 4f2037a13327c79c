/*
 * The table-driven part of the configuration: which keys exist, their types, ranges and defaults,
 * and one walker that checks a libconfig group against such a table and stores what it finds.
 * Internal to common/config*.c.
 */
#ifndef TANDEM_CONFIG_SCHEMA_H
#define TANDEM_CONFIG_SCHEMA_H

#include "common/config/config.h"
#include "common/config/config_text.h"

#include <libconfig.h>

#define CONFIG_PROBLEMS_MAX 50 /* reported; the rest is counted */

enum config_key_type {
	KEY_INT,   /* int */
	KEY_INT64, /* int64_t */
	KEY_REAL,  /* double; whole numbers are welcome */
	KEY_BOOL,  /* bool */
	KEY_ENUM,  /* an enum: one of names[], stored as its index */
	KEY_FLAGS, /* unsigned: array of names[], the i-th sets bit i */
	KEY_NAME,  /* char[CONFIG_NAME_BYTES] */
	KEY_TEXT,  /* char *, owned */
	KEY_ARGV,  /* char **, NULL-terminated, owned */
	KEY_OTHER, /* known here, read elsewhere */
};

/* One key. The number of a default (bools 0/1, enums the index) and the range of numbers fit a
 * double exactly. */
struct config_key {
	const char *group; /* NULL: the key stands in the outer group */
	const char *name;
	enum config_key_type type;
	size_t offset;			    /* in the structure that the table describes */
	double min, max, fallback;	    /* KEY_ARGV: min words */
	const char *text;		    /* default of KEY_TEXT; NULL stays NULL */
	const char *const *names;	    /* NULL-terminated, of KEY_ENUM and KEY_FLAGS */
	const char *(*check)(const char *); /* of KEY_TEXT, KEY_NAME and each word of KEY_ARGV: what
					       is wrong with it, or NULL */
};

struct config_schema {
	const struct config_key *keys;
	size_t count;
};

/* One load under way. */
struct config_reader {
	struct config_text text;
	struct buf *err;
	unsigned problems;
	bool no_memory;
};

/*
 * Reports "FILE:LINE: key: what". The key is the path of `at`, and child below it (NULL: `at`
 * itself). The line is that of `at`; without one (the root) only the file is named.
 */
void config_problem(struct config_reader *r, const config_setting_t *at, const char *child,
	const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Stores every default in *base. 0 or -ENOMEM (then *base is still fit for free). */
int config_schema_defaults(struct config_schema s, void *base);

/* Checks every member of group and stores it in *base, over the default that stands there. */
void config_schema_read(
	struct config_reader *r, struct config_schema s, const config_setting_t *group, void *base);

/* Frees what the table owns in *base. */
void config_schema_free(struct config_schema s, void *base);

/* The tables: of struct config, of struct config_device with its backend, of struct config_alias, of
 * struct config_small_rule. */
extern const struct config_schema config_schema_main;
extern const struct config_schema config_schema_device;
extern const struct config_schema config_schema_alias;
extern const struct config_schema config_schema_small;

/* `models` (models.c). */
void models_read(struct config_reader *r, const config_setting_t *root, struct config *out);

/* `small.rules` (small.c), once the devices are there. */
void small_read(struct config_reader *r, const config_setting_t *root, struct config *out);

/* What is wrong with a text (a phrase that follows "must be" or stands alone), or NULL. */
const char *config_check_address(const char *text);
const char *config_check_run_dir(const char *text);
const char *config_check_state_dir(const char *text);
const char *config_check_origin(const char *text);
const char *config_check_name(const char *text);
const char *config_check_model(const char *text);
const char *config_check_pin(const char *text);
const char *config_check_url(const char *text);
const char *config_check_file(const char *text);
/* Looks at the file, too: who may read it. */
const char *config_check_key_file(const char *text);

#endif
