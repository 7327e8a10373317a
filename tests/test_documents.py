"""What the documents say is so: commands parse, links and tests exist, numbers and pictures are of saved results."""

import argparse
import ast
import doctest
import importlib
import re
import shlex
import sys
import tomllib

import numpy as np
import pytest
import soundfile
from conftest import ROOT, run_script

import reproduce
import train
from data.labels import EMOTIONS
from experiments.catalogue import CONTENT, EXPERIMENTS
from experiments.markdown import END
from experiments.pictures import documents, pictures, with_numbers
from experiments.tables import BEGIN, rows_table
from settings import Settings
from storage.files import InputError
from systems import names, system_of

PAGES = [*documents(), ROOT / "data" / "README.md", ROOT / "results" / "README.md"]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
README = TEXTS["README.md"]
TABLES = {"README.md", "results/README.md"}  # of these the tables are written, not said


def without_code(text):
    """The text without blocks of code, comments, and what stands between backticks."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    text = re.sub(r"^    .*$", "", text, flags=re.M)
    return re.sub(r"`[^`]*`", "CODE", text)


def commands(text):
    """The command lines of a page, in blocks and between backticks, without comments and with their breaks joined."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.S | re.M) + re.findall(r"(?:^    .*\n)+", text, re.M)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    lines = [" ".join(re.split(r"\s+#", line)[0].split()) for line in (*lines, *inline)]
    return [line for line in dict.fromkeys(lines) if re.match(r"([A-Z_]+=\S+ )?(python|make) ", line)]


class Parsed(Exception):
    """The command line is understood, and nothing else shall happen."""


def check_python(words, monkeypatch):
    """The options of a script exist and have such values; of reproduce.py, they can be combined too."""
    name, arguments = (words[1], words[2:]) if words[0] == "-m" else (words[0].removesuffix(".py"), words[1:])
    if name == "reproduce":
        reproduce.parse_arguments(arguments)
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_alone(self, *args, **kwargs):
        parse(self, *args, **kwargs)
        raise Parsed

    with monkeypatch.context() as patched, pytest.raises(Parsed):
        patched.setattr(argparse.ArgumentParser, "parse_args", parse_alone)
        patched.setattr(sys, "argv", [name, *arguments])
        importlib.import_module(name).main()


@pytest.mark.parametrize("page", TEXTS)
def test_commands_exist(page, monkeypatch):
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.M))
    for command in commands(TEXTS[page]):
        words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
        try:
            if words[0] == "make":
                assert set(words[1:]) <= targets, command
            else:
                check_python(words[1:], monkeypatch)
        except SystemExit as error:
            assert error.code == 0, f"{page}: {command}"  # --help


def test_commands_are_found():
    page = (
        "    python a.py x \\\n        --y 1   # why\n\n`python -m\nb --c`, `make d E=1`, make up\n```\nmake f\n```\n"
    )
    assert commands(page) == ["make f", "python a.py x --y 1", "python -m b --c", "make d E=1"]
    assert sum(len(commands(text)) for text in TEXTS.values()) > 50


def slug(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    for place, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", TEXTS[page]):
        if not place.startswith(("http:", "https:")):
            target = (ROOT / page).parent / "".join(place.split()) if place else ROOT / page
            assert target.exists(), f"{page}: {place}"
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M) if anchor else []
            assert not anchor or anchor in map(slug, headings), f"{page}: {place}#{anchor}"


@pytest.mark.parametrize("page", TEXTS)
def test_files_and_tests_that_are_named_exist(page):
    """What looks like a path of the project between backticks, and, behind `::`, a function of that file."""
    folders = "|".join(
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "runs"))
    )
    for path, test in re.findall(rf"`((?:{folders})/[\w./-]*)(?:::(\w+))?`", TEXTS[page]):
        assert (ROOT / path).exists() or path.startswith("checkpoints/mine"), f"{page}: {path}"
        assert not test or f"\ndef {test}(" in (ROOT / path).read_text(), f"{page}: {path}::{test}"


def test_readme_is_short():
    words = re.sub(r"<!--.*?-->", "", README, flags=re.S).split()
    assert len(words) <= 900


@pytest.mark.parametrize("page", sorted(set(TEXTS) - TABLES | {"README.md"}))
def test_sentences_are_plain(page):
    """No sentence has two semicolons; a cell of a table and an item of a list end a sentence."""
    text = without_code(TEXTS[page])
    for sentence in re.split(r"(?<=[.!?])\s|\n\s*\n|\||\n\s*(?:- |\d+\. )", text):
        assert sentence.count(";") < 2, f"{page}: {' '.join(sentence.split())}"


