"""SIP trunks: telephone providers' servers and upper MCUs.

`Trunks` is made of the settings and connected to the endpoint. `run` keeps a `TrunkLink` going for each: it
registers there and refreshes, or asks with OPTIONS whether the server is there, until `aclose` signs off.
Calls out ask `Trunks.way_out` for the trunk of a number; calls in are told by `Trunks.recognised`.
"""
