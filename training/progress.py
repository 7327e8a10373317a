"""How training is seen from outside: a bar or a line per epoch, and TensorBoard."""

import sys

from tensorboardX import SummaryWriter
from tqdm import tqdm

from storage.files import named


class TensorBoard:
    """Writes each epoch's row as TensorBoard scalars; epochs to come of a stopped run are hidden."""

    def __init__(self, folder, first_epoch):
        self.folder = folder
        with self._named():
            self.writer = SummaryWriter(str(folder), purge_step=first_epoch + 1, flush_secs=1)

    def _named(self):
        return named(self.folder, "cannot be written")

    def write(self, row):
        with self._named():
            for name in ("train_loss", "dev_loss", "dev_accuracy"):
                if (value := getattr(row, name)) is not None:
                    self.writer.add_scalar(name, value, row.epoch)
            self.writer.flush()

    def close(self):
        with self._named():
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
        accuracy = "–" if row.dev_accuracy is None else f"{row.dev_accuracy:.3f}"
        text = f"train {row.train_loss:.5f}  dev {row.dev_loss:.5f}  accuracy {accuracy}"
        text += f"  best epoch {progress.best_epoch}"
        if self.bar.disable:
            each_s = progress.seconds / row.epoch
            print(f"{self.stage:<6} {row.epoch:>3}/{self.epochs}  {text}  {each_s:.1f} s/epoch", flush=True)
        else:
            self.bar.set_postfix_str(text)

    def close(self):
        if self.bar is not None:
            self.bar.close()
