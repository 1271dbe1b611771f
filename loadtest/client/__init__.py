"""One target, a server that speaks OpenAI's HTTP: what is sent, what comes back, and when."""
