# SPDX-License-Identifier: Apache-2.0
"""Sessions: the only Python of swd with sockets, threads and clocks. It moves bytes and waits; the rules are in
`proto`.
"""