def test_pictures_and_numbers_are_those_of_the_results():
    """Else: python -m experiments.tables, python -m experiments.pictures."""
    for name, svg in pictures().items():
        assert (ROOT / "docs" / f"{name}.svg").read_text(encoding="utf-8") == svg
    for page in documents():
        text = page.read_text(encoding="utf-8")
        assert with_numbers(text, page) == text, page
    table = README.partition(BEGIN)[2].partition(END)[0]
    assert table.strip() == rows_table(ROOT / "results", CONTENT["rows"]["readme"])
    assert rows_table(ROOT / "results", CONTENT["rows"]["index"]) in TEXTS["results/README.md"]


def test_a_number_follows_its_source(tmp_path):
    page = tmp_path / "page.md"
    text = "It is 1.00<!-- table3 / T+A / accuracy / paper -->, and -9.9<!-- table3 /\nT / accuracy / paper --> points."
    assert with_numbers(text, page) == text.replace("1.00", "51.60").replace("-9.9", "+43.8")
    wrong = [f"checkpoints/iemocap-released/results.json / {keys}" for keys in ("no", "agreement.no.x", "seed.x.y")]
    for source in ("table3 / no such / accuracy / mean", "README.json / a", "results/table3.md", *wrong):
        with pytest.raises(InputError, match="page.md: the source '.*' of 987654.3 is not there"):
            with_numbers(f"987654.3<!-- {source} -->", page)


@pytest.mark.parametrize("module", ["data.reading", "data.text", "prediction.page"])
def test_examples_of_docstrings(module):
    tried = doctest.testmod(importlib.import_module(module))
    assert tried.attempted and not tried.failed


def test_every_package_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    names = {re.match(r"[\w-]+", need)[0] for need in needs if not need.startswith(("nvidia", "tensorflow["))}
    assert names <= set(re.findall(r"[\w-]+", TEXTS["docs/environment.md"].partition("## What each package")[2]))


def test_the_defaults_of_our_system_are_those_of_the_code():
    """And `train.py --help` names the variants that have their own."""
    rows = re.findall(r"^\| `--([\w-]+)` \| (\S+) \| (\S+) \|$", TEXTS["docs/causal.md"], re.M)
    told = {name.replace("-", "_"): (ours, papers) for name, ours, papers in rows}
    papers = Settings()
    for variant in [name for name in names() if system_of(name).defaults]:
        defaults = system_of(variant).defaults
        assert told == {name: (str(value), str(getattr(papers, name))) for name, value in defaults.items()}
        assert variant in train.command_line().format_help().partition("\nsettings:")[2].partition("--")[0]


def test_every_experiment_is_explained():
    table = TEXTS["docs/reproducing.md"].partition("## Every table")[2].partition("\n##")[0]
    named = re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M)))
    assert sorted(named) == sorted(EXPERIMENTS)


@pytest.mark.parametrize("checkpoint", ["iemocap-causal", "iemocap-released"])
def test_the_example_of_the_readme(checkpoint, tmp_path):
    """The very lines of the README, with two made-up sounds in a folder that sees the project."""
    lines = README.partition("From sounds and words to vote shares:")[2].partition("`shares` is")[0].splitlines()
    code = "\n".join(line.removeprefix("    ") for line in lines)
    assert len([line for line in code.splitlines() if line.strip()]) < 10
    assert "checkpoints/iemocap-causal" in code
    code = code.replace("iemocap-causal", checkpoint)
    for number, name in enumerate(("hello.wav", "well.wav"), 1):
        time_s = np.arange(16000 * number) / 16000
        soundfile.write(tmp_path / name, 0.3 * np.sin(2 * np.pi * 150 * number * time_s) * np.sin(6 * time_s), 16000)
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    (tmp_path / "example.py").write_text(code)
    # The README's own checkpoint in a Python that is started for it, the other in one that has the packages loaded.
    where = {"env": {"PYTHONPATH": str(ROOT)}} if checkpoint == "iemocap-causal" else {"path": ROOT}
    done = run_script("example.py", cwd=tmp_path, **where)
    assert done.returncode == 0, done.stderr
    shares = ast.literal_eval(done.stdout.splitlines()[-1])
    # The answers of a regression, unlike those of a softmax, need not sum to one.
    assert tuple(shares) == EMOTIONS and abs(sum(shares.values()) - 1) < (0.06 if "causal" in checkpoint else 0.25)
