#include "supervisor/ctl/init.h"

#include "common/base/file.h"
#include "common/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_TOKENS 1500 /* config.h's default */
#define NOTES_TOKENS 160

/* A libconfig string. */
static void put_quoted(struct buf *b, const char *text)
{
	buf_add_char(b, '"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '"' || c == '\\')
			buf_printf(b, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			buf_printf(b, "\\x%02x", c);
		else
			buf_add_char(b, (char)c);
	}
	buf_add_char(b, '"');
}

static void put_key(struct buf *b, const char *indent, const char *key, const char *text)
{
	buf_printf(b, "%s%s = ", indent, key);
	put_quoted(b, text);
	buf_add_str(b, ";\n");
}

/* --- Ollama servers that somebody else runs --- */

static void put_ollama(
	struct buf *b, const char *name, const char *role, const struct conf_ollama_device *d)
{
	buf_printf(b, "  {\n    name = \"%s\"; roles = [ \"%s\" ];\n", name, role);
	buf_add_str(
		b, "    slots = 1;            # as many as OLLAMA_NUM_PARALLEL of that server\n");
	put_key(b, "    ", "model", d->model->name);
	buf_printf(b, "    num_ctx = %" PRId64 ";%s\n", d->num_ctx,
		d->model->loaded ? "      # what it is loaded with: asking for another reloads it"
				 : "");
	buf_add_str(b, "    backend = { type = \"ollama\"; url = ");
	put_quoted(b, d->server->url);
	buf_add_str(b, "; };\n  }");
}

static void put_attached(struct buf *b, const struct conf_plan *p)
{
	if (!p->condense.server)
		buf_add_str(b,
			"# Only one Ollama answered. With a second one for the smaller GPU (for "
			"example\n"
			"#   CUDA_VISIBLE_DEVICES=1 OLLAMA_HOST=127.0.0.1:11435 ollama serve\n"
			"# ) add a device with roles = [ \"condense\" ], or run `tandemctl init "
			"--force` again.\n"
			"# Until then prompts go unchanged, and only those that do not fit are "
			"shortened, by selection alone.\n");
	buf_add_str(b, "devices = (\n");
	put_ollama(b, "gpu0", "main", &p->main);
	if (p->condense.server) {
		buf_add_str(b, ",\n");
		put_ollama(b, "gpu1", "condense", &p->condense);
	}
	buf_add_str(b, "\n);\n");

	/* Estimates may be off by half, and the instructions and notes need their place too. */
	int64_t room = (p->condense.num_ctx - NOTES_TOKENS - 300) * 5 / 8;
	if (p->condense.server && room < CHUNK_TOKENS)
		buf_printf(b,
			"\n# A chunk and its notes must fit the condensing model's window.\n"
			"condense = { chunk_tokens = %" PRId64 "; };\n",
			room < 64 ? 64 : room);
}

/* --- llama-servers that tandem starts --- */

static void put_word(struct buf *b, const char *word)
{
	buf_add_str(b, ", ");
	put_quoted(b, word);
}

static void put_started(struct buf *b, const struct conf_plan *p, bool main)
{
	const char *gpu = main ? p->gpu_main : p->gpu_condense;
	int slots = main ? 1 : CONF_ENGINE_SLOTS;
	char text[64];

	buf_printf(b, "  {\n    name = \"%s%d\"; roles = [ \"%s\" ];\n", gpu ? "gpu" : "cpu",
		main ? 0 : 1, main ? "main" : "condense");
	buf_printf(b, "    slots = %d;\n", slots);
	put_key(b, "    ", "model", p->model_name);
	buf_printf(b, "    num_ctx = %d;%s\n", CONF_ENGINE_WINDOW / slots,
		slots > 1 ? "       # of each slot: -c divided by -np" : "");
	buf_add_str(b, "    backend = {\n      type = \"llama-server\";\n      command = [ ");
	if (p->engine_lib) {
		struct buf library;
		buf_init(&library, 0);
		buf_printf(&library, "LD_LIBRARY_PATH=%s", p->engine_lib);
		put_quoted(b, "env");
		put_word(b, buf_cstr(&library));
		put_word(b, p->engine);
		b->error = b->error ? b->error : buf_error(&library);
		buf_free(&library);
	} else {
		put_quoted(b, p->engine);
	}
	buf_add_str(b, ",\n        \"-m\"");
	put_word(b, p->model_file);
	buf_add_str(b, ",\n        \"--alias\"");
	put_word(b, p->model_name);
	snprintf(text, sizeof(text), "%d", CONF_ENGINE_WINDOW);
	buf_printf(b, ", \"-c\", \"%s\", \"-np\", \"%d\", \"-t\", \"%d\"", text, slots, p->threads);
	if (gpu) {
		buf_add_str(b, ",\n        \"-ngl\", \"99\", \"--device\"");
		put_word(b, gpu);
	} else if (p->gpu_main) {
		buf_add_str(b, ",\n        \"-ngl\", \"0\", \"--device\", \"none\"");
	}
	buf_add_str(b, " ];\n    };\n  }");
}

static void put_embedded(struct buf *b, const struct conf_plan *p)
{
	buf_add_str(b, "# No Ollama answered: tandem starts one llama-server for each role, and "
		       "stops them.\n"
		       "# The worker appends --host 127.0.0.1 --port N.\n"
		       "devices = (\n");
	put_started(b, p, true);
	buf_add_str(b, ",\n");
	put_started(b, p, false);
	buf_add_str(b, "\n);\n");
	if (!p->gpu_condense)
		buf_add_str(b, "\n# A CPU writes slowly: short notes, and more time for them.\n"
			       "condense = { notes_max_tokens = 64; job_timeout_ms = 240000; };\n");
}

/* --- both --- */

/* For agents that ask for their makers' models: haiku writes Claude Code's titles. */
static void put_aliases(struct buf *b, const char *main, const char *small)
{
	buf_printf(b,
		"\n# Agents that ask for other models than there are. Without the # these answer; "
		"a "
		"model of that very\n"
		"# name comes first, then the first match. `tandemctl backends` shows them.\n"
		"# models = (\n"
		"#   { match = \"claude-*haiku*\"; use = \"%s\"; },  # Claude Code: titles and "
		"other "
		"small things\n"
		"#   { match = \"claude-*\"; use = \"%s\"; },\n"
		"#   { match = \"gpt-*\"; use = \"%s\"; },           # Codex\n"
		"#   { match = \"codex-*\"; use = \"%s\"; }\n"
		"# );\n",
		small, main, main, main);
}

int conf_text(const struct conf_plan *p, struct buf *out)
{
	buf_add_str(out, "# Written by `tandemctl init`. Every other key and its default: "
			 "etc/tandem.conf of tandem.\n"
			 "# Check changes with `tandemctl check FILE`.\n\n");
	buf_printf(out, "listen = { address = \"127.0.0.1\"; port = %ld; };\n", p->port);
	put_key(out, "", "run_dir", p->run_dir);
	buf_add_char(out, '\n');
	if (p->engine) {
		put_embedded(out, p);
		put_aliases(out, p->gpu_main ? "gpu0" : "cpu0", p->gpu_condense ? "gpu1" : "cpu1");
	} else {
		put_attached(out, p);
		put_aliases(out, "gpu0", p->condense.server ? "gpu1" : "gpu0");
	}
	return buf_error(out);
}

/* --- the file --- */

static int check(const char *path, struct buf *err)
{
	struct config config;
	int rc = config_load(path, &config, err);
	if (rc == 0)
		config_free(&config);
	return rc;
}

/* rename() that leaves an existing target alone; where the filesystem can't, the caller's look
 * before must do. */
static int rename_new(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	return rename(from, to) ? -errno : 0;
}

int conf_write(const char *path, struct slice text, bool force, struct buf *err)
{
	struct buf temp;
	struct stat st;
	const char *slash = strrchr(path, '/');
	int fd = -1, rc;

	if (!force && lstat(path, &st) == 0) {
		buf_printf(err, "%s exists; --force overwrites it", path);
		return -EEXIST;
	}
	buf_init(&temp, 0);
	buf_add(&temp, path, slash ? (size_t)(slash + 1 - path) : 0);
	buf_add_str(&temp, ".tandem.conf.XXXXXX");
	buf_cstr(&temp);
	rc = buf_error(&temp);
	if (rc)
		goto out;
	fd = mkostemp(temp.p, O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		goto out;
	}
	rc = file_write_all(fd, text);
	if (rc == 0 && (fchmod(fd, 0644) || fsync(fd)))
		rc = -errno;
	if (close(fd) && rc == 0)
		rc = -errno;
	if (rc == 0)
		rc = check(temp.p, err);
	if (rc == 0)
		rc = force ? (rename(temp.p, path) ? -errno : 0) : rename_new(temp.p, path);
	if (rc)
		unlink(temp.p);
out:
	if (rc && err->n == 0)
		buf_printf(err, "%s: %s", path, strerror(-rc));
	buf_free(&temp);
	return rc;
}
