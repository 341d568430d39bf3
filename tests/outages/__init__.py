"""What happens while a part that goalsvc needs is away."""
