#include "supervisor/tell/capture.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#define PIECE_BYTES 65536

struct capture {
	uv_process_t process;
	uv_pipe_t output;
	bool running, open; /* its process has not ended; its output has not */
	unsigned handles;   /* that the loop still has */
	struct buf said;
	struct captured what;
	capture_fn *done; /* NULL: nobody is told */
	void *ctx;
};

static void on_closed(uv_handle_t *h)
{
	struct capture *c = h->data;
	if (--c->handles)
		return;
	buf_free(&c->said);
	free(c);
}

static void look(struct capture *c)
{
	capture_fn *done = c->done;
	if (c->running || c->open || !done)
		return;
	c->done = NULL;
	c->what.said = buf_slice(&c->said);
	done(c->ctx, &c->what);
}

static void end_output(struct capture *c)
{
	if (!c->open)
		return;
	c->open = false;
	uv_close((uv_handle_t *)&c->output, on_closed);
}

static void on_process_exit(uv_process_t *p, int64_t status, int signal)
{
	struct capture *c = p->data;
	c->running = false;
	c->what.status = (int)status;
	c->what.signal = signal;
	uv_close((uv_handle_t *)p, on_closed);
	look(c);
}

static void on_room(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	static char piece[PIECE_BYTES]; /* taken over before the next one is read */
	(void)h, (void)hint;
	*b = uv_buf_init(piece, sizeof(piece));
}

static void on_piece(uv_stream_t *output, ssize_t n, const uv_buf_t *b)
{
	struct capture *c = output->data;
	if (n < 0)
		end_output(c);
	else if (buf_add(&c->said, b->base, (size_t)n)) {
		c->what.too_large = true;
		capture_kill(c);
		return;
	}
	look(c);
}

int capture_start(uv_loop_t *loop, const char *const args[], size_t bytes_max, capture_fn *done,
	void *ctx, struct capture **out)
{
	struct capture *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	uv_pipe_init(loop, &c->output, 0);
	uv_stdio_container_t stdio[] = {
		{.flags = UV_IGNORE},
		{.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
			.data.stream = (uv_stream_t *)&c->output},
		{.flags = UV_IGNORE},
	};
	uv_process_options_t o = {.exit_cb = on_process_exit,
		.file = args[0],
		.args = (char **)args,
		.stdio = stdio,
		.stdio_count = sizeof(stdio) / sizeof(*stdio)};
	buf_init(&c->said, bytes_max);
	int rc = uv_spawn(loop, &c->process, &o);
	/* It may run where spawning failed: the program was there, its output could not be opened. */
	c->running = uv_is_active((uv_handle_t *)&c->process);
	c->open = true;
	c->handles = 2;
	c->process.data = c->output.data = c;
	if (rc == 0)
		rc = uv_read_start((uv_stream_t *)&c->output, on_room, on_piece);
	if (rc == 0) {
		c->done = done;
		c->ctx = ctx;
		*out = c;
		return 0;
	}
	if (!c->running) /* libuv wants even a handle whose spawn failed to be closed */
		uv_close((uv_handle_t *)&c->process, on_closed);
	capture_kill(c);
	return rc;
}

void capture_kill(struct capture *c)
{
	if (c->running)
		uv_process_kill(&c->process, SIGKILL);
	end_output(c);
	look(c);
}

void capture_drop(struct capture *c)
{
	if (!c)
		return;
	c->done = NULL;
	capture_kill(c);
}
