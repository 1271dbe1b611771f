"""HTTP below the routes: which connections are taken, what a request may be, how its body is read."""
