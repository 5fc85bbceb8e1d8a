"""Radar frames: what a pixel means, where frames come from, how they are stored and cut."""
