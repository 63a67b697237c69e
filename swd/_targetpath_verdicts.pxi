# SPDX-License-Identifier: Apache-2.0
"""How it can end when what came is judged, and what is said then: an exception of `TargetPath.run`, or the sense data
of a write that is refused. A part of `_targetpath.pyx`. Nothing is judged here: a verdict is a number that the other
parts pass on, and only this one makes it an exception, with the GIL.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from swd._wire cimport get24

from swd.errors import DigestMismatch, InvalidArgument, ProtocolViolation

cdef enum:
    NEXT                        # it was taken up: what stands behind it is next
    MORE                        # not all of it has come
    FULL                        # too much is unsent for anything more to be taken up
    ODD                         # a PDU for Python; `run` ends with this one and those behind it
    CHANGED                     # the gate was touched, so Python has to say what is allowed
    ENDED                       # the peer closed the connection
    BROKEN                      # the socket failed: `why`
    NO_MEMORY
    HEADER_DIGEST_WRONG
    DATA_DIGEST_WRONG
    TOO_LONG                    # a data segment
    REFUSED                     # a write that ends in error, for two reasons in the order of `senses`
    WRONG_AMOUNT = REFUSED
    OUT_OF_ORDER


cdef object reason(TargetPath self, int code):
    """The exception for a verdict behind CHANGED."""
    if code == ENDED:
        return ConnectionResetError("the initiator closed the connection")
    if code == HEADER_DIGEST_WRONG or code == DATA_DIGEST_WRONG:
        what = "header" if code == HEADER_DIGEST_WRONG else "data"
        return DigestMismatch(f"the {what} digest of a PDU is wrong")
    if code == TOO_LONG:
        return ProtocolViolation(
            f"a data segment of {get24(self.ring + self.start + 5)} bytes came, {self.max_segment} were declared",
            clause="13.12",
        )
    if code == BROKEN:
        return OSError(self.why, os.strerror(self.why))
    return MemoryError("no memory for what is to be sent")


cdef int keep_senses(TargetPath self, senses) except -1:
    """The sense data for REFUSED, each behind its length, as the segment of a SCSI Response (RFC 7143 11.4.7)."""
    cdef int i
    if len(senses) > 2 or any(len(sense) > 30 for sense in senses):
        raise InvalidArgument("there is room for two senses of 30 bytes")
    for i, sense in enumerate(senses):
        self.sense[i][0], self.sense[i][1] = 0, <uint8_t>len(sense)
        self.sense_length[i] = 2 + <uint32_t>len(sense)
        memcpy(&self.sense[i][2], PyBytes_AS_STRING(sense), len(sense))
    return 0
