"""`python -m billing.simulation`: the sim command without the rest of StripeMeter."""

from billing.simulation.cli import sim

if __name__ == "__main__":
    sim(prog_name="sim")
