# SPDX-License-Identifier: Apache-2.0
"""File systems on a Disk, for reading: what is there, whether it is clean, and its files through a child process.

`probe` looks at superblocks and journals. `volume` reads names and files; the reader libraries run in `child`, which
has no descriptor but a socket to us, and gets every byte of the disk from `helper`. Nothing here opens a DEV.
"""
