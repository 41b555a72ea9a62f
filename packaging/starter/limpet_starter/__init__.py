"""Bundles for those who have no model yet. ``limpet model list --starter`` shows them."""
