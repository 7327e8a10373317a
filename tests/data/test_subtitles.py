"""Subtitles: captions that repeat lines, several speakers in a cue, and names in texts."""

from cues import read, said_in, subtitles


def test_captions_that_repeat_lines_are_read_once(tmp_path):
    """Rolled captions with and without times in them, and captions that mark word after word."""
    rolled = subtitles(
        (0, 2, "hi and welcome"), (2, 2.01, "hi and welcome\n "), (2.01, 4, "hi and welcome\nto the show"),
        (4, 4.01, "to the show\n "), (4.01, 6, "to the show\ntoday"), (6, 7, "today\nwe\nsing"),
        (7, 8, "we\nsing\nor not"),
    )  # fmt: skip
    found, notes = read(tmp_path / "rolled.srt", rolled)
    assert [(one[0], one[1], one[3]) for one in found] == [
        (0, 2.01, "hi and welcome"), (2.01, 4.01, "to the show"), (4.01, 6, "today"), (6, 7, "we sing"),
        (7, 8, "or not"),
    ]  # fmt: skip
    assert "7 lines repeat what was shown before, as in live captions: left out" in notes
    marked = [(n, n + 1, "a b c d".replace(now, f"<u>{now}</u>")) for n, now in enumerate("abcd")]
    found, _ = read(tmp_path / "marked.srt", subtitles(*marked))
    assert [(one[0], one[1], one[3]) for one in found] == [(0, 4, "a b c d")]
    timed = (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n \nno<00:00:00.500><c> no</c>\n\n"
        "00:00:02.000 --> 00:00:02.010\nno no\n \n\n00:00:02.010 --> 00:00:04.000\nno no\nno<00:00:02.500><c> no</c>\n"
    )
    assert [one[3] for one in read(tmp_path / "timed.vtt", timed)[0]] == [
        "no no",
        "no no",
    ]  # times in a line: it is new


def test_what_people_say_twice_is_there_twice(tmp_path):
    """By one speaker or several, on and on, with pauses or without."""
    for lines in (("Yes.",) * 5, ("Hello.", "- Yes?\n- Yes.", "- Yes.\n- No.", "- No.\n- Why?", "- Why?\n- So.", "Ok")):
        count = sum(1 + line.count("\n") for line in lines)
        assert len(said_in(tmp_path, *lines)) == count
    far = [(6 * n, 6 * n + 1, f"line {n}\nline {n + 1}") for n in range(9)]
    assert len(read(tmp_path / "far.srt", subtitles(*far))[0]) == 9
    voices = "WEBVTT\n\n" + "\n\n".join(
        f"00:00:0{n}.000 --> 00:00:0{n + 1}.000\n<v {who}>Are you {n}?\n<v Bob>Are you {n + 1}?"
        for n, who in enumerate(["Ann", "Bob"] * 3)
    )
    assert [one[2] for one in read(tmp_path / "voices.vtt", voices)[0]] == ["Ann", "Bob", "Bob", "Bob"] * 3


def test_several_speakers_in_a_cue_become_an_utterance_each(tmp_path):
    assert said_in(
        tmp_path, "Ann: Hey you\nBob: What", "Ann: So\nit goes: on", "- Go on!\n- No way.", ">> Bob: Well\n(coughs)",
        "Ann: That is?\n- Bob: Yes", "- Bob: Alone", "ANN:\nHello\nthere", "ANN:\nBye", "-¿Qué?\n-nada",
        "- so what\n- nothing", "[door slams]\nAnn: Oh",
    ) == [
        ("Ann", "Hey you"), ("Bob", "What"), ("Ann", "So it goes: on"), ("Ann", "Go on!"), ("Ann", "No way."),
        ("Bob", "Well [coughs]"), ("Ann", "That is?"), ("Bob", "Yes"), ("Bob", "Alone"), ("ANN", "Hello there"),
        ("ANN", "Bye"), ("ANN", "¿Qué?"), ("ANN", "nada"), ("ANN", "so what"), ("ANN", "nothing"),
        ("Ann", "[door slams] Oh"),
    ]  # fmt: skip
    found, _ = read(tmp_path / "share.srt", subtitles((0, 4, "Ann: abc\nAnn: d"), (4, 5, "Bob: e\nAnn: f")))
    assert [one[:2] for one in found] == [(0, 3), (3, 4), (4, 4.5), (4.5, 5)]  # by the length of their words
    assert (
        said_in(tmp_path, *("Ann: x\nBob: y",) * 3) == [("Ann", "x"), ("Bob", "y")] * 3
    )  # begins no cue, but comes back
    whole = (
        "he came\n– as ever – too late.", "I was thinking\n- well, you know -", "minus\n- 5", "to buy:\n- Milk\n- Eggs",
        "we met him\n(on Tuesday, not Monday)", "mother-\n-in-law", "well -", "- so",
    )  # fmt: skip
    assert said_in(tmp_path, *whole) == [("Speaker", line.replace("\n", " ")) for line in whole]  # dashes in sentences


