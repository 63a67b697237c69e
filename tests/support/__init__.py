# SPDX-License-Identifier: Apache-2.0
"""Real components under the suite's control: programs that are started, watched and stopped, and what they say."""
