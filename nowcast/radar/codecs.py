"""How a chunk of frames is compressed: as HDF5's own filters do it, but without HDF5.

Each codec writes exactly what the registered HDF5 filter of its number writes, so that other tools
read the chunks through that filter. Reading them here needs no plugin, holds no lock, and gives an
`InputError` for whatever is not a chunk of the size expected.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import lz4.block

from nowcast.errors import InputError

Compression = Literal["lz4", "gzip", "none"]

LZ4_FILTER = 32004
DEFLATE_FILTER = 1

DEFLATE_LEVEL = 1

LZ4_SETTINGS = {"mode": "high_compression", "compression": 3, "store_size": False}
"""A frame of 480 × 480 pixels of rain takes 2 ms to compress instead of the 0.3 ms of LZ4's fastest
mode, once; every time it is read it takes a sixth less, and a tenth less space."""

_LZ4_HEADER = struct.Struct(">QI")
"""Bytes of the whole chunk and of a block, decoded."""

_LZ4_BLOCK_HEADER = struct.Struct(">I")
"""Bytes of a block as stored."""

MOST_FROM_ONE_LZ4_BYTE = 255
"""An LZ4 block decodes to no more than this many times its own size."""


@dataclass(frozen=True)
class Codec:
    """One way to compress a chunk.

    Attributes:
        filters: numbers of the HDF5 filters that a dataset of such chunks has.
        dataset_settings: what `h5py.Group.create_dataset` takes to create one.
        encode: bytes of a chunk → what the file holds; no chunk is empty.
        decode: what the file holds and the bytes of the chunk that it must give → the chunk.
            Raises InputError for anything else, and allocates no more than that for it.
    """

    filters: tuple[int, ...]
    dataset_settings: Mapping[str, Any]
    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes, int], bytes]


def encode_lz4(content: bytes, block_bytes: int | None = None) -> bytes:
    """A chunk as the HDF5 filter 32004 writes it.

    Args:
        content: at least one byte.
        block_bytes: bytes that are compressed at a time; None takes all at once.
    """
    block_bytes = len(content) if block_bytes is None else block_bytes
    pieces = [_LZ4_HEADER.pack(len(content), block_bytes)]
    for first in range(0, len(content), block_bytes):
        block = content[first : first + block_bytes]
        compressed = lz4.block.compress(block, **LZ4_SETTINGS)
        smaller = compressed if len(compressed) < len(block) else block
        pieces += [_LZ4_BLOCK_HEADER.pack(len(smaller)), smaller]
    return b"".join(pieces)


def _decode_lz4(chunk: bytes, expected_bytes: int) -> bytes:
    if len(chunk) < _LZ4_HEADER.size:
        raise InputError(f"found {len(chunk)} bytes, expected the header of an LZ4 chunk")
    content_bytes, block_bytes = _LZ4_HEADER.unpack_from(chunk)
    if content_bytes != expected_bytes or not block_bytes:
        raise InputError(
            f"found an LZ4 chunk of {content_bytes} bytes in blocks of {block_bytes}, "
            f"expected {expected_bytes} bytes"
        )
    stored, position, missing = memoryview(chunk), _LZ4_HEADER.size, expected_bytes
    blocks = []
    while missing:
        content = position + _LZ4_BLOCK_HEADER.size
        if content > len(chunk):
            raise InputError(f"found an LZ4 chunk that ends {missing} bytes too early")
        (size,) = _LZ4_BLOCK_HEADER.unpack_from(chunk, position)
        position = content + size
        blocks.append(_decode_lz4_block(stored[content:position], size, min(block_bytes, missing)))
        missing -= len(blocks[-1])
    if position != len(chunk):
        raise InputError(f"found {len(chunk) - position} bytes after an LZ4 chunk, expected none")
    return b"".join(blocks)


def _decode_lz4_block(block: memoryview, size: int, expected_bytes: int) -> bytes:
    if len(block) != size or size > expected_bytes:
        raise InputError(
            f"found an LZ4 block of {size} bytes where {len(block)} are left, "
            f"expected at most {expected_bytes}"
        )
    if size == expected_bytes:
        return bytes(block)
    if expected_bytes > size * MOST_FROM_ONE_LZ4_BYTE:
        raise InputError(f"found an LZ4 block of {size} bytes, too few for {expected_bytes}")
    try:
        content = lz4.block.decompress(block, uncompressed_size=expected_bytes)
    except lz4.block.LZ4BlockError as error:
        raise InputError(f"found a damaged LZ4 block ({error})") from error
    if len(content) != expected_bytes:
        raise InputError(f"found an LZ4 block of {len(content)}, expected {expected_bytes} bytes")
    return content


def _encode_deflate(content: bytes) -> bytes:
    return zlib.compress(content, DEFLATE_LEVEL)


def _decode_deflate(chunk: bytes, expected_bytes: int) -> bytes:
    decoding = zlib.decompressobj()
    try:
        # One byte more than expected, so that the end of the stream and its checksum are reached.
        content = decoding.decompress(chunk, expected_bytes + 1)
    except zlib.error as error:
        raise InputError(f"found a damaged deflate stream ({error})") from error
    if len(content) != expected_bytes or not decoding.eof or decoding.unused_data:
        raise InputError(
            f"found a deflate stream of {len(content)} bytes or one that does not end where the "
            f"chunk does, expected {expected_bytes} bytes"
        )
    return content


def _encode_nothing(content: bytes) -> bytes:
    return content


def _decode_nothing(chunk: bytes, expected_bytes: int) -> bytes:
    if len(chunk) != expected_bytes:
        raise InputError(f"found {len(chunk)} bytes, expected {expected_bytes}")
    return chunk


CODECS: Mapping[Compression, Codec] = {
    "lz4": Codec(
        filters=(LZ4_FILTER,),
        dataset_settings={
            "compression": LZ4_FILTER,
            "compression_opts": (0,),
            "allow_unknown_filter": True,
        },
        encode=encode_lz4,
        decode=_decode_lz4,
    ),
    "gzip": Codec(
        filters=(DEFLATE_FILTER,),
        dataset_settings={"compression": "gzip", "compression_opts": DEFLATE_LEVEL},
        encode=_encode_deflate,
        decode=_decode_deflate,
    ),
    "none": Codec(filters=(), dataset_settings={}, encode=_encode_nothing, decode=_decode_nothing),
}


def compression_named(name: object) -> Compression:
    """The compression of that name.

    Raises:
        InputError: there is none.
    """
    for compression in CODECS:
        if compression == name:
            return compression
    raise InputError(f"compression: found {name!r}, expected one of {', '.join(CODECS)}")
