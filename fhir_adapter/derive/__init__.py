"""Derivation: from SDTM-like datasets to ADaM datasets, with RECIST responses, endpoints and lineage."""
