# SPDX-License-Identifier: Apache-2.0
"""Old snapshots: what the origin was, from its chunks that did not change and the copies of those that did.

The store (drivers/md/dm-snap-persistent.c) begins with a header; then an area of exceptions, each a chunk of the origin
and the chunk of the store that has its copy, and the chunks of that area; then the next area. The list ends with the
first exception that names no chunk of the store.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from swd.errors import MediumError, Unsupported
from swd.volumes.lvm2.label import SECTOR
from swd.volumes.lvm2.layers import Layer, Piece
from swd.volumes.lvm2.transfer import read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Longs = NDArray[np.uint64]

_HEADER = struct.Struct("<4sIII")
_MAGIC, _VERSION = b"SnAp", 1
_PAIR: Final = 16  # bytes of an exception
MOST_CHUNK: Final = 8 << 20
MOST_EXCEPTIONS: Final = 16 << 20  # 256 MiB of memory; of chunks of 4 KiB, 64 GiB that changed


class Snapshot:
    """The snapshot as a layer. The exceptions are read when it is made.

    Raises MediumError (EIO) for a store that is invalid (the kernel says so when it has overflowed) or damaged.
    """

    def __init__(self, name: str, origin: Layer, store: Layer, size: int) -> None:
        self.name = name
        self.origin = origin
        self.store = store
        self.size = min(size, origin.size)
        self.chunk = self._header()
        self.old, self.new = self._exceptions()

    def _header(self) -> int:
        magic, valid, version, sectors = _HEADER.unpack(read(self.store, 0, _HEADER.size))
        if magic != _MAGIC or version != _VERSION:
            raise self._bad("its store has no header of version 1")
        if valid != 1:
            raise self._bad("it is invalid: its store has overflowed, or the kernel gave it up")
        chunk = int(sectors) * SECTOR
        if not chunk or chunk > MOST_CHUNK or chunk & (chunk - 1):
            raise self._bad(f"chunks of {sectors} sectors cannot be")
        return chunk

    def _exceptions(self) -> tuple[Longs, Longs]:
        import numpy as np

        found = []
        count, per_area, chunks = 0, self.chunk // _PAIR, self.store.size // self.chunk
        place = 1
        while place < chunks:
            area = np.frombuffer(read(self.store, place * self.chunk, self.chunk), "<u8").reshape(-1, 2)
            ends = np.flatnonzero(area[:, 1] == 0)
            length = int(ends[0]) if len(ends) else per_area
            found.append(area[:length].astype(np.uint64))
            count += length
            if count > MOST_EXCEPTIONS:
                raise Unsupported(f"snapshot {self.name}: more than {MOST_EXCEPTIONS} changed chunks")
            if length < per_area:
                break
            place += per_area + 1
        return self._checked(np.concatenate(found) if found else np.empty((0, 2), np.uint64), chunks)

    def _checked(self, pairs: Longs, chunks: int) -> tuple[Longs, Longs]:
        """Sorted by the origin's chunk."""
        import numpy as np

        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        old, new = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
        if len(new) and (int(new.max()) >= chunks or (old[1:] == old[:-1]).any()):
            raise self._bad("its exceptions make no sense")
        return old, new

    def _bad(self, why: str) -> MediumError:
        return MediumError(f"snapshot {self.name}: {why}")

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """What lies in a run of unchanged chunks is one range of the origin."""
        end = offset + length
        index = int(self.old.searchsorted(offset // self.chunk))
        while offset < end:
            changed = int(self.old[index]) * self.chunk if index < len(self.old) else end
            if offset < changed:
                stop = min(end, changed)
                yield from self.origin.pieces(offset, stop - offset)
            else:
                stop = min(end, changed + self.chunk)
                yield from self.store.pieces(int(self.new[index]) * self.chunk + offset - changed, stop - offset)
                index += 1
            offset = stop
