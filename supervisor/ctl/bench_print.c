/* What `tandemctl bench` has found, for people and as JSON. */
#include "supervisor/ctl/bench.h"

#include <inttypes.h>

static double whole_tok_s(const struct bench_row *r)
{
	return r->prompt_ms > 0 ? (double)r->tokens * 1000 / r->prompt_ms : -1;
}

/* --- tables --- */

static void print_rows(const struct benching *b)
{
	static const char *const titles[] = {"TOKENS", "READ TOK/S", "AT THIS DEPTH",
		"FIRST TOKEN COLD", "WARM", "FORETOLD", "WRITE TOK/S"};
	struct ctl_table t;
	char(*cell)[CTL_CELL_BYTES];
	ctl_table_init(&t, sizeof(titles) / sizeof(*titles), titles);
	for (size_t i = 0; i < b->rows && (cell = ctl_table_row(&t)); i++) {
		const struct bench_row *r = &b->row[i];
		ctl_whole((double)r->tokens, cell[0], CTL_CELL_BYTES);
		ctl_rate(whole_tok_s(r), cell[1], CTL_CELL_BYTES);
		ctl_rate(r->span_tok_s, cell[2], CTL_CELL_BYTES);
		ctl_ms(r->first_ms, cell[3], CTL_CELL_BYTES);
		ctl_ms(r->warm_ms, cell[4], CTL_CELL_BYTES);
		ctl_ms(r->foretold_ms, cell[5], CTL_CELL_BYTES);
		ctl_rate(r->write_tok_s, cell[6], CTL_CELL_BYTES);
	}
	ctl_table_print(&t, stdout);
}

static void print_routes(const struct benching *b)
{
	static const char *const titles[] = {
		"PROMPT", "TOKENS", "GOES AS", "SENT", "FIRST TOKEN", "ORIGINAL WOULD TAKE"};
	struct ctl_table t;
	char(*cell)[CTL_CELL_BYTES];
	if (!b->routes)
		return;
	puts("\nWhat a prompt of which nothing is cached would cost, by these rates:");
	ctl_table_init(&t, sizeof(titles) / sizeof(*titles), titles);
	for (size_t i = 0; i < b->routes && (cell = ctl_table_row(&t)); i++) {
		const struct bench_route *r = &b->route[i];
		snprintf(cell[0], CTL_CELL_BYTES, "%s", r->session ? "session" : "one question");
		ctl_whole(r->tokens, cell[1], CTL_CELL_BYTES);
		snprintf(cell[2], CTL_CELL_BYTES, "%s", r->goes);
		ctl_whole(r->sent, cell[3], CTL_CELL_BYTES);
		ctl_ms(r->sent_ms, cell[4], CTL_CELL_BYTES);
		ctl_ms(r->original_ms, cell[5], CTL_CELL_BYTES);
		if (!r->fits)
			snprintf(cell[5], CTL_CELL_BYTES, "does not fit");
	}
	ctl_table_print(&t, stdout);
}

static void print_reload(const struct benching *b)
{
	char ms[CTL_CELL_BYTES], bytes[CTL_CELL_BYTES];
	const struct bench_reload *r = &b->reload;
	if (!b->asked.reload)
		return;
	if (!r->done) {
		printf("\nreload: not measured: %s\n", r->why);
		return;
	}
	ctl_ms(r->ms, ms, sizeof(ms));
	printf("\nreload (%s): %s", r->how, ms);
	ctl_bytes((double)r->bytes, bytes, sizeof(bytes));
	if (r->save_ms >= 0)
		printf("; saved %" PRId64 " conversations, %s, in %.0f ms", r->slots, bytes,
			r->save_ms);
	if (r->restore_ms >= 0)
		printf("; restored in %.0f ms", r->restore_ms);
	ctl_ms(r->after_ms, ms, sizeof(ms));
	if (r->after_ms >= 0)
		printf("; next turn of a conversation of before: %s", ms);
	putchar('\n');
}

static void print_learned(const struct benching *b)
{
	printf("\nlearned: reads %.0f tok/s, writes %.0f", b->read_after, b->write_after);
	if (b->read_before > 0)
		printf(" (before: %.0f, %.0f)", b->read_before, b->write_before);
	putchar('\n');
}

void bench_print(struct benching *b)
{
	printf("%s: %s (%s), window ", b->device, b->shown_model, b->backend);
	if (b->window > 0)
		printf("%" PRId64 "; ", b->window);
	else
		printf("unknown; ");
	printf("%.0f s\n\n", (double)(bench_now_ms() - b->begun_ms) / 1000);
	if (b->rows)
		print_rows(b);
	print_routes(b);
	print_reload(b);
	if (b->rows)
		print_learned(b);
	if (b->stopped[0])
		printf("%s%s\n", b->rows ? "" : "nothing was measured: ", b->stopped);
}

