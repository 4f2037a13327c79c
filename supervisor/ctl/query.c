#include "supervisor/ctl/ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

/* Sends request and takes the one answer. 0 or an nng error. */
static int exchange(const char *url, struct slice request, int timeout_ms, struct buf *answer)
{
	nng_socket sock;
	char *reply = NULL;
	size_t n = 0;
	int rc = nng_req0_open(&sock);

	if (rc)
		return rc;
	if ((rc = nng_socket_set_ms(sock, NNG_OPT_SENDTIMEO, timeout_ms)) == 0 &&
		(rc = nng_socket_set_ms(sock, NNG_OPT_RECVTIMEO, timeout_ms)) == 0 &&
		(rc = nng_socket_set_size(sock, NNG_OPT_RECVMAXSZ, CTL_ANSWER_BYTES)) == 0 &&
		(rc = nng_dial(sock, url, NULL, 0)) == 0 &&
		(rc = nng_send(sock, (void *)(uintptr_t)request.p, request.n, 0)) == 0 &&
		(rc = nng_recv(sock, &reply, &n, NNG_FLAG_ALLOC)) == 0) {
		if (buf_add(answer, reply, n))
			rc = NNG_ENOMEM;
		nng_free(reply, n);
	}
	nng_close(sock);
	return rc;
}

enum ctl_exit ctl_url(const char *run_dir, const char *name, char url[256], struct buf *err)
{
	if (snprintf(url, 256, "ipc://%s/%s.ipc", run_dir, name) < 256)
		return CTL_OK;
	buf_printf(err, "the run folder's path is too long");
	return CTL_USAGE;
}

enum ctl_exit ctl_nng_error(
	int rc, const char *run_dir, const char *url, int timeout_ms, struct buf *err)
{
	switch (rc) {
	case NNG_ECONNREFUSED:
	case NNG_ENOENT:
	case NNG_EADDRINVAL:
	case NNG_ECLOSED: /* it ended while it was asked */
	case NNG_ECONNRESET:
	case NNG_ECONNABORTED:
	case NNG_ECONNSHUT:
		buf_printf(err, "no tandemd at %s; is it running?", run_dir);
		return CTL_NOT_RUNNING;
	case NNG_EPERM:
		buf_printf(
			err, "%s: permission denied; ask as the user that runs tandemd", run_dir);
		return CTL_FAILED;
	case NNG_ETIMEDOUT:
		buf_printf(err, "tandemd at %s does not answer within %d ms", run_dir, timeout_ms);
		return CTL_FAILED;
	case NNG_ENOMEM:
		buf_printf(err, "out of memory");
		return CTL_FAILED;
	case NNG_ENOFILES:
		buf_printf(err, "too many open files, or threads, for this user");
		return CTL_FAILED;
	case NNG_EMSGSIZE:
		buf_printf(err, "the answer of tandemd at %s is larger than %d bytes", run_dir,
			CTL_ANSWER_BYTES);
		return CTL_FAILED;
	case NNG_EPROTO:
	case NNG_ENOTSUP:
		buf_printf(err, "what answers at %s is no tandemd: it does not speak nng", url);
		return CTL_FAILED;
	default:
		buf_printf(err, "tandemd at %s cannot be asked: %s", url,
			rc & NNG_ESYSERR ? strerror(rc & ~NNG_ESYSERR) : nng_strerror(rc));
		return CTL_FAILED;
	}
}

enum ctl_exit ctl_ask(const char *run_dir, const char *request, int timeout_ms, struct buf *answer,
	struct json_value *root, struct buf *err)
{
	char url[256];
	struct json_error bad;

	buf_clear(answer);
	buf_clear(err);
	enum ctl_exit usage = ctl_url(run_dir, "stats", url, err);
	if (usage != CTL_OK)
		return usage;
	int rc = exchange(url, slice_str(request), timeout_ms, answer);
	if (rc)
		return ctl_nng_error(rc, run_dir, url, timeout_ms, err);
	if (json_parse(buf_slice(answer), JSON_MAX_DEPTH, root, &bad) ||
		!json_is(*root, JSON_OBJECT)) {
		buf_printf(
			err, "what answers at %s is no tandemd: it does not speak JSON", run_dir);
		return CTL_FAILED;
	}
	if (json_is(json_get(*root, "error"), JSON_STRING)) {
		json_string_decode(json_get(*root, "error"), err);
		return CTL_FAILED;
	}
	return CTL_OK;
}

enum ctl_exit ctl_show(struct ctl *ctl, const char *request,
	void (*print)(struct json_value root, void *ctx), void *ctx)
{
	struct buf answer, err;
	struct json_value root;

	buf_init(&answer, CTL_ANSWER_BYTES);
	buf_init(&err, 0);
	enum ctl_exit rc = ctl_ask(ctl->run_dir, request, CTL_TIMEOUT_MS, &answer, &root, &err);
	if (rc != CTL_OK)
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
	else if (ctl->json)
		printf("%.*s\n", (int)root.raw.n, root.raw.p);
	else
		print(root, ctx);
	buf_free(&answer);
	buf_free(&err);
	return rc;
}
