"""The smallest cluster that keeps a promise to a trace, found by simulating some and inferring the others."""
