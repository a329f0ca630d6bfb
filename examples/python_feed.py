"""A pipeline that this program feeds, and that tells it what became of each item.

    python3 examples/python_feed.py

needs the program, beside the interpreter, on PATH or named by DRPIPE, and the
package: pip install ./python
"""

import os

import drpipe

PIPELINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "python_feed.json")


def main():
    with drpipe.Pipeline.load(PIPELINE).feed() as feed:
        for number in range(1, 6):
            feed.put(number, origin=f"number {number}")
        # As they end.
        squares = {item.origin: item.results[0] for item in feed.acknowledgements()}
        # What comes next may depend on what came back.
        feed.put(squares["number 5"])
        (last,) = feed.acknowledgements()
    print(sorted(squares.items()))
    print("25 squared:", last.results[0])
    print("items:", feed.report.step("SQUARE").done)


if __name__ == "__main__":
    main()
