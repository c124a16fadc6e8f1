"""Whether new rows are like those that a model learned from: counts in bins, kept in the bundle, and tests of them."""
