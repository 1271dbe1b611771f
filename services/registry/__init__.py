"""How processes find each other: conductors and stores announce themselves, workers and gateways look.

A *directory* answers where others are: ``Static`` as the flags say, ``Registry`` as Redis says.
"""
