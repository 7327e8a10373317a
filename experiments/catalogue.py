"""What can be reproduced, as experiments.toml has it: systems, the experiments made of them, the paper's peers."""

import dataclasses
import itertools
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class System:
    """What is trained with several seeds; experiments.toml says what the fields are."""

    name: str
    options: tuple
    branches: str | None
    quick: tuple
    keeps_epochs: bool = False


@dataclass(frozen=True)
class Line:
    """A row of a table: its name there, whose system it is, and which of the system's predictions ("": the answer)."""

    name: str
    system: System
    stage: str = ""


@dataclass(frozen=True)
class Experiment:
    """What one command makes.

    `lines` are the rows that are scored, `base` the name of the one that the others are compared with, `scores` a key
    of `intervals.SCORES`. `page` names the function of pages.py that writes its table, on the template `template`;
    `paper_of` the table of published.toml; `tables` the experiments whose tables it writes. `extras` is what it needs
    besides runs: "peers", "plain-peers", "costs", "figures", "epochs", and "meld" for that corpus. `scored` says
    whether the test session is scored. `rated` are further lines of --rates, None where that is not to be had.
    """

    name: str
    title: str
    help: str
    lines: tuple
    base: str | None = None
    scores: str = "groups"
    page: str = "scores_page"
    template: str = "scores"
    paper_of: str = ""
    tables: tuple = ()
    extras: tuple = ()
    scored: bool = True
    rated: tuple | None = None

    @property
    def systems(self):
        """{name: `System`}, in order of use."""
        return {line.system.name: line.system for line in self.lines}

    def at_rates(self, lines):
        """The experiment of --rates: these lines, at the rates that dev chose.

        Where lines are compared with a base, those at the paper's rate stand beside them.
        """
        two = {"page": "two_rates_page", "template": "two_rates"} if self.base else {}
        return dataclasses.replace(
            self,
            name=f"{self.name}-rates",
            title=f"{self.title}, the fusion at the learning rate that dev chose",
            lines=tuple(lines),
            tables=(f"{self.name}-rates",),
            rated=None,
            **two,
        )


CONTENT = tomllib.loads((Path(__file__).parent / "experiments.toml").read_text(encoding="utf-8"))


def _read(content):
    quick = {name: tuple(options.split()) for name, options in content["quick"].items()}
    systems = {
        name: System(
            name,
            tuple(one.get("options", "").split()),
            one.get("branches"),
            quick[one.get("quick", "paper")],
            one.get("keeps_epochs", False),
        )
        for name, one in content["systems"].items()
    }
    experiments = {}
    for name, one in content["experiments"].items():
        one = dict(one)
        for key in {"lines", "rated"} & set(one):
            one[key] = tuple(Line(line, systems[system], *stage) for line, system, *stage in one[key])
        lists = {key: tuple(one[key]) for key in ("tables", "extras") if key in one}
        experiments[name] = Experiment(name, **{"paper_of": name, "tables": (name,), **one, **lists})
    return systems, experiments


SYSTEMS, EXPERIMENTS = _read(CONTENT)


def _grids(peers):
    """{peer: every point of its grid}."""
    return {
        peer: [dict(zip(one["grid"], point, strict=True)) for point in itertools.product(*one["grid"].values())]
        for peer, one in peers.items()
    }


# The paper's peers of Table 1, and those on inputs that no training has touched.
GRIDS, PLAIN_GRIDS = _grids(CONTENT["peers"]), _grids(CONTENT["plain_peers"])
PEERS = {peer: one["name"] for peer, one in (CONTENT["peers"] | CONTENT["plain_peers"]).items()}
