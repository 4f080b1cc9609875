"""IonQ: its API as a quantum backend, its prices, and an emulator of it that real clients can talk to."""
