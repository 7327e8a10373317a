"""How training is seen from outside: a bar or a line per epoch, and TensorBoard."""

import sys

from tensorboardX import SummaryWriter
from tqdm import tqdm

HISTORY_HEADER = ["stage", "epoch", "train_loss", "dev_loss", "dev_accuracy"]


class TensorBoard:
    """Writes each epoch's row as TensorBoard scalars; epochs to come of a stopped run are hidden."""

    def __init__(self, folder, first_epoch):
        self.writer = SummaryWriter(str(folder), purge_step=first_epoch + 1, flush_secs=1)

    def write(self, row):
        for name, value in zip(HISTORY_HEADER[2:], row[1:], strict=True):
            if value is not None:
                self.writer.add_scalar(name, value, row[0])
        self.writer.flush()

    def close(self):
        self.writer.close()


class Bar:
    """A progress bar over all steps of a stage on a terminal, a line per epoch elsewhere."""

    def __init__(self, stage, epochs):
        self.stage, self.epochs, self.bar = stage, epochs, None

    def epoch(self, progress, num_steps):
        if self.bar is None:
            self.bar = tqdm(
                total=self.epochs * num_steps,
                initial=progress.epoch * num_steps + progress.step,
                desc=f"{self.stage:<6}",
                unit="step",
                disable=not sys.stderr.isatty(),
            )

    def step(self):
        self.bar.update()

    def report(self, row, progress):
        epoch, train_loss, dev_loss, dev_accuracy = row
        accuracy = "–" if dev_accuracy is None else f"{dev_accuracy:.3f}"
        text = f"train {train_loss:.5f}  dev {dev_loss:.5f}  accuracy {accuracy}  best epoch {progress.best_epoch}"
        if self.bar.disable:
            print(
                f"{self.stage:<6} {epoch:>3}/{self.epochs}  {text}  {progress.seconds / epoch:.1f} s/epoch", flush=True
            )
        else:
            self.bar.set_postfix_str(text)

    def close(self):
        if self.bar is not None:
            self.bar.close()
