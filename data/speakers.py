"""Names of speakers that stand in the texts of a transcript: "[SPEAKER_00]: ...", "Ann Lee: ...", "agent: ..."."""

import re

# "[SPEAKER_00]: ...", and "Ann Lee: ..." of up to three words that begin with a capital, or are in a script without.
_TAGGED = re.compile(r"\s*(?:\[(?P<tag>[^\]:]{1,60})\]|(?P<label>(?:SPEAKER|Speaker)[ _]?\w{1,3}))\s*:\s*")
# "Maria de Souza: ..." and "Speaker (1): ..." are such, too, and of "Bob (he/him): ..." the name is Bob.
_PARTICLES = r"(?:(?:da|de|del|della|den|der|di|dos|du|el|la|le|van|von|bin|ibn|al|y) ){0,2}"
_NAMED = re.compile(
    rf"\s*(?P<name>[^\W\d_a-z][\w.'’-]{{0,30}}(?: {_PARTICLES}[^\W_a-z][\w.'’-]{{0,30}}){{0,2}}"
    r"(?: ?\([^()/\n]{1,30}\))?)(?: ?\([^()\n]{1,30}\))?\s*[:：]\s+(?=\S)"
)
_LABELLED = re.compile(r"\s*(?P<name>[^\W\d_][\w'’-]{0,30})\s*[:：]\s+(?=\S)")  # "agent: ..."


def parted_from_speakers(texts):
    """Takes the speaker's name from the beginning of each text that has one.

    A name with a colon is taken for one where half of the texts begin so, or where it comes back. A word in small
    letters is where it comes back and another one does too, or where all texts begin so; and half of the texts must.

    Returns:
        (name or None, rest of the text) pairs.

    >>> parted_from_speakers(["Ann: Hi.", "Bob: So: it works."])
    [('Ann', 'Hi.'), ('Bob', 'So: it works.')]
    """
    names = [found["name"] for text in texts if (found := _NAMED.match(text))]
    words = [found["name"] for text in texts if (found := _NAMED.match(text) or _LABELLED.match(text))]
    back = {word for word in words if words.count(word) > 1}
    labels = 2 * len(words) >= len(texts) and (len(back) > 1 or (back and len(words) == len(texts)))
    often = labels or 2 * len(names) >= len(texts)
    speakers = {name for name in names if often or name in back} | (back if labels else set())
    parted = []
    for text in texts:
        found = _TAGGED.match(text) or _NAMED.match(text) or _LABELLED.match(text)
        speaker = next(filter(None, found.groupdict().values())) if found else None
        if found and found.re is not _TAGGED and speaker not in speakers:
            found = speaker = None
        parted.append((speaker, text[found.end() :] if found else text))
    return parted
