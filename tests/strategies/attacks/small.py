"""One small text of every attack, for what all of them promise."""

from perdure.strategies.attacks.names import ATTACKS

SMALL = {
    "fgsm": "fgsm(0.1)",
    "bim": "bim(0.1, steps=4)",
    "least_likely": "least_likely(0.3, steps=4)",
    "pgd": "pgd(0.1, steps=3, restarts=12, loss='targets')",
    "cw": "cw(steps=20, searches=2)",
    "deepfool": "deepfool",
    "universal": "universal(0.3, epochs=2)",
    "one_pixel": "one_pixel(population=12, generations=3)",
    "spatial": "spatial",
    "perceptual": "perceptual(steps=5)",
    "square": "square(0.2, queries=20)",
    "hop_skip_jump": "hop_skip_jump(steps=2, draws=10)",
    "trigger": "trigger",
    "worst": "worst(pgd(0.1, steps=3), universal(0.1, epochs=1), square(0.1, queries=9))",
}
assert set(SMALL) == set(ATTACKS), "every attack keeps these promises; write a small text of yours"
