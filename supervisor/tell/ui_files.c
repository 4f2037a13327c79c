#include "supervisor/tell/ui_files.h"

#include "common/base/hash.h"

#include <inttypes.h>
#include <stdio.h>

#define ETAG_BYTES 24

#define HTML "text/html; charset=utf-8"
#define CSS "text/css; charset=utf-8"
#define SCRIPT "text/javascript; charset=utf-8"
#define SVG "image/svg+xml"

/* symbol, name, type */
#define UI_FILES(F)                                                                                \
	F(index, "index.html", HTML)                                                               \
	F(style, "app.css", CSS)                                                                   \
	F(icon, "icon.svg", SVG)                                                                   \
	F(theme, "theme.js", SCRIPT)                                                               \
	F(app, "app.js", SCRIPT)                                                                   \
	F(net, "net.js", SCRIPT)                                                                   \
	F(history, "history.js", SCRIPT)                                                           \
	F(dom, "dom.js", SCRIPT)                                                                   \
	F(list, "list.js", SCRIPT)                                                                 \
	F(chart, "chart.js", SCRIPT)                                                               \
	F(devices, "devices.js", SCRIPT)                                                           \
	F(requests, "requests.js", SCRIPT)                                                         \
	F(sessions, "sessions.js", SCRIPT)                                                         \
	F(prompts, "prompts.js", SCRIPT)                                                           \
	F(events, "events.js", SCRIPT)                                                             \
	F(trial, "trial.js", SCRIPT)                                                               \
	F(doctor, "doctor.js", SCRIPT)                                                             \
	F(diff, "diff.js", SCRIPT)                                                                 \
	F(uplot, "uplot.min.js", SCRIPT) F(uplot_style, "uplot.min.css", CSS)

/* The assembler reads them, by their names in the source tree; Makefile says what depends on them. */
#define EMBED(symbol, name, type)                                                                  \
	__asm__(".pushsection .rodata\n"                                                           \
		"ui_file_" #symbol ":\n"                                                           \
		".incbin \"supervisor/tell/ui/" name "\"\n"                                        \
		"ui_file_end_" #symbol ":\n"                                                       \
		".popsection\n");                                                                  \
	extern const char ui_file_##symbol[], ui_file_end_##symbol[];
UI_FILES(EMBED)

struct entry {
	const char *name;
	const char *begin, *end;
	struct page_file file;
	char etag[ETAG_BYTES]; /* "": not made yet */
};

#define ENTRY(symbol, name_, type_)                                                                \
	{.name = (name_),                                                                          \
		.begin = ui_file_##symbol,                                                         \
		.end = ui_file_end_##symbol,                                                       \
		.file = {.type = (type_)}},
static struct entry entries[] = {UI_FILES(ENTRY)};

/* A file's name for caches is what is in it. */
static const struct page_file *ready(struct entry *e)
{
	if (!e->etag[0]) {
		e->file.bytes = (struct slice){e->begin, (size_t)(e->end - e->begin)};
		snprintf(e->etag, sizeof(e->etag), "\"%016" PRIx64 "\"",
			hash_fnv(HASH_FNV_START, e->begin, e->file.bytes.n));
		e->file.etag = e->etag;
	}
	return &e->file;
}

const struct page_file *ui_files_find(struct slice name)
{
	if (name.n == 0)
		name = slice_str(entries[0].name);
	for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++)
		if (slice_eq(name, slice_str(entries[i].name)))
			return ready(&entries[i]);
	return NULL;
}
