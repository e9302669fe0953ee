"""The map stage: from landed resources to the SDTM-like datasets, by views, ConceptMaps and joins."""
