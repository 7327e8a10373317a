"""The page of one conversation, and the index of a folder's: one HTML file each, which asks nobody for anything.

Everything stands in the file: style, script, answers, and the sound where it is small enough. A Content-Security-Policy
allows the page's own script and style by their hashes and nothing else. What a transcript holds is text: Jinja escapes
it, the script sets it as text, and the answers travel as JSON in which no "<" is left.
"""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from prediction.output import note_line
from storage.files import write_text

_TEMPLATES = Path(__file__).parent / "templates"
_PAGES = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
_PAGES.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
MOST_ROWS = 2000  # of an index; a browser shows no more at ease

# A colour, a texture and two letters each. The colours are Okabe and Ito's, which the colour-blind tell apart, with
# two greys; the textures are drawn on a square of eight.
_STRIPES, _BACK, _LEVEL, _UPRIGHT = "M-2 2l4-4M0 8l8-8M6 10l4-4", "M-2 6l4 4M0 0l8 8M6-2l4 4", "M0 4h8", "M4 0v8"
_DOTS, _GRID, _ZIGZAG = "M4 3a1 1 0 1 0 .01 0", "M4 0v8M0 4h8", "M0 6l4-4l4 4"
_LOOKS = (
    ("#b8b8b8", "", ""),
    ("#e69f00", _STRIPES, "#7a5200"),
    ("#0072b2", _LEVEL, "#9fd4f5"),
    ("#cc79a7", _DOTS, "#5c1f41"),
    ("#f0e442", "", ""),
    ("#d55e00", _BACK, "#ffd9bd"),
    ("#ffffff", _GRID, "#888888"),
    ("#56b4e9", _UPRIGHT, "#00456e"),
    ("#009e73", _ZIGZAG, "#c9ffee"),
    ("#3c3c3c", _DOTS, "#ffffff"),
)
_LOOK_OF = {
    "neutral": 0,
    "exciting": 1,
    "sadness": 2,
    "frustration": 3,
    "happiness": 4,
    "joy": 4,
    "angry": 5,
    "anger": 5,
    "other": 6,
    "surprised": 7,
    "surprise": 7,
    "disgust": 8,
    "fear": 9,
}


def write_page(path, conversation, sound=None):
    """Writes NAME.html.

    Args:
        path: the file to write.
        conversation: `prediction.output.Conversation`.
        sound: (MIME type, bytes) to embed, or the address of a file beside the page, or None.
    """
    embedded = sound if isinstance(sound, tuple) else (None, b"")
    emotions = _emotions(conversation.emotions)
    spoken = conversation.speakers()
    speakers = [
        {
            "name": name,
            "time": f"{_clock(one['seconds'])} of speech",
            "utterances": one["utterances"],
            "bar": _bar(one["shares"], emotions),
            "prevails": prevails(one["shares"], conversation.emotions),
        }
        for name, one in spoken.items()
    ]
    length = _clock(conversation.duration_s)
    checkpoint = conversation.checkpoint
    text = _PAGES.get_template("page.html.j2").render(
        **_inlined("page.css", "page.js", media="blob:" if embedded[1] else "'self' file:" if sound else ""),
        name=conversation.name,
        facts=f"{length} in all, {len(spoken)} speaker{'s' * (len(spoken) != 1)}, "
        f"{len(conversation.answers)} utterances. Answers of {checkpoint['name']}.",
        limits=conversation.limits,
        speakers=speakers,
        emotions=emotions,
        votes=any(answer.votes is not None for answer in conversation.answers),
        length=length,
        sound=bool(sound),
        sound_file=None if embedded[1] else sound,
        sound_type=embedded[0],
        sound_bytes=Markup(base64.b64encode(embedded[1]).decode("ascii")),
        notes=[note_line(*note) for note in conversation.notes.items()],
        made=f"Checkpoint {checkpoint['name']}, SHA-256 {checkpoint['sha256'][:16]}, trained on "
        f"{checkpoint['trained_on']}.",
        data=_data(conversation, emotions, list(spoken), bool(sound)),
    )
    write_text(path, text)


def _data(conversation, emotions, speakers, sound):
    """What page.js reads."""

    def rounded(shares):
        return None if shares is None else [round(float(share), 4) for share in shares]

    rows = [
        [
            one.utterance.utterance_id,
            round(one.utterance.start_s, 3),
            round(one.utterance.end_s, 3),
            speakers.index(one.utterance.speaker),
            one.utterance.transcript,
            rounded(one.shares),
            one.rests_on,
            rounded(one.votes),
        ]
        for one in conversation.answers
    ]
    votes = any(row[-1] is not None for row in rows)
    return {
        "emotions": emotions,
        "speakers": speakers,
        "duration": conversation.duration_s,
        "sound": sound,
        "votes": votes,
        "utterances": rows if votes else [row[:-1] for row in rows],
    }


