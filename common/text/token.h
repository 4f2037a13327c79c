/*
 * The one scanner for tokens: URLs, --flags, paths, dotted and dashed names, plain names, numbers.
 *
 * Letters beyond ASCII belong to words; typographic signs, symbols and emoji separate them.
 */
#ifndef TANDEM_TEXT_TOKEN_H
#define TANDEM_TEXT_TOKEN_H

#include "common/base/buf.h"

/* What a token looks like; a selection weighs each kind by how often an agent needs it again. */
enum token_kind {
	TOKEN_PLAIN,  /* a word */
	TOKEN_ALNUM,  /* letters with digits: sha1, x86 */
	TOKEN_DASHED, /* read-only */
	TOKEN_NUMBER,
	TOKEN_URL,
	TOKEN_PATH,   /* src/a.c, /etc */
	TOKEN_DOTTED, /* self.name, v1.2 */
	TOKEN_SNAKE,  /* read_file */
	TOKEN_FILE,   /* main.go, ./configure */
	TOKEN_CAMEL,  /* readFile */
	TOKEN_CAPS,   /* EAGAIN, MAX_BYTES */
	TOKEN_FLAG,   /* -d, --force */
	TOKEN_KINDS
};

struct token {
	const char *p;
	size_t n;
	enum token_kind kind;
	bool shaped;  /* a name rather than a word: has a digit, _ . / - or an inner capital, is a
			 flag or all capitals */
	bool joined;  /* has . / or -, so that its parts may count too */
	bool numeric; /* digits (and . / -) only */
	bool url;
};

/* The next token at or after *at, which moves past it. False at the end. */
bool token_next(const char **at, const char *end, struct token *t);

/* The next part of a joined token (between . / -), scanned as a token itself. */
bool token_part(const char **at, const char *end, struct token *t);

/* Can c begin a plain name? Stand in one? In a name with . / - inside? */
bool token_is_start(char c);
bool token_is_word(char c);
bool token_is_inner(char c);

#endif
