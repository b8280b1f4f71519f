"""What is run: the `blindsr` command, configs, training, evaluation, benchmarks."""
