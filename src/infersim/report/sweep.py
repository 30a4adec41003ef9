"""A sweep in a report: how many points, what was swept, and how the figures go with it."""
