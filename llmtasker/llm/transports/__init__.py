"""How a Request travels: one file for each kind of endpoint."""
