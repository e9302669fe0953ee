"""The domains: what joins, converts and numbers the rows that the views made; one module per subject."""
