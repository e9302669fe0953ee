"""From analysis datasets to results: descriptive tables, response, survival, toxicity, exposure, models."""
