"""Request fields of other servers: what has another name here, what is refused by name, and what changes nothing."""
