"""Programs for maintainers; the pipeline needs none of them."""
