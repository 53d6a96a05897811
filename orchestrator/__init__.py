"""A sweep as a whole: spec, plan, placement, state, journal, driver, node agents, command line."""
