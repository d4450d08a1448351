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
        "rehearsal(30, selection='herding')",
        "rehearsal(30, selection='k_centre')",
        "rehearsal(30, selection='gradient')",
        "distilled(12, steps=2)",
        "generative_replay(vae(3, hidden=(16,), steps=20), pool=40)",
        "generative_replay(gan(3, hidden=(16,), critic=(16,), steps=20), labels='hard', pool=40, replay=7)",
        "generative_replay(diffusion(9, sampling_steps=3, width=8, steps=20), labels='condition', pool=40)",
        "generative_replay(dae((1, 0.3), hidden=(16,), steps=20, bounds=None), pool=40, layer=1, hold=1)",
        "brain_inspired(gated_vae(3, hidden=(16,), likelihood='gaussian', steps=20, bounds=None), pool=40)",
        "der(30)",
        "der(30, beta=0.5)",
        "icarl(30)",
        "agem(30, replay=16)",
        "gem(30)",
        "la_maml(30, inner=3)",
        "ogd(5)",
        "gpm(0.9, samples=50)",
        "ewc(10, samples=64)",
        "ewc(10, samples=64, labels='data', decay=0.5)",
        "functional(0.1, distance='kl', samples=64)",
        "functional(0.1, samples=64)",
        "functional(0.1, samples=64, of='1')",
        "functional(0.1, distance='sliced_cramer', samples=64, slices=4)",
        "functional(0.1, distance='mmd', samples=64, slices=4)",
        "si",
        "mas(0.1, samples=64)",
        "lwf",
        "heterogeneous_dropout",
        "xdg(0.5)",
        "interference(20)",
        "adversarial(pgd(steps=2), eps=0.1, warmup=0.5)",
        "adversarial(fgsm(random=True), share=1)",
        "free_adversarial(replays=3)",
        "trades(pgd(steps=2), eps=0.1)",
    )
}
MEETS_MORE = ("joint", "cumulative")  # strategies that change what of the stream is met
NEEDS_TASKS = ("xdg(0.5)",)
PLAIN = ("la_maml(30, inner=3)", "ogd(5)", "gpm(0.9, samples=50)")  # only sgd, and no normalisation layers
RESTING = tuple(text for text in EXAMPLES if text.startswith("brain_inspired"))  # early layers: no normalisation
LOOKING = ("la_maml(30, inner=3)",)  # ahead, from the first step on
ATTACKED = tuple(text for text in EXAMPLES if "adversarial(" in text or "trades" in text)  # from the first step on
WINNERS = ("heterogeneous_dropout",)  # only models with winners
CHAIN_OF_ALL = strategy(" + ".join(text for text in EXAMPLES if text not in (*MEETS_MORE, *NEEDS_TASKS)))
