"""Runs summed up for people: measures with their intervals, plots, one page, and what changed between two runs."""
