"""What every process of a deployment has: settings, a life, one line of log at a time."""
