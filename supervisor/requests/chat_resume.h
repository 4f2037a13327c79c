/*
 * What the client has of an answer, and going on with it after a death (retry.h: whether; docs/resume.md): with the text
 * that was said (chat_resume.c), or exactly, where the backend keeps the stream (chat_replay.c).
 *
 * The request owns the state, which owns its buffers; bodies that go on count in requests.held_bytes. Loop thread only;
 * nothing blocks.
 */
#ifndef TANDEM_CHAT_RESUME_H
#define TANDEM_CHAT_RESUME_H

#include "common/base/buf.h"
#include "supervisor/devices/job.h"
#include "supervisor/requests/retry.h"

struct chat;

#define CHAT_CONVERSATION_BYTES 56 /* 24 name the client's objects, 32 are secret */

/* The backend's stream that the last job asked for. */
struct chat_replay {
	char conversation[CHAT_CONVERSATION_BYTES + 1]; /* "": it is not kept */
	bool again;					/* the job reads it again */
	int64_t source; /* so many bytes of it have become what the client has */
	/* As the job that asked for it had them: it went on with so much text. */
	bool continues;
	size_t said;
	int64_t tokens;
};

struct chat_resume {
	struct buf text; /* of the answer; up to `said` the client has it, the rest is held */
	size_t said;
	int64_t tokens;	 /* of what was said */
	bool opaque;	 /* there is more to the answer than text, or too much of it */
	struct buf held; /* the bytes of a line or event (without a stream: of the object) that is
			    not whole */
	bool open;	 /* it was too long to be held: the client has half of one */
	struct buf identity; /* of the first START */
	struct buf body;     /* of the job that goes on: the request, then the text */
	size_t body_held;    /* counted in requests.held_bytes */

	struct chat_replay replay;
	struct retry_counts counts;
	uint64_t bytes_at_start;	 /* bytes_out when the last job was submitted */
	const struct device *cut_device; /* whose backend cut the answer last */
	uint64_t cut_generation;
	bool poison;	  /* refused: workers die of it */
	uint64_t retried; /* generation of the worker whose tries are counted */
	uint64_t lost_ms;
};

/* --- chat_resume.c --- */
void chat_resume_init(struct chat *c);
void chat_resume_fini(struct chat *c);
/* A job's START and DELTA. */
void chat_resume_started(struct chat *c, const struct proto_record *r);
void chat_resume_delta(struct chat *c, const struct proto_record *r);
/* Makes of a job for the request, whose body is set, one that goes on with the answer. 0, -ENOMEM,
 * -E2BIG. */
int chat_resume_spec(struct chat *c, struct job_spec *spec);
enum chat_again_what {
	AGAIN_NOT,
	AGAIN_SUBMIT,
	AGAIN_PAUSE,   /* ... after a pause */
	AGAIN_SHORTER, /* in another form: the backend counts more tokens than we do */
	AGAIN_MAIN,    /* on a main device, as if there were no small one */
};
struct chat_again {
	enum chat_again_what what;
	uint64_t ms; /* of the pause */
};
/* The answer's job failed: what is done? */
struct chat_again chat_resume_failed(struct chat *c, const struct job_failure *f);
/* Before it is submitted after a pause, or after it was made shorter: its device may be out of use by now. */
void chat_resume_look_again(struct chat *c);
/* The answer's job waits: another device that could run it at once, or NULL. */
struct device *chat_resume_elsewhere(struct chat *c);

/* --- chat_replay.c --- */
/* Names the stream in the next job, and says where to begin in it. */
void chat_replay_spec(struct chat *c, struct job_spec *spec);
/* The client has what so many bytes of the backend's have become. */
void chat_replay_advanced(struct chat *c, int64_t source);
/* Does the answer wait for its own device, although another one could go on with it? */
bool chat_replay_waits(const struct chat *c);
/* The job failed so: may the next one read the same stream? It will (again), or not. */
bool chat_replay_can(const struct chat *c, const struct job_failure *f);
void chat_replay_failed(struct chat *c, const struct job_failure *f, bool again);
/* Nobody will read it, and no worker knows. */
void chat_replay_drop(struct chat *c);
/* It is whole, and its worker sees to it. */
void chat_replay_ended(struct chat *c);

/* A full queue is no reason yet to end an answer that has begun. */
bool chat_resume_patient(const struct chat *c);

#endif
