# SPDX-License-Identifier: Apache-2.0
"""LVM2 volume groups: from labels on disks to logical volumes that can be read.

`label` and `area` find the metadata on one disk, `text` and `records` make records of it, `scan` joins the disks of a
volume group, and `layers` with the modules of each segment type say where the bytes of a logical volume are.
"""
