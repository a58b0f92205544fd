"""The lattice watermark: a keyed tile that repeats over the picture on a grid scaled to its short side.

Marking (``mask``, ``embed``) is torch and adds a pattern to pixels. Reading (``evidence``, ``spectrum``, ``geometry``,
``decision``, ``decode``) is NumPy and SciPy. Both draw the pattern from ``tile``.
"""
