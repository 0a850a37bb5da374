"""From a layer graph and a cluster to a plan: costs, search, fixed schemes. Pure: no files, no clock, no network."""
