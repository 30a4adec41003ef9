"""Retrieval-augmented generation as one pipeline: how long a query takes, stage by stage, what serves a rate of them, what it costs."""
