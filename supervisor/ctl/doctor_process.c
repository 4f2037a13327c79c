/*
 * What the command lines of this machine's llama-servers say, for backends that tell little of
 * themselves: those that answer at a device's port, and those that an Ollama has started, one for
 * each model that it has loaded.
 */
#include "supervisor/ctl/doctor.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_BYTES 65536 /* of a command line, or an environment, that are looked at */
#define OLLAMA_PORT 11434
#define LLAMA_PORT 8080

/* --- matching --- */

static const struct doctor_process *engine_at(const struct doctor_process *p, size_t n, int port)
{
	for (size_t i = 0; i < n; i++)
		if (!p[i].ollama && (p[i].args.port ? p[i].args.port : LLAMA_PORT) == port)
			return &p[i];
	return NULL;
}

/* The Ollama that listens there; where its environment is not for us to see, the only one. */
static const struct doctor_process *ollama_at(const struct doctor_process *p, size_t n, int port)
{
	const struct doctor_process *only = NULL;
	size_t count = 0;
	for (size_t i = 0; i < n; i++) {
		if (!p[i].ollama)
			continue;
		if (p[i].port == port)
			return &p[i];
		only = &p[i];
		count++;
	}
	return count == 1 && only->port == 0 ? only : NULL;
}

/* Of the engines that it has started: the one with the window that the device's model is loaded with;
 * of several such ones nobody knows which it is. */
static const struct doctor_process *engine_of(
	const struct doctor_process *p, size_t n, const struct doctor_device *d)
{
	const struct doctor_process *ollama = ollama_at(p, n, d->port), *found = NULL;
	for (size_t i = 0; ollama && i < n; i++) {
		const struct engine_args *a = &p[i].args;
		if (p[i].ollama || p[i].parent != ollama->pid || a->embedding)
			continue;
		if (d->loaded_window > 0 && a->window > 0 &&
			a->window != d->loaded_window * (a->slots > 0 ? a->slots : 1))
			continue;
		if (found)
			return NULL;
		found = &p[i];
	}
	return found;
}

static void learn(struct doctor_device *d, const struct engine_args *a, bool ollama)
{
	if (d->flash < 0)
		d->flash = a->flash;
	if (!d->cache_type[0]) /* f16 is llama-server's default */
		snprintf(d->cache_type, sizeof(d->cache_type), "%s",
			a->cache_type[0] ? a->cache_type : "f16");
	if (d->gpus < 0 && a->split)
		d->gpus = a->split;
	if (d->gpu_percent < 0 && a->gpu_layers == 0)
		d->gpu_percent = 0;
	if (ollama && a->slots > 0 && d->reported_slots <= 0)
		d->reported_slots = a->slots;
}

void doctor_match_processes(struct doctor_facts *f, const struct doctor_process *p, size_t n)
{
	for (size_t i = 0; i < f->devices; i++) {
		struct doctor_device *d = &f->device[i];
		bool ollama = strcmp(d->type, "ollama") == 0;
		if (!d->port)
			continue;
		const struct doctor_process *one =
			ollama ? engine_of(p, n, d) : engine_at(p, n, d->port);
		if (one)
			learn(d, &one->args, ollama);
	}
}

/* --- a command line: words, each with a 0 behind it --- */

static const char *next_word(struct slice text, const char *word)
{
	word += strlen(word) + 1;
	return word < text.p + text.n ? word : NULL;
}

static bool is_program(const char *word, const char *name)
{
	const char *slash = strrchr(word, '/');
	return strcmp(slash ? slash + 1 : word, name) == 0;
}

bool doctor_read_command(struct slice text, struct doctor_process *out)
{
	if (text.n == 0 || text.p[text.n - 1] != '\0')
		return false;
	const char *word = text.p, *next = next_word(text, word);
	engine_args_init(&out->args);
	out->ollama = is_program(word, "ollama") && next && strcmp(next, "serve") == 0;
	if (out->ollama)
		return true;
	if (!is_program(word, "llama-server"))
		return false;
	for (; next; next = next_word(text, next))
		engine_args_take(&out->args, next, next_word(text, next));
	return true;
}

/* OLLAMA_HOST of an environment: "host:port", ":port", "http://host:port" */
int doctor_ollama_port(struct slice environment)
{
	static const char name[] = "OLLAMA_HOST=";
	if (environment.n == 0 || environment.p[environment.n - 1] != '\0')
		return 0;
	for (const char *word = environment.p; word; word = next_word(environment, word)) {
		if (strncmp(word, name, sizeof(name) - 1) != 0)
			continue;
		const char *colon = strrchr(word, ':'), *bracket = strchr(word, ']');
		if (colon && bracket && colon < bracket) /* within [::1] */
			colon = NULL;
		long port = colon ? strtol(colon + 1, NULL, 10) : 0;
		return port > 0 && port < 65536 ? (int)port : OLLAMA_PORT;
	}
	return OLLAMA_PORT;
}

/* --- /proc --- */

/* With a 0 at the end, also where it was cut. Empty: it is not for us to read, or it is gone. */
static struct slice read_file(const char *pid, const char *name, char text[FILE_BYTES])
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	for (ssize_t got; fd >= 0 && n < FILE_BYTES - 1 &&
			  (got = read(fd, text + n, FILE_BYTES - 1 - n)) > 0;)
		n += (size_t)got;
	if (fd >= 0)
		close(fd);
	if (n > 0 && text[n - 1] != '\0')
		text[n++] = '\0';
	return (struct slice){text, n};
}

/* "PID (name) S PPID ...": the name may hold anything. */
static int64_t parent_of(const char *pid, char text[FILE_BYTES])
{
	struct slice stat = read_file(pid, "stat", text);
	const char *end = stat.n ? strrchr(stat.p, ')') : NULL;
	return end && end[1] ? strtoll(end + 3, NULL, 10) : 0;
}

static bool look_at(const char *pid, struct doctor_process *p, char text[FILE_BYTES])
{
	*p = (struct doctor_process){.pid = strtoll(pid, NULL, 10)};
	if (!doctor_read_command(read_file(pid, "cmdline", text), p))
		return false;
	p->parent = parent_of(pid, text);
	if (p->ollama)
		p->port = doctor_ollama_port(read_file(pid, "environ", text));
	return true;
}

void doctor_look_at_processes(struct doctor_facts *f)
{
	static struct doctor_process found[DOCTOR_PROCESSES_MAX];
	static char text[FILE_BYTES];
	size_t n = 0;
	DIR *proc = opendir("/proc");
	for (struct dirent *e; proc && n < DOCTOR_PROCESSES_MAX && (e = readdir(proc));)
		if (isdigit((unsigned char)e->d_name[0]) && look_at(e->d_name, &found[n], text))
			n++;
	if (proc)
		closedir(proc);
	doctor_match_processes(f, found, n);
}
