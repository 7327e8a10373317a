"""Names of speakers that stand in the texts of a transcript: "[SPEAKER_00]: ...", "Ann Lee: ...", "agent: ..."."""

import re
from collections import Counter

# "[SPEAKER_00]: ...", and "Ann Lee: ..." of up to three words that begin with a capital, or are in a script without.
_TAGGED = re.compile(r"\s*(?:\[(?P<tag>[^\]:]{1,60})\]|(?P<label>(?:SPEAKER|Speaker)[ _]?\w{1,3}))\s*:\s*")
# "Maria de Souza: ..." and "Speaker (1): ..." are such, too, and of "Bob (he/him): ..." the name is Bob.
_PARTICLES = r"(?:(?:da|de|del|della|den|der|di|dos|du|el|la|le|van|von|bin|ibn|al|y) ){0,2}"
_NAMED = re.compile(
    rf"\s*(?P<name>[^\W\d_a-z][\w.'’-]{{0,30}}(?: {_PARTICLES}[^\W_a-z][\w.'’-]{{0,30}}){{0,2}}"
    r"(?: ?\([^()/\n]{1,30}\))?)(?: ?\([^()\n]{1,30}\))?\s*[:：]\s+(?=\S)"
)
# "agent: ...", "Smith, John: ...", "+49 151 1234: ...".
_LABELLED = re.compile(r"\s*(?P<name>[^\W_][^:：\n]{0,60}?|\+\d[\d ]{0,20})\s*[:：]\s+(?=\S)")


def speakers_in(starts, inside=(), known=()):
    """Finds the speakers' names at the beginnings of texts.

    A name with a colon is taken for one where half of the texts begin so, or where it comes back. Anything else before
    a colon is where it comes back, another one does too and half of the texts begin with such, or where all do.

    Args:
        starts: texts of utterances, as they begin.
        inside: lines within them: what begins so comes back, but they need not begin so.
        known: names that other utterances have. Then a name in these texts is one of them, or one that comes back.

    Returns:
        A function that parts a text into (name or None, the rest).

    >>> part = speakers_in(["Ann: Hi.", "Bob: So: it works."])
    >>> part("Ann: Hi."), part("Bob: So: it works.")
    (('Ann', 'Hi.'), ('Bob', 'So: it works.'))
    """
    named = [found["name"] for text in starts if (found := _NAMED.match(text))]
    labels = [found["name"] for text in starts if (found := _NAMED.match(text) or _LABELLED.match(text))]
    within = [found for text in inside if (found := _NAMED.match(text) or _LABELLED.match(text))]
    counts = Counter(labels + [found["name"] for found in within])
    back = {name for name, count in counts.items() if count > 1}
    often = not known and 2 * len(named) >= len(starts)
    covered = sum(name in back for name in labels)
    all_labels = 2 * covered >= len(starts) and (len(back) > 1 or (back and covered == len(starts)))
    names = named + [found["name"] for found in within if found.re is _NAMED]
    speakers = {name for name in names if often or name in back} | (back if all_labels else set()) | set(known)

    def part(text):
        found = _TAGGED.match(text) or _NAMED.match(text) or _LABELLED.match(text)
        speaker = next(filter(None, found.groupdict().values())) if found else None
        if found and found.re is not _TAGGED and speaker not in speakers:
            found = speaker = None
        return speaker, text[found.end() :] if found else text

    return part
