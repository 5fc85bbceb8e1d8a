"""Nowcast methods: the ConvGRU encoder-forecaster, persistence and optical flow.

All follow one protocol, `nowcast.method.NowcastMethod`.
"""
