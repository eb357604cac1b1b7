"""How many machines so many developers need, simulated from what one was measured to do."""
