"""What tokens cost, and what each optimisation saved of it."""
