/*
 * tandem-worker: talks to one device's backend for the supervisor. Never started by hand.
 *
 * A map of this folder, outside in:
 *   main.c            arguments; the two modes
 *   worker.[ch]       the process: link, configuration, heartbeat, drain, end
 *   settings.[ch]     the configuration that ACK brings
 *   task.[ch]         jobs under way: table, credit both ways, ends
 *   task_chat.c       a chat request, raw or translated
 *   task_notes.c      a chunk's notes, verified
 *   task_pass.c       any other request, streamed
 *   ask.[ch]          what chat and notes share: one call, its answer, its refusals, a load that
 * must not be aborted refusal.[ch]      what a backend's error body says backend.[ch]      where
 * the backend is, whether it is ready, what it serves ollama.c          ... for Ollama
 *   llama_server.c    ... for llama-server
 *   as_ollama.[ch] ... and the Ollama API's questions, answered for it
 *   launcher.[ch]     a backend that we start: port, pinning, output, stop
 *   tail.[ch]         its last lines
 *   outlog.[ch]       the file that it prints into
 *   command.[ch]      its arguments and environment
 *   slots.[ch]        its conversations, saved and restored
 *   guard.[ch]        `--exec`: between spawn and exec; nothing outlives tandemd
 *   http.[ch], http_socket.c, http_transfer.c, http_internal.h   libcurl in the loop
 */
#include "common/base/proc.h"
#include "workers/backend/guard.h"
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
