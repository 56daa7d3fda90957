"""Words grounded in the tables: answers to customers' questions, and copy about items."""
