/* events: what comes on RUNDIR/events.ipc, one line each. */
#include "supervisor/ctl/ctl.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>

#define QUEUE_MESSAGES 8192 /* nng's own most; it drops the oldest when we are slower */

/* Events that this program did not get to see in time; tandemd tells of its own losses itself. */
static void note_gap(int64_t *last, struct json_value root)
{
	int64_t seq;
	if (!json_to_int(json_get(root, "seq"), &seq)) {
		*last = 0; /* after "lost" the numbers go on elsewhere */
		return;
	}
	if (*last && seq > *last + 1)
		fprintf(stderr, "tandemctl: %lld events missed\n", (long long)(seq - *last - 1));
	*last = seq;
}

static int listen_to(struct ctl *ctl, nng_socket sock)
{
	int64_t last = 0;
	for (long n = 0; ctl->count < 0 || n < ctl->count; n++) {
		char *bytes;
		size_t size;
		struct json_value root;
		int rc = nng_recv(sock, &bytes, &size, NNG_FLAG_ALLOC);
		if (rc)
			return rc;
		struct slice text = {bytes, size};
		if (json_parse(text, JSON_MAX_DEPTH, &root, NULL) == 0) {
			note_gap(&last, root);
			if (ctl->json)
				printf("%.*s\n", (int)size, bytes);
			else
				ctl_event_print(root, false, stdout);
		}
		nng_free(bytes, size);
		if (fflush(stdout) != 0)
			return 0; /* nobody reads any more; main() says so */
	}
	return 0;
}

enum ctl_exit ctl_events(struct ctl *ctl)
{
	char url[256];
	struct buf err;
	nng_socket sock;

	buf_init(&err, 0);
	enum ctl_exit rc = ctl_url(ctl->run_dir, "events", url, &err);
	if (rc == CTL_OK) {
		int failed = nng_sub0_open(&sock);
		if (failed == 0) {
			/* A tandemd that goes and comes again is dialled again by nng. */
			if ((failed = nng_socket_set(sock, NNG_OPT_SUB_SUBSCRIBE, "", 0)) == 0 &&
				(failed = nng_socket_set_int(
					 sock, NNG_OPT_RECVBUF, QUEUE_MESSAGES)) == 0 &&
				(failed = nng_dial(sock, url, NULL, 0)) == 0)
				failed = listen_to(ctl, sock);
			nng_close(sock);
		}
		if (failed)
			rc = ctl_nng_error(failed, ctl->run_dir, url, CTL_TIMEOUT_MS, &err);
	}
	if (rc != CTL_OK)
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
	buf_free(&err);
	return rc;
}
