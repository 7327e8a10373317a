"""Names of speakers that stand in the texts of a transcript: "[SPEAKER_00]: ...", "Ann Lee: ...", "agent: ..."."""

import re
from collections import Counter

# "[SPEAKER_00]: ...", and "Ann Lee: ..." of up to five words that begin with a capital, or are in a script without.
_TAGGED = re.compile(
    r"\s*(?:\[(?P<tag>[^\]:]{1,60})\]|(?P<label>(?:SPEAKER|Speaker)[ _]?\w{1,3}|speaker[ _]?\d{1,2}))\s*:\s*"
)
# "Maria de Souza: ..." and "Speaker (1): ..." are such, too, and of "Bob (he/him): ..." the name is Bob.
_PARTICLES = r"(?:(?:da|de|del|della|den|der|di|dos|du|el|la|le|van|von|bin|ibn|al|y) ){0,2}"
_OFF_SCREEN = r" ?\((?i:[ov]\.? ?[sco]\.?|cont\W?d)\)"  # of a screenplay's "JOHN (O.S.):", who is JOHN
_NAMED = re.compile(
    rf"\s*(?P<name>[^\W\d_a-z][\w.'’-]{{0,30}}(?:,? {_PARTICLES}[^\W_a-z][\w.'’-]{{0,30}}){{0,4}}"
    rf"(?:(?!{_OFF_SCREEN}) ?\([^()/\n]{{1,30}}\))?)(?: ?\([^()\n]{{1,30}}\)){{0,2}}\s*(?::\s+|：\s*)(?=\S)"
)
# "agent: ...", "+49 151 1234: ..."
_LABELLED = re.compile(r"\s*(?P<name>[^\W\d_][\w'’-]{0,30}|\+?\d[\d *()-]{5,20})\s*(?::\s+|：\s*)(?=\S)")
_ANY = re.compile(r"\s*(?P<name>[^\W_][^:：.?!\n]{0,40})(?::\s+|：\s*)(?=\S)")  # "jane doe: ..."
_OFTEN = 3  # times that a name of any form, or within utterances alone, comes back


def speakers_in(starts, inside=(), known=()):
    """Finds the speakers' names at the beginnings of texts.

    A name with a colon is taken for one where half of the texts begin so, or where it comes back. A word in small
    letters, or the number of a telephone, is one where it comes back and another one does too, or where all texts begin
    so; and half of the texts must. Any words before a colon are names where all texts begin so and each name is there
    three times.

    Args:
        starts: texts of utterances, as they begin.
        inside: lines within them. A name there is one of `starts`, or comes back three times.
        known: names that other utterances have. Then no other is one.

    Returns:
        A function that parts a text into (name or None, the rest).

    >>> part = speakers_in(["Ann: Hi.", "Bob: So: it works."])
    >>> part("Ann: Hi."), part("Bob: So: it works.")
    (('Ann', 'Hi.'), ('Bob', 'So: it works.'))
    """
    untagged = [text for text in starts if not _TAGGED.match(text)]
    every, names, labels = (
        [found["name"] for text in untagged if (found := _first(text, patterns))]
        for patterns in ((_NAMED, _LABELLED, _ANY), (_NAMED,), (_NAMED, _LABELLED))
    )
    patterns = (_TAGGED, _NAMED, _LABELLED)
    if known:
        speakers = set(known)
    elif untagged and len(every) == len(untagged) and min(Counter(every).values()) >= _OFTEN:
        speakers, patterns = set(every), (*patterns, _ANY)
    else:
        back = {name for name, count in Counter(labels).items() if count > 1}
        often = 2 * len(names) >= len(starts)
        lower = 2 * len(labels) >= len(starts) and (len(back) > 1 or (back and len(labels) == len(starts)))
        speakers = {name for name in names if often or name in back} | (back if lower else set())
    if speakers and not known:
        lines = Counter(found["name"] for text in inside if (found := _NAMED.match(text)))
        speakers |= {name for name, count in lines.items() if count >= _OFTEN}

    def part(text):
        found = _first(text, patterns)
        speaker = next(filter(None, found.groupdict().values())) if found else None
        if found and found.re is not _TAGGED and speaker not in speakers:
            found = speaker = None
        return speaker, text[found.end() :] if found else text

    return part


def _first(text, patterns):
    """The match of the first pattern that matches, or None."""
    return next((found for pattern in patterns if (found := pattern.match(text))), None)
