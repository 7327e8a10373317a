"""The training loop, its state on disk, progress, and the framework under Keras."""
