#include "common/layout/layout.h"

#include "common/layout/parts.h"
#include "common/layout/state.h"

#include <errno.h>
#include <stdlib.h>

#define FILES_GROUPS 3 /* from the end, in which files stand behind the history */
#define RETRY_SHARE 16 /* of the groups so far: after so many more a vain freeze is tried again */

const char *layout_level_name(enum layout_level level)
{
	static const char *const names[LAYOUT_LEVELS] = {"fixed", "L0", "L1", "L2", "cut"};
	return level < LAYOUT_LEVELS ? names[level] : "?";
}

struct layout_options layout_defaults(void)
{
	return (struct layout_options){
		.high = 1,
		.low = .65,
		.merge = 1,
		.early_low = .5,
		.digest = .18,
		.digest_most = .5,
		.early_digest = .25,
		.append = .2,
		.l1 = .2,
		.notes = .1,
		.reach = 32,
		.spare_whole = true,
		.must_fit = true,
		.select = select_defaults(),
	};
}

/*
 * What stays whatever is raised: system messages before the first answer, and files that a client
 * puts behind the history and needs back whole. Later system messages take room like any other
 * message that is not touched.
 */
static double fixed_tokens(const struct layout *l)
{
	double tokens = l->options.tools;
	for (size_t i = 0; i < l->count; i++) {
		const struct layout_message *m = &l->messages[i];
		if (m->level == LAYOUT_FIXED && (m->group == 0 || (m->flags & PART_FILES)))
			tokens += m->tokens_in;
	}
	return tokens;
}

/* aider sends its files anew with each request, behind the history: one message near the end. Where
 * there are several they are history themselves. */
static void find_files(struct layout *l)
{
	size_t found = l->count, n = 0;
	for (size_t i = 0; i < l->count; i++)
		if (l->messages[i].flags & PART_FILES) {
			if (l->messages[i].level ==
				LAYOUT_FIXED) /* a state of an earlier request */
				l->messages[i].level = LAYOUT_L0;
			found = i;
			n++;
		}
	if (n != 1 || l->messages[found].group + FILES_GROUPS < l->groups)
		return;
	l->messages[found].level = LAYOUT_FIXED;
	l->messages[found].reason = "files that the client needs back whole: never touched";
}

/* A call waits for its result from when its message stands there. */
static void count_calls(struct layout *l, size_t i)
{
	const struct layout_message *m = &l->messages[i];
	struct json_iter it = json_iter(l->request->messages[i].tool_calls);
	struct chat_call call;
	while ((m->flags & PART_CALLS) && chat_call_next(&it, &call))
		l->open[m->group] += json_is(call.id, JSON_STRING);
	if ((m->flags & PART_RESULT) && l->owner[i]) {
		uint32_t *open = &l->open[l->messages[l->owner[i] - 1].group];
		*open -= *open > 0;
	}
}

static void absorb(struct layout *l, uint32_t g)
{
	size_t end = layout_group_begin(l, g + 1);
	for (size_t i = layout_group_begin(l, g); i < end; i++) {
		struct layout_message *m = &l->messages[i];
		count_calls(l, i);
		layout_look_for_call(l, i);
		if (layout_takes_room(m))
			l->size += m->tokens_out;
		if (m->flags & PART_FILES)
			l->newest_files = i;
		if (!(m->flags & PART_HUMAN))
			continue;
		if (l->first_human == l->count)
			l->first_human = i;
		l->newest_human = i;
	}
}

/*
 * What the rule does at group end g. Where everything is raised and it is still too much, the next
 * ends can hardly gain anything: it is tried again when the conversation has grown by a share, so
 * that one that fits no window costs no more than one that does. The newest end is always tried:
 * what comes of it is what is sent.
 */
static int at_group_end(struct layout *l, uint32_t g)
{
	bool waits = g < l->retry, newest = g + 1 == l->groups;
	l->aim = l->options.low;
	int rc = layout_freeze(l, g);
	if (rc == 0 && l->options.must_fit && l->size > l->room &&
		(!waits || !l->hopeless || newest)) {
		l->out_of_turn = waits && l->hopeless;
		rc = layout_press(l, g);
		l->hopeless = l->size > l->room;
	}
	if (rc == 0 && !waits && l->size > l->options.high * l->soft)
		l->retry = g + 1 + g / RETRY_SHARE;
	return rc;
}

static int walk(struct layout *l)
{
	int rc = 0;
	for (uint32_t g = l->walked; g < l->groups && rc == 0; g++) {
		absorb(l, g);
		rc = at_group_end(l, g);
		l->walked = g + 1;
	}
	return rc;
}

static bool is_raised(const struct layout_message *m)
{
	return m->flags & PART_DONE;
}

static void sum_up(struct layout *l)
{
	l->tokens_in = l->tokens_out = l->options.tools;
	l->bytes_in = l->bytes_out = 0;
	for (size_t i = 0; i < l->count; i++) {
		const struct layout_message *m = &l->messages[i];
		l->tokens_in += m->tokens_in;
		l->tokens_out += m->tokens_out;
		l->bytes_in += m->bytes_in;
		l->bytes_out += m->bytes_out;
	}
}

static enum layout_result finish(struct layout *l)
{
	bool raised = false;
	for (size_t i = 0; i < l->count; i++)
		raised |= is_raised(&l->messages[i]);
	sum_up(l);
	if (layout_edit(l))
		return LAYOUT_FAILED;
	if (l->options.window > 0 && l->options.must_fit && l->size > l->room)
		return LAYOUT_NO_ROOM;
	return raised ? LAYOUT_RAISED : LAYOUT_AS_SENT;
}

/* Everything that is known before the walk. 0, -ENOMEM, or -ESTALE: the state is of another room.
 */
static int prepare(struct layout *l, const struct layout_state *from)
{
	size_t known = 0;
	int rc = layout_read(l);
	if (rc == 0 && from)
		rc = layout_state_restore(from, l, &known);
	for (size_t i = known; i < l->count && rc == 0; i++)
		rc = layout_read_message(l, i);
	if (rc)
		return rc;
	find_files(l);
	double fixed = fixed_tokens(l);
	double soft = l->options.soft > 0 && l->options.soft < l->options.window
			      ? l->options.soft
			      : l->options.window;
	l->room = l->options.window > fixed ? l->options.window - fixed : 0;
	l->soft = soft > fixed ? soft - fixed : 0;
	layout_resize(l, known);
	return from && !layout_state_suits(from, l) ? -ESTALE : 0;
}

enum layout_result layout_make(struct layout *l, const struct chat_request *r,
	const struct layout_options *o, const struct layout_state *from)
{
	*l = (struct layout){.request = r, .options = *o, .result = LAYOUT_FAILED};
	int rc = prepare(l, from);
	if (rc == -ESTALE) {
		layout_fini(l);
		*l = (struct layout){.request = r, .options = *o, .result = LAYOUT_FAILED};
		rc = prepare(l, NULL);
	}
	if (rc == 0 && o->window > 0)
		rc = walk(l);
	if (rc == 0 && o->single > 0)
		rc = layout_single(l);
	if (rc == 0)
		l->result = finish(l);
	return l->result;
}

void layout_fini(struct layout *l)
{
	for (size_t i = 0; l->texts && i < l->count; i++)
		buf_free(&l->texts[i]);
	for (size_t i = 0; l->out && i < l->count; i++)
		buf_free(&l->out[i]);
	if (l->has_corpus)
		corpus_fini(&l->corpus);
	free(l->messages);
	free(l->texts);
	free(l->text);
	free(l->out);
	free(l->edits);
	free(l->owner);
	free(l->open);
	*l = (struct layout){0};
}
