"""A run or an experiment for other people: model card and folders."""
