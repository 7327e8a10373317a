"""The release parser against fabricated releases with each quirk of the real one, damage, and random bytes."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_release import HEADER, block, said, write_dialog, write_tiny_release

from data.fidelity import PUBLISHED
from data.iemocap import EMOTIONS, parse_ratings, parse_turns, read_release
from data.utterance import Sound
from storage.files import InputError

DIALOG = "Ses03M_impro05a"
PATH = Path(f"{DIALOG}.txt")
FIRST, SECOND = f"{DIALOG}_F000", f"{DIALOG}_M000"


def votes(**counts):
    return tuple(counts.get(emotion, 0) for emotion in EMOTIONS)


def ratings_of(text):
    """(ratings, the notes as lines)."""
    notes = {}
    return parse_ratings(text.encode("latin-1"), PATH, notes), said(notes)


def turns_of(content):
    notes = {}
    return parse_turns(content, PATH, notes), said(notes)


def test_votes_of_every_kind_of_line():
    raters = (
        "C-E2:\tNeutral;\t()",
        "C-E3:\tFrustration; Anger; \t(he shouts; (twice))",
        "C-E5:\tExcited;",
        "C-E1:\tSurprise; Disgust; Fear; Other;\t()",
        "C-F1:\tSadness; Happiness;\t(Anger;)",
        "C-M1:\t:;\t()",
        "C-F2:\t\t()",
        "A-F1:\tval  ; act  ; dom  ;\t()",
    )
    ratings, notes = ratings_of(HEADER + block(FIRST, 6.2901, 8.2357, raters))
    assert notes == []
    assert list(ratings) == [FIRST]
    assert (ratings[FIRST].start_s, ratings[FIRST].end_s) == (6.2901, 8.2357)
    assert ratings[FIRST].votes_external == votes(
        neutral=1, frustration=1, angry=1, exciting=1, surprised=1, disgust=1, fear=1, other=1
    )
    assert ratings[FIRST].votes_self == votes(sadness=1, happiness=1)


def test_transcripts_and_lines_that_are_none():
    text = (
        f"{FIRST} [006.2901-008.2357]: Excuse me: [LAUGHTER] yes.  \r\n"
        "M: Yeah.\nF:Umm.\n\n"
        f"{DIALOG}_FXX3 [010.0000-011.0000]: Hm.\n{DIALOG}_MXX0 [010.0000-011.0000]: Oh.\n"
        f"{SECOND} [007.5712-010.4750]: It\u2019s f\u00edne\u2028so.\n"
    )
    transcripts, notes = turns_of(text.encode())
    assert transcripts == {FIRST: "Excuse me: [LAUGHTER] yes.", SECOND: "It\u2019s f\u00edne\u2028so."}
    assert notes == []


def test_text_that_is_not_utf8_is_read_with_a_note():
    transcripts, notes = turns_of(f"{FIRST} [1-2]: It\x92s".encode("latin-1"))
    assert transcripts == {FIRST: "It\u2019s"}
    assert notes == [f"{PATH}, line 1: 1 bytes are not UTF-8, read as Windows-1252; check its words"]


def test_release_is_sorted_by_dialog_then_time_then_id(tmp_path):
    release = write_tiny_release(tmp_path)
    ids = [f"{DIALOG}_{turn}" for turn in ("F000", "F001", "M000", "M001")]
    times = {ids[0]: (9, 10), ids[1]: (20, 21), ids[2]: (9, 9.5), ids[3]: (3, 4)}
    ratings = HEADER + "".join(block(name, *times[name]) for name in ids)
    turns = "".join(f"{name} [{times[name][0]}-{times[name][1]}]: words of {name[-4:]}\n" for name in ids)
    write_dialog(release, DIALOG, ratings, turns, ids)
    for folder in ("Attribute", "Categorical", "Self-evaluation"):
        (release / "Session3/dialog/EmoEvaluation" / folder).mkdir()
        (release / f"Session3/dialog/EmoEvaluation/{folder}/{DIALOG}.txt").write_text("not to be read")
    (release / f"Session3/dialog/EmoEvaluation/._{DIALOG}.txt").write_bytes(b"\x00\x05\x16")
    source = read_release(tmp_path)
    assert source == read_release(release) and source.notes == {}
    assert (source.name, source.emotions, source.published) == ("IEMOCAP", EMOTIONS, PUBLISHED)
    utterances = source.utterances
    third = [utterance for utterance in utterances if utterance.session == 3]
    assert [utterance.utterance_id for utterance in third][2:] == [ids[3], ids[0], ids[2], ids[1]]
    assert [utterance.session for utterance in utterances] == sorted(utterance.session for utterance in utterances)
    one = third[2]
    assert (one.dialog_id, one.speaker, one.start_s, one.end_s) == (DIALOG, "Ses03M", 3.0, 4.0)
    assert one.transcript == "words of M001"
    assert one.sound == Sound(release / f"Session3/sentences/wav/{DIALOG}/{ids[3]}.wav")


@pytest.mark.parametrize(
    "text, note",
    [
        (block(FIRST, raters=("C-E2:\tJoy;\t()",)), "2: unknown tag 'Joy'"),
        (block(FIRST, raters=("C-E2:\tNeutral;\t()", "C-E3:\t;\t()")), "3: a rater without a tag"),
        (block(FIRST, raters=("C-F1:\t;\t()",)), "1: no votes"),
        (block(FIRST, raters=("C-E2:\tNeutral;\t()", "C_E3:\tAnger;\t()")), "3: not a rater's line"),
        (block(FIRST, raters=("C-E2:\tNeutral;\t()", "", "C-E3:\tAnger;\t()")), "4: a line of no utterance"),
        (block(FIRST) + block(FIRST), "1: listed more than once"),
        (block(FIRST, 2, 2), "1: [2.0000 - 2.0000] are no times in seconds, start before end"),
        (block(FIRST, -1, 2), "1: [-1.0000 - 2.0000] are no times in seconds, start before end"),
        (block(FIRST, 1, float("nan")), "1: [1.0000 - nan] are no times in seconds, start before end"),
        (block(FIRST, 1, float("inf")), "1: [1.0000 - inf] are no times in seconds, start before end"),
        (block(FIRST, 1, 1e6), "1: [1.0000 - 1000000.0000] are no times in seconds, start before end"),
    ],
)
def test_a_damaged_block_leaves_out_its_utterance_alone(text, note):
    ratings, notes = ratings_of(HEADER + text.rstrip("\n") + "\n\n" + block(SECOND))
    assert list(ratings) == [SECOND]
    assert ratings[SECOND].votes_external == votes(neutral=2, angry=1)
    number, _, reason = note.partition(": ")
    place = f"{FIRST} ({PATH}, line {int(number) + HEADER.count(chr(10))})"
    assert f"{place}: left out, {reason}; the scores cover one utterance fewer" in notes, notes


def test_votes_under_a_damaged_header_go_to_no_other_utterance():
    damaged = block(SECOND).replace(" - ", " ~ ")
    ratings, notes = ratings_of(block(FIRST).rstrip("\n") + "\n" + damaged)
    assert ratings[FIRST].votes_external == votes(neutral=2, angry=1)
    assert list(ratings) == [FIRST]
    assert notes == [f"{PATH}, line 6: not a header line; its utterance is left out"]


def test_fewer_raters_than_usual_are_noted():
    ratings, notes = ratings_of(block(FIRST, raters=("C-E2:\tNeutral;\t()",)))
    assert list(ratings) == [FIRST]
    assert notes == [f"{FIRST}: 1 external raters instead of 3 or more; kept"]


@pytest.mark.parametrize(
    "line, note",
    [
        (f"{FIRST} [1-2]:  ", "no words"),
        (f"{FIRST} [1-2]: a\x00b", "a NUL character"),
        (f"{FIRST} [1-2]: a\x01b", "control characters"),
        (f"{FIRST} [1-2]: " + "a" * 10_001, "10001 characters"),
        (f"{FIRST} 1-2: hello", "not a turn"),
        (f"{FIRST} [1-2]: one\n{FIRST} [1-2]: two", "has a transcript already"),
    ],
)
def test_a_damaged_turn_gives_no_transcript(line, note):
    transcripts, notes = turns_of(f"{line}\n{SECOND} [1-2]: Yes.".encode())
    assert transcripts == {SECOND: "Yes."}
    assert len(notes) == 1 and note in notes[0] and str(PATH) in notes[0]


def test_what_one_utterance_lacks_is_a_named_skip(tmp_path):
    release = write_tiny_release(tmp_path)
    (release / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav").unlink()
    turns = release / "Session2/dialog/transcriptions/Ses02F_impro01.txt"
    turns.write_text(turns.read_text().replace("Ses02F_impro01_M000", "Ses02F_impro01_M007"))
    source = read_release(release)
    assert len(source.utterances) == 8
    assert [line.partition(" ")[0] for line in said(source.notes)] == [
        "Ses01F_impro01_F000", "Ses02F_impro01_M000", "Ses02F_impro01_M007",
    ]  # fmt: skip
    assert all(note.endswith("; the scores cover one utterance fewer") for note in source.notes)
    assert len(read_release(release, with_wavs=False).utterances) == 9


def remove(path):
    if path.is_dir():
        for child in path.iterdir():
            remove(child)
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.parametrize(
    "lost, message",
    [
        ("Session3", "Session3 missing"),
        ("Session2/dialog/EmoEvaluation", "EmoEvaluation: folder missing"),
        ("Session2/dialog/transcriptions", "transcriptions: folder missing"),
        ("Session5/sentences/wav", "wav: folder missing"),
        ("Session5/sentences/wav/Ses05F_impro01", "Ses05F_impro01: folder missing"),
        ("Session4/dialog/transcriptions/Ses04F_impro01.txt", "Ses04F_impro01.txt: transcription missing"),
        (
            "Session4/dialog/EmoEvaluation/Ses04F_impro01.txt",
            "Ses04F_impro01.txt: ratings missing; the release",
        ),
    ],
)
def test_a_release_that_is_not_whole_is_an_error(tmp_path, lost, message):
    release = write_tiny_release(tmp_path)
    remove(release / lost)
    with pytest.raises(InputError, match=message) as caught:
        read_release(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_dialog_that_is_there_in_part_is_an_error(tmp_path):
    """One of several dialogs of a session: the others would hide that it is missing."""
    release = write_tiny_release(tmp_path)
    dialog = "Ses03F_impro01"
    write_dialog(release, DIALOG, HEADER + block(FIRST), f"{FIRST} [001.0000-002.5000]: Yes.\n", [FIRST])
    ratings = release / f"Session3/dialog/EmoEvaluation/{dialog}.txt"
    ratings.rename(ratings.with_suffix(".TXT"))  # as some old file systems have it
    with pytest.raises(InputError, match=f"{dialog}.txt: ratings missing; {dialog}.TXT is there: rename it"):
        read_release(release)
    ratings.with_suffix(".TXT").unlink()
    for with_wavs in (True, False):
        with pytest.raises(InputError, match=f"{dialog}.txt: ratings missing; the release is not whole"):
            read_release(release, with_wavs)
    (release / f"Session3/dialog/transcriptions/{dialog}.txt").unlink()
    with pytest.raises(InputError, match=f"{dialog}.txt: ratings missing"):
        read_release(release)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_loses_no_record(tmp_path, encoding):
    """As an editor leaves it that has saved the files again."""
    release = write_tiny_release(tmp_path)
    plain = read_release(release)
    for path in release.glob("Session*/dialog/*/*.txt"):
        path.write_bytes(path.read_text().removeprefix(HEADER).encode(encoding))
    assert read_release(release) == plain


def test_a_folder_that_is_no_release_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_release(tmp_path / "nowhere")
    with pytest.raises(InputError, match="not an IEMOCAP release"):
        read_release(tmp_path)


def test_files_that_lie_about_their_dialog_are_errors(tmp_path):
    with pytest.raises(InputError, match="line 3: utterance 'Ses03M_impro05b_F000' is not of dialog Ses03M_impro05a"):
        ratings_of(HEADER + block("Ses03M_impro05b_F000"))
    with pytest.raises(InputError, match="line 1: utterance Ses03M_impro05b_F000 is not of dialog Ses03M_impro05a"):
        turns_of(b"Ses03M_impro05b_F000 [1-2]: Yes.")
    with pytest.raises(InputError, match="no utterance in it"):
        ratings_of(HEADER)
    release = write_tiny_release(tmp_path)
    folder = release / "Session1/dialog/EmoEvaluation"
    (folder / "Ses01F_impro01.txt").rename(folder / "Ses02F_impro02.txt")
    with pytest.raises(InputError, match="a dialog of session 2 lies in the folder of session 1"):
        read_release(release)


def test_a_huge_file_takes_no_hours():
    """100,000 blocks of one utterance: the time must not grow with their square."""
    _, notes = ratings_of(block(FIRST, raters=()) * 100_000)
    assert len(notes) == 100_000


pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([HEADER.encode(), block(FIRST).encode(), block(SECOND, 3, 4).encode(), b"\n", b"[", b"\x00"]),
        st.sampled_from(
            [f"{FIRST} [1-2]: Yes.\n".encode(), f"{SECOND} [".encode(), b"C-E2:\tAnger;", b"M: ", b"\xff\xfe"]
        ),
    ),
    max_size=12,
).map(b"".join)


@pytest.mark.fuzz
@given(pieces)
@example(b"[1 - 2]\t\xb2\t\xb2\t[]")
def test_any_bytes_give_sound_ratings_or_a_named_error(content):
    try:
        ratings = parse_ratings(content, PATH, {})
    except InputError as error:
        assert PATH.name in str(error)
        return
    for utterance_id, rating in ratings.items():
        assert utterance_id.startswith(f"{DIALOG}_")
        assert 0 <= rating.start_s < rating.end_s <= 86_400
        assert sum(rating.votes_external) + sum(rating.votes_self) > 0


@pytest.mark.fuzz
@given(pieces)
def test_any_bytes_give_sound_transcripts_or_a_named_error(content):
    try:
        transcripts = parse_turns(content, PATH, {})
    except InputError as error:
        assert PATH.name in str(error)
        return
    for utterance_id, words in transcripts.items():
        assert utterance_id.startswith(f"{DIALOG}_")
        assert words == words.strip() != ""
        assert "\x00" not in words


@pytest.mark.fuzz
@given(st.data())
def test_one_changed_byte_never_moves_a_vote_to_another_utterance(data):
    content = bytearray((HEADER + block(FIRST) + block(SECOND, 3, 4)).encode())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] = data.draw(st.integers(0, 255))
    try:
        notes = {}
        ratings = parse_ratings(bytes(content), PATH, notes)
    except InputError:
        return
    for rating in ratings.values():
        # A vote may be lost with a note (a rater's line that became a comment), never gained.
        assert sum(rating.votes_external) + sum(rating.votes_self) <= 3
        assert rating.votes_external == votes(neutral=2, angry=1) or notes or sum(rating.votes_self)
