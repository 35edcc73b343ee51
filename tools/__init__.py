"""Programs for whoever works on the project: the pipeline needs none of them."""
