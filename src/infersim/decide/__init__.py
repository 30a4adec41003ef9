"""Which way of doing it: curves over what decides, the break-even points, and what would flip the choice."""
