"""Speed and memory of every part, side by side on this machine, in one run.

    make bench
    make bench SCALE=1  # with a corpus of a million utterances, half an hour more

Dialog lengths and words per utterance are IEMOCAP's, vectors and labels random: no corpus is needed. Each part, a
function of parts.py, runs in a process of its own, so that its peak memory is its own. Writes benchmarks/RESULTS.md and
results.json beside it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from experiments.markdown import markdown_table, write_between
from storage.files import InputError, made_folder, read_json, write_json, write_text
from surroundings import check_backend, run_program

HERE = Path(__file__).parent
BEGIN = "<!-- Written by make bench: begin -->"
PARTS = ("fusion", "fusion-side-by-side", "causal", "stream", "context-length", "evaluation", "evaluation-causal")
PARTS += ("text", "text-side-by-side", "audio", "extraction", "predict-hour", "start-up", "whole-run", "scale")
MORE_PARTS = ("fusion-bfloat16", "members")  # measured where they are asked for
PARTS_HELP = "which (default: all but members, five minutes, and fusion-bfloat16, which needs KERAS_BACKEND=torch)"


def main():
    parser = argparse.ArgumentParser(description="Time every part on this machine; some minutes.")
    parser.add_argument("--parts", nargs="+", choices=PARTS + MORE_PARTS, default=list(PARTS), help=PARTS_HELP)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of RESULTS.md and results.json")
    parser.add_argument("--in-process", choices=PARTS + MORE_PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    check_backend()
    if arguments.in_process:
        from benchmarks import parts  # the framework takes seconds, and --help needs none

        found = getattr(parts, arguments.in_process.replace("-", "_"))()
        processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        found["peak_memory_mib"] = max(resource.getrusage(one).ru_maxrss for one in processes) / 1024
        found["machine"] = parts.backend.machine()
        print("\n" + json.dumps(found))
    else:
        bench(arguments.parts, arguments.out)


def bench(parts, out):
    """Runs the parts, one process each, and writes what is known of all parts.

    Raises:
        InputError: a part failed; the message has its last line.
    """
    path = made_folder(out) / "results.json"
    known = read_json(path) if path.exists() else {}
    known = {part: found for part, found in known.items() if part in PARTS + MORE_PARTS}
    for part in parts:
        print(f"{time.strftime('%H:%M:%S')}  {part}", flush=True)
        command = [sys.executable, "-m", "benchmarks.bench", "--in-process", part]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{part} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        found = json.loads(done.stdout.splitlines()[-1])
        for other in [one for one in known if known[one].get("machine") != found["machine"]]:
            print(f"measured on another machine, of no use any more: {other}")
            del known[other]
        known[part] = found
        write_json(path, known)
    write_text(out / "RESULTS.md", page(known))
    if out == HERE:
        write_between(HERE.parent / "docs" / "speed.md", BEGIN, f"{machine(known)}\n\n{main_table(known)}")
    print(f"written to {out / 'RESULTS.md'}")


def page(known):
    """The Markdown page of the parts that are measured."""
    blocks = ["# Speed and memory", f"Written by `make bench`. {machine(known)}", main_table(known)]
    if "context-length" in known:
        found = known["context-length"]
        both = [key.split("_") for key, value in found.items() if isinstance(value, dict)]
        names, lengths = (list(dict.fromkeys(column)) for column in zip(*both, strict=True))
        columns = [(name, what) for name in names for what in ("step_s", "prediction_s")]
        header = ["rows", *(f"{name}, {what.removesuffix('_s')}" for name, what in columns)]
        rows = [[n, *(f"{found[f'{name}_{n}'][what]:.3f}" for name, what in columns)] for n in lengths]
        blocks += ["Two contexts (released) or two dialogs (causal) of so many rows, seconds:"]
        blocks += [markdown_table(header, rows)]
    blocks += ["Peak memory of the process of each part, or of the largest that it starts, MiB:"]
    blocks += [
        markdown_table(["part", "MiB"], [[part, f"{one['peak_memory_mib']:.0f}"] for part, one in known.items()])
    ]
    return "\n\n".join(blocks) + "\n"


def machine(known):
    """What was measured, where."""
    about = known.get("fusion") or next((found for found in known.values() if "devices" in found), {})
    where = f"{about['machine']}, {' '.join(about['devices'])}, {about['backend']}" if about else "this machine"
    return (
        f"Measured on {where}; IEMOCAP's dialog lengths (5,800 training contexts of Sessions 1, 2 and 5, 2,103 test "
        "contexts of Session 4), random vectors, batches of 64 (causal system: of 4 dialogs), one run of each part in "
        "a process of its own, one after the other. An epoch is all steps with their batches' assembly, shapes traced "
        "before; the faster of two. Side by side: the same 8 batches (text: 30) by each network in turn, in one "
        "process, five rounds, the median scaled to an epoch."
    )


def main_table(known):
    """What was measured and its target, of the parts that are there."""
    rows = [[name, shown(known[part]), target] for name, part, shown, target in ROWS if part in known]
    return markdown_table(["", "measured", "target"], rows)


def _number(key, form="{:.1f} s", scale=1):
    return lambda found: form.format(scale * found[key])


def _ratio(other, ours="ours"):
    def shown(found):
        rounds = found["rounds_s"]
        each = [theirs / own for theirs, own in zip(rounds[other], rounds[ours], strict=True)]
        return f"{found[other] / found[ours]:.1f} times as fast, rounds {min(each):.1f} to {max(each):.1f}"

    return shown


def _by_workers(found):
    return "; ".join(f"{workers}: {rate:.0f}" for workers, rate in found["sound_s_per_s"].items())


def _per_size(key):
    def shown(found):
        sizes = [(int(num), one) for num, one in found.items() if num.isdigit()]
        return ", ".join(f"{one[key] * 10_000 / num:.1f} s (of {num:,})" for num, one in sizes)

    return shown


def _most_memory(found):
    num, one = max((int(num), one) for num, one in found.items() if num.isdigit())
    return f"{max(one['write_memory_mib'], one['use_memory_mib']) / 1024:.1f} GiB (of {num:,})"


_TRAINED = "`train.py`, one epoch of each network, 6,552 columns, start-up included"
_EVALUATED = "`evaluate.py` of it, start-up, branches and figure included"
_CAUSAL_EVALUATED = "the same utterances, a member of the causal system, tracing included"
_SAME = "the same within a fifth"
# What stands in the table: name, part, what is shown of it, the target.
ROWS = (
    ("fusion epoch", "fusion", _number("epoch_s"), ""),
    ("fusion epoch, first one, with tracing", "fusion", _number("first_epoch_s"), ""),
    ("side by side: fusion epoch", "fusion-side-by-side", _number("ours"), ""),
    ("side by side: 167 padded rows", "fusion-side-by-side", _number("padded"), ""),
    ("side by side: BC-LSTM, 300 units", "fusion-side-by-side", _number("bc_lstm"), ""),
    ("ours against padded", "fusion-side-by-side", _ratio("padded"), "6 times"),
    ("ours against BC-LSTM", "fusion-side-by-side", _ratio("bc_lstm"), "faster"),
    (
        "largest difference of ours and padded, predictions",
        "fusion-side-by-side",
        _number("largest_difference", "{:.1e}"),
        "1e-5",
    ),
    (
        "matrix-product rate of this machine, 2048 x 2048",
        "fusion",
        _number("matmul_flops_per_s", "{:.0f} GFLOP/s", 1e-9),
        "",
    ),
    ("of which a fusion epoch reaches", "fusion", _number("share_of_matmul_rate", "{:.0f} %", 100), "65 %"),
    ("side by side, PyTorch, one thread: fusion epoch", "fusion-bfloat16", _number("ours"), ""),
    ("the same, operands of products in bfloat16", "fusion-bfloat16", _number("bfloat16"), ""),
    ("bfloat16 against float32", "fusion-bfloat16", _ratio("ours", "bfloat16"), "1.4 times"),
    ("causal system, epoch of a member", "causal", _number("epoch_s"), "2 s"),
    ("causal system, `train.py --jobs 2`, 4 members of 59 epochs", "members", _number("train_s", "{:.0f} s"), "300 s"),
    ("causal system, `stream().step()` at 200 utterances", "stream", _number("step_s", "{:.1f} ms", 1000), "10 ms"),
    ("predicting 2,103 contexts, tracing included", "evaluation", _number("first_s"), "10 s"),
    ("the same again", "evaluation", _number("again_s"), ""),
    (_CAUSAL_EVALUATED, "evaluation-causal", _number("first_s"), "10 s"),
    ("text epoch", "text", _number("epoch_s"), ""),
    ("side by side: text epoch", "text-side-by-side", _number("ours"), ""),
    ("side by side: 50 padded tokens", "text-side-by-side", _number("padded"), ""),
    ("ours against padded, text", "text-side-by-side", _ratio("padded"), "3 times"),
    ("audio epoch, 6,552 columns", "audio", _number("epoch_s"), ""),
    ("eGeMAPS features, seconds of sound a second, by workers", "extraction", _by_workers, ""),
    (
        "`predict.py` on an hour of talk, 900 utterances, page included",
        "predict-hour",
        _number("hour_s", "{:.0f} s"),
        "60 s",
    ),
    ("most memory of it, all processes", "predict-hour", _number("hour_memory_mib", "{:.2f} GiB", 1 / 1024), "1.5 GiB"),
    (
        "`predict.py` on an archive, seconds of sound a core does in a second, start-up included",
        "predict-hour",
        _number("archive_s_per_core_s", "{:.0f}"),
        "",
    ),
    (_TRAINED, "whole-run", _number("train_s", "{:.0f} s"), ""),
    (_EVALUATED, "whole-run", _number("evaluate_s", "{:.0f} s"), ""),
    ("most memory of the two", "whole-run", _number("scripts_peak_memory_mib", "{:.1f} GiB", 1 / 1024), "3 GiB"),
    ("made-up corpora of so many utterances, 814 columns: 10,000 written in", "scale", _per_size("write_s"), _SAME),
    ("10,000 of them read, but for the columns, in", "scale", _per_size("read_s"), _SAME),
    ("an epoch of a causal member on 10,000 of them", "scale", _per_size("epoch_s"), _SAME),
    ("10,000 of them predicted in", "scale", _per_size("predict_s"), _SAME),
    ("most memory with the largest of them", "scale", _most_memory, "3 GiB"),
    ("slowest `--help`", "start-up", lambda found: f"{max(found['help_s'].values()):.2f} s", "1 s"),
)


if __name__ == "__main__":
    run_program(main, "stopped; the parts that were finished are kept: --parts measures the others")
