/*
 * An answer whose worker died while the backend keeps its stream (TRAIT_REPLAYS): the next worker
 * reads that stream again, from its first byte, and the client gets what comes behind the bytes
 * that it has. Nothing is generated twice, and nothing is guessed: thinking, tool calls and
 * prescribed forms go on as well.
 *
 * From the first byte, because then parser and writer come to know again what they knew, whatever
 * the dialect; to read 4 MiB takes some 20 ms. How far the client is, is counted in bytes of the
 * backend's, since what they become may hold times of day.
 *
 * Each job that asks has a conversation of its own. Where its stream is not read again, and no worker
 * is left to end it, the device's next one is told to (forget.h).
 */
#include "supervisor/requests/chat.h"

#include "supervisor/devices/forget.h"

#include <stdio.h>
#include <sys/random.h>

/* So long a stream waits for its own worker, where the answer could go on elsewhere, too. */
#define WAIT_MS 5000

#define RANDOM_BYTES (CHAT_CONVERSATION_BYTES / 2)

/* A name for a new stream, or none. */
static void name_stream(struct chat_replay *p)
{
	unsigned char random[RANDOM_BYTES];
	p->conversation[0] = '\0';
	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		return;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(p->conversation + 2 * i, 3, "%02x", random[i]);
}

/* The job asks anew, and goes on with the text where there is any. */
static void ask_anew(struct chat *c)
{
	struct chat_resume *s = &c->resume;
	s->replay = (struct chat_replay){
		.continues = chat_begun(c), .said = s->said, .tokens = s->tokens};
	if (c->view.stream && !c->bench && c->base.all->config->limits.replay_bytes > 0)
		name_stream(&s->replay);
}

void chat_replay_spec(struct chat *c, struct job_spec *spec)
{
	struct chat_replay *p = &c->resume.replay;
	if (!p->again)
		ask_anew(c);
	spec->holds_slot = p->again;
	spec->message.stream_id = slice_str(p->conversation);
	spec->message.replay = p->again;
	spec->message.replay_bytes = p->again ? p->source : 0;
}

void chat_replay_advanced(struct chat *c, int64_t source)
{
	struct chat_replay *p = &c->resume.replay;
	if (source > p->source)
		p->source = source;
}

bool chat_replay_waits(const struct chat *c)
{
	const struct chat_resume *s = &c->resume;
	return s->replay.again && (s->opaque || now_ms() - s->lost_ms < WAIT_MS);
}

/* After these no worker has ended the stream. */
static bool is_left(const struct chat *c, int cause)
{
	bool away = cause == FAIL_UNREACHABLE || cause == FAIL_CLOSED;
	return cause == JOB_LOST || cause == FAIL_DRAINING || (away && c->resume.replay.again);
}

bool chat_replay_can(const struct chat *c, const struct job_failure *f)
{
	const struct chat_resume *s = &c->resume;
	return s->replay.conversation[0] && is_left(c, f->cause) && !s->open &&
	       s->replay.source <= c->base.all->config->limits.replay_bytes &&
	       device_has(c->device, TRAIT_REPLAYS) && !device_hopeless(c->device);
}

void chat_replay_drop(struct chat *c)
{
	struct chat_replay *p = &c->resume.replay;
	if (p->conversation[0])
		forget_stream(c->device, slice_str(p->conversation), 0);
	p->conversation[0] = '\0';
	p->again = false;
}

void chat_replay_failed(struct chat *c, const struct job_failure *f, bool again)
{
	struct chat_replay *p = &c->resume.replay;
	bool runs = f->cause == JOB_LOST || f->cause == FAIL_DRAINING ||
		    f->cause == FAIL_UNREACHABLE || f->cause == FAIL_CLOSED;
	if (!again && runs && device_has(c->device, TRAIT_REPLAYS))
		chat_replay_drop(c);
	p->again = again;
	if (!again)
		p->conversation[0] = '\0';
}

void chat_replay_ended(struct chat *c)
{
	c->resume.replay.again = false;
	c->resume.replay.conversation[0] = '\0';
}
