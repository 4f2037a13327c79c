/*
 * tandem-worker: talks to one device's backend for the supervisor. Never started by hand.
 *
 * A map of this folder; each part knows only those below it:
 *   main.c, worker.c  arguments; the process: link, configuration, heartbeat, drain, end
 *   tasks/            jobs under way. task_table.c: found by records; task.c: credit both ways; task_end.c;
 *                     task_kinds.c: chat (task_chat.c, chat_*.c), notes, pass, embed, warm;
 *                     ask*.c: one call for text, its answer, its refusals (refusal.c), loads
 *   backend/          backend.c, probe.c, backend_tell.c: where it is, whether it is ready, what it serves;
 *                     kinds.c: ollama.c, llama_server.c, openai.c; as_ollama.c: the Ollama API's
 *                     questions, answered for the others; launcher*.c, command.c, guard.c, outlog.c,
 *                     tail.c: one that we start; slots*.c: its conversations
 *   http/             libcurl in the loop, TLS and keys
 *   traces/           another duty of this program: a process that sends traces, and has no device
 *   self.c, settings.c  what every part may ask of the worker; what ACK brought
 */
#include "common/base/proc.h"
#include "workers/backend/guard.h"
#include "workers/traces/traces.h"
#include "workers/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
	fprintf(stderr, "tandem-worker is started by tandemd: tandem-worker --link URL "
			"--generation N --device NAME [--lifeline FD]\n");
	return WORKER_EXIT_USAGE;
}

int main(int argc, char **argv)
{
	struct worker_options o = {.lifeline_fd = -1};
	proc_keep_std();
	if (argc >= 4 && strcmp(argv[1], "--exec") == 0 && strcmp(argv[2], "--") == 0)
		return guard_exec(argv + 3);
	if (argc == 2 && strcmp(argv[1], "--traces") == 0)
		return traces_run();
	for (int i = 1; i < argc; i += 2) {
		if (i + 1 >= argc)
			return usage();
		if (strcmp(argv[i], "--link") == 0) {
			o.link = argv[i + 1];
		} else if (strcmp(argv[i], "--lifeline") == 0) {
			o.lifeline_fd = atoi(argv[i + 1]);
			if (fcntl(o.lifeline_fd, F_GETFD) < 0)
				return usage();
		} else if (strcmp(argv[i], "--device") == 0) {
			o.device = argv[i + 1];
		} else if (strcmp(argv[i], "--generation") == 0) {
			char *end;
			errno = 0;
			o.generation = strtoull(argv[i + 1], &end, 10);
			if (errno || *end || end == argv[i + 1])
				return usage();
		} else {
			return usage();
		}
	}
	if (!o.link || !o.device)
		return usage();
	return worker_run(&o);
}
