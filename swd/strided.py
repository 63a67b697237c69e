# SPDX-License-Identifier: Apache-2.0
"""The data of a batch of writes: equal parts of one buffer, in one piece or as rows that lie wherever the strides of an
array put them. So one block goes to a thousand places, and every other line of an image to a disk, without a copy.

What travels from `Disk.write_many` to the pump is a memoryview of one of two kinds: contiguous, or of three dimensions
(outer, inner, bytes of a part), the last of them in one piece. Only writes have the second kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Buffer = Any  # an object with the buffer protocol


def rows(view: memoryview, count: int) -> memoryview:
    """The `count` > 0 equal parts of `view`, which is not empty: as it is where it is contiguous, else as rows.

    The leading dimensions that make up `count` are the rows. What no two strides can say is copied into one piece.
    Raises TypeError for an array of objects.
    """
    if view.format == "O":
        raise TypeError("the data is an array of Python objects: bytes are needed")
    if view.c_contiguous:
        return view.cast("B")
    import numpy as np

    array, lead, count_of_lead = np.asarray(view), 0, 1
    while count_of_lead < count and lead < array.ndim:
        count_of_lead *= array.shape[lead]
        lead += 1
    if count_of_lead == count and 0 < lead <= 2:
        found = array.reshape(*array.shape[:lead], -1)  # a copy where a part is not in one piece
        if found.strides[-1] == found.itemsize:
            return found.view(np.uint8).reshape(-1, found.shape[-2], found.shape[-1] * found.itemsize).data
    return np.ascontiguousarray(array).view(np.uint8).data.cast("B")


def flat(buffer: Buffer) -> memoryview:
    """The bytes of a buffer in one piece: of its own memory if that is contiguous, else a copy."""
    view = memoryview(buffer)
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def each(buffer: Buffer, count: int) -> Iterator[memoryview]:
    """The `count` > 0 parts, one after the other."""
    view = memoryview(buffer)
    if not view.c_contiguous:
        import numpy as np

        yield from (memoryview(row) for plane in np.asarray(view) for row in plane)
        return
    whole, size = view.cast("B"), view.nbytes // count
    yield from (whole[at : at + size] for at in range(0, count * size, size))


def nth(buffer: Buffer, index: int, count: int) -> memoryview:
    """Part `index` of `count`."""
    view = memoryview(buffer)
    if not view.c_contiguous:
        import numpy as np

        return memoryview(np.asarray(view)[divmod(index, view.shape[1])])  # type: ignore[index]
    size = view.nbytes // count
    return view.cast("B")[index * size : (index + 1) * size]
