"""How fast a model will be on a device, before it has run there."""
