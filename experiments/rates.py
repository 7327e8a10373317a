"""The learning rate of the fusion that dev chooses for each line of a table; the branches keep their own.

A rate is tried where the one before was better than the one before that: 1e-3 only where 3e-4 beats 1e-4. The mean of
the lowest dev loss of two seeds decides. No test session is scored for it.
"""

import dataclasses

import numpy as np

from storage.runs import read_run

NUM_SEEDS = 2


def chosen_rates(place, lines, rates, seeds, finish):
    """Trains what choosing needs.

    Args:
        place: `runs.Place`.
        lines: `catalogue.Line`s, one for each system.
        rates: learning rates, ascending.
        seeds: those of the experiment; the first two choose.
        finish: function that trains a list of `runs.PlannedRun`.

    Returns:
        {"seeds", "tried": [rate], "lines": {name: {"dev_loss": {rate: mean}, "chosen": rate}}}, rates as text; JSON.
    """
    seeds, names = seeds[:NUM_SEEDS], [str(rate) for rate in rates]
    losses = {line.name: {} for line in lines}
    for number, rate in enumerate(rates):
        if number > 1:
            better, good = names[number - 1], names[number - 2]
            lines = [line for line in lines if losses[line.name].get(better, np.inf) < losses[line.name][good]]
        runs = {
            line.name: [place.run(at_rate(place, line.system, rate), seed, scored=False) for seed in seeds]
            for line in lines
        }
        finish([run for each in runs.values() for run in each])
        for name, each in runs.items():
            found = [read_run(run.folder).stages[run.stages[-1]].best_dev_loss for run in each]
            losses[name][names[number]] = float(np.mean(found))
    chosen = {name: {"dev_loss": each, "chosen": min(each, key=each.get)} for name, each in losses.items()}
    return {"seeds": list(seeds), "tried": names, "lines": chosen}


def at_rate(place, system, rate):
    """The system with its fusion at this rate: itself where that is the rate it has anyway."""
    if place.settings(system).learning_rate == rate:
        return system
    return dataclasses.replace(
        system,
        name=f"{system.name}-rate-{rate}",
        options=(*system.options, "--learning-rate", str(rate)),
        branches=system.branches or system.name,
        keeps_epochs=False,
    )


def lines_at(place, lines, chosen):
    """The lines at the rates of `chosen_rates`; a branch's line goes with the line of its fusion."""
    rate_of = {line.system.name: chosen[line.name]["chosen"] for line in lines if line.name in chosen}
    return [
        dataclasses.replace(line, system=at_rate(place, line.system, float(rate_of[line.system.name])))
        for line in lines
    ]
