/*
 * The text of a configuration file as libconfig gets it, and where each of its lines came from.
 *
 * libconfig 1.5 exits the process when an included file is a directory, resolves includes against
 * the working directory, ends silently in an unclosed comment, and wraps integers past 32 bits. So
 * the text is made here: `@include "file"` is expanded (relative to the including file), and long
 * whole numbers get the suffix L, which makes libconfig keep 64 bits (and saturate beyond).
 * Internal to common/config*.c. Blocks on file I/O.
 */
#ifndef TANDEM_CONFIG_TEXT_H
#define TANDEM_CONFIG_TEXT_H

#include "common/base/buf.h"

#define CONFIG_TEXT_BYTES (1 << 20) /* all files together */
#define CONFIG_FILES_MAX 32
#define CONFIG_INCLUDE_DEPTH 8

/* From output line `line` on, the text is file `file` from its line `source_line` on. */
struct config_run {
	unsigned line;
	unsigned file;
	unsigned source_line;
};

struct config_text {
	struct buf text;
	unsigned line; /* of the end of text, from 1 */
	char *files[CONFIG_FILES_MAX];
	unsigned file_count;
	struct config_run runs[2 * CONFIG_FILES_MAX];
	unsigned run_count;
};

struct config_place {
	const char *file;
	unsigned line;
};

/* 0, or -ENOENT, -EACCES, -EINVAL, -ENOMEM with "FILE[:LINE]: what is wrong\n" in err. Call fini in
 * either case. */
int config_text_init(struct config_text *t, const char *path, struct buf *err);
void config_text_fini(struct config_text *t);

/* Where output line `line` (from 1) was written. */
struct config_place config_text_place(const struct config_text *t, unsigned line);

/* Output line `line` without its indentation and line end; empty past the end. */
struct slice config_text_line(const struct config_text *t, unsigned line);

#endif
