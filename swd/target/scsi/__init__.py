# SPDX-License-Identifier: Apache-2.0
"""The SCSI device server of the embedded target: CDBs in, replies out, no sockets and no iSCSI."""
