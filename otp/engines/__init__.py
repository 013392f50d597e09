"""What the engines share: clients, transactions, clock, lease and envelope."""
