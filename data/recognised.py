"""What recognisers of speech write as JSON: whisper, whisperX, whisper.cpp."""

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from data import reading
from data.pieces import Piece, cut, note_whole_numbers, with_speakers
from settings import said_of
from storage import files
from storage.files import InputError

_ANSWERS = "mcaf-prediction"  # format of what predict.py writes


class _Word(BaseModel):
    """A word of whisper or whisperX, which leaves times out of words that it cannot align."""

    model_config = ConfigDict(strict=True)

    word: str = Field(validation_alias=AliasChoices("word", "text"))
    start: FiniteFloat | None = None
    end: FiniteFloat | None = None
    speaker: str | None = None


class _Segment(BaseModel):
    model_config = ConfigDict(strict=True)

    start: FiniteFloat
    end: FiniteFloat
    text: str | None = None
    speaker: str | None = None
    words: list[_Word] | None = None

    @model_validator(mode="after")
    def _has_text(self):
        """Without its text, a segment's words are that."""
        if self.text is None and self.words is None:
            raise ValueError("it has no text")
        if self.text is None:
            self.text = " ".join(word.word.strip() for word in self.words)
        return self


def read_json(path, notes):
    """whisper, whisperX, whisper.cpp: segments, cut by their words where these have times."""
    value = files.read_json(path, reading.text_of)
    if isinstance(value, dict) and value.get("format") == _ANSWERS:
        raise InputError(f"{path}: what predict.py wrote, not a transcript")
    try:
        of_cpp = isinstance(value, dict) and "transcription" in value and "segments" not in value  # whisper.cpp
        if of_cpp:
            value = [
                {
                    "start": one["offsets"]["from"] / 1000,
                    "end": one["offsets"]["to"] / 1000,
                    "text": one["text"],
                    "speaker": None if (speaker := one.get("speaker")) in (None, "?") else str(speaker),
                }
                for one in value["transcription"]
            ]
        else:
            value = value["segments"] if isinstance(value, dict) else value
            alone = [isinstance(one, dict) and "word" in one and "text" not in one for one in value]
            if value and all(alone):  # whisperX's words alone
                times = [one[name] for one in value for name in ("start", "end") if one.get(name) is not None]
                value = [{"start": min(times, default=None), "end": max(times, default=None), "words": value}]
        segments = TypeAdapter(list[_Segment]).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{path}: {said_of(error, 'segment {}'.format)}; is it of whisper or whisperX?") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no segments in it, as whisper and whisperX write them ({error})") from error
    pieces = []
    for segment in segments:
        words = [word for word in segment.words or () if word.word.strip()]
        if any(word.start is not None for word in words):
            pieces += cut(_timed(words, segment), segment.text)
        else:
            pieces.append(Piece(segment.start, segment.end, segment.speaker, segment.text))
    if not of_cpp:
        note_whole_numbers(pieces, notes)
    return with_speakers(pieces)


def _timed(words, segment):
    """A word without times gets those of the words around it; without a speaker, the last one's."""
    timed, time_s, speaker = [], segment.start, segment.speaker
    following, following_s = [], segment.end  # of each word, when the next one with a start begins
    for word in reversed(words):
        following.append(following_s)
        following_s = following_s if word.start is None else word.start
    for word, next_s in zip(words, reversed(following), strict=True):
        start_s = time_s if word.start is None else word.start
        end_s = next_s if word.end is None else word.end
        time_s, speaker = max(start_s, end_s), word.speaker or speaker
        timed.append(Piece(start_s, time_s, speaker, word.word))
    return timed
