"""Every choice of a run: the paper's value and its source, what can be chosen, and what cannot be combined.

One `Settings` object goes everywhere, from the command line to the networks and back from run.json. A system of
systems/ may have other defaults than the paper's (`System.defaults`) and refuse what it does not have.
"""

import argparse
import typing

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

TRAIN_SESSIONS, DEV_SESSION, TEST_SESSION = (1, 2, 5), 3, 4  # section 4.1, speaker independent


class Settings(BaseModel):
    """Everything that decides a run's result, besides the corpus. Defaults are the paper's (section 4.2).

    Raises:
        pydantic.ValidationError: a value of another type or out of range, or values that cannot be combined.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    variant: str = Field(
        "released", description="system: the authors' code, Figure 4's network, ours (causal), an LSTM on our inputs"
    )
    update: typing.Literal["sequential", "simultaneous"] = Field(
        "sequential", description="of the correlation factor: released code, or equations 4 and 5"
    )
    factor: typing.Literal["shared", "per_view", "none"] = Field(
        "shared", description="one per modality (released code), one per sub-view (Fig. 3), or no factor"
    )
    modality: typing.Literal["text+audio", "text", "audio"] = Field(
        "text+audio", description="both, or one alone (rows T and A of Table 3)"
    )
    context: bool = Field(True, description="whether the dialog before the utterance is seen")
    targets: typing.Literal["shares", "categorical"] = Field(
        "shares", description="vote shares, or one-hot with ties as 'other' (Table 1, categorical)"
    )
    loss: typing.Literal["mse", "cross_entropy"] = Field(
        "mse", description="mse with a linear output (paper), or cross_entropy with softmax"
    )
    raters: typing.Literal["all", "external"] = Field(
        "all", description="whose votes count: all with self-reports (paper), or external raters"
    )
    train_sessions: tuple[int, ...] = Field(TRAIN_SESSIONS, min_length=1, description="sessions to train on")
    dev_session: int = Field(DEV_SESSION, description="session that chooses the epoch")
    test_session: int = Field(TEST_SESSION, description="session left for evaluate.py")
    split: typing.Literal["official", "paper"] = Field(
        "official", description="of a corpus with its own split: that one, or dev and test swapped, as the paper's MELD"
    )
    emotion: str = Field("all", description="all, or this one against all others (the binary networks of Table 2)")
    epochs: int = Field(50, gt=0, description="most epochs of each stage")
    patience: int = Field(0, ge=0, description="stop a stage after N epochs without a lower dev loss; 0: never")
    batch_size: int = Field(
        64, gt=0, description="samples per step: utterances, or dialogs of a system that reads them"
    )
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False, description="of Adam")
    members: int = Field(1, gt=0, le=100, description="networks of different seeds whose answers are averaged")
    words: typing.Literal["given", "glove", "encoder", "both"] = Field(
        "given",
        description="vectors of words that a system reads: of GloVe, of the corpus file's encoder, or what is given",
    )
    marks: bool = Field(False, description="whether '!', '?' and '...' of a transcript are read beside its words")
    padding: typing.Literal["counted", "uncounted"] = Field(
        "counted", description="whether the fusion's batch norm counts the padding of a context (released code), or not"
    )
    left_out: float = Field(
        0.0, ge=0, le=0.4, description="share of utterances that learn without their words, and as many without sound"
    )
    seed: int = Field(0, ge=0, lt=2**30, description="of weights and data order")

    @property
    def reads_glove(self):
        """Whether a GloVe file that is given decides anything."""
        return self.modality != "audio" and self.words != "encoder"

    @model_validator(mode="after")
    def _combinations(self):
        if self.factor == "none" and self.update != "sequential":
            raise ValueError("--factor none has nothing to update: drop --update")
        return self


def option(name):
    """The command-line option of a setting: "batch_size" is --batch-size."""
    return "--" + name.replace("_", "-")


def add_options(parser, choices):
    """Gives a parser, whose absent options are left out of its result, one option for each setting.

    Args:
        parser: argparse's, with `argument_default=argparse.SUPPRESS`.
        choices: {setting: names} of settings whose choices are not known here.
    """
    for name, field in Settings.model_fields.items():
        kind, default = field.annotation, field.default
        argument = {"type": kind, "metavar": "NAME" if kind is str else "N"}
        if typing.get_origin(kind) is typing.Literal or name in choices:
            argument = {"choices": choices.get(name) or typing.get_args(kind)}
        elif kind is bool:
            argument = {"action": argparse.BooleanOptionalAction}
        elif isinstance(default, tuple):
            argument, default = {"type": int, "nargs": "+", "metavar": "S"}, " ".join(map(str, default))
        parser.add_argument(option(name), help=f"{field.description} (default: {default})", **argument)


def chosen_settings(parser, given, defaults):
    """`Settings` of the command line; ends the program with the parser's message where they are no good.

    Args:
        parser: argparse's.
        given: {setting: value} of the command line.
        defaults: values that replace the paper's where the command line gives none.
    """
    values = {**defaults, **given}
    try:
        return Settings(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except ValidationError as error:
        parser.error(said_of(error, option))


def said_of(error, name_of="{}".format):
    """The first fault of a ValidationError as one line: where, what, and what was found.

    Args:
        error: pydantic's.
        name_of: how a top field is called.
    """
    fault = error.errors(include_url=False)[0]
    place = ".".join(map(str, fault["loc"][1:]))
    place = ".".join(filter(None, (name_of(fault["loc"][0]), place))) + ": " if fault["loc"] else ""
    if fault["type"] == "value_error":
        return f"{place}{fault['ctx']['error']}"
    found = "" if fault["type"] in ("missing", "json_invalid") else f", found {fault['input']!r:.60}"
    what = fault["msg"].replace("Input should be", "must be").replace("Field required", "is missing")
    return f"{place}{what[0].lower()}{what[1:]}{found}"
