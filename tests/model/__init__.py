# SPDX-License-Identifier: Apache-2.0
"""A slow, obvious second opinion on the full-feature phase: written from RFC 7143, importing of swd only `values`."""
