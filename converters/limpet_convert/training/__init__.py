"""From a folder of recordings to a bundle: ``job`` has the steps, ``trainer`` fits, ``packaging`` converts.

The other files decide, without I/O. Windows and features are those of the agent: ``limpet.inference.window`` and
``limpet.transforms`` compute them, here and on the device.
"""
