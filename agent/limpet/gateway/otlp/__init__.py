"""Metrics and traces for an OpenTelemetry collector. Imported only if `otlp` is configured."""
