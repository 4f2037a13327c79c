#include "common/text/lexicon.h"

#include "common/base/hash.h"

/* Words by what they are, folded; a word stands in one list only. */
static const struct {
	unsigned bits;
	const char *words;
} lists[] = {
	{WORD_STOP, "the and for that this with you are was not but from have has had can will "
		    "would should could what when where which who how why then than there their "
		    "they them these those its our your his her she him all any each some more "
		    "most other such into over also just now here been being were does did done "
		    "about after before because both out off own same too very via let lets yes "
		    "one two use using used need want make get see look please"},
	{WORD_STOP, "que para com uma por mais como mas dos das nos nas foi ser sao tem seu sua "
		    "seus suas ele ela eles elas isso isto este esta esse essa quando onde tambem "
		    "pelo pela ate sem sobre entre muito aqui ainda voce vou vai fazer deve pode "
		    "ter meu minha tudo todos agora"},
	{WORD_STOP, "return else elif while break continue switch case default int char void bool "
		    "long float double unsigned signed size null none true false self new var "
		    "import include require try catch except finally raise throw await string "
		    "value"},
	{WORD_STOP | WORD_DEFINES, "type const static async public private protected export"},
	{WORD_DEFINES, "def class function func fn struct enum union interface impl trait module "
		       "namespace template typedef define pub macro"},
	/* "do not" and the like are phrases that pins.c knows. */
	{WORD_STOP | WORD_BINDS, "always must only nao"},
	{WORD_BINDS, "never mustn shall forbidden nunca jamais proibido proibida proibidos "
		     "proibidas sempre somente apenas obrigatorio obrigatoria obrigatorios "
		     "obrigatorias obrigatoriamente"},
	{WORD_FAILS, "error errors err erro erros exception excecao failure fail falha abort fault "
		     "undefined unresolved cannot unable timeout assertion conflict"},
	{WORD_FAILS | WORD_FAILS_HARD, "traceback panic panicked fatal failed falhou segfault "
				       "segmentation aborted denied negado refused killed"},
	{WORD_UNIT,
		"ms us ns sec secs second seconds min minute minutes hour hours kb mb gb tb kib "
		"mib gib byte bytes bit bits hz khz mhz ghz fps rps qps tok token tokens req px "
		"watt watts mw volt volts segundo segundos minuto minutos horas"},
};

#define LISTS (sizeof(lists) / sizeof(*lists))

static struct lexicon_slot *find(const struct lexicon *x, const char *p, size_t n)
{
	size_t i = hash_bytes(p, n) % LEXICON_SLOTS;
	for (; x->slot[i].n; i = (i + 1) % LEXICON_SLOTS) {
		const struct lexicon_slot *s = &x->slot[i];
		if (s->n == n && memcmp(lists[s->list].words + s->at, p, n) == 0)
			break;
	}
	return (struct lexicon_slot *)&x->slot[i];
}

void lexicon_init(struct lexicon *x)
{
	memset(x, 0, sizeof(*x));
	for (size_t k = 0; k < LISTS; k++)
		for (const char *p = lists[k].words; *p;) {
			size_t n = strcspn(p, " ");
			*find(x, p, n) = (struct lexicon_slot){.list = (uint8_t)k,
				.n = (uint8_t)n,
				.at = (uint16_t)(p - lists[k].words)};
			p += n + (p[n] == ' ');
		}
}

unsigned lexicon_look_folded(const struct lexicon *x, const char *p, size_t n)
{
	if (n == 0 || n > LEXICON_LONGEST)
		return 0;
	const struct lexicon_slot *s = find(x, p, n);
	return s->n ? lists[s->list].bits : 0;
}

unsigned lexicon_look(const struct lexicon *x, const char *p, size_t n)
{
	char folded[LEXICON_LONGEST];
	if (n > LEXICON_LONGEST)
		return 0;
	return lexicon_look_folded(x, folded, text_fold((struct slice){p, n}, folded, n));
}

/* U+00E0..U+00FF without their accents; a space for the sign. */
static const char bare[] = "aaaaaaaceeeeiiiidnooooo ouuuuyty";

size_t text_fold(struct slice s, char *out, size_t cap)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n && n < cap; i++) {
		unsigned char c = (unsigned char)s.p[i];
		unsigned char next = i + 1 < s.n ? (unsigned char)s.p[i + 1] : 0;
		if (c >= 'A' && c <= 'Z') {
			out[n++] = (char)(c + 32);
		} else if (c == 0xc3 && next >= 0x80) {
			out[n++] = bare[next & 0x1f];
			i++;
		} else if (c == 0xcc || (c == 0xcd && next < 0xb0)) {
			i++; /* a combining accent, U+0300..U+036F */
		} else {
			out[n++] = (char)c;
		}
	}
	return n;
}
