"""The report of a benchmark: Markdown pages with pictures."""
