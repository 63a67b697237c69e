# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed, and what must hold for each input. A target is a function of bytes that returns, or raises if swd is
wrong; it knows no fuzzing engine, so the suite runs the same functions over the corpora.
"""
