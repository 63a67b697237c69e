# SPDX-License-Identifier: Apache-2.0
"""What lies on disks: partitions and volume groups. Everything here gets Disks; who opens a DEV stands above."""
