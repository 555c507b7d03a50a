"""What goes over the wire and comes back, as data: requests, responses, refusals, batch files."""
