"""Finished tables in results/ and in README.md: gathered as they are, and all or nothing."""

import dataclasses

import pytest

from experiments.intervals import Row
from experiments.markdown import END
from experiments.tables import BEGIN, HERE, gather
from storage.files import InputError, write_csv


def test_tables_are_gathered(tmp_path):
    """The first folder that has a table gives it; what no folder has stays; the README's rows come from the CSV."""
    header = "system,score,paper,seeds,mean,sd,low,high"
    for folder, accuracy in (("a", "61.52"), ("b", "9")):
        (tmp_path / folder).mkdir()
        rows = [f"causal,{score},,5,{accuracy},0.71,56.1,65.0" for score in ("accuracy", "weighted F1")]
        (tmp_path / folder / "causal.csv").write_text("\n".join([header, *rows]))
        (tmp_path / folder / "causal.md").write_text(f"# Ours\n\n{accuracy}\n")
    rows = [f"T+A,{score},51.6,1,49.8,,45.0,54.0" for score in ("accuracy", "weighted F1")]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table3.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "results" / "table3.md").write_text("# Table 3\n")
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert gather([tmp_path / "a", tmp_path / "b"], tmp_path) == ["causal"]
    index = (tmp_path / "results" / "README.md").read_text()
    assert "- [Table 3](table3.md)" in index and "- [Ours](causal.md)" in index
    assert (tmp_path / "results" / "causal.md").read_text() == "# Ours\n\n61.52\n"
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n") and readme.endswith(f"{END}\nafter\n") and "old" not in readme
    cell = "– / **61.5** ± 0.7 [56.1, 65.0]"
    assert f"| **our causal system** | 5 | {cell} | {cell} |" in readme
    assert "| 1 | 51.6 / **49.8** [45.0, 54.0] |" in readme
    assert gather([tmp_path / "b"], tmp_path, "mini") == ["causal-mini"]  # beside the other one
    with pytest.raises(InputError, match="--suffix folds: causal-folds is another table"):
        gather([tmp_path / "b"], tmp_path, "folds")
    assert [(tmp_path / "results" / f"causal{end}.md").read_text()[-3:] for end in ("", "-mini")] == ["52\n", "\n9\n"]
    index = (tmp_path / "results" / "README.md").read_text()
    assert index.index("- [Ours](causal.md)") < index.index("- [Ours](causal-mini.md)")
    with pytest.raises(InputError, match="no table"):
        gather([tmp_path / "empty"], tmp_path)
    with pytest.raises(InputError, match="README.md: cannot be read"):
        gather([tmp_path / "a"], tmp_path / "b")
    assert not (tmp_path / "b" / "results").exists()
    (tmp_path / "a" / "causal.md").write_text("# Ours, on miniature (made up)\n")
    with pytest.raises(InputError, match="causal.md: is of a made-up corpus"):
        gather([tmp_path / "a"], HERE)


def test_a_damaged_table_is_named_and_nothing_is_gathered(tmp_path):
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    row = dict.fromkeys((field.name for field in dataclasses.fields(Row)), "") | {"system": "causal", "seeds": "5"}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "causal-folds.md").write_text("# Folds, on IEMOCAP, words through an encoder\n")
    for name, cells, said in (
        ("page alone", None, "causal.csv: cannot be read"),
        ("cell", {"mean": "6x"}, "line 2"),
        ("nan", {"mean": "nan"}, "line 2: .*mean is nan"),
        ("no seeds", {"mean": "60", "seeds": ""}, "line 2: .*a mean without its number of seeds"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "causal.md").write_text("# Ours\n")
        if cells:
            write_csv(folder / "causal.csv", list(row), [list((row | cells).values())])
        with pytest.raises(InputError, match=said):
            gather([folder], tmp_path)
    (folder / "causal.md").rename(folder / "causal-folds.md")
    (folder / "causal-folds.md").write_text("# Folds, on mine\n")
    with pytest.raises(InputError, match="causal-folds.md: is not of IEMOCAP, as .*; give another --suffix or --into"):
        gather([folder], tmp_path)
    with pytest.raises(InputError, match="nowhere: no table in there"):
        gather([folder, tmp_path / "nowhere"], tmp_path)
    (folder / "causal-folds.md").unlink()
    (folder / "table4.md").write_text("# Table 4\n")
    counts = [["fusion network", "many"], ["BC-LSTM on the same vectors", 1]]
    write_csv(folder / "table4.csv", ["", "FLOPs per sample, padding once"], counts)
    with pytest.raises(InputError, match="table4.csv: column 'FLOPs per sample, padding once' has no numbers"):
        gather([folder], tmp_path)  # only the verdicts read it, and nothing is written before
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["causal-folds.md"]
