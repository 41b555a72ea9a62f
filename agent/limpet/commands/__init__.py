"""The commands of ``limpet``: one module each. ``limpet.command_parser`` says what a module declares."""

PROGRAM = "limpet"
DESCRIPTION = """\
Runs models on sensor values, on this device, and sends the results over MQTT.
Start with `limpet demo`, then `limpet init`."""
GROUPS = {"start": "Get started", "look": "Look", "models": "Models", "service": "Service"}
ORDER = ("demo", "init", "check", "run", "record", "label", "watch", "doctor")
