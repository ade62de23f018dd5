"""The training run: Trainer, resume, processes and output folders."""
