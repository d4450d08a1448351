"""A model that is kept current: a version in MLflow's registry for every day, and what is served at the end."""

import numpy as np
from sklearn.datasets import load_digits

import perdure

URI = "sqlite:///live.db"


def days():
    """What a team would get from its product: a new kind of digit every day, and some of the old."""
    x, y = load_digits(return_X_y=True)
    x = (x * 16).clip(0, 255).astype(np.uint8).reshape(-1, 1, 8, 8)
    rng = np.random.default_rng(0)
    for day in range(4):
        rows = rng.permutation(np.flatnonzero(y < day + 2))[:200]
        yield f"day {day + 1}", x[rows], y[rows]


def hear(what, of):
    print(of if what == "said" else f"{what}: {of['name']}")


if __name__ == "__main__":  # Ray's actors import this file
    how = {"classes": 10, "epochs": 10, "state": "digits", "register": "digits", "tracking_uri": URI}
    done = perdure.follow(days, "rehearsal(200)", hear=hear, **how)
    print({label: round(accuracy, 3) for label, accuracy in done.accuracy.items()})

    import mlflow

    mlflow.set_tracking_uri(URI)
    model = mlflow.pyfunc.load_model("models:/digits@champion")
    x, y = load_digits(return_X_y=True)
    shown = (x[:10] * 16).clip(0, 255).astype(np.uint8).reshape(-1, 1, 8, 8)
    print("asked", y[:10].tolist(), "answered", model.predict(shown).argmax(1).tolist())
