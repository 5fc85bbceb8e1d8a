"""Nowcast methods: ConvGRU, TrajGRU, a 2-D CNN, persistence, optical flow, ROVER, and pysteps'.

All follow one protocol, `nowcast.method.NowcastMethod`.
"""
