"""How fast, beside what people use now and what the hardware allows."""
