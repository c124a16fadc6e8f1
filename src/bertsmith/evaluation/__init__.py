"""evaluate: scores with intervals, and paired comparisons."""
