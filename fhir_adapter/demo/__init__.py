"""The synthetic reference cohort and the builders of its resources; only `cli` and tests may import it."""
