"""
What each repair of the selection and of the layout gains: all of them off, then one after the other
on, on the odd sessions. The even ones are for choosing constants.
"""

import metric
import single
from arms import Layout

# name of the row, what is set back in the rows before it
REPAIRS = (
    ("single lines", ("window=4",)),
    ("no call repeated in a result's header", ("header_calls=1",)),
    ("no credit for a second cover, long messages count more", ("second_cover=.25", "length_exponent=.5")),
    ("weights by kind of name and by how often it stands", ("kinds=0", "occurrence=0")),
    ("whole messages leave a short mark, no empty headers", ("hashes=1", "company=1")),
    ("nothing for words that stand in the prompt anyway", ("standing=1",)),
)


def steps():
    for n in range(len(REPAIRS) + 1):
        yield ("as built before" if n == 0 else REPAIRS[n - 1][0]), tuple(t for _, ts in REPAIRS[n:] for t in ts)


def row(driver, sessions, windows):
    odd = sessions[1::2] or sessions
    found = single.run(odd, driver, ratios=(.25, .10), others=False)["selection"]
    found_in = {"single": {str(r): f.table() for r, f in found.items()}, "windows": {}}
    for window, fixed in windows:
        figures = metric.Figures()
        for s in odd:
            figures.add(metric.walk(s, Layout(driver), window, fixed))
        found_in["windows"][f"{window}/{fixed}"] = figures.table()
    return found_in
