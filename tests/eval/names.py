"""
What counts as an identifier, for the scripted agent and for the metric.

This scanner is the eval's own and deliberately not the server's: what it measures must not follow
from what it measures with. Tokens: URLs, flags, paths, dotted, dashed and plain names of three
characters and more; stop words of code, English and Portuguese are none. A path's trailing parts
count as standing where the path stands ("plan.c" in "supervisor/requests/plan.c").
"""

import re
from functools import lru_cache

TOKEN = re.compile(
    r"https?://[^\s\"'`<>)\]}|]+"
    r"|(?<![\w-])--?[A-Za-z][\w-]*"
    r"|[./~]{0,3}[^\W_][\w]*(?:[./-]+\w+)*"
    r"|_\w+"
)

STOP = frozenset(
    """
the and for are was were has have had not but with without from into onto that this these those then than there their
they them its his her she who what when where which while why how all any each every both few more most other some such
only own same too very can could will would shall should may might must just don now also one two new old out over under
again once here after before because until between through during about against off down him you your our ours yours
been being does did doing let lets get got see use used using make made like need needs want way well still yet never
always first last next back look looking going take comes come goes without within another nothing something file files
line lines code function call calls called test tests error result true false null none int char void const static
struct enum union unsigned long short size_t bool return break continue switch case default else goto sizeof typedef
inline include define ifdef ifndef endif extern double float uint32_t uint64_t uint8_t int64_t def class self import
pass elif try except finally raise lambda yield assert str len list dict set print open read write add
que não para com uma por mais como mas foi ele das tem seu sua quando muito nos está isso entre era depois sem mesmo aos
ter seus quem nas esse eles você essa num nem suas meu minha têm numa pelos elas seja qual nós lhe deles essas esses
pelas este dele tu te vocês vos lhes meus minhas teu tua nosso nossa dela esta estes estas aquele aquela isto aquilo
agora onde ainda também já até pois então aqui ali cada todo toda todos todas outro outra antes dos sobre ser são vou
vai fazer arquivo linha erro teste função
""".split()
)


@lru_cache(maxsize=200000)
def tokens(text):
    """The set of identifiers that stand in a text."""
    found = set()
    for m in TOKEN.finditer(text):
        t = m.group().strip("~.-/")
        if t.startswith("http"):
            found.add(t.rstrip(".,;:!?/"))
            continue
        if m.group().startswith("-") and text[m.end() : m.end() + 1] != "-":  # no arrow: --name-->
            found.add(m.group())
        if len(t) >= 3 and not (t.islower() and t in STOP) and t.lower() not in STOP:
            found.add(t)
    return frozenset(found)


def shaped(t):
    """A name rather than a word."""
    return bool(re.search(r"[\d_./-]", t) or re.search(r"[a-z][A-Z]|^[A-Z]{3,}", t))


@lru_cache(maxsize=200000)
def standing(text):
    """The identifiers that a reader of the text knows: those above and the tails of its paths."""
    found = set(tokens(text))
    for t in tokens(text):
        if "/" in t or "." in t:
            rest = t
            while "/" in rest:
                rest = rest.split("/", 1)[1]
                if len(rest) >= 3:
                    found.add(rest)
            found.update(p for p in re.split(r"[./]", t) if len(p) >= 3)
    return frozenset(found)
