"""From files of radar to files of forecasts: one nowcast, or one whenever a frame arrives.

What reads, forecasts, writes and draws lives in the rooms of those names; here they are put in a
row, and what an operator sees of it is said: log lines, and what becomes of files that cannot be
used.
"""
