/*
 * A passed request's inner state, shared by the files of its life (and nobody else):
 *   pass.c        from the client: head, body, that it left
 *   pass_read.c   a held body: unpacked, mended, looked into
 *   pass_answer.c from the worker: the answer, or that it failed
 *   pass_submit.c given to its device, and waiting there
 *   pass_lane.c   vectors and fillings that a small device makes
 *   pass_end.c    how it ends
 *   pass_first.c  streams that have a first byte in time, and errors that come after it
 * Each calls only those that stand below it, but pass_lane.c, which gives it to another device.
 */
#ifndef TANDEM_PASS_H
#define TANDEM_PASS_H

#include "supervisor/devices/job.h"
#include "supervisor/requests/aliases.h"
#include "supervisor/requests/lane.h"
#include "supervisor/requests/packed.h"
#include "supervisor/requests/pass_peek.h"
#include "supervisor/requests/request.h"

#define PASS_RETRY_AFTER_S 5
#define PASS_REFUSAL_BYTES 65536 /* of an error that comes after its status has gone */

/* The small lane. */
struct pass_lane {
	const char *what;    /* small it is; NULL: nothing */
	const char *left;    /* why it is no longer on; NULL: it is, or never was */
	bool on;	     /* the device is a small one */
	bool named;	     /* pass.asked is there for this alone */
	struct device *back; /* who answers else */
	struct buf model;    /* that it is asked for; empty: the same */
	int64_t wait_ms;     /* for a slot */
};

struct pass {
	struct request base;
	struct route route;
	struct device *device;
	const struct job_events *events; /* of its job: pass_answer.c */
	struct job *job;
	bool hold;   /* the body is kept until its model is known */
	bool upload; /* the body streams */
	bool upload_over;
	struct buf body, target;
	size_t held;
	struct pass_peek peek; /* what a held body says */
	struct buf
		asked; /* the model by the client's own name, where that is an alias; else empty */
	struct pass_lane lane;
	enum unpack_coding coding;
	struct buf unpacked; /* being made of body */
	int unpack_result;
	bool mend; /* a backend may be stricter than Ollama */
	uv_work_t work;
	void (*read_done)(struct pass *p);
	bool head_sent, over;
	bool answering;	   /* bytes of the backend are out */
	bool early;	   /* the head went out before the backend's was there */
	size_t beat_bytes; /* ours in what the socket has not taken yet */
	int refused;	   /* the backend's status, told too late */
	struct buf refusal;
	unsigned deaths;
	uint64_t first_byte_ms;
	int status;	  /* the backend's; 0: none yet */
	double queued_ms; /* for a slot; < 0: it takes none, or not yet */
	uv_timer_t wait, tick;
	unsigned timers_open;
};

/* --- pass_answer.c --- */
/* Of its job, whose context is the pass. */
extern const struct job_events pass_job_events;

/* --- pass_submit.c --- */
/* Gives it to its device. */
void pass_submit(struct pass *p);
/* How urgent it is. */
enum job_class pass_class(const struct pass *p);

/* --- pass_end.c --- */
/* An answer of text that comes as it is written. */
bool pass_streams(const struct pass *p);
/* It is over: measured, without timers and job. */
void pass_finish(struct pass *p);
/* Ends it with an error, in whatever form is still possible. retry_after_s: 0: none. logged: what of the message may
 * stand in a log; a backend's words may quote the prompt. */
void pass_error_said(
	struct pass *p, int status, const char *message, struct slice logged, int retry_after_s);
void pass_error(struct pass *p, int status, const char *message, int retry_after_s);

/* --- pass_lane.c --- */
/* Its body is read and its device known: another one where it is small. */
void pass_lane(struct pass *p);
void pass_lane_fini(struct pass *p);
/* A small device will not answer it, of which nothing is out: true: the main one has it now. */
bool pass_lane_leave(struct pass *p, const char *cause);
/* Its job waits, or is silent, for too long, or its device will not come? True: the main one has it now. */
bool pass_lane_waited(struct pass *p);

/* --- pass_read.c --- */
/* The body is another one: it is what we hold now. */
void pass_recount(struct pass *p);
/* Reads the held body, on the thread pool where that takes long, then calls done: it is read, or could not be
 * (unpack_result); the request may be over by then. */
void pass_read(struct pass *p, void (*done)(struct pass *p));

/* The device for the model that the body names. Where that is an alias, the body names the real one then,
 * but in an order, which means what it says. NULL: not known yet, or memory is out; text says so. */
struct device *pass_model(struct pass *p, char text[ALIAS_TEXT_BYTES]);

/* --- pass_first.c --- */
/* The headers that tell what became of the request. */
void pass_tell(struct pass *p);
/* It streams: head and heartbeats by deadlines.first_byte_ms, until the backend's answer begins. */
void pass_watch_first_byte(struct pass *p);
/* The status is spent: what is left is an event of the stream. */
void pass_end_in_band(struct pass *p, int status, struct slice message);
/* The backend's error came after our 200: p->refused and p->refusal are told in band. */
void pass_refused_late(struct pass *p);

#endif
