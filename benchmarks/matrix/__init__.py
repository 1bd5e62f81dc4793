"""The parts of `benchmarks/models.py`: models as their owners give them, and their own runtimes."""
