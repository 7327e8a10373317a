"""The training loop, its state on disk, members side by side, progress, and the framework under Keras."""
