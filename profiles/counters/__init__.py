"""What the sampler reads: one module per origin, each answering "how much now?" at a known cost."""
