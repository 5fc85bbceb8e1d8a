"""Measuring how fast the project is beside the plain way of doing the same.

One module per part (`train`, `memel`, `data`); what they share is timing in rounds (`rounds`), the
report (`report`) and the machine with its measured matrix-product rate (`machine`).
"""
