"""The cluster in virtual time: the real conductor, batchers, stores and eviction; modelled engines and links."""
