"""Transcripts to token ids, and GloVe vectors for them (paper, section 4.2: 50 tokens, GloVe 6B, 200-d, trainable)."""

import contextlib
import gzip
import re
import unicodedata
import zipfile
import zlib

import numpy as np

from data.reading import NUMBER, what_it_is
from storage.files import InputError

MAX_TOKENS = 50
WORD_DIM = 200
_LONGEST_LINE = 100_000  # bytes of a GloVe line; 200 numbers take about 2,000
PADDING_ID = 0  # also every unknown word (released code)
MARKS = ("!", "?", "...")  # that tell how something is said; `tokenize` drops them

# Letters, digits and their marks make words, in any script. An apostrophe vanishes ("don't" and "dont" are one word, as
# in corpora stored without punctuation), and so does what nobody sees (soft hyphen, direction marks, the style of an
# emoji); every other mark and space ends a word.
_VANISHING = re.compile(
    "['\u2018\u2019\u02bc\uff07`\u00b4\u00ad\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_JOINERS = "\u200c\u200d"  # inside words of Persian and Hindi
_WORD = re.compile(r"[^\W_]+")
_LEADING = re.compile(r"^[\W_]+")  # marks without a letter


def tokenize(transcript):
    """Lower-case words without punctuation.

    Text is in Unicode's composed form (NFC), so that the two ways to write "\u00e9" are one.

    >>> tokenize("Well, I don't KNOW -- ask Ma'am!")
    ['well', 'i', 'dont', 'know', 'ask', 'maam']
    """
    text = unicodedata.normalize("NFC", transcript).lower().replace("i\u0307", "i")  # what Python makes of \u0130
    text = _VANISHING.sub("", text)
    if text.isascii():
        return _WORD.findall(text)
    text = "".join(
        one if one.isalnum() or one in _JOINERS or unicodedata.category(one) in ("Mn", "Mc") else " " for one in text
    )
    words = (_LEADING.sub("", word).rstrip(_JOINERS) for word in text.split())
    return [word for word in words if word]


def known_shares(transcripts, known):
    """(N,) the share of each text's words that are in the set `known`; NaN where there is no word."""
    texts = map(tokenize, transcripts)
    return np.array([np.mean([word in known for word in words]) if words else np.nan for words in texts])


def count_marks(transcripts):
    """How often each of `MARKS` stands in each text; wide ones and the ellipsis as a single character count, too.

    >>> count_marks(["What?! No\u2026"]).tolist()
    [[1.0, 1.0, 1.0]]

    Returns:
        (N, 3) float64.
    """
    texts = [unicodedata.normalize("NFKC", transcript) for transcript in transcripts]
    return np.array([[text.count(mark) for mark in MARKS] for text in texts], "float64").reshape(-1, len(MARKS))


def build_vocabulary(transcripts):
    """The words of the training transcripts, sorted; word i has id i + 1, id 0 is padding and every other word."""
    return sorted({word for transcript in transcripts for word in tokenize(transcript)})


def token_ids(transcripts, vocabulary, max_tokens=MAX_TOKENS):
    """Ids of the first `max_tokens` words of each transcript, padded at the end.

    Returns:
        (N, max_tokens) int32.
    """
    id_of = {word: position + 1 for position, word in enumerate(vocabulary)}
    ids = np.full((len(transcripts), max_tokens), PADDING_ID, "int32")
    for row, transcript in enumerate(transcripts):
        words = tokenize(transcript)[:max_tokens]
        ids[row, : len(words)] = [id_of.get(word, PADDING_ID) for word in words]
    return ids


def read_glove(path, words, dim=WORD_DIM):
    """Reads the vectors of `words` from a file of word vectors: a word and `dim` numbers a line.

    Args:
        path: for example glove.6B.200d.txt, plain, gzipped or in its zip archive; word2vec's header line is passed
            over, and a word may hold spaces. Read line by line, so the size does not matter.
        words: the words wanted.
        dim: numbers expected per word.

    Returns:
        {word: (dim,) float32} of the wanted words that the file has.

    Raises:
        InputError: the file is missing, empty, cut off, no UTF-8, or a line has another width or a value that is no
            number.
    """
    wanted, vectors, number = set(words), {}, 0
    try:
        with _open_vectors(path, dim) as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n").rstrip(" ")
                if number == 1 and dim > 1 and re.fullmatch(r"[0-9]+ [0-9]+", text):
                    continue  # how many words, and how many numbers each
                fields = text.split(" ")  # the plain space alone: some words contain other white space
                word, values = " ".join(fields[:-dim]), fields[-dim:]
                # A number ahead of the last ones is no part of a word with spaces: the file has more of them.
                if len(fields) <= dim or (len(fields) > dim + 1 and all(map(NUMBER.fullmatch, fields[1:-dim]))):
                    cut = len(fields) <= dim and number > 1 and not line.endswith(b"\n") and len(line) < _LONGEST_LINE
                    raise InputError(
                        f"{path}: ends within line {number}, so it is not whole; fetch it again"
                        if cut
                        else f"{path}, line {number}: {len(fields) - 1} numbers instead of {dim}; "
                        f"the network takes {dim}-d vectors, e.g. glove.6B.{dim}d.txt"
                    )
                if word not in wanted:
                    continue
                if not all(map(NUMBER.fullmatch, values)):
                    raise ValueError("a value is no decimal number")
                with np.errstate(over="ignore"):
                    vector = np.array(values, "float32")
                if not np.isfinite(vector).all():
                    raise ValueError("a value is not finite")
                vectors[word] = vector
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {number}: not UTF-8 text; word vectors in word2vec's binary form have to be saved as text"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}, line {number}: not a word and {dim} numbers ({error})") from error
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the archive is damaged or cut off ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if number == 0:
        raise InputError(f"{path}: empty; expected lines of a word and {dim} numbers")
    return vectors


@contextlib.contextmanager
def _open_vectors(path, dim):
    """The file of word vectors, out of its archive if it lies in one."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(b"\x1f\x8b"):
        with gzip.open(path) as file:
            yield file
    elif head.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            fitting = [name for name in names if f".{dim}d." in name] or names
            if len(fitting) != 1:
                raise InputError(
                    f"{path}: holds {', '.join(names)[:200]}; unpack it, and give the one of {dim} numbers"
                )
            try:
                file = archive.open(fitting[0])
            except (NotImplementedError, RuntimeError) as error:  # a password, or a rare way to pack
                raise InputError(f"{path}: cannot be unpacked here ({error}); unpack it, and give the file") from error
            with file:
                yield file
    else:
        if kind := what_it_is(head):
            raise InputError(f"{path}: {kind}")
        with open(path, "rb") as file:
            yield file


# What stands behind a word that GloVe lacks ("dont", "gonna", "yelled"); the causal variant starts it from that.
_SPOKEN = {
    "cant": ("can", "not"),
    "cannot": ("can", "not"),
    "wont": ("will", "not"),
    "shant": ("shall", "not"),
    "gotta": ("got", "to"),
    "wanna": ("want", "to"),
    "gonna": ("going", "to"),
}
_SUFFIXES = {
    "nt": "not",
    "ve": "have",
    "ll": "will",
    "re": "are",
    "m": "am",
    "s": "",
    "d": "",
    "ed": "",
    "ing": "",
    "ly": "",
}


def word_parts(word):
    """Known words that may stand for a contraction or an inflected word, the likeliest first.

    >>> word_parts("gonna"), word_parts("didnt")[0], ("stop",) in word_parts("stopped")
    ([('going', 'to')], ('did', 'not'), True)
    """
    if word in _SPOKEN:
        return [_SPOKEN[word]]
    parts = []
    for suffix, meaning in _SUFFIXES.items():
        stem = word.removesuffix(suffix)
        if stem != word and stem:
            undoubled = [stem[:-1]] if stem[-1] == stem[-2:-1] else []
            parts += [(base, meaning) if meaning else (base,) for base in (stem, *undoubled, f"{stem}e")]
    return parts


def vectors_from_parts(vocabulary, vectors):
    """Vectors for words that lack one, from those of their parts.

    Args:
        vocabulary: the words.
        vectors: {word: (dim,)}, of words and of `word_parts`.

    Returns:
        {word: (dim,) float32}: the mean over the parts, for words without a vector whose parts all have one.
    """
    found = {}
    for word in vocabulary:
        parts = next((parts for parts in word_parts(word) if all(part in vectors for part in parts)), None)
        if word not in vectors and parts:
            found[word] = np.mean([vectors[part] for part in parts], axis=0, dtype="float32")
    return found


def word_matrix(vocabulary, vectors, seed, dim=WORD_DIM):
    """The embedding's first value: zeros for id 0, GloVe where known, small random vectors elsewhere.

    Returns:
        (len(vocabulary) + 1, dim) float32.
    """
    matrix = np.random.default_rng([seed, dim]).uniform(-0.05, 0.05, (len(vocabulary) + 1, dim)).astype("float32")
    matrix[PADDING_ID] = 0
    for position, word in enumerate(vocabulary):
        if word in vectors:
            matrix[position + 1] = vectors[word]
    return matrix
