"""How the shipped classifier is made: pairs through many autoencoders, the patch network, heads, calibration.

Needs the optional dependencies ``train``; nothing here is imported when a clip is judged.
"""
