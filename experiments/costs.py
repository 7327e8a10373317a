"""What the networks cost: trainable parameters, operations, seconds per epoch (Table 4 of the paper).

python -m experiments.costs runs/iemocap-released-seed0 --out costs.json
"""

import argparse
from pathlib import Path

from storage.files import InputError, made_folder, write_json
from storage.runs import read_run
from surroundings import check_backend, run_program


def main():
    parser = argparse.ArgumentParser(description="Count and time a run's networks and a BC-LSTM beside them.")
    parser.add_argument("run", type=Path, help="finished run folder of train.py, with a fusion network")
    parser.add_argument("--corpus", type=Path, help="corpus file; default: the file that the run was trained on")
    parser.add_argument(
        "--out",
        type=Path,
        help="JSON file for the result; default: costs.json in RUN, of a provided checkpoint runs/NAME",
    )
    arguments = parser.parse_args()
    check_backend()
    from experiments.operations import costs  # the framework takes seconds, and --help needs none
    from scoring.evaluation import home_of_results

    out = arguments.out or home_of_results(arguments.run, read_run(arguments.run)) / "costs.json"
    if out.is_dir():
        raise InputError(f"{out}: a folder; give the name of a file")
    made_folder(out.parent)
    write_json(out, costs(arguments.run, arguments.corpus))
    print(f"written to {out}")


if __name__ == "__main__":
    run_program(main, "interrupted; nothing is written")
