"""From a folder of recordings to a trained model. ``trainer`` has the steps; the other files decide, without I/O.

Windows and features are those of the agent: ``limpet.inference.window`` and ``limpet.transforms`` compute them,
here and on the device.
"""
