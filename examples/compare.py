"""The league table from Python: what `perdure compare` prints, as a data frame, matrices and figures."""

import perdure

if __name__ == "__main__":  # Ray's actors import this file
    result = perdure.compare(["naive", "rehearsal(200)", "joint"], on="split(digits)", seeds=3)
    frame = result.frame()
    print(frame.groupby("strategy")[["accuracy", "forgetting"]].agg(["mean", "std"]))
    print(result.matrices["rehearsal(200)"][-1])  # accuracy on each experience once the last has been learned
    result.figures()["curves"].savefig("curves.png")
    print(result.report)
