# SPDX-License-Identifier: Apache-2.0
"""What each fault of a connection means: whose error it is, the clause that was broken, the words; and its name in
statistics. A part of `_engine.pyx`. It knows the codes of `_engine.pxd` and nothing of how one is found.
"""

from swd._task cimport R2T

from swd.errors import BadDescriptor, ConnectionLost, DigestMismatch, ProtocolViolation

# What each fault means: whose error it is, the clause of RFC 7143, the words. {0} and {1} are its two numbers.
FAULTS = {
    CLOSED: (BadDescriptor, "", "the session is closed"),
    END_OF_STREAM: (ConnectionLost, "", "the target closed the connection"),
    SYSTEM_ERROR: (ConnectionLost, "", "the connection broke"),
    HEADER_DIGEST: (DigestMismatch, "7.8", "the header digest is 0x{0:08x} but 0x{1:08x} was sent with it"),
    DATA_DIGEST: (DigestMismatch, "7.8", "the data digest is 0x{0:08x} but 0x{1:08x} was sent with it"),
    UNKNOWN_OPCODE: (ProtocolViolation, "11.2.1.2", "the target sent a PDU of unknown opcode 0x{0:02x}"),
    AHS: (ProtocolViolation, "11.2.2", "the target sent an additional header segment with opcode 0x{0:02x}"),
    SEGMENT_TOO_LONG: (ProtocolViolation, "13.12", "a data segment of {0} bytes is over the {1} that were agreed"),
    UNKNOWN_TAG: (ProtocolViolation, "11.2.1.8", "opcode 0x{0:02x} names task 0x{1:08x}, which is not open"),
    STAT_SN: (ProtocolViolation, "4.2.2.2", "StatSN is {0}, expected {1}: a status was lost or repeated"),
    DATA_SN: (ProtocolViolation, "11.7.5", "DataSN is {0}, expected {1}: a Data-In PDU was lost or repeated"),
    DATA_OFFSET: (ProtocolViolation, "11.7.6", "Data-In for offset {0}, expected offset {1}"),
    DATA_TOO_LONG: (ProtocolViolation, "11.7", "Data-In up to byte {0} of a transfer of {1} bytes"),
    DATA_NOT_WANTED: (ProtocolViolation, "11.7", "Data-In for task 0x{0:08x}, which reads nothing"),
    DATA_STATUS: (ProtocolViolation, "11.7.3", "Data-In carries status 0x{0:02x} with flags 0x{1:02x}"),
    DATA_ACK: (ProtocolViolation, "11.7.2", "the target asks for a DataACK at recovery level 0"),
    R2T_NOT_WANTED: (ProtocolViolation, "11.8", "R2T for task 0x{0:08x}, which writes nothing"),
    R2T_SN: (ProtocolViolation, "11.8.3", "R2TSN is {0}, expected {1}"),
    R2T_RANGE: (ProtocolViolation, "11.8.4", "R2T asks for bytes {0} to {1}, outside what is left to send"),
    R2T_BURST: (ProtocolViolation, "11.8.4", "R2T asks for {0} bytes at once; MaxBurstLength is {1}"),
    R2T_TOO_MANY: (ProtocolViolation, "13.17", "more than {0} R2Ts are outstanding"),
    R2T_TAG: (ProtocolViolation, "11.8.5", "R2T without a Target Transfer Tag"),
    RESIDUAL: (ProtocolViolation, "11.4.5", "the residual count says {0} bytes are missing, but {1} are"),
    SHORT_READ: (ProtocolViolation, "11.4.5", "GOOD status after {0} of {1} bytes, and no residual count"),
    SHORT_WRITE: (ProtocolViolation, "11.4.5", "GOOD status for a write of {1} bytes of which the target took {0}"),
    UNEXPECTED_DATA: (ProtocolViolation, "11.8", "opcode 0x{0:02x} with a data segment of {1} bytes"),
    FLOOD: (ProtocolViolation, "11.2.1", "more than {0} PDUs of opcode 0x{1:02x} that nobody asked for are waiting"),
    NO_MEMORY: (ConnectionLost, "", "no memory for {0} bytes of a PDU: the connection is closed"),
}

# Their names in statistics.
FAULT_NAMES = {
    TOLD: "told",
    DROPPED: "dropped",
    CLOSED: "closed",
    END_OF_STREAM: "end_of_stream",
    SYSTEM_ERROR: "system_error",
    HEADER_DIGEST: "header_digest",
    DATA_DIGEST: "data_digest",
    UNKNOWN_OPCODE: "unknown_opcode",
    AHS: "ahs",
    SEGMENT_TOO_LONG: "segment_too_long",
    UNKNOWN_TAG: "unknown_tag",
    STAT_SN: "stat_sn",
    DATA_SN: "data_sn",
    DATA_OFFSET: "data_offset",
    DATA_TOO_LONG: "data_too_long",
    DATA_NOT_WANTED: "data_not_wanted",
    DATA_STATUS: "data_status",
    DATA_ACK: "data_ack",
    R2T_NOT_WANTED: "r2t_not_wanted",
    R2T_SN: "r2t_sn",
    R2T_RANGE: "r2t_range",
    R2T_BURST: "r2t_burst",
    R2T_TOO_MANY: "r2t_too_many",
    R2T_TAG: "r2t_tag",
    RESIDUAL: "residual",
    SHORT_READ: "short_read",
    SHORT_WRITE: "short_write",
    UNEXPECTED_DATA: "unexpected_data",
    FLOOD: "flood",
    NO_MEMORY: "no_memory",
}
