"""What a foreign catalogue is: pictures, tables, which belongs to which, and what suits them."""
