"""The commands of ``limpet-convert``: one module each. ``limpet.command_parser`` says what a module declares."""

PROGRAM = "limpet-convert"
DESCRIPTION = """\
Makes a bundle for Limpet from a trained model.
Proves that the results of the model stay the same."""
GROUPS = {"start": "Get started", "steps": "Single steps", "look": "Look", "sign": "Sign", "service": "Shell"}
ORDER = ("init", "train", "run", "convert", "quantize", "verify", "package")
