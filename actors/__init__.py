"""Everything that is Ray: serving, training over a cluster, bulk work. Thin adapters round the plain classes below."""
