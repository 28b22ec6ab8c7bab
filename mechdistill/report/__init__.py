"""One self-contained HTML page of an experiment, with the trained models running in it."""
