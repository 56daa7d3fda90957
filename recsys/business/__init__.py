"""What the log says of the business to come: reorders, prices that look wrong, demand."""