def test_names_of_any_form_that_come_back_are_speakers(tmp_path):
    names = (
        "Smith, John",
        "jane doe",
        "Dr. Anna Maria Klein",
        "+49 151 1234",
        "J. Doe (ACME, Inc.)",
        "john's phone (2)",
    )
    assert said_in(tmp_path, *(f"{name}: hi" for name in names * 3)) == [(name, "hi") for name in names * 3]
    talk = ["Ann: t", "Bob: u"] * 4 + ["and he said: no"] * 2  # twice is no proof
    assert {speaker for speaker, _ in said_in(tmp_path, *talk)} == {"Ann", "Bob"}
    # but not what comes back among other lines
    talk = ["Ann: t", "more", "Bob: u"] * 4 + ["and then my boss said: go home", "I told him\nListen: stop"] * 2
    assert {speaker for speaker, _ in said_in(tmp_path, *talk)} == {"Ann", "Bob"}
    talk = ["so it is", "the question is: why", "I have one thing\nRemember: never", "at 5: go"] * 2
    assert {speaker for speaker, _ in said_in(tmp_path, *talk)} == {"Speaker"}
    assert said_in(tmp_path, "张三：你好", "李四：你好", "张三：<i>再见</i><br>好") == [
        ("张三", "你好"), ("李四", "你好"), ("张三", "再见 好"),
    ]  # fmt: skip
    # names in the texts of those that a column leaves without one: any, or those of the column
    table = "start,end,speaker,text\n0,1,,Ann: Hi\n1,2,,Bob: yo\n"
    assert [one[2:] for one in read(tmp_path / "empty.csv", table)[0]] == [("Ann", "Hi"), ("Bob", "yo")]
    table = "start,end,speaker,text\n0,1,Ann,Hi\n1,2,,Note: this\n2,3,,Note: that\n3,4,Bob,Ann: no\n4,5,,Ann: yo\n"
    assert [one[2:] for one in read(tmp_path / "some.csv", table)[0]] == [
        ("Ann", "Hi"), ("Ann", "Note: this"), ("Ann", "Note: that"), ("Bob", "Ann: no"), ("Ann", "yo"),
    ]  # fmt: skip


def test_words_behind_an_empty_line_belong_to_their_cue(tmp_path):
    """As in SRT; WebVTT itself would drop them. Comments, styles and numbers of cues are no words."""
    content = "WEBVTT - talk\n\nSTYLE\n::cue { color: red }\n\n00:01.000 --> 00:04.000\n\nAnn: hello\n \nmore words\n\n"
    content += "1984\n\nand more\n\nNOTE not said\n\nnor this\n\n2\n\n00:05.000 --> 00:06.000\nBob: well\n\n"
    content += "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\n\n00:07.000 --> 00:08.000\nBob: so\n"
    said = [(1, 4, "Ann", "hello more words 1984 and more"), (5, 6, "Bob", "well"), (7, 8, "Bob", "so")]
    assert read(tmp_path / "gaps.vtt", content)[0] == said
