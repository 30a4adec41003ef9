"""Prompts and prefix caching: hit rates as an outcome, the order of a prompt's segments, tiers, and what a hit is worth."""
