/* Compaction, whatever the dialect: what is asked of its row (compaction_form.h). */
#include "common/dialect/compaction_form.h"

#include "common/dialect/front.h"

static const struct compaction_form *form_of(const struct chat_request *r)
{
	return front_of(r->dialect)->compacts;
}

int compaction_wished(const struct chat_request *r, struct compaction_wish *out,
	struct dialect_error *error, const char **code)
{
	const struct front_dialect *front = front_of(r->dialect);
	*out = (struct compaction_wish){.alone = front->compacts_only};
	*code = NULL;
	return front->compacts && !front->counts ? front->compacts->wished(r, out, error, code) : 0;
}

bool compaction_find(const struct chat_request *r, struct compaction_found *out, int *rc,
	struct dialect_error *error, const char **code)
{
	*rc = 0;
	*code = NULL;
	if (!form_of(r) || !memmem(r->body.p, r->body.n, "\"compaction\"", 12))
		return false;
	return form_of(r)->find(r, out, rc, error, code);
}

int compaction_open(const struct chat_request *r, const struct compaction_found *f,
	struct buf *content, struct slice *text, struct buf *signature)
{
	return form_of(r)->open(f, content, text, signature);
}

int compaction_disown(enum dialect d, bool altered, struct dialect_error *error, const char **code)
{
	return front_of(d)->compacts->disown(altered, error, code);
}

int compaction_apply(const struct chat_request *r, const struct compaction_found *f,
	struct slice text, struct buf *out)
{
	return form_of(r)->apply(r, f, text, out);
}

int compaction_put(
	const struct chat_request *r, struct slice text, struct slice signature, struct buf *out)
{
	struct slice list = r->messages_array.raw;
	struct compaction_messages m = {.form = form_of(r), .out = out};
	const char *at = r->root.raw.p + 1, *behind = list.p + list.n;
	buf_add(out, r->body.p, (size_t)(at - r->body.p));
	json_put_key(out, COMPACTION_MEMBER);
	buf_add_char(out, '{');
	m.form->put_block(text, signature, out);
	buf_add_str(out, "},");
	buf_add(out, at, (size_t)(list.p + 1 - at));
	m.form->put_head(r, &m);
	compaction_expand(&m, text);
	m.form->close(&m);
	buf_add_char(out, ']');
	buf_add(out, behind, (size_t)(r->body.p + r->body.n - behind));
	return buf_error(out);
}

int compaction_error(
	enum dialect d, int status, struct slice message, const char *code, struct buf *out)
{
	size_t begin = out->n;
	int rc = dialect_error_body(d, status, message, out);
	if (rc || !code || out->n < begin + 2)
		return rc;
	return front_of(d)->compacts->name_error(code, out);
}

#define PREFACE                                                                                    \
	"The conversation so far, in its short form. [..N] stands for N lines that were left "     \
	"out.\n\n"

/* The system prompt is no message of the list, and stays where it is. */
static bool is_in_list(const struct chat_request *r, size_t i)
{
	const char *at = r->messages[i].raw.raw.p;
	struct slice list = r->messages_array.raw;
	return at > list.p && at < list.p + list.n;
}

int compaction_text(const struct chat_request *r, const struct chat_request *whole, struct buf *out)
{
	const struct compaction_form *form = form_of(r);
	struct buf scratch;
	size_t begin = out->n;
	buf_init(&scratch, 0);
	buf_add_str(out, PREFACE);
	for (size_t i = 0; i < r->count; i++)
		if (is_in_list(r, i))
			form->put_message(r, i, out, &scratch);
	if (whole && form->put_stood)
		form->put_stood(whole, out, &scratch);
	while (out->n > begin && out->p[out->n - 1] == '\n')
		out->n--;
	int rc = buf_error(&scratch);
	buf_free(&scratch);
	return rc ? rc : buf_error(out);
}
