"""Runs as one HTML page that needs nothing else, and as PNGs: what is drawn is records and summaries, never recomputed.

run (a directory, read once) --> plots (matplotlib figures) --> page (SVG inlined) | PNG files
"""
