"""The embedded default pipeline: the renderer of its training data, its parts, and the recipe that trains it."""
