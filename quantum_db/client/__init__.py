"""What callers hold in their hands: transactions now, the whole SDK around them."""
