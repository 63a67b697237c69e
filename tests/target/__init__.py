# SPDX-License-Identifier: Apache-2.0
"""A scripted target with a codec of its own, written from RFC 7143: it imports nothing of swd, so that no mistake is
made twice."""