/* --- JSON --- */

static void put_real(struct buf *out, const char *name, double v)
{
	json_put_key(out, name);
	if (v < 0)
		buf_add_str(out, "null");
	else
		buf_printf(out, "%.3f", v);
}

static void put_text(struct buf *out, const char *name, const char *text)
{
	json_put_key(out, name);
	json_put_string(out, slice_str(text));
}

static void put_count(struct buf *out, const char *name, int64_t v)
{
	json_put_key(out, name);
	json_put_int(out, v);
}

static void put_row(const struct bench_row *r, struct buf *out)
{
	buf_add_str(out, "{");
	put_count(out, "tokens", r->tokens);
	put_real(out, "prompt_ms", r->prompt_ms);
	put_real(out, "read_tok_s", whole_tok_s(r));
	put_real(out, "read_tok_s_at_depth", r->span_tok_s);
	put_real(out, "first_ms_cold", r->first_ms);
	put_count(out, "warm_new_tokens", r->warm_new);
	put_real(out, "first_ms_warm", r->warm_ms);
	put_real(out, "predicted_ms_warm", r->foretold_ms);
	put_real(out, "write_tok_s", r->write_tok_s);
	buf_add_str(out, "}");
}

static void put_route(const struct bench_route *r, struct buf *out)
{
	buf_add_str(out, "{");
	put_count(out, "size", r->size);
	put_text(out, "prompt", r->session ? "session" : "question");
	put_text(out, "goes", r->goes);
	put_real(out, "tokens_in", r->tokens);
	put_real(out, "tokens_sent", r->sent);
	put_real(out, "predicted_ms", r->sent_ms);
	json_put_key(out, "original_fits");
	buf_add_str(out, r->fits ? "true" : "false");
	put_real(out, "predicted_ms_original", r->original_ms);
	put_text(out, "reason", r->why);
	buf_add_str(out, "}");
}

static void put_reload(const struct benching *b, struct buf *out)
{
	const struct bench_reload *r = &b->reload;
	json_put_key(out, "reload");
	if (!b->asked.reload) {
		buf_add_str(out, "null");
		return;
	}
	buf_add_str(out, "{");
	json_put_key(out, "measured");
	buf_add_str(out, r->done ? "true" : "false");
	if (r->done) {
		put_text(out, "how", r->how);
		put_real(out, "ms", r->ms);
		put_real(out, "save_ms", r->save_ms);
		put_real(out, "restore_ms", r->restore_ms);
		put_count(out, "conversations", r->slots);
		put_count(out, "bytes", r->bytes);
		put_real(out, "first_ms_after", r->after_ms);
	} else {
		put_text(out, "why", r->why);
	}
	buf_add_str(out, "}");
}

void bench_print_json(struct benching *b)
{
	struct buf out;
	buf_init(&out, CTL_ANSWER_BYTES);
	buf_add_str(&out, "{");
	put_text(&out, "device", b->device);
	json_put_key(&out, "model");
	json_put_string(&out, buf_slice(&b->model));
	put_text(&out, "backend", b->backend);
	put_count(&out, "window", b->window);
	put_real(&out, "ms", (double)(bench_now_ms() - b->begun_ms));
	json_put_key(&out, "depths");
	buf_add_char(&out, '[');
	for (size_t i = 0; i < b->rows; i++) {
		buf_add_str(&out, i ? "," : "");
		put_row(&b->row[i], &out);
	}
	buf_add_char(&out, ']');
	json_put_key(&out, "routes");
	buf_add_char(&out, '[');
	for (size_t i = 0; i < b->routes; i++) {
		buf_add_str(&out, i ? "," : "");
		put_route(&b->route[i], &out);
	}
	buf_add_char(&out, ']');
	put_reload(b, &out);
	json_put_key(&out, "learned");
	buf_add_str(&out, "{");
	put_real(&out, "read_tok_s", b->read_after);
	put_real(&out, "write_tok_s", b->write_after);
	put_real(&out, "read_tok_s_before", b->read_before);
	put_real(&out, "write_tok_s_before", b->write_before);
	buf_add_str(&out, "}");
	put_text(&out, "stopped", b->stopped);
	buf_add_str(&out, "}");
	puts(buf_cstr(&out));
	buf_free(&out);
}
