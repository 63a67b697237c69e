# SPDX-License-Identifier: Apache-2.0
"""The functions behind the verbs: parsed arguments in, records out. They raise; they do not print."""
