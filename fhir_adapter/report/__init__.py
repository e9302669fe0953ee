"""The report stage: figures and one self-contained HTML page from results, datasets and accounting."""
