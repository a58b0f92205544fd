"""The lattice watermark: a keyed tile that repeats over the picture on a grid scaled to its short side.

Marking (``embed``) is torch and adds a pattern to pixels. Reading (``evidence``, ``spectrum``, ``geometry``,
``decision``, ``decode``) is NumPy, and SciPy for pictures in perspective. Both draw the pattern from ``tile``.
"""
