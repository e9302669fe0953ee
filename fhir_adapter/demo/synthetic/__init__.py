"""Synthetic cohorts of any size: facts at random, written in any dialect and release of oncology FHIR.

`facts` says what is known of a subject, `cohort` makes subjects, `dialects` names the ways of writing, `encode` writes
the resources (in R4), `releases` moves them into R4B or R5, and `stream` writes files.
"""
