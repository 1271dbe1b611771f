"""A cluster that is not there, behind real gRPC: it answers as told, and remembers what it was asked."""
