/*
 * Does a model's writing of notes come to anything? Of its last answers, how many lines stood up
 * against their source: a model of which hardly any do is not asked again.
 *
 * Pure: no clock, no I/O. A model is known by the hash of its name; NOTES_WORTH_MODELS are, the one
 * that wrote longest ago is forgotten first. What is decided stays until notes_worth_forget().
 */
#ifndef TANDEM_NOTES_WORTH_H
#define TANDEM_NOTES_WORTH_H

#include <stdbool.h>
#include <stdint.h>

#define NOTES_WORTH_MODELS 8
#define NOTES_WORTH_ANSWERS 16 /* the last ones; fewer decide nothing */
#define NOTES_WORTH_LEAST 0.25 /* of their lines must have held */

struct notes_worth {
	struct notes_writer {
		uint64_t model; /* 0: none */
		uint64_t order;
		unsigned kept[NOTES_WORTH_ANSWERS], refused[NOTES_WORTH_ANSWERS]; /* a ring */
		unsigned answers;
		bool off;
	} of[NOTES_WORTH_MODELS];
	uint64_t order;
};

/* An answer: its lines that held, and that did not. One without a line counts as one that did not.
 * True: with this one the model is given up. */
bool notes_worth_add(struct notes_worth *w, uint64_t model, unsigned kept, unsigned refused);
bool notes_worth_is_off(const struct notes_worth *w, uint64_t model);
/* Models that are given up now. */
unsigned notes_worth_off(const struct notes_worth *w);
/* Nothing is known of any model. */
void notes_worth_forget(struct notes_worth *w);

#endif
