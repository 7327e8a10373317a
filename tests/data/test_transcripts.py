"""Transcripts as people have them: each form gives the same conversation, each oddity a note, each fault one line."""

import dataclasses
import json
import re

import pytest
from cues import clock, read
from hypothesis import given
from hypothesis import strategies as st
from pympi import Eaf, TextGrid

from data.pieces import WHOLE_NUMBERS
from data.transcripts import SUFFIXES, read_transcript
from storage.files import InputError

# (start s, end s, speaker, words) of the conversation that all forms hold
TALK = ((0.5, 1.25, "Ann", 'Hello "you" & <b>me</b>!'), (1.5, 2.0, "Bob", "Grüße: 12 € 好"), (3.0, 4.5, "Ann", "Bye."))


def escaped(words):
    return words.replace("&", "&amp;").replace("<", "&lt;")


def as_textgrid(mode):
    def write(path):
        grid = TextGrid(xmax=10)
        for name in ("Ann", "Bob"):
            tier = grid.add_tier(name)
            for start_s, end_s, speaker, words in TALK:
                if speaker == name:
                    tier.add_interval(start_s, end_s, words)
        grid.to_file(path, mode=mode)
        if mode == "normal":  # as Praat saves what is not ASCII
            path.write_bytes(path.read_text("utf-8").encode("utf-16"))

    return write


def as_eaf(path):
    elan = Eaf()
    elan.add_linguistic_type("child", constraints="Symbolic_Association", timealignable=False)
    for tier, name in (("A", "Ann"), ("Bob", None)):
        elan.add_tier(tier, part=name)
    for start_s, end_s, speaker, words in TALK:
        elan.add_annotation("A" if speaker == "Ann" else "Bob", round(1000 * start_s), round(1000 * end_s), words)
    elan.add_tier("German", "child", "Bob")
    elan.add_ref_annotation("German", "Bob", 1700, "nicht zu lesen")
    elan.to_file(path)


def text(build):
    return lambda path: path.write_text(build(), encoding="utf-8")


def segments(**more):
    return [{"start": a, "end": b, "speaker": who, "text": f" {words}", **more} for a, b, who, words in TALK]