def write_index(path, rows, total, limits):
    """Writes index.html of a folder.

    Args:
        path: the file to write.
        rows: dicts of at most MOST_ROWS conversations: name, and either failure, or link, duration_s, speakers,
            utterances, emotions, shares.
        total: how many there are.
        limits: a sentence for readers.
    """
    shown = [
        row
        if row.get("failure")
        else row
        | {
            "length": _clock(row["duration_s"]),
            "bar": _bar(row["shares"], _emotions(row["emotions"])),
            "prevails": prevails(row["shares"], row["emotions"]),
        }
        for row in rows
    ]
    page = _PAGES.get_template("index.html.j2").render(
        **_inlined("page.css"),
        rows=[{"failure": None} | row for row in shown],
        total=total,
        shown=len(rows),
        limits=limits,
    )
    write_text(path, page)


def prevails(shares, emotions):
    """The emotions with the largest shares, in words.

    >>> prevails([0.5, 0.02, 0.3, 0.18], ("neutral", "fear", "sadness", "angry")).startswith("neutral 50")
    True
    """
    if shares is None:
        return "no answer"
    order = sorted(range(len(shares)), key=lambda place: -shares[place])
    return ", ".join(
        f"{emotions[place]} {shares[place]:.0%}".replace("%", "\u00a0%") for place in order[:3] if shares[place] >= 0.05
    )


def _emotions(names):
    """{"name", "code": letters, "look": number of the pattern} of each emotion."""
    free = [look for look in range(len(_LOOKS)) if look not in {_LOOK_OF.get(name.lower()) for name in names}]
    found, codes = [], set()
    for name in names:
        look = _LOOK_OF.get(name.lower())
        if look is None:
            look = free.pop(0) if free else len(found) % len(_LOOKS)
        letters = [one for one in name if one.isalnum()] or ["?"]
        codes_of_name = [letters[0] + second for second in letters[1:]] + [letters[0], name]
        code = next((one for one in codes_of_name if one not in codes), name)
        codes.add(code)
        found.append({"name": name, "code": code, "look": look})
    return found


def _bar(shares, emotions):
    """A stacked bar of shares as SVG, its text told to screen readers elsewhere; nothing without shares."""
    if shares is None:
        return ""
    parts, x = [], 0.0
    for share, emotion in zip(shares, emotions, strict=True):
        parts.append(f'<rect class="p{emotion["look"]}" x="{x:.1f}" width="{160 * share:.1f}" height="16"/>')
        x += 160 * float(share)
    drawing = (
        f'<svg class="bar" viewBox="0 0 160 16" preserveAspectRatio="none" aria-hidden="true">{"".join(parts)}</svg>'
    )
    return Markup(drawing)


def _inlined(style, script=None, media=""):
    """Style, script and patterns of a page, and the policy that allows these and the given media alone."""
    looks = "\n".join(f".p{number} {{ fill: url(#look-{number}); }}" for number in range(len(_LOOKS)))
    style = (_TEMPLATES / style).read_text(encoding="utf-8") + looks
    policy = [f"default-src 'none'; style-src 'sha256-{_hash(style)}'"]
    inlined = {"style": Markup(style), "patterns": _patterns()}
    if script:
        inlined["script"] = Markup((_TEMPLATES / script).read_text(encoding="utf-8"))
        policy.append(f"script-src 'sha256-{_hash(inlined['script'])}'")
    policy += [f"media-src {media}"] * bool(media)
    inlined["policy"] = Markup("; ".join([*policy, "base-uri 'none'", "form-action 'none'"]))
    return inlined


def _patterns():
    """The textures that style sheets name."""
    patterns = []
    for number, (colour, path, ink) in enumerate(_LOOKS):
        texture = f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="1.2"/>' if path else ""
        patterns.append(
            f'<pattern id="look-{number}" width="8" height="8" patternUnits="userSpaceOnUse">'
            f'<rect width="8" height="8" fill="{colour}"/>{texture}</pattern>'
        )
    return Markup(f'<svg class="defs" aria-hidden="true"><defs>{"".join(patterns)}</defs></svg>')


def _hash(text):
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _clock(seconds):
    """
    >>> _clock(65.4), _clock(3725)
    ('1:05', '1:02:05')
    """
    whole = int(seconds)
    hours = f"{whole // 3600}:{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02d}"
