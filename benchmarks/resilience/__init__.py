"""What happens when servers die, are replaced or work for hours: outages, losses, leaks."""
