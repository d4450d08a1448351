"""One small example of every strategy; the matrix in strategies/test_matrix.py holds each to the same promises."""

from perdure.strategies.names import strategy

EXAMPLES = {
    text: strategy(text)
    for text in (
        "naive",
        "joint",
        "cumulative",
        "rehearsal(30)",
        "rehearsal(30, selection='reservoir', replay=7)",
        "ewc(10, samples=64)",
        "lwf",
    )
}
MEETS_MORE = ("joint", "cumulative")  # strategies that change what of the stream is met
CHAIN_OF_ALL = strategy(" + ".join(text for text in EXAMPLES if text not in MEETS_MORE))
