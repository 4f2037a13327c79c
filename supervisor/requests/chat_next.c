/* What the next request of the conversation will begin with: this one, and its answer in the form in which its client sends it
 * back (follow.h); where it does otherwise, that tail is read in vain. */
#include "supervisor/requests/chat_next.h"

#include "common/dialect/follow.h"
#include "supervisor/requests/chat.h"

struct token_census chat_next_census(const struct chat *c)
{
	struct token_census census = {0};
	token_census_add(&census, buf_slice(&c->reply));
	return census;
}

bool chat_next_follow(const struct chat *c, const struct chat_request *r, struct buf *body)
{
	struct buf whole;
	buf_init(&whole, body->max);
	bool done = c->reply.n && follow_request(r, buf_slice(&c->reply), &whole) == 0;
	if (done) {
		buf_free(body);
		*body = whole;
	} else {
		buf_free(&whole);
	}
	return done;
}

uint64_t chat_next_tokens(const struct chat *c)
{
	struct token_census census = chat_next_census(c);
	return tokens_estimate(c->base.all->tokens, buf_slice(&c->model), &census);
}

struct warming_spec chat_next_spec(const struct chat *c, const char *why, const struct buf *auth)
{
	return (struct warming_spec){.why = why,
		.history = &c->base.all->history,
		.request_id = slice_str(c->base.id),
		.dialect = c->base.dialect,
		.model = buf_slice(&c->model),
		.authorization = buf_slice(auth),
		.client = c->base.client,
		.num_ctx = chat_num_ctx(c, c->device)};
}
