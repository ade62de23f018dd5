"""The console command `inferer` and its output for a terminal."""
