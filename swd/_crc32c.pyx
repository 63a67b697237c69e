# SPDX-License-Identifier: Apache-2.0
"""CRC32C (Castagnoli): `crc32c(data, value=0)`, and which kernel computes it.

The fastest kernel that this processor has and that passes its self-test is chosen when the module is imported;
`SWD_CRC=name` in the environment asks for another; one that will not do is `InvalidArgument`. Known answers: RFC 3720
appendix B.4.
"""

import os

from swd.errors import InvalidArgument

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t

cdef const swd_crc_kernel *_active = NULL

# From this many bytes on the GIL is let go: the round trip costs some 50 ns, 4 % of 64 KiB by the fastest kernel; the
# slowest has 128 KiB done in 60 us.
cdef Py_ssize_t nogil_from = 131072

ANSWERS = (
    (b"\0" * 32, 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (
        bytes.fromhex("01c00000" + "00" * 12 + "14000000" "00000400" "00000014" "00000018" "28000000" "00000000")
        + bytes.fromhex("02000000" "00000000"),
        0xD9963A56,
    ),
)


cdef const swd_crc_kernel *active_kernel() noexcept nogil:
    return _active


cdef uint32_t _run(const swd_crc_kernel *kernel, const uint8_t *data, size_t n, uint32_t value) noexcept nogil:
    return ~kernel.update(~value, data, n)


cdef const swd_crc_kernel *_find(str name) except NULL:
    cdef int i = 0
    while swd_crc_kernels[i].name != NULL:
        if swd_crc_kernels[i].name.decode() == name:
            if not swd_crc_kernels[i].supported():
                raise ValueError(f"the CRC32C kernel {name!r} needs instructions that this processor lacks")
            return &swd_crc_kernels[i]
        i += 1
    raise ValueError(f"no CRC32C kernel {name!r}; there are {', '.join(kernels())}")


def kernels():
    """Names of the kernels that run on this processor, the fastest first."""
    names = []
    cdef int i = 0
    while swd_crc_kernels[i].name != NULL:
        if swd_crc_kernels[i].supported():
            names.append(swd_crc_kernels[i].name.decode())
        i += 1
    return tuple(names)


def kernel():
    """Name of the kernel in use."""
    return _active.name.decode()


def crc32c(data, uint32_t value=0):
    """CRC32C of a bytes-like object; `value` is the checksum of what came before it."""
    cdef Py_buffer view
    cdef uint32_t crc
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    if view.len >= nogil_from:
        with nogil:
            crc = _run(_active, <const uint8_t *>view.buf, view.len, value)
    else:
        crc = _run(_active, <const uint8_t *>view.buf, view.len, value)
    PyBuffer_Release(&view)
    return crc


def crc32c_by(str name, data, uint32_t value=0):
    """As `crc32c`, by the kernel of that name: for tests and benches."""
    cdef const swd_crc_kernel *chosen = _find(name)
    cdef const uint8_t[::1] view = data
    if view.shape[0] == 0:
        return value
    return _run(chosen, &view[0], view.shape[0], value)


def copy_by(str name, source, uint32_t value=0):
    """(copy, crc) of a bytes-like object by the copying form of the kernel of that name."""
    cdef const swd_crc_kernel *chosen = _find(name)
    cdef const uint8_t[::1] view = source
    cdef bytearray target = bytearray(view.shape[0])
    cdef uint8_t[::1] out = target
    if view.shape[0] == 0:
        return b"", value
    cdef uint32_t crc = ~chosen.copy(~value, &out[0], &view[0], view.shape[0])
    return bytes(target), crc


def self_test(str name):
    """True if the kernel gives the known answers, in one piece and in two, with and without copying."""
    for data, expected in ANSWERS:
        long = data * 211  # long enough for every stream and fold of the kernel
        whole = crc32c_by("slice8", long)
        if crc32c_by(name, data) != expected or crc32c_by(name, data[7:], crc32c_by(name, data[:7])) != expected:
            return False
        if copy_by(name, data) != (data, expected) or copy_by(name, long) != (long, whole):
            return False
        if crc32c_by(name, long) != whole:
            return False
    return True


def _choose():
    global _active
    swd_crc_init()
    wanted = os.environ.get("SWD_CRC")
    if wanted is not None:
        try:
            _active = _find(wanted)
        except ValueError as error:
            raise InvalidArgument(f"SWD_CRC: {error}") from None
        if not self_test(wanted):
            raise InvalidArgument(f"SWD_CRC: the CRC32C kernel {wanted!r} failed its self-test on this processor")
        return
    for name in kernels():
        if self_test(name):
            _active = _find(name)
            return
    raise ImportError("no CRC32C kernel passed its self-test: this build of swd is broken, build it again")


_choose()
