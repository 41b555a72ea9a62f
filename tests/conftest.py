"""Settings of all tests."""

import importlib.util

if importlib.util.find_spec("hypothesis"):  # The converters' environment does not have it.
    from hypothesis import HealthCheck, settings

    # How fast a machine is, or what else it does, is no fault of the code.
    settings.register_profile("limpet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("limpet")
