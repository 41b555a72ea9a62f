"""What a person sees of a device that runs: on this machine, or over MQTT from another one."""