FORMS = {
    "voices.vtt": text(
        lambda: (
            "WEBVTT - talk\n\nNOTE made up\n\n"
            + "\n\n".join(
                f"{n}\n{clock(a, '.')} --> {clock(b, '.')} align:start\n<v.loud {who}>{escaped(words)}</v>"
                for n, (a, b, who, words) in enumerate(TALK)
            )
        )
    ),
    "names.vtt": text(
        lambda: (
            "WEBVTT\n\n"
            + "\n\n".join(f"{clock(a, '.')[3:]} --> {clock(b, '.')[3:]}\n{who}: {escaped(w)}" for a, b, who, w in TALK)
        )
    ),
    "names.srt": lambda path: path.write_bytes(
        b"\xef\xbb\xbf"
        + "\r\n\r\n".join(
            f"{n}\r\n{clock(a, ',')} --> {clock(b, ',')}\r\n[{who}]: {escaped(words)}"
            for n, (a, b, who, words) in enumerate(TALK, 1)
        ).encode()
    ),
    "whisperx.json": text(lambda: json.dumps({"segments": segments(), "language": "en", "word_segments": []})),
    "list.json": text(lambda: json.dumps(segments(words=[]))),
    "praat.TextGrid": as_textgrid("normal"),
    "short.TextGrid": as_textgrid("short"),
    "binary.textgrid": as_textgrid("binary"),
    "elan.eaf": as_eaf,
    "chat.cha": text(
        lambda: (
            "@UTF8\n@Begin\n@Participants:\tANN Ann Adult, BOB Bob Adult\n"
            + "".join(
                f"*{who.upper()}:\t{words} \x15{1000 * a:.0f}_{1000 * b:.0f}\x15\n%com:\tnot said\n"
                for a, b, who, words in TALK
            ).replace("<b>me</b>", "<b> [/] me</b>")
            + "@End\n"
        )
    ),
    "plain.csv": text(
        lambda: (
            "start,end,speaker,text\n"
            + "".join(f'{a},{b},{who},"{words.replace(chr(34), 2 * chr(34))}"\n' for a, b, who, words in TALK)
        )
    ),
    "prepared.csv": text(
        lambda: (
            "dialog,utterance,start_s,end_s,speaker,transcript,split,vote:a\n"
            + "".join(
                f'd,u{n},{a},{b},{who},"{words.replace(chr(34), 2 * chr(34))}",test,sad\n'
                for n, (a, b, who, words) in enumerate(TALK)
            )
        )
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_conversation(name, tmp_path):
    FORMS[name](tmp_path / name)
    utterances, notes = read_transcript(tmp_path / name)
    found = [(one.start_s, one.end_s, one.speaker, one.transcript) for one in utterances]
    wanted = [list(one) for one in TALK]
    if name == "chat.cha":  # where <> groups words, and a colon lengthens them
        wanted[0][3], wanted[1][3] = 'Hello "you" & b me/b!', "Grüße 12 € 好"
    assert found == [tuple(one) for one in wanted]
    assert len({one.utterance_id for one in utterances}) == 3
    assert all("refers to another" in note for note in notes) and bool(notes) == (name == "elan.eaf")


def words(*timed):
    """whisper's words with leading spaces, of (word, start, end, speaker)."""
    return [
        {"word": f" {word}"} | {k: v for k, v in zip(("start", "end", "speaker"), rest, strict=False) if v is not None}
        for word, *rest in timed
    ]


def test_words_are_cut_at_pauses_sentence_ends_and_speakers(tmp_path):
    said = words(
        ("Hello", 0.0, 0.4), ("Mr.", 0.4, 0.5), ("p.m.", 0.5, 0.6), ("U.S.", 0.6, 0.9), ("so...", 0.9, 1.1),
        ("yes.", 1.1, 1.5), ("In", 1.5, 1.6), ("2014", None), ("then", 2.0, 2.2), ("well", 3.0, 3.1),
        ("no", 3.2, 3.4, "S1"),
    )  # fmt: skip
    segment = {"start": 0.0, "end": 3.4, "text": " ".join(one["word"] for one in said), "words": said, "speaker": "S0"}
    found, _ = read(tmp_path / "talk.json", json.dumps({"segments": [segment]}))
    assert found == [
        (0.0, 1.5, "S0", "Hello Mr. p.m. U.S. so... yes."),
        (1.5, 2.2, "S0", "In 2014 then"),
        (3.0, 3.1, "S0", "well"),
        (3.2, 3.4, "S1", "no"),
    ]
    # words without spaces stay together where the segment has none
    segment = {"start": 0, "end": 2, "text": "好吗", "words": [{"word": one, "start": 0, "end": 1} for one in "好吗"]}
    assert read(tmp_path / "cn.json", json.dumps([segment]))[0] == [(0, 1, "Speaker", "好吗")]
    # a segment without words stays whole, and touching ones of a speaker are not joined; cpp: milliseconds
    cpp = [{"offsets": {"from": n * 1000, "to": n * 1000 + 1000}, "text": " One. Two."} for n in (0, 1)]
    found, notes = read(tmp_path / "cpp.json", json.dumps({"transcription": cpp}))
    assert found == [(0, 1, "Speaker", "One. Two."), (1, 2, "Speaker", "One. Two.")]
    assert list(notes) == ["no speakers are named: all of it is taken for one speaker"]
    grid = TextGrid(xmax=9)
    tier = grid.add_tier("Ann - words")
    for start_s, end_s, word in ((0, 1, "so"), (1.2, 2, "what"), (4, 5, "now")):
        tier.add_interval(start_s, end_s, word)
    grid.add_tier("Ann - phones").add_interval(0, 1, "S")
    grid.to_file(tmp_path / "aligned.TextGrid")
    utterances, _ = read_transcript(tmp_path / "aligned.TextGrid")
    assert [(one.start_s, one.end_s, one.speaker, one.transcript) for one in utterances] == [
        (0, 2, "Ann", "so what"),
        (4, 5, "Ann", "now"),
    ]


def test_names_of_utterances_stay_where_speakers_stand_in_the_texts(tmp_path):
    (tmp_path / "named.csv").write_text("start,end,utterance,text\n0,1,first,Ann: Hi.\n1,2,second,Bob: So.\n")
    utterances, _ = read_transcript(tmp_path / "named.csv")
    found = [(one.utterance_id, one.speaker, one.transcript) for one in utterances]
    assert found == [("first", "Ann", "Hi."), ("second", "Bob", "So.")]


def test_oddities_are_named_with_their_utterances(tmp_path):
    found, notes = read(
        tmp_path / "talk.vtt",
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v Ann>one <v Bob>two two\n\n00:00:03.000 --> 00:00:02.500\nthree\n\n"
        "00:00:04.000 --> 00:00:05.000\n\n0:x --> 00:07.000\nlost\n",
    )
    assert [one[2:] for one in found] == [("Ann", "one"), ("Bob", "two two"), ("Bob", "three"), ("Bob", "")]
    assert found[0][1] == found[1][0] == 1.3 and found[2][:2] == (3, 3)
    assert notes == {
        "cues that are empty, or have times that cannot be read, are left out: 1": [],
        "no speaker is named: taken for the one before": ["0003", "0004"],
        "the end is before the start: taken for one without sound": ["0003"],
    }
    # live captions say each line twice
    rolling = (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n \nso<00:00:00.500><c> today</c>\n\n00:00:02.000 --> 00:00:02.010\n"
        "so today\n \n\n00:00:02.010 --> 00:00:04.000\nso today\nwe<00:00:02.500><c> go</c>\n"
    )
    assert [one[3] for one in read(tmp_path / "live.vtt", rolling)[0]] == ["so today", "we go"]
    # a word with a colon is a name where it comes back
    cues = ("Ann: Hi", "and on", "Remember: this", "no", "Ann: Bye", "12:30 it is", "http://x", "he said: no")
    srt = "\n\n".join(f"{n}\n{clock(n, ',')} --> {clock(n + 1, ',')}\n{cue}" for n, cue in enumerate(cues, 1))
    assert [one[2:] for one in read(tmp_path / "colon.srt", srt)[0]][:5] == [
        ("Ann", "Hi"), ("Ann", "and on"), ("Ann", "Remember: this"), ("Ann", "no"), ("Ann", "Bye"),
    ]  # fmt: skip
    # labels of calls, and names with what stands beside them, where most texts begin with one and one comes back
    for cues, wanted in (
        (("agent: Hi", "client: Yes", "agent: So", "client: No", "well"), ["agent", "client"] * 2 + ["client"]),
        (
            ("Ann Lee: A", "Maria de Souza: B", "Ann Lee: C", "Bob (he/him): D", "john: E"),
            ["Ann Lee", "Maria de Souza", "Ann Lee", "Bob", "Bob"],
        ),
        (
            ("Speaker (1): A", "Speaker (2): B", "Speaker (1): C", "d"),
            ["Speaker (1)", "Speaker (2)"] + ["Speaker (1)"] * 2,
        ),
        (("JOHN: A", "MARY (V.O.): B", "JOHN (O.S.) (CONT'D): C", "MARY (Cont'd): D"), ["JOHN", "MARY"] * 2),
        (("agent: A", "agent: B"), ["agent"] * 2),
        (("Ann: I told him", "this: never again", "Bob: what", "Ann: yes"), ["Ann", "Ann", "Bob", "Ann"]),
        (("so: a", "yes", "so: b", "no"), ["Speaker"] * 4),
        (("wait: what", "so", "note: it", "no", "yes"), ["Speaker"] * 5),
    ):
        srt = "\n\n".join(f"{n}\n{clock(n, ',')} --> {clock(n + 1, ',')}\n{cue}" for n, cue in enumerate(cues, 1))
        assert [one[2] for one in read(tmp_path / "labels.srt", srt)[0]] == wanted
    # whisper.cpp says who speaks on which channel, and whisper's tables quote nothing
    spoken = [{"offsets": {"from": n, "to": n + 1}, "text": " Yes.", "speaker": one} for n, one in enumerate("01?")]
    found, _ = read(tmp_path / "cpp.json", json.dumps({"transcription": spoken}))
    assert [one[2] for one in found] == ["0", "1", "1"]
    found, _ = read(tmp_path / "quotes.tsv", 'start\tend\ttext\n0\t1000\t"I said\n1000\t2000\tno."\n')
    assert [one[3] for one in found] == ['"I said', 'no."']
    for times, said in (("0.5\t1.5", 'He said ""hi""'), ("500\t1500", 'He said ""hi""'), ("500\t1500", "He\nsaid")):
        found, _ = read(tmp_path / "frame.tsv", f'start\tend\ttext\n{times}\t"{said}"\n')  # as another program has it
        assert [one[3] for one in found] == [said.replace('""', '"').replace("\n", " ")]
    assert read(tmp_path / "comma.csv", "start;end;text\n00:12,5;0:13,75;a\n")[0] == [(12.5, 13.75, "Speaker", "a")]
    # a start that programs write for 0, and one that is no time
    for name in ("praat.TextGrid", "short.TextGrid"):
        FORMS[name](tmp_path / name)
        grid = (tmp_path / name).read_bytes().decode("utf-16" if name[0] == "p" else "utf-8")
        before = "xmin = " if name[0] == "p" else '""\n'
        assert f"{before}0.500000" in grid
        for start, start_s in (("1.3877787807814457e-17", 0), ("-1e-17", 0), ("5E-1", 0.5), ("-0.5", None)):
            (tmp_path / name).write_text(grid.replace(f"{before}0.500000", f"{before}{start}", 1), "utf-8")
            if start_s is not None:
                assert read_transcript(tmp_path / name)[0][0].start_s == start_s
                continue
            with pytest.raises(InputError, match=f"{name}, line [0-9]+: -0.5 is no time in a recording"):
                read_transcript(tmp_path / name)
        lines = grid.replace('"Bye."', '"and\n-5\nabout 1e5\n-1.2.3 -...\n""yes"""').replace("4.500000", "45e-1")
        (tmp_path / name).write_bytes(lines.replace("\n", "\r\n").encode())
        last = read_transcript(tmp_path / name)[0][-1]
        assert (last.end_s, last.transcript) == (4.5, 'and -5 about 1e5 -1.2.3 -... "yes"')
    # of whisper's tables the whole numbers alone are milliseconds
    found = [read(tmp_path / "w.tsv", f"start\tend\ttext\n{times}\ta\n")[0] for times in ("500\t1500", "0:01\t0:02")]
    assert [one[0][:2] for one in found] == [(0.5, 1.5), (1, 2)]
    found, notes = read(tmp_path / "ends.csv", "start,speaker,text\n0:01,Ann,a\n3,,b\n")
    assert found == [(1, 3, "Ann", "a"), (3, 3, "Ann", "b")] and len(notes) == 2
    found, notes = read(
        tmp_path / "marks.cha",
        "*CHI:\tmore &-uh <cook> [//] cook(ie)s@c (.) 0v xxx &=laughs +... \x150_1500\x15\n"
        "*MOT:\twanna [: want to] no: ?\n\t\x151500_3000\x15\n*MOT:\txxx .\n",
    )
    assert [one[3] for one in found] == ["more uh cook cookies [laughs]", "wanna no?", ""] and found[2][:2] == (3, 3)


def tiers(path, **intervals):
    """What is read of a TextGrid with these tiers, by time: [(start s, speaker, words)], notes."""
    grid = TextGrid(xmax=9)
    for name, ones in intervals.items():
        tier = grid.add_tier(name)
        for one in ones:
            tier.add_interval(*one)
    grid.to_file(path / "tiers.TextGrid")
    utterances, notes = read_transcript(path / "tiers.TextGrid")
    return [(one.start_s, one.speaker, one.transcript) for one in utterances], list(notes)


def test_a_speakers_words_are_not_read_beside_the_sentences(tmp_path):
    words = ((0, 1, "so"), (1, 2, "what"))
    for name, speaker in (("Ann - utterances", "Ann"), ("Ann", "Ann"), ("sentence", "sentence"), ("Ann/IPUs", "Ann")):
        found, notes = tiers(
            tmp_path, **{name: ((0, 2, "So, what?"),), "Ann - words": words, "Ann - phones": words[:1]}
        )
        assert found == [(0, speaker, "So, what?")]
        assert "tier 'Ann - words' holds the words of another tier, and is left out" in notes
    # other tiers do not have them, not then, or not in words
    for name, other in (("emotion", (0, 2, "angry")), ("Ann", (5, 6, "so what")), ("Bob", (5, 6, "so"))):
        found, notes = tiers(tmp_path, **{name: (other,), "words": words})
        assert sorted(found) == sorted([(0, "words", "so what"), (other[0], name, other[2])]) and not any(
            "another tier" in note for note in notes
        )


def test_what_is_not_read_is_said(tmp_path):
    """Columns of other names, lines without a colon, an offset; what is not needed harms nothing."""
    found, notes = read(tmp_path / "de.csv", "Start;Ende;Sprecher;Text;wav\n0,5;1,5;Ann;Hi;a\n2;4;Bob;Yo;a\n")
    assert "columns that are not read: Ende, Sprecher" in notes and found[0][:2] == (0.5, 2)
    assert read(tmp_path / "long.csv", "start,duration,text\n1.5,2,Hi\n")[0][0][:2] == (1.5, 3.5)
    assert read(tmp_path / "both.csv", "start,end,duration,text\n1.5,2,n/a,Hi\n")[0][0][:2] == (1.5, 2)
    found, notes = read(
        tmp_path / "lines.cha",
        "*INV-1:\thow are you ? \x150_1\x15\n*INV:what ? \x151_2\x15\n*INV lost\n*CHI:\t0 [=! cries] &=sobs . "
        "\x152_3\x15\n"
        "*CHI:\ta::h we::ll °yes° ∙hh &{l=laughs no &}l=laughs 007 at 20° 0is . \x153_4\x15\n",
    )
    assert [one[2:] for one in found] == [
        ("INV-1", "how are you?"), ("INV", "what?"), ("CHI", "[sobs]."), ("CHI", "ah well yes no 007 at 20°."),
    ]  # fmt: skip
    assert "1 of the lines begin with * and name no speaker with a colon: left out" in notes
    as_eaf(tmp_path / "offset.eaf")
    elan = Eaf(tmp_path / "offset.eaf")
    elan.add_linked_file("talk.wav", mimetype="audio/x-wav", time_origin=5000)
    elan.to_file(tmp_path / "offset.eaf")
    assert any("at 5000 ms of its own time" in note for note in read_transcript(tmp_path / "offset.eaf")[1])
    # what is not UTF-8, words of nobody beside another tier, a start that a recogniser has rounded
    utf8 = (tmp_path / "offset.eaf").read_text(encoding="utf-8")
    (tmp_path / "utf16.eaf").write_text(re.sub("(?i)utf-8", "UTF-16", utf8, count=1), encoding="utf-16")
    as_read = [dataclasses.astuple(read_transcript(tmp_path / name)[0][0])[2:] for name in ("utf16.eaf", "offset.eaf")]
    assert as_read[0] == as_read[1]
    grid = TextGrid(xmax=9)
    for name, text in (("emotion", "glad"), ("words", "hello")):
        grid.add_tier(name).add_interval(*((0, 5) if name == "emotion" else (1, 2)), text)
    grid.to_file(tmp_path / "tiers.TextGrid")
    assert [one.speaker for one in read_transcript(tmp_path / "tiers.TextGrid")[0]] == ["emotion", "words"]
    found, notes = read(tmp_path / "round.json", '[{"start": -0.02, "end": 1, "text": "hi"}]')
    assert found[0][:2] == (0, 1) and notes["starts before the recording: taken to start with it"] == ["0001"]
    left_out = "no utterance in it; cues that are empty, or have times that cannot be read, are left out: 1"
    with pytest.raises(InputError, match=left_out):
        read(tmp_path / "frames.srt", "1\n00:00:00:10 --> 00:00:01:00\nhi\n")


FAULTS = {
    "no.txt": ("hello", "must end with .eaf, .textgrid"),
    "no.vtt": ("hello", "not VTT subtitles"),
    "empty.vtt": ("WEBVTT\n", "no utterance in it"),
    "cut.json": ('{"segments": [\n', "line 2: not JSON"),
    "other.json": ('{"text": "hi"}', "no segments in it"),
    "type.json": ('[{"start": "0", "end": 1}]', "segment 0.start: must be a valid number"),
    "deep.json": ("[" * 100_000, "cannot be read"),
    "ours.json": ('{"format": "mcaf-prediction"}', "what predict.py wrote"),
    "no.TextGrid": ("hello", "open it in Praat"),
    "no.eaf": ("<x>", "open it in ELAN"),
    "no.cha": ("*CHI:\thello .\n", "no utterance has times"),
    "no.csv": ("a,b\n1,2\n", "no column start_s"),
    "time.csv": ("start,text\nsoon,hi\n", "line 2: 'soon' is no time"),
    "two.csv": ("dialog,start,text\na,1,hi\nb,2,ho\n", "holds 2 dialogs"),
    "late.csv": ("start,end,text\n0,1,hi\n1e300,2e300,ho\n", "utterance 0002 starts at 1e+300 s"),
    "end.csv": ("start,end,text\n0,1e9,hi\n", "ends at 1000000000.0 s"),
    "silent.json": ('[{"start": 0, "end": 1, "content": "hi"}]', "segment 0: it has no text"),
    "empty.srt": ("", "empty; expected a .srt transcript"),
    "pointer.json": ("version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
    "page.eaf": ("<!doctype html><html></html>", "a web page"),
    "rich.vtt": ("{\\rtf1 hello}", "an RTF document"),
    "early.json": ('[{"start": -1, "end": 1, "text": "hi"}]', "starts at -1.0 s"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_transcript_is_refused_in_one_line(name, tmp_path):
    content, said = FAULTS[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r".") as error:
        read_transcript(tmp_path / name)
    assert said in str(error.value) and name in str(error.value) and "\n" not in str(error.value)


def test_words_of_json_without_a_text(tmp_path):
    """whisperX's list of words alone, and a segment that has no more than its words."""
    words = [{"word": "Hi", "start": 0.0, "end": 0.4}, {"word": "there.", "start": 0.5, "end": 0.8}]
    (tmp_path / "words.json").write_text(json.dumps(words))
    (tmp_path / "segments.json").write_text(json.dumps([{"start": 0.0, "end": 0.8, "words": [{"word": "Hi there."}]}]))
    for name in ("words.json", "segments.json"):
        found, _ = read_transcript(tmp_path / name)
        assert [(one.start_s, one.end_s, one.transcript) for one in found] == [(0.0, 0.8, "Hi there.")]


@pytest.mark.parametrize(
    "name, content, whole",
    [
        ("a.csv", "start,end,text\n0,5,hi\n", True),
        ("a.csv", "start,end,text\n0:00:00,0:00:05,hi\n", False),
        ("a.csv", "start,end,text\n0,5.5,hi\n", False),
        ("a.tsv", "start\tend\ttext\n0\t5000\thi\n", False),
        ("a.json", '[{"start": 0, "end": 5, "text": "hi"}]', True),
        ("a.json", '{"transcription": [{"offsets": {"from": 0, "to": 5000}, "text": "hi"}]}', False),
    ],
)
def test_bare_whole_numbers_are_noted(name, content, whole, tmp_path):
    """For those who know the recording: they may be milliseconds. Clocks, and what was divided already, are not."""
    (tmp_path / name).write_text(content)
    utterances, notes = read_transcript(tmp_path / name)
    assert utterances[0].end_s in (5, 5.5) and (WHOLE_NUMBERS in notes) == whole


def test_untimed_lines_of_chat_keep_their_place(tmp_path):
    lines = ["*ANN:\tfirst . \x150_5000\x15", "*BOB:\tsecond .", "*ANN:\tthird . \x154500_7000\x15"]
    lines += ["*BOB:\tfourth .", "*BOB:\tfifth .", "*BOB:\tsixth . \x156000_8000\x15", "*ANN:\tseventh ."]
    found, _ = read(tmp_path / "talk.cha", "\n".join(lines))
    said = [(one[0], one[3].strip(" .")) for one in found]
    assert said[:4] == [(0, "first"), (4.5, "second"), (4.5, "third"), (6, "fourth")]
    assert said[4:] == [(6, "fifth"), (6, "sixth"), (8, "seventh")]


@pytest.mark.fuzz
@given(st.sampled_from(SUFFIXES), st.binary(max_size=60), st.integers(0, 400), st.sampled_from(sorted(FORMS)))
def test_damaged_transcripts_are_read_or_refused(tmp_path_factory, suffix, junk, place, form):
    path = tmp_path_factory.mktemp("fuzz") / f"talk{suffix}"
    if form.lower().endswith(suffix):  # a good file with junk in it, else junk alone
        FORMS[form](path)
        content = path.read_bytes()
        junk = content[:place] + junk + content[place + len(junk) :]
    path.write_bytes(junk)
    try:
        utterances, _ = read_transcript(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(0 <= one.start_s <= one.end_s and one.speaker and "\n" not in one.transcript for one in utterances)
