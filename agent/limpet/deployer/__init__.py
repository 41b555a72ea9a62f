"""The deployer: a process that fetches a bundle. It has the network, and no sensor and no secret of the broker."""
