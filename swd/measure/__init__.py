# SPDX-License-Identifier: Apache-2.0
"""How fast a DEV is: loads, ways to put them on it, and what is counted meanwhile. Behind `swdctl bench`.

`run.run(dev, load, way, ...)` puts one `profiles.Load` on a DEV by one of `ways.WAYS` and gives a `run.Cell`. Nothing
here knows what a DEV is made of, but for the counters of the sessions below it.
"""
