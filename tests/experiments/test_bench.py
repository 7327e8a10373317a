"""The benchmark: a part as its user runs it, and the published table against the saved measurements."""

import json

from conftest import ROOT, run_script

from benchmarks import parts
from benchmarks.bench import BEGIN, MORE_PARTS, PARTS, ROWS, main_table, page
from benchmarks.parts import contexts, lengths, token_ids
from experiments.markdown import END


def test_one_part_measures_and_is_written(tmp_path):
    done = run_script("-m", "benchmarks.bench", "--parts", "evaluation-causal", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())["evaluation-causal"]
    assert found["utterances"] == 2103 and 0 < found["again_s"] < found["first_s"] and found["peak_memory_mib"] > 100
    assert f"{found['first_s']:.1f} s" in (tmp_path / "RESULTS.md").read_text()


def test_published_table_is_that_of_the_saved_measurements():
    known = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    assert (ROOT / "benchmarks" / "RESULTS.md").read_text() == page(known)
    page_for_people = (ROOT / "docs" / "speed.md").read_text()
    table = page_for_people.partition(BEGIN)[2].partition(END)[0]
    assert table.strip().endswith(main_table(known))


def test_every_part_has_its_function_and_rows():
    assert all(callable(getattr(parts, part.replace("-", "_"))) for part in PARTS + MORE_PARTS)
    assert {part for _, part, _, _ in ROWS} | {"context-length"} == set(PARTS + MORE_PARTS)


def test_lengths_are_iemocaps():
    """The published totals of utterances, and 200-wide contexts that grow by a row within a dialog."""
    sizes = {session: sum(dialogs) for session, dialogs in lengths()["dialogs"].items()}
    assert sizes["1"] + sizes["2"] + sizes["5"] == 5800 and (sizes["3"], sizes["4"]) == (2136, 2103)
    audio, text = contexts(["4"])
    assert [len(rows) for rows in audio] == [len(rows) for rows in text] and len(audio) == 2103
    assert max(map(len, audio)) == 167 and [len(rows) for rows in audio[:3]] == [1, 2, 3]
    ids = token_ids()
    assert ids.shape == (5800, 50) and ((ids > 0).sum(axis=1) >= 1).all()
